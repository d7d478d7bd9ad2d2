"""What the pipeline says has happened: nine of the seventeen events.

Each holds only the fact. Who says it, and when, is the envelope's (`Stamp`), so that the key
(peer, epoch, sequence) makes a repeated insert harmless. The ledger writes an event in the
transaction of the change it tells of; it takes anything that is `Recordable`, and so needs no other
folder's types.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Protocol
from uuid import UUID


class Recordable(Protocol):
    """**Protocol**: a frozen dataclass that names its kind; its fields become the row's data."""

    kind: ClassVar[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stamp:
    """Who says it and when.

    Args:
        sequence: Rises with every event of this peer and epoch. A gap is not a lost event: the
            number was taken for one that then was not written.
        at: Wall time, with a time zone.
    """

    peer_uid: str
    epoch: int
    sequence: int
    container: str
    node: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """An event in its envelope. Made once per fact, so that a repeated write is recognised."""

    stamp: Stamp
    event: Recordable


Recorder = Callable[[Recordable], Record]
"""Stamps an event with this peer's identity, its next sequence number and the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskReceived:
    """A task was taken off the queue by this container."""

    kind: ClassVar[str] = "TaskReceived"
    task_id: UUID
    part: int = 0
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskDetailsRetrieved:
    """The task's details were read from the ledger."""

    kind: ClassVar[str] = "TaskDetailsRetrieved"
    task_id: UUID
    part: int = 0
    source: str
    ladder: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFilePulled:
    """The source lies in this peer's workspace."""

    kind: ClassVar[str] = "VideoFilePulled"
    task_id: UUID
    part: int = 0
    size: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadProcessingStarted:
    """The source was inspected and found good, and ffmpeg starts."""

    kind: ClassVar[str] = "WorkloadProcessingStarted"
    task_id: UUID
    part: int = 0
    video: dict[str, Any] = field(default_factory=dict)
    renditions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoTranscoded:
    """Every rendition exists and has been verified against the source."""

    kind: ClassVar[str] = "VideoTranscoded"
    task_id: UUID
    part: int = 0
    renditions: tuple[str, ...]
    seconds: float
    cpu_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscodedVideoUploaded:
    """Every output lies in the store under this attempt's prefix."""

    kind: ClassVar[str] = "TranscodedVideoUploaded"
    task_id: UUID
    part: int = 0
    prefix: str
    files: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadProcessingFinished:
    """This container is done with the part, one way or the other.

    `outcome` is `done`, `retry`, `escalated` or `handed_back`. A holder that died or lost its
    claim cannot say it.
    """

    kind: ClassVar[str] = "WorkloadProcessingFinished"
    task_id: UUID
    part: int = 0
    outcome: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerErrorRetry:
    """An attempt failed and the part will be tried again.

    Args:
        failures: How often this stage has failed now, this time included.
        retry_in_s: The delay before the next attempt.
    """

    kind: ClassVar[str] = "ContainerErrorRetry"
    task_id: UUID
    part: int = 0
    attempt: int
    stage: str
    code: str
    message: str
    failures: int
    attempts_max: int
    retry_in_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerErrorEscalation:
    """An attempt failed and a person must look: no retry helps, or the threshold is reached.

    Args:
        story: The failed attempts since a person last started the task, oldest first, each with
            `attempt`, `peer`, `node`, `stage`, `code`, `message` and `ended_at` (ISO 8601); the
            last of them is this one. Filled in by the ledger, which knows them.
        log_tail: The last lines of what the tool said in this attempt.
    """

    kind: ClassVar[str] = "ContainerErrorEscalation"
    task_id: UUID
    part: int = 0
    attempt: int
    stage: str
    code: str
    message: str
    failures: int
    attempts_max: int
    reason: str
    log_tail: str = ""
    story: tuple[Mapping[str, Any], ...] = ()


PipelineEvent = (
    TaskReceived
    | TaskDetailsRetrieved
    | VideoFilePulled
    | WorkloadProcessingStarted
    | VideoTranscoded
    | TranscodedVideoUploaded
    | WorkloadProcessingFinished
    | ContainerErrorRetry
    | ContainerErrorEscalation
)
