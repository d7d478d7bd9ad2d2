"""What is seen of a cluster that grows and shrinks with its work: pure.

The story is the ledger's: its events, in their order, with the reasons that were put down with
them. And nothing of it counts if a task paid for it, so every task is looked at in the end: done,
and at the first attempt.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from peer.demo.recovery import Milestone
from peer.protocol import ShownTask
from peer.scale.protocol import ShownScaling
from pipeline.ports import EventRow
from pipeline.tasks import TaskState

WANTED = (
    "ContainerScaledUp",
    "WorkerNodeScaledUp",
    "ContainerScaledDown",
    "WorkerNodeScaledDown",
)
"""What must have happened, each at least once."""

TOLD = (*WANTED, "ResourceUtilizationThresholdReached", "ContainerFailureDetected")


@dataclass(slots=True)
class Growth:
    """One burst of work, and what was seen of it since.

    Args:
        began_at: When the first task was handed in.
        seen: Events by their numbers in the ledger.
        faults: What is wrong with tasks that came to their end, as sentences.
    """

    began_at: datetime
    seen: dict[int, EventRow] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    @property
    def milestones(self) -> list[Milestone]:
        """What was seen, in the ledger's order."""
        told, before = [], ""
        for number, row in sorted(self.seen.items()):
            why = "; ".join(row.data.get("reasons", ()))
            said = "for the same reasons" if why and why == before else why
            at_s = (row.at - self.began_at).total_seconds()
            told.append(Milestone(str(number), at_s, " ".join(filter(None, [_what(row), said]))))
            before = why
        return told

    @property
    def missing(self) -> list[str]:
        """Which events have not been seen."""
        kinds = {row.type for row in self.seen.values()}
        return [kind for kind in WANTED if kind not in kinds]

    def notice_events(self, rows: Iterable[EventRow]) -> None:
        """Take down what is about scaling and of this burst; again and again the same rows."""
        for row in rows:
            if row.type in TOLD and row.at >= self.began_at:
                self.seen[row.id] = row

    def notice_tasks(self, tasks: Sequence[ShownTask]) -> None:
        """Look at all tasks, when none is worked on any more."""
        for task in tasks:
            if task.state is not TaskState.DONE:
                why = f": {task.error.message}" if task.error else ""
                self.faults.append(f"{task.title} is {task.state.value}{why}")
            elif len(task.attempts) != 1:
                self.faults.append(f"{task.title} took {len(task.attempts)} attempts")


def at_rest(
    shown: ShownScaling | None, since: datetime, *, containers: int = 1, nodes: int = 1
) -> bool:
    """Whether a leader sees just so many, and nothing on its way to more or fewer.

    Args:
        since: A look from before it says nothing: an earlier demo's leader took it.
    """
    if shown is None or shown.look is None or shown.look.at < since:
        return False
    look = shown.look
    serving = [node for node in look.nodes if node.state != "standby"]
    return (
        look.mode == "acting"
        and look.wanted == look.desired_containers == containers
        and dict(look.containers) == {"running": containers}
        and look.desired_nodes == nodes
        and [node.state for node in serving] == ["ready"] * nodes
    )


def _what(row: EventRow) -> str:
    data: Mapping[str, Any] = row.data
    match row.type:
        case "ContainerScaledUp" | "ContainerScaledDown":
            return f"{row.type} on {data.get('worker_node')}, {data.get('containers')} wanted:"
        case "WorkerNodeScaledUp" | "WorkerNodeScaledDown":
            return f"{row.type} {data.get('worker_node')}, {data.get('nodes')} in service:"
        case "ContainerFailureDetected":
            return f"{row.type} {data.get('failed_name')}"
    return f"{row.type}:"
