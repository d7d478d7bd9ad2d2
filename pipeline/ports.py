"""What the worker asks of the world, each in six methods or fewer.

Adapters do not inherit from these; mypy checks them where `peer/agent.py` passes them in, and one
contract suite runs over every implementation. Methods that may block are async and are cancelled
like any other; what a cancelled call leaves behind is said at each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

from pipeline.errors import Stage
from pipeline.events import Record, Recordable
from pipeline.media.ladder import Ladder
from pipeline.notices import Notice
from pipeline.standing import Death, Life, Suspended
from pipeline.tasks import (
    Busy,
    Claim,
    Failure,
    Held,
    Holder,
    Priority,
    Product,
    Progress,
    Settled,
    Strictness,
    TaskReport,
    TaskState,
    Unknown,
)


class ClaimLedger(Protocol):
    """**Protocol**: the ledger as the worker sees it.

    Every method is one transaction and safe to repeat with the same arguments (tokens and stamps
    are made by the caller, so a repeat is recognised). Every method raises `LedgerUnavailable`;
    all but `claim` raise `ClaimLost` when the token is not the part's any more, and then have
    changed nothing. A cancelled call may or may not have happened.
    """

    async def claim(
        self,
        task_id: UUID,
        part: int,
        holder: Holder,
        token: UUID,
        record: Record,
        *,
        submission: Submission | None = None,
        unheard: Held | None = None,
    ) -> Claim | Busy | Settled | Unknown | Suspended:
        """Take a queued part that is due. The record is a TaskReceived whose attempt is filled in.

        The claim brings along what is to be done. A part whose lease ran out is first expired as
        `Sweep.expire_leases` would do it. A holder that the cluster takes for suspect or dead gets
        nothing.

        Args:
            submission: The task itself, where its message brought it along: recorded before, as
                `TaskDesk.submit` does, whatever the answer is then.
            unheard: A claim (`Busy.held`) whose holder the queue has given up and who does not
                answer. If the part is still held by exactly that claim, and it was not renewed
                since, it is expired although its lease holds: an attempt that counts as a crash.

        Raises:
            BadRequest: The submission cannot be recorded; nothing has changed.
        """
        ...

    async def advance(self, claim: Claim, *steps: Record) -> None:
        """Write the events of the next steps, of which each moves the claim to it."""
        ...

    async def renew(self, claim: Claim, progress: Progress | None) -> None:
        """Hold the claim for another `lease_s` and publish the progress."""
        ...

    async def finish(
        self,
        claim: Claim,
        products: Sequence[Product],
        warnings: Sequence[str],
        record: Record,
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        """Make the products the task's outputs, all or none, and the part done; `steps` come before
        that, as `advance` would write them."""
        ...

    async def release(
        self,
        claim: Claim,
        release: Release,
        records: Sequence[Record],
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        """Give the claim up without outputs. With `steps` as in `finish`."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """How a claim ends without outputs.

    Args:
        failure: What went wrong; None when the part is handed back free of charge.
        retry_in_s: The delay before the next attempt; None escalates.
    """

    failure: Failure | None
    retry_in_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A new task, as a person or a client asks for it."""

    task_id: UUID
    source: str
    title: str
    ladder: Ladder
    strictness: Strictness = Strictness.STRICT
    attempts_max: int = 4
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class EventRow:
    """One recorded event, as people read it."""

    id: int
    at: datetime
    type: str
    task_id: UUID | None
    part: int | None = None
    peer_uid: str
    epoch: int
    sequence: int
    container: str
    node: str
    data: dict[str, Any] = field(default_factory=dict)


