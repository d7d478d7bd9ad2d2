"""Gates: where a task can be held, so that a fault meets it at exactly that step.

A fault that comes "at some time" meets most tasks while they wait, and a matrix of service, step
and fault would be a matrix of luck. Here as many tasks as there are gates run at once, each is held
at another one, and when all stand still the fault comes: one run is a whole row of the matrix.

A gate stands before the call that its step is about. So the call is made while the service is away,
and made again when it is back. It can also stand behind it: then the call has been made, and to its
caller it fails as if the answer had got lost. (What happens to a call on its way is for the random
kills, and for lines that lose answers: `relay`.)

The gates of the ledger stand behind the peer's spool, where its line to the database is; those of
the steps also before it is noted that they were taken, as they are written later.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path
from uuid import UUID

import trio

from pipeline.errors import (
    LedgerUnavailable,
    PushFailed,
    QueueUnavailable,
    StoreUnavailable,
    Unavailable,
)
from pipeline.events import Record
from pipeline.noting import NotingLedger
from pipeline.ports import (
    ClaimLedger,
    Delivery,
    Depth,
    Inspection,
    ObjectStore,
    Order,
    Release,
    ReportCopied,
    StoredObject,
    Submission,
    TaskQueue,
    Transcoded,
    Transcoder,
)
from pipeline.spooling import Ledger
from pipeline.standing import Suspended
from pipeline.tasks import (
    Busy,
    Claim,
    Held,
    Holder,
    Priority,
    Product,
    Progress,
    Settled,
    Unknown,
)
from tests.chaos.services.small import NAMES, task_of


class Gate(StrEnum):
    """Before what a task is held that goes straight on; those of the ledger bear the names of
    their events."""

    RECEIVED = "TaskReceived"
    DETAILS = "TaskDetailsRetrieved"
    PULL = "the source is pulled"
    PULLED = "VideoFilePulled"
    STARTED = "WorkloadProcessingStarted"
    TRANSCODE = "the source is transcoded"
    TRANSCODED = "VideoTranscoded"
    PUSH = "an output is pushed"
    UPLOADED = "TranscodedVideoUploaded"
    FINISHED = "WorkloadProcessingFinished"
    ACK = "the message is acknowledged"


class Detour(StrEnum):
    """Before what a task is held that does not go straight on. Where its way only comes to that
    when an attempt fails, its first attempt does; and where the peer must stop, it works until
    then."""

    SUBMIT = "the task that a message brings along is recorded"
    DEAD_LETTER = "a message that nobody understands is set aside"
    RETRY = "a failed attempt is given up, to be made again"
    ESCALATE = "a failed attempt is given up, for a person"
    PUT_BACK = "the message of a failed attempt is put back"
    DISCARD = "what a failed attempt has uploaded is removed"
    HAND_OVER = "the message is acknowledged while the work goes on"
    PUBLISH = "another message is published, as a failed attempt's own is handed over"
    HAND_BACK = "an attempt is given up by a peer that stops"
    RETURN = "a message is put back by a peer that stops"


FAILING = (Detour.RETRY, Detour.ESCALATE, Detour.PUT_BACK, Detour.DISCARD, Detour.PUBLISH)
HANDED_OVER = (Detour.HAND_OVER, Detour.PUBLISH)
STOPPED = (Detour.HAND_BACK, Detour.RETURN)

Place = Gate | Detour


class Gates:
    """The gates of a peer, or of several. Each task is held once, at the gate that is its own.

    Args:
        plan: Which task is held where; others pass everywhere.
        lost: Which task's call, the first one there, is made and then fails to its caller.
        ways: Which other tasks only go the way that comes there.
        tell: Told of each task that has come to its gate.
    """

    def __init__(
        self,
        plan: Mapping[UUID, Place] | None = None,
        tell: Callable[[UUID], None] = lambda _: None,
        *,
        lost: Mapping[UUID, Place] | None = None,
        ways: Mapping[UUID, Place] | None = None,
    ) -> None:
        self.plan = dict(plan or {})
        self._ways: Mapping[UUID, Place] = {**self.plan, **(lost or {}), **(ways or {})}
        self._to_lose = dict(lost or {})
        self._failed: set[UUID] = set()
        self._tell = tell
        self._opened = trio.Event()
        self._came = trio.Condition()
        self._passed: set[tuple[UUID, Place]] = set()
        self.held: set[UUID] = set()
        """The tasks that have come to their gates."""

    @property
    def are_all_lost(self) -> bool:
        """Every answer that was to be lost has been."""
        return not self._to_lose

    @asynccontextmanager
    async def at(
        self, task_id: UUID, *places: Place, error: type[Unavailable]
    ) -> AsyncIterator[None]:
        """Make the call in this block: perhaps later than it was meant, and perhaps in vain."""
        await self.come(task_id, *places)
        yield
        if self._to_lose.get(task_id) in places:
            del self._to_lose[task_id]
            raise error("the answer got lost on its way", definite=False)

    async def come(self, task_id: UUID, *places: Place) -> None:
        """Wait there, where that is the task's gate."""
        if self.plan.get(task_id) in places:
            await self._hold(task_id)
        async with self._came:
            self._passed.update((task_id, place) for place in places)
            self._came.notify_all()

    async def _hold(self, task_id: UUID) -> None:
        if self._opened.is_set() or task_id in self.held:
            return
        self.held.add(task_id)
        self._tell(task_id)
        async with self._came:
            self._came.notify_all()
        await self._opened.wait()

    async def wait_held(self) -> None:
        """Wait until every task of the plan stands at its gate."""
        await self._wait(lambda: self.held >= set(self.plan))

    async def wait_passed(self, task_id: UUID, place: Place) -> None:
        """Wait until a task has come through there."""
        await self._wait(lambda: (task_id, place) in self._passed)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        async with self._came:
            while not condition():
                await self._came.wait()

    def open(self) -> None:
        """Let everybody through, now and later."""
        self._opened.set()

    async def go_the_way(self, task_id: UUID) -> None:
        """Wait in the middle of the work for what must happen to it there."""
        way = self._ways.get(task_id)
        if way in STOPPED:
            await trio.sleep_forever()
        if way in HANDED_OVER:
            await self.wait_passed(task_id, Detour.HAND_OVER)

    def fail_once(self, task_id: UUID) -> None:
        """Fail at the end of the first attempt, where that is the task's way."""
        if self._ways.get(task_id) in FAILING and task_id not in self._failed:
            self._failed.add(task_id)
            raise PushFailed("the test says so", code="by_the_test")


