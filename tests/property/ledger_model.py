"""What the ledger would be without a database: objects changed by one thread; and what is said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from uuid import UUID

from membership.events import ContainerFailureDetected
from pipeline import events
from pipeline.errors import Stage
from pipeline.events import Record, Recordable
from pipeline.tasks import Busy, Claim, Held, PartState, Settled, TaskState, task_state

FAILURE = ContainerFailureDetected(
    failed_uid="ada",
    failed_name="ada",
    failed_epoch=1,
    failed_container="pid:1",
    failed_node="here",
    silent_s=6.0,
    witnesses=2,
)
STEP_EVENTS_MADE: dict[str, Callable[..., Recordable]] = {
    "TaskDetailsRetrieved": partial(events.TaskDetailsRetrieved, source="clip", ladder="web"),
    "VideoFilePulled": partial(events.VideoFilePulled, size=1, seconds=0.1),
    "WorkloadProcessingStarted": events.WorkloadProcessingStarted,
    "VideoTranscoded": partial(events.VideoTranscoded, renditions=(), seconds=0.1, cpu_seconds=0.1),
    "TranscodedVideoUploaded": partial(events.TranscodedVideoUploaded, prefix="p", files=2, size=8),
}


@dataclass(slots=True)
class ModelPart:
    """What the ledger must say of a part."""

    task: ModelTask
    number: int
    state: PartState = PartState.QUEUED
    attempt: int = 0
    failures: dict[Stage, int] = field(default_factory=dict)
    is_due: bool = True
    holder: ModelClaim | None = None
    committed: ModelClaim | None = None
    story: list[int] = field(default_factory=list)
    """The attempts that failed since a person last started the task."""

    def end(self, state: PartState, outcome: str, *, is_due: bool = True) -> None:
        """The claim that holds it ends."""
        assert self.holder is not None
        self.holder.outcome = outcome
        self.holder, self.state, self.is_due = None, state, is_due

    def fail(self, stage: Stage, outcome: str, retry_in_s: float | None) -> None:
        """The claim that holds it ends with a failure that counts."""
        self.failures[stage] = self.failures.get(stage, 0) + 1
        self.story.append(self.attempt)
        if self.holder is not None:
            self.holder.failed_in = stage
        state = PartState.ESCALATED if retry_in_s is None else PartState.QUEUED
        self.end(state, outcome, is_due=retry_in_s in (None, 0.0))

    def refusal(self) -> type[Busy | Settled] | None:
        """How a claim is refused when nobody holds the part."""
        if self.state is not PartState.QUEUED or self.task.is_stopped:
            return Settled
        return None if self.is_due else Busy


@dataclass(slots=True)
class ModelTask:
    """A task with its parts; the order of `parts` is their number."""

    id: UUID
    parts: list[ModelPart] = field(default_factory=list)

    @property
    def state(self) -> TaskState:
        return task_state({part.number: part.state for part in self.parts})

    @property
    def is_stopped(self) -> bool:
        return self.state not in (TaskState.QUEUED, TaskState.RUNNING)


@dataclass(slots=True, eq=False)
class ModelClaim:
    """A claim, and how far its holder has come; the outcome is None while it is alive."""

    claim: Claim
    peer: str
    part: ModelPart
    received: Record
    said: list[Record]
    outcome: str | None = None
    failed_in: Stage | None = None
    has_run_out: bool = False
    seen: Held | None = None  # as it was last looked at; None when it was renewed since
    is_cleared: bool = False
    ending: Callable[[], Any] | None = None

    @property
    def is_abandoned(self) -> bool:
        """It may have left something in the store that nobody has cleared away."""
        return self.outcome not in (None, "done") and not self.is_cleared


@dataclass(slots=True)
class ModelNotice:
    """What the administrators hear of an escalation: who wrote its event, and the story in it."""

    task_id: UUID
    event: tuple[str, int]
    story: list[int]
    is_taken: bool = False
    is_told: bool = False


def escalation(task_id: UUID, part: int, attempt: int, stage: Stage) -> Recordable:
    """The event of an attempt after which a person must look."""
    return events.ContainerErrorEscalation(
        task_id=task_id,
        part=part,
        attempt=attempt,
        stage=stage,
        code="test",
        message="It did not work.",
        failures=1,
        attempts_max=3,
        reason="no retry can help",
    )