class TaskDesk(Protocol):
    """**Protocol**: the ledger as people see it. Raises `LedgerUnavailable`."""

    async def submit(self, submission: Submission) -> None:
        """Record a task and its plan. A repeat with the same id changes nothing.

        Publishing the wake-up comes after; a sweeper publishes what never got out.
        """
        ...

    async def list_tasks(self, state: TaskState | None, limit: int) -> Sequence[TaskReport]:
        """The newest first, without outputs."""
        ...

    async def show_task(self, prefix: str) -> TaskReport:
        """One task with its outputs, by its id or an unambiguous beginning of it.

        Raises:
            NoSuchTask: None or several match; the message says which.
        """
        ...

    async def list_events(
        self,
        *,
        task_id: UUID | None,
        type: str | None,
        after_id: int,
        limit: int,
        follow: bool = False,
    ) -> Sequence[EventRow]:
        """In the order of their ids. With `after_id` 0, the newest `limit` of them.

        Args:
            follow: The caller will ask for what comes after the last of these; so those are left
                out that another event, not visible yet, may still precede. Implied by `after_id`.
        """
        ...

    async def escalations(self, limit: int) -> Sequence[Notice]:
        """The tasks that wait for a person, the newest escalation first, each with its story."""
        ...

    async def retry(self, task_id: UUID, reason: str) -> Sequence[Due]:
        """Let an escalated or cancelled task start again, its failure counters at zero.

        Returns:
            The parts that are queued now: somebody must be woken for each.

        Raises:
            NotAllowed: The task is in another state.
        """
        ...

    async def cancel(self, task_id: UUID, reason: str) -> None:
        """Stop a task for good; a running claim is lost at its next renewal.

        Raises:
            NotAllowed: The task is already done.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A part that waits and may be worked on: somebody must be woken for it."""

    task_id: UUID
    part: int
    priority: Priority = Priority.NORMAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Abandoned:
    """An attempt that ended without outputs; what it uploaded is nobody's.

    Args:
        token: Of its claim.
        prefix: Where it uploaded.
    """

    token: UUID
    prefix: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Expired:
    """A part that was taken from its holder, with that failure counted in.

    Args:
        death: How its holder's life ended; None when only the lease, or the queue, says so.
        unheard: It was taken because the queue gave its message to somebody else, and the holder
            did not answer; its lease still held.
    """

    task_id: UUID
    part: int
    attempt: int
    peer_uid: str
    peer_name: str
    stage: Stage
    failures: int
    attempts_max: int
    priority: Priority = Priority.NORMAL
    death: Death | None = None
    unheard: bool = False


Expiry = Callable[[Expired], tuple["Release", Sequence[Recordable]]]
"""Decides how a part goes on whose holder went silent, and what is said about it."""


class Sweep(Protocol):
    """**Protocol**: the ledger as the sweeper sees it; any peer may run it at any time.

    Raises `LedgerUnavailable`; every method is safe to repeat.
    """

    @property
    def sweep_interval_s(self) -> float:
        """How often, at least, every peer must call `expire_leases`, which is a heartbeat too."""
        ...

    async def expire_leases(self) -> Sequence[Expired]:
        """Take the parts whose leases ran out from their holders.

        None is taken while a lease has not passed since the ledger itself was away (stopped,
        frozen, or cut off from every peer): their holders could not renew, and first may now. The
        ledger takes it for having been away when no peer called this for a while.

        How each goes on (a retry, or an escalation) is decided by the `Expiry` that the ledger was
        built with; its events are written in the same transaction.
        """
        ...

    async def unannounced(
        self,
        older_than_s: float,
        forgotten_s: float,
        quiet: Collection[Priority] = tuple(Priority),
    ) -> Sequence[Due]:
        """Parts that have been due for longer than `older_than_s`, and whose wake-up never got out.

        And those of `quiet` priorities that were announced but have been due for `forgotten_s`
        since: the queue may have lost their wake-ups. And, of all priorities, those that were
        overtaken: of their priority a part is worked on that was announced well after they were,
        and due.
        """
        ...

    async def announced(self, task_id: UUID, part: int, *, again: bool = False) -> None:
        """The queue has the part's wake-up safely, and delivers it; a second one if `again`."""
        ...

    async def record(self, records: Sequence[Record]) -> None:
        """Write events that belong to no task; repeats are harmless."""
        ...


