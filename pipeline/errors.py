"""What can go wrong in the pipeline, as one tree.

    PipelineError
    ├── StepError                 one step of one task failed; the retry policy decides what follows
    │   ├── SourceRejected        the source is at fault: no retry helps (always permanent)
    │   ├── PullFailed            the source could not be fetched
    │   ├── TranscodeFailed       ffmpeg failed or stalled, or what it made is not right
    │   └── PushFailed            an output could not be stored
    ├── ClaimLost                 somebody else owns the part now, or nobody: stop, change nothing
    ├── Unavailable               a dependency cannot be reached or is broken
    │   ├── LedgerUnavailable
    │   ├── QueueUnavailable
    │   │   └── QueueIncompatible the broker, or a queue on it, is not one this version can use
    │   └── StoreUnavailable
    │       └── WrongStore        it answers, and is not the cluster's
    ├── BadMessage                a message that no retry can make sense of
    ├── NotSent                   no administrator could be reached
    ├── BadRequest                a person asked for something that cannot be done
    │   ├── NoSuchTask
    │   └── NotAllowed            the task's state does not allow it
    ├── LedgerIncompatible        the database's server or tables are not ones this version can use
    └── ToolMissing               ffmpeg, ffprobe or a PostgreSQL server is not on this machine

Every message is one sentence for a person: what happened and, where something can be done, what.
"""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """Where in its life a task failed; each stage has a retry counter of its own."""

    PULL = "pull"
    TRANSCODE = "transcode"
    PUSH = "push"
    CRASH = "crash"
    """The peer that held the claim went silent: killed, frozen, or cut off."""


class PipelineError(Exception):
    """The root; never raised itself."""


class StepError(PipelineError):
    """One step of one task failed.

    Args:
        message: One readable sentence of cause.
        code: A stable identifier for scripts and tests, `snake_case`.
        permanent: No retry can help, on this peer or another.
        log_tail: The last lines of what the tool said, already bounded; empty when no tool ran.
        memory_bytes: How much the container may use, where that was too little; else None.
    """

    stage: Stage = Stage.TRANSCODE

    def __init__(
        self,
        message: str,
        *,
        code: str,
        permanent: bool = False,
        log_tail: str = "",
        memory_bytes: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.permanent = permanent
        self.log_tail = log_tail
        self.memory_bytes = memory_bytes


class SourceRejected(StepError):
    """The source is not something that can be transcoded: wrong, damaged, hostile or too large."""

    def __init__(self, message: str, *, code: str, log_tail: str = "") -> None:
        super().__init__(message, code=code, permanent=True, log_tail=log_tail)


class PullFailed(StepError):
    """The source could not be fetched from the store."""

    stage = Stage.PULL


class TranscodeFailed(StepError):
    """ffmpeg failed or stalled, or what it made is not what the source promised."""


class PushFailed(StepError):
    """An output could not be stored."""

    stage = Stage.PUSH


class ClaimLost(PipelineError):
    """The lease token no longer names the part's holder: whatever is done now changes nothing.

    Args:
        committed: It ended because this very claim's outputs were committed: the answer got lost.
    """

    def __init__(self, reason: str, *, committed: bool = False) -> None:
        super().__init__(f"the claim is gone: {reason}")
        self.reason = reason
        self.committed = committed


class Unavailable(PipelineError):
    """A dependency cannot be reached or is broken.

    Args:
        definite: The operation certainly did *not* happen; when false, nobody knows, and only an
            operation that is safe to repeat may be repeated.
    """

    dependency = "a dependency"

    def __init__(self, message: str, *, definite: bool) -> None:
        super().__init__(message)
        self.message = message
        self.definite = definite


class LedgerUnavailable(Unavailable):
    """PostgreSQL cannot be reached, or ended the connection."""

    dependency = "ledger"


class QueueUnavailable(Unavailable):
    """The queue cannot be reached, or ended the connection."""

    dependency = "queue"


class QueueIncompatible(QueueUnavailable):
    """The broker is too old, or has a queue that differs; the message says what to do.

    A person must mend it, and a peer that waits for that can tell people so; hence it is waited for
    as for a queue that is away.
    """

    def __init__(self, message: str, *, definite: bool = True) -> None:
        super().__init__(message, definite=definite)


class StoreUnavailable(Unavailable):
    """The object store cannot be reached, or answered with an error of its own."""

    dependency = "store"


class WrongStore(StoreUnavailable):
    """This is not the cluster's store; the message says what was expected and what was found.

    A person must mend it. Nothing was read from it, and nothing written.
    """

    def __init__(self, message: str, *, definite: bool = True) -> None:
        super().__init__(message, definite=definite)


class BadMessage(PipelineError):
    """A message that is not JSON, of an unknown version, or without what it must have."""


class NotSent(PipelineError):
    """No address took the message to the administrators; it may be sent again."""


class BadRequest(PipelineError):
    """A person asked for something that cannot be done; the message says what would be right."""


class NoSuchTask(BadRequest):
    """No task has this id."""


class NotAllowed(BadRequest):
    """The task exists, but its state does not allow what was asked."""


class LedgerIncompatible(PipelineError):
    """The database is too old or too new for this version; the message says what to upgrade."""


class ToolMissing(PipelineError):
    """A program the pipeline runs is not on this machine; the message says how to get it."""
