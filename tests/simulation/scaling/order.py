"""Whom swarmkit ends first, as measured (34 of 34) and read in its source.

Per service: running ones first, then by slot; numbered on each node; sorted by that number; the
tail is cut. So the fullest node loses one first, and on it what does not run, then the highest
slot.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

from scaling.snapshot import ContainerState


class Slotted(Protocol):
    """A task, as far as the order is concerned."""

    @property
    def id(self) -> str: ...
    @property
    def slot(self) -> int: ...
    @property
    def node(self) -> str: ...
    @property
    def state(self) -> ContainerState: ...


def victims(tasks: Sequence[Slotted], count: int) -> tuple[str, ...]:
    """Return the ids of those that end when only so many are wanted, the first to go first."""
    counted = sorted(
        (task for task in tasks if task.state is not ContainerState.STOPPING),
        key=lambda task: (task.state is not ContainerState.RUNNING, task.slot, task.id),
    )
    seen: Counter[str] = Counter()
    numbered: list[tuple[int, str]] = []
    for task in counted:
        seen[task.node] += 1
        numbered.append((seen[task.node], task.id))
    numbered.sort(key=lambda pair: pair[0])
    return tuple(name for _, name in reversed(numbered[count:]))
