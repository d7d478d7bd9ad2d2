"""A container that is a process: what it is, how it was found, and what it is made of. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is known of a container from its beginning.

    Args:
        id: As its peer says it in gossip, and as nobody else was ever called.
        name: The peer's; the next container in this slot on this node goes on under it.
        kept: A person has started it: it is never stopped, and not started again.
    """

    id: str
    name: str
    slot: int
    node: str
    kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A container as it was found.

    Args:
        alive: Its process has not ended.
        pid: 0 until it has said so, a few milliseconds after its beginning.
        told_s: When it was asked to end, each time, on the machine's clock.
    """

    record: Record
    alive: bool
    pid: int = 0
    told_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What becomes a container.

    Args:
        descriptors: Open files that it inherits.
    """

    command: Sequence[str]
    descriptors: Sequence[int] = ()


def living(found: Sequence[Found]) -> Mapping[str, Found]:
    """Those whose processes have not ended, by id."""
    return {each.record.id: each for each in found if each.alive}