class GatedLedger:
    """Implements what a spool wants of a ledger before another one."""

    def __init__(self, ledger: Ledger, gates: Gates) -> None:
        self._ledger = ledger
        self._gates = gates

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
        brought = () if submission is None else (Detour.SUBMIT,)
        async with self._gates.at(task_id, *brought, Gate.RECEIVED, error=LedgerUnavailable):
            return await self._ledger.claim(
                task_id, part, holder, token, record, submission=submission, unheard=unheard
            )

    async def advance(self, claim: Claim, *steps: Record) -> None:
        async with self._gates.at(claim.task_id, *_gates_of(steps), error=LedgerUnavailable):
            await self._ledger.advance(claim, *steps)

    async def renew(self, claim: Claim, progress: Progress | None) -> None:
        await self._ledger.renew(claim, progress)

    async def finish(
        self,
        claim: Claim,
        products: Sequence[Product],
        warnings: Sequence[str],
        record: Record,
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        places = (*_gates_of(steps), Gate.FINISHED)
        async with self._gates.at(claim.task_id, *places, error=LedgerUnavailable):
            await self._ledger.finish(claim, products, warnings, record, steps=steps)

    async def release(
        self,
        claim: Claim,
        release: Release,
        records: Sequence[Record],
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        places: tuple[Place, ...] = (*_gates_of(steps), _end(release))
        async with self._gates.at(claim.task_id, *places, error=LedgerUnavailable):
            await self._ledger.release(claim, release, records, steps=steps)

    async def record(self, records: Sequence[Record]) -> None:
        await self._ledger.record(records)


class GatedNoting(NotingLedger):
    """Holds a task when it comes to a step, and not only when the step is written."""

    def __init__(self, ledger: ClaimLedger, gates: Gates) -> None:
        super().__init__(ledger)
        self._gates = gates

    async def advance(self, claim: Claim, *steps: Record) -> None:
        await self._gates.come(claim.task_id, *_gates_of(steps))
        await super().advance(claim, *steps)


def _gates_of(steps: Iterable[Record]) -> tuple[Gate, ...]:
    return tuple(Gate(step.event.kind) for step in steps)


class GatedStore:
    """Implements `ObjectStore` before another one. Its keys must name the tasks."""

    def __init__(self, store: ObjectStore, gates: Gates) -> None:
        self._store = store
        self._gates = gates

    async def pull(self, key: str, target: Path) -> int:
        async with self._gates.at(_task_in(key), Gate.PULL, error=StoreUnavailable):
            return await self._store.pull(key, target)

    async def push(
        self, source: Path, key: str, *, give: bool = False, report: ReportCopied | None = None
    ) -> None:
        if key.endswith(NAMES[-1]):
            self._gates.fail_once(_task_in(key))
        async with self._gates.at(_task_in(key), Gate.PUSH, error=StoreUnavailable):
            await self._store.push(source, key, give=give, report=report)

    async def list(self, prefix: str) -> Sequence[StoredObject]:
        return await self._store.list(prefix)

    async def remove(self, prefix: str) -> int:
        async with self._gates.at(_task_in(prefix), Detour.DISCARD, error=StoreUnavailable):
            return await self._store.remove(prefix)

    async def sweep(self, older_than_s: float) -> int:
        return await self._store.sweep(older_than_s)

    def url(self, key: str) -> str:
        return self._store.url(key)


class GatedQueue:
    """Implements `TaskQueue` before another one."""

    def __init__(self, queue: TaskQueue, gates: Gates) -> None:
        self._queue = queue
        self._gates = gates

    async def publish(
        self, body: bytes, *, delay_s: float = 0.0, priority: Priority = Priority.NORMAL
    ) -> None:
        async with self._gates.at(_task_of(body), Detour.PUBLISH, error=QueueUnavailable):
            await self._queue.publish(body, delay_s=delay_s, priority=priority)

    async def receive(self) -> Delivery:
        return _GatedDelivery(await self._queue.receive(), self._gates)

    async def depth(self) -> Depth:
        return await self._queue.depth()

    async def waiting(self) -> Collection[Priority]:
        return await self._queue.waiting()


class _GatedDelivery:
    """Implements `Delivery`."""

    def __init__(self, delivery: Delivery, gates: Gates) -> None:
        self._delivery = delivery
        self._gates = gates

    @property
    def body(self) -> bytes:
        return self._delivery.body

    @property
    def redelivered(self) -> bool:
        return self._delivery.redelivered

    @property
    def priority(self) -> Priority:
        return self._delivery.priority

    async def ack(self) -> None:
        task_id = _task_of(self.body)
        async with self._gates.at(task_id, Gate.ACK, Detour.HAND_OVER, error=QueueUnavailable):
            await self._delivery.ack()

    async def put_back(self, delay_s: float) -> None:
        task_id = _task_of(self.body)
        async with self._gates.at(task_id, Detour.PUT_BACK, Detour.RETURN, error=QueueUnavailable):
            await self._delivery.put_back(delay_s)

    async def dead_letter(self, reason: str) -> None:
        task_id = _task_of(self.body)
        async with self._gates.at(task_id, Detour.DEAD_LETTER, error=QueueUnavailable):
            await self._delivery.dead_letter(reason)


class GatedTranscoder:
    """Implements `Transcoder` before another one. Its sources must name their tasks (`small`)."""

    def __init__(self, transcoder: Transcoder, gates: Gates) -> None:
        self._transcoder = transcoder
        self._gates = gates

    async def inspect(self, order: Order) -> Inspection:
        return await self._transcoder.inspect(order)

    async def transcode(
        self, order: Order, inspection: Inspection, report: Callable[[Progress], None]
    ) -> Transcoded:
        task_id = task_of(order)
        async with self._gates.at(task_id, Gate.TRANSCODE, error=Unavailable):
            await self._gates.go_the_way(task_id)
            return await self._transcoder.transcode(order, inspection, report)


def _end(release: Release) -> Detour:
    if release.failure is None:
        return Detour.HAND_BACK
    return Detour.ESCALATE if release.retry_in_s is None else Detour.RETRY


def _task_of(body: bytes) -> UUID:
    """The task that a message names, also where a peer cannot make sense of it."""
    return UUID(json.loads(body)["task_id"])


def _task_in(key: str) -> UUID:
    """The task whose source or output lies there: `sources/ID/…`, `tasks/ID/…`."""
    return UUID(key.split("/")[1])