class Clearing(Protocol):
    """**Protocol**: the ledger as whoever cleans up after others sees it.

    Raises `LedgerUnavailable`; every method is safe to repeat, by any number of peers.
    """

    async def abandoned(self, older_than_s: float) -> Sequence[Abandoned]:
        """Attempts that ended without outputs longer ago than that and are not cleared yet."""
        ...

    async def cleared(self, tokens: Sequence[UUID]) -> None:
        """Nothing of these attempts is in the store any more."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What other peers made of tasks that failed here.

    Args:
        finished: Those of which another peer has done a part.
        failed: Those that failed at the same stage on another peer too, one that has finished
            something lately: where everything fails, nobody's failures excuse anybody.
    """

    finished: Collection[UUID] = ()
    failed: Collection[UUID] = ()


class Witnesses(Protocol):
    """**Protocol**: the ledger as a peer that doubts itself sees it. Raises `LedgerUnavailable`."""

    async def testify(self, peer_uid: str, task_ids: Sequence[UUID]) -> Evidence:
        """What peers other than this one made of these tasks."""
        ...


class Undertaking(Protocol):
    """**Protocol**: the ledger as it is told who is gone, by whoever has seen it.

    Every method is one transaction; any number of peers may say the same at once, late or again,
    and it has happened once. Raises `LedgerUnavailable`.

    `by` is the peer that says it. One that is itself suspended judges nobody: it is told so, and
    nothing has changed. Of two sides that cannot hear each other and both reach the ledger, the
    first to speak goes on working, and the other one waits.
    """

    async def bury(
        self, by: Holder, death: Death, record: Record | None
    ) -> Sequence[Expired] | Suspended:
        """Take every part from a life that has ended, and from those of that peer before it.

        What follows for each part is decided as in `Sweep.expire_leases`. The life is suspended
        too, should it be less dead than it looks.

        Args:
            record: Written once for each (peer, epoch, incarnation), whoever brings it. With
                `ENDED`, only when no death of that life is known; with `EXPLAINED`, also when one
                is known without its cause.

        Returns:
            The parts: somebody must be woken for each. None when the death was known already, or
            the peer has contradicted it meanwhile; a life that is said to be `ENDED` keeps nothing
            in either case. What was taken from it before for its silence alone is then explained.
        """
        ...

    async def suspend(self, by: Holder, lives: Sequence[Life]) -> Suspended | None:
        """Let none of these take work for another `SUSPENSION_S`; to be repeated while it holds.

        Those that have contradicted it meanwhile are left alone.
        """
        ...

    async def reinstate(self, life: Life) -> None:
        """Let it take work again, as it has contradicted what was said of it."""
        ...


