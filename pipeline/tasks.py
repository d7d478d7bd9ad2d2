"""Tasks, their parts, and the one table that says which state follows which.

A *task* is a source video to be turned into renditions. What a peer claims is a *part* of it:
today every plan is one part, the whole file; a long file may later be many. All rules about what
may happen to a part are in `TRANSITIONS`; the ledger carries them out, and documentation and tests
read the same table.

Values only: nothing here knows a clock, a database or a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from pipeline.errors import Stage
from pipeline.media.ladder import Ladder


class TaskState(StrEnum):
    """What a person sees of a task."""

    QUEUED = "queued"
    """No part is being worked on: waiting for a free slot, or for a retry's delay to pass."""
    RUNNING = "running"
    """At least one part is claimed."""
    DONE = "done"
    """Every part is done and the outputs are committed."""
    ESCALATED = "escalated"
    """Waits for a person: `peerctl escalations`, `peerctl retry`."""
    CANCELLED = "cancelled"
    """A person stopped it; `peerctl retry` takes it up again."""


class PartState(StrEnum):
    """Where one part stands."""

    QUEUED = "queued"
    CLAIMED = "claimed"
    DONE = "done"
    ESCALATED = "escalated"
    CANCELLED = "cancelled"


class Action(StrEnum):
    """What can happen to a part."""

    CLAIM = "claim"
    """A peer takes it, with a fresh lease token."""
    FINISH = "finish"
    """Its holder commits the outputs."""
    RETRY = "retry"
    """Its holder failed in a way that may pass; it waits for its delay."""
    HAND_BACK = "hand_back"
    """Its holder gives it up through no fault of the task's (it is stopping); free of charge."""
    EXPIRE = "expire"
    """Its holder let the lease run out: killed, frozen, or cut off."""
    ESCALATE = "escalate"
    """Its holder, or whoever found the lease expired, gives it to a person."""
    CANCEL = "cancel"
    """A person stops it."""
    RESUME = "resume"
    """A person lets it start again."""


TRANSITIONS: Mapping[tuple[PartState, Action], PartState] = {
    (PartState.QUEUED, Action.CLAIM): PartState.CLAIMED,
    (PartState.CLAIMED, Action.FINISH): PartState.DONE,
    (PartState.CLAIMED, Action.RETRY): PartState.QUEUED,
    (PartState.CLAIMED, Action.HAND_BACK): PartState.QUEUED,
    (PartState.CLAIMED, Action.EXPIRE): PartState.QUEUED,
    (PartState.CLAIMED, Action.ESCALATE): PartState.ESCALATED,
    (PartState.QUEUED, Action.CANCEL): PartState.CANCELLED,
    (PartState.CLAIMED, Action.CANCEL): PartState.CANCELLED,
    (PartState.ESCALATED, Action.CANCEL): PartState.CANCELLED,
    (PartState.ESCALATED, Action.RESUME): PartState.QUEUED,
    (PartState.CANCELLED, Action.RESUME): PartState.QUEUED,
}
"""Every change a part may make; a pair that is not here must be refused."""


def task_state(parts: Mapping[int, PartState]) -> TaskState:
    """Derive what a person sees from the states of all parts.

    One escalated or cancelled part stops the task, whatever the others do.
    """
    states = set(parts.values())
    for stop, seen in (
        (PartState.CANCELLED, TaskState.CANCELLED),
        (PartState.ESCALATED, TaskState.ESCALATED),
    ):
        if stop in states:
            return seen
    if states == {PartState.DONE}:
        return TaskState.DONE
    if PartState.CLAIMED in states:
        return TaskState.RUNNING
    return TaskState.QUEUED


class Step(StrEnum):
    """How far the holder of a claim has come; each is reached by the event that names it."""

    RECEIVED = "received"
    DETAILS_RETRIEVED = "details_retrieved"
    PULLED = "pulled"
    PROCESSING = "processing"
    TRANSCODED = "transcoded"
    UPLOADED = "uploaded"
    FINISHED = "finished"


STEP_EVENTS: Mapping[Step, str] = {
    Step.RECEIVED: "TaskReceived",
    Step.DETAILS_RETRIEVED: "TaskDetailsRetrieved",
    Step.PULLED: "VideoFilePulled",
    Step.PROCESSING: "WorkloadProcessingStarted",
    Step.TRANSCODED: "VideoTranscoded",
    Step.UPLOADED: "TranscodedVideoUploaded",
    Step.FINISHED: "WorkloadProcessingFinished",
}
"""The steps in their order, each with the event that is written in the same transaction."""


class Strictness(StrEnum):
    """What to do with a source that is damaged or cut short."""

    STRICT = "strict"
    """Escalate: a person decides whether half a video is a video."""
    LENIENT = "lenient"
    """Commit what can be read, with a warning on the task."""


