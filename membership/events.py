"""What membership says has happened: one of the seventeen events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerFailureDetected:
    """A peer is dead, and what it held can be given to others.

    Told once of each life; a second time, with `out_of_memory`, where that was found out after the
    death itself was told with another reason.

    Args:
        failed_uid: 16 hexadecimal digits, as in every event's envelope. Empty, as name and epoch,
            for a container that failed before any peer was heard from it.
        failed_name: What people call that peer.
        failed_epoch: The start of it that died; a restarted peer has a higher one.
        failed_container: The container's id, or `pid:N` for a local process. Empty where the peer
            itself, started again, tells of its former life.
        failed_node: The machine it was on.
        silent_s: For how long nothing had been heard of it.
        witnesses: How many peers found it silent; 0 when whoever records this was only told, by
            other peers or by the orchestrator.
        reason: `silent` (the others do not hear it), `restarted` (its next life tells of it),
            `ended` (the orchestrator says so), or `out_of_memory`, whoever found that.
        detail: The orchestrator's own words; empty where it was not the orchestrator.
    """

    kind: ClassVar[str] = "ContainerFailureDetected"
    failed_uid: str
    failed_name: str
    failed_epoch: int
    failed_container: str
    failed_node: str
    silent_s: float
    witnesses: int
    reason: str = ""
    detail: str = ""