class Delivery(Protocol):
    """**Protocol**: one message in this peer's hands, until one of its methods ends that.

    A peer that dies gives all its deliveries back to the queue. So does one whose call to end one
    fails: it may repeat the call or forget it, and the message is never stranded. Ending a delivery
    that the queue has already given to somebody else is not an error and changes nothing.
    """

    @property
    def body(self) -> bytes:
        """As it was published."""
        ...

    @property
    def redelivered(self) -> bool:
        """Somebody has had it and has not put it back: a peer that died, or lost its connection.

        May be true without that, never false with it.
        """
        ...

    @property
    def priority(self) -> Priority:
        """As it was published; kept when it is put back."""
        ...

    async def ack(self) -> None:
        """Remove the message for good."""
        ...

    async def put_back(self, delay_s: float) -> None:
        """Give it to anybody, not before `delay_s` from now."""
        ...

    async def dead_letter(self, reason: str) -> None:
        """Set it aside for a person, with the reason; never delivered again by itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """How many messages the queue holds: deliverable now, in somebody's hands, delayed, dead.

    Args:
        unacknowledged: None where the queue does not say.
        dead_reason: Why the newest dead one was set aside; empty without any.
    """

    ready: int
    unacknowledged: int | None
    delayed: int
    dead: int
    dead_reason: str = ""


class TaskQueue(Protocol):
    """**Protocol**: where wake-ups wait. Delivers at least once; raises `QueueUnavailable`."""

    async def publish(
        self, body: bytes, *, delay_s: float = 0.0, priority: Priority = Priority.NORMAL
    ) -> None:
        """Return when the queue has the message safely. A cancelled call may have published it."""
        ...

    async def receive(self) -> Delivery:
        """Wait for a message. A cancelled call takes none, nor does one that fails.

        Of those that wait, the priorities get their shares as `pipeline.priority.Turns` says; of
        one priority the oldest comes first. No more messages are held than were received.
        """
        ...

    async def depth(self) -> Depth:
        """Count the messages."""
        ...

    async def waiting(self) -> Collection[Priority]:
        """The priorities of which a message waits for its turn. Costs less than counting all."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """What lies under a key; `size` in bytes, `url` for people (a path, or `s3://…`)."""

    key: str
    size: int
    url: str


ReportCopied = Callable[[int], Awaitable[None]]


class ObjectStore(Protocol):
    """**Protocol**: where videos lie.

    Keys are relative, with forward slashes; one that could leave the store raises `BadRequest`.
    `pull` also takes `s3://bucket/key` where the store speaks S3, and says so where it does not.
    Raises `StoreUnavailable`. An object is visible whole or not at all, and a cancelled call
    leaves nothing visible.
    """

    async def pull(self, key: str, target: Path) -> int:
        """Copy an object to a new local file and return its size in bytes.

        Raises:
            PullFailed: There is no such object (permanent), or it could not be read or written.
        """
        ...

    async def push(
        self, source: Path, key: str, *, give: bool = False, report: ReportCopied | None = None
    ) -> None:
        """Store a local file under a key, replacing what was there.

        Args:
            give: Nobody will write to the file again and the caller soon removes it, so a store on
                the same disk may link it instead of copying. Without it the file is only read.
            report: Awaited now and then with the bytes copied so far, while the copying waits.

        Raises:
            PushFailed: It could not be read or written.
        """
        ...

    async def list(self, prefix: str) -> Sequence[StoredObject]:
        """Everything below a prefix, by key."""
        ...

    async def remove(self, prefix: str) -> int:
        """Remove everything below a prefix and return how many objects that were."""
        ...

    async def sweep(self, older_than_s: float) -> int:
        """Remove what pushes left behind that ended without a word longer ago than that.

        Returns:
            How many: temporary files, or unfinished multipart uploads.
        """
        ...

    def url(self, key: str) -> str:
        """Where a person finds it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to make of a source, a local file; `output` is an empty directory beside it, on the same
    file system. After `shortages` of memory: with so much less of it.
    """

    source: Path
    output: Path
    ladder: Ladder
    strictness: Strictness
    shortages: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """A source that was found good enough to transcode.

    Args:
        video: What is in it, for the event and for people: width, height, duration_s, frames, …
        renditions: Names of what will be made, largest first.
        warnings: What is wrong with it, when the order is lenient.
    """

    video: dict[str, Any]
    renditions: tuple[str, ...]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Transcoded:
    """Verified products, each a file below the order's `output`."""

    products: tuple[Product, ...]
    warnings: tuple[str, ...]
    cpu_seconds: float


class Transcoder(Protocol):
    """**Protocol**: ffmpeg, or what stands for it in a bench.

    A cancelled call has ended every process it started, and leaves its files for the caller.
    """

    async def inspect(self, order: Order) -> Inspection:
        """Look whether the source can be transcoded at all.

        Raises:
            SourceRejected: It cannot, by anybody; the message is one sentence of cause.
            TranscodeFailed: It could not be found out here and now.
        """
        ...

    async def transcode(
        self, order: Order, inspection: Inspection, report: Callable[[Progress], None]
    ) -> Transcoded:
        """Make, verify and describe every product. `report` is called now and then, and is cheap.

        Raises:
            SourceRejected: The source turned out to be damaged, and the order is strict.
            TranscodeFailed: ffmpeg failed, stalled, hit a limit, or its output is not right.
        """
        ...