class Priority(StrEnum):
    """What is taken first of that which waits; `priority.Turns` has the shares."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a peer must know to do the work; it comes from the ledger with the claim.

    Args:
        source: The key of the source in the object store, or `s3://bucket/key` in another bucket.
        title: What people call it, usually the file's name.
        attempts_max: How often one stage may fail before the task is escalated.
    """

    id: UUID
    source: str
    title: str
    ladder: Ladder
    strictness: Strictness = Strictness.STRICT
    attempts_max: int = 4
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The peer behind a claim, as the ledger records it.

    Args:
        peer_uid: 16 hexadecimal digits, kept in the peer's data directory.
        epoch: Rises with every start of that peer.
        container: The container's id, or `pid:N` for a local process.
        node: The machine's name.
        memory_bytes: How much its container may use; None: not known.
    """

    peer_uid: str
    peer_name: str
    epoch: int
    container: str
    node: str
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to work on one part, until the lease runs out.

    Args:
        attempt: Counts every claim of the part, from 1; outputs are uploaded under it.
        token: Fences every write: the ledger changes nothing for a token that is not the part's.
        lease_s: For how many seconds a renewal holds.
        attempts_max: How often one stage may fail before the task is escalated.
        failures: Earlier counted failures by stage.
        shortages: How many of them were for lack of memory.
        task: What is to be done, as the ledger has it; None where only the right matters, as in a
            claim that was kept in a spool.
    """

    task_id: UUID
    part: int
    attempt: int
    token: UUID
    lease_s: float
    attempts_max: int = 4
    failures: Mapping[Stage, int] = field(default_factory=dict)
    shortages: int = 0
    task: Task | None = None

    @property
    def prefix(self) -> str:
        """Where this attempt's outputs go in the store; nobody else ever writes there."""
        return self.prefix_of(self.attempt)

    def prefix_of(self, attempt: int) -> str:
        """Where another attempt at the same part put its outputs."""
        return prefix_of(self.task_id, self.part, attempt)


def prefix_of(task_id: UUID, part: int, attempt: int) -> str:
    """Where an attempt's outputs go in the store; nobody else ever writes there."""
    of_part = f"/part-{part}" if part else ""
    return f"tasks/{task_id}{of_part}/attempt-{attempt}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """The claim that is in the way of another one.

    Args:
        token: Names it, so that it can be taken over as this claim and no other.
        epoch: Which start of that peer.
        renewed_at: When it was made or renewed last, by the ledger's clock: another time means that
            its holder has been heard since.
        silent_s: How long ago that was.
    """

    token: UUID
    peer_uid: str
    peer_name: str
    epoch: int
    renewed_at: datetime
    silent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Busy:
    """The part cannot be claimed now: somebody holds it, or its retry is not due.

    Args:
        look_again_s: When it is worth another look, in seconds from now.
        held: Who holds it; None when its retry is not due.
    """

    look_again_s: float
    why: str
    held: Held | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """The part needs no work: it is done, escalated or cancelled."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown:
    """The ledger has no such task or part: whoever sent the message never recorded it, or the task
    was removed since."""

    why: str


class ProductKind(StrEnum):
    """What an output file is for."""

    RENDITION = "rendition"
    PLAYLIST = "playlist"
    SEGMENT = "segment"
    POSTER = "poster"
    THUMBNAILS = "thumbnails"


@dataclass(frozen=True, slots=True, kw_only=True)
class Product:
    """One verified file in the workspace, about to become an output.

    Args:
        name: Its path below the attempt's prefix and below the workspace's output directory,
            with forward slashes: `720p.mp4`, `hls/720p/segment_00001.m4s`.
        rendition: The rendition it belongs to (`720p`), or empty.
        size: In bytes.
        media: What is inside, for people and scripts: width, height, duration_s, bitrate, codecs, …
    """

    kind: ProductKind
    name: str
    size: int
    rendition: str = ""
    media: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenditionProgress:
    """How far one rendition is; `fraction` is of the current step, 0 to 1."""

    name: str
    fraction: float
    step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a claim has come, as its holder last reported it.

    Args:
        step: `pull`, `inspect`, `transcode`, `verify` or `push`.
        fraction: Of the whole task, 0 to 1, never falling within an attempt.
        speed: Seconds of video encoded in one second, where known.
        eta_s: Seconds until the end of the work, where known.
    """

    step: str
    fraction: float
    frames: int | None = None
    frames_total: int | None = None
    speed: float | None = None
    eta_s: float | None = None
    renditions: tuple[RenditionProgress, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why an attempt ended without outputs, as the ledger keeps it.

    Args:
        memory_bytes: How much its container might use, where that was too little; else None.
    """

    stage: Stage
    code: str
    message: str
    log_tail: str = ""
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReport:
    """One task as people see it: `peerctl tasks` and `peerctl task`.

    Args:
        place: In line, from 1, while it waits and is due: how many will be taken before it, and 1.
        eta_s: Seconds until it is likely to be done: an estimate from what was done lately; None
            while nothing is known that it could be made from.

    Outputs, attempts and interventions are told only of a single task, not in lists.
    """

    id: UUID
    title: str
    source: str
    ladder: str
    state: TaskState
    strictness: Strictness
    priority: Priority
    attempt: int
    failures: Mapping[Stage, int]
    attempts_max: int
    submitted_at: datetime
    finished_at: datetime | None
    retry_at: datetime | None
    holder: str | None
    node: str | None
    progress: Progress | None
    error: Failure | None
    warnings: tuple[str, ...]
    place: int | None = None
    eta_s: float | None = None
    outputs: tuple[OutputReport, ...] = ()
    attempts: tuple[AttemptReport, ...] = ()
    interventions: tuple[Intervention, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputReport:
    """One committed output of a task; `key` is where it lies in the store."""

    kind: ProductKind
    name: str
    rendition: str
    key: str
    size: int
    media: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptReport:
    """One claim on a part, with the container that processed it; `outcome` is None while it lasts.

    Args:
        outcome: `done`, `retry`, `escalated`, `handed_back`, `expired` or `cancelled`.
    """

    part: int
    attempt: int
    peer_uid: str
    peer_name: str
    epoch: int
    container: str
    node: str
    step: str
    claimed_at: datetime
    ended_at: datetime | None
    outcome: str | None
    error: Failure | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervention:
    """What a person did to a task, why, and what had gone wrong with it by then.

    Args:
        action: `retry` or `cancel`.
    """

    at: datetime
    action: str
    reason: str
    error: Failure | None
