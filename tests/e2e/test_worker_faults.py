"""The worker while the store, the queue or the ledger fails: nothing lost, nothing doubled."""

from __future__ import annotations

import errno
from dataclasses import replace
from math import inf
from pathlib import Path
from typing import Any

import pytest
import trio

from pipeline import worker as worker_module
from pipeline.errors import (
    LedgerUnavailable,
    QueueUnavailable,
    Stage,
    StoreUnavailable,
    TranscodeFailed,
)
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Delivery, Order
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.stores.directory import DirectoryStore
from pipeline.tasks import TaskState
from tests.e2e.worker_rig import (
    GOOD_WAY,
    PATIENCE_S,
    Rig,
    ScriptedTranscoder,
    failing,
    until,
)


class AwayStore:
    """A store that is away until it is told to be back, or for a number of calls."""

    def __init__(self, store: DirectoryStore, *, pulls: float = 0, pushes: float = 0) -> None:
        self._store = store
        self._left = {"pull": pulls, "push": pushes, "list": 0.0}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def go_away(self) -> None:
        self._left = dict.fromkeys(self._left, inf)

    def come_back(self) -> None:
        self._left = dict.fromkeys(self._left, 0.0)

    def _try(self, call: str) -> None:
        if self._left[call] > 0:
            self._left[call] -= 1
            raise StoreUnavailable("the store is down", definite=True)

    async def pull(self, key: str, target: Path) -> int:
        self._try("pull")
        return await self._store.pull(key, target)

    async def push(self, source: Path, key: str, *, give: bool = False) -> None:
        self._try("push")
        await self._store.push(source, key, give=give)

    async def list(self, prefix: str) -> Any:
        self._try("list")
        return await self._store.list(prefix)


async def test_a_moments_outage_of_the_store_is_waited_out(rig: Rig, make_peer: Any) -> None:
    """Neither the pull nor the push fails, and the encode is not thrown away."""
    store = AwayStore(rig.store, pulls=2, pushes=2)
    transcoder = ScriptedTranscoder()
    async with rig.working(transcoder, make_peer("one"), store=store):
        task_id = await rig.submit()
        report = await rig.settled(task_id)

    assert (report.state, report.attempt, dict(report.failures)) == (TaskState.DONE, 1, {})
    assert len(transcoder.orders) == 1
    assert await rig.story(task_id) == GOOD_WAY


async def test_a_long_outage_of_the_store_fails_the_push(rig: Rig, make_peer: Any) -> None:
    """It is retried, and counted under the push's own counter."""
    store = AwayStore(rig.store, pushes=1)
    async with rig.working(
        ScriptedTranscoder(), make_peer("one"), store=store, store_patience_s=0.0
    ):
        task_id = await rig.submit()
        report = await rig.settled(task_id)

    assert (report.state, dict(report.failures)) == (TaskState.DONE, {"push": 1})
    assert await rig.story(task_id) == [
        *[*GOOD_WAY[:5], "WorkloadProcessingFinished", "ContainerErrorRetry"],
        *GOOD_WAY,
    ]


async def test_no_work_is_taken_while_the_store_is_away(rig: Rig, make_peer: Any) -> None:
    """One task finds it out; the others wait in the queue instead of failing one by one."""
    store = AwayStore(rig.store)
    async with rig.working(
        ScriptedTranscoder(), make_peer("one"), store=store, store_patience_s=0.0, slots=1
    ):
        await rig.settled(await rig.submit())
        store.go_away()
        tasks = [await rig.submit(attempts_max=2) for _ in range(5)]
        await rig.first_failure(tasks)
        store.come_back()
        reports = [await rig.settled(task) for task in tasks]

    assert [report.state for report in reports] == [TaskState.DONE] * 5
    assert sum(report.failures.get(Stage.PULL, 0) for report in reports) == 1


async def test_no_work_is_taken_before_the_store_was_seen(rig: Rig, make_peer: Any) -> None:
    """A store that is away when a peer starts costs no task anything."""
    store = AwayStore(rig.store)
    store.go_away()
    async with rig.working(
        ScriptedTranscoder(), make_peer("one"), store=store, store_patience_s=0.0
    ) as worker:
        tasks = [await rig.submit() for _ in range(3)]
        await until(lambda: worker.breakers["store"] != "closed")
        store.come_back()
        reports = [await rig.settled(task) for task in tasks]

    assert [(report.state, report.attempt) for report in reports] == [(TaskState.DONE, 1)] * 3


class AwayLedger:
    """A ledger that is away while told to be; it may keep steps for later, as a spool does."""

    def __init__(self, ledger: PostgresLedger, *, spools: bool) -> None:
        self._ledger = ledger
        self._spools = spools
        self._kept: list[tuple[Any, Any]] = []
        self.away = False
        self.kept = trio.Event()

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **options: Any) -> Any:
            await trio.lowlevel.checkpoint()
            if self.away:
                raise LedgerUnavailable("the ledger is down", definite=True)
            while self._kept:
                await self._ledger.advance(*self._kept[0])
                self._kept.pop(0)
            return await getattr(self._ledger, name)(*arguments, **options)

        return call

    async def advance(self, *arguments: Any) -> None:
        if self.away and self._spools:
            self._kept.append((arguments[0], arguments[1]))
            self.kept.set()
            return
        await self.__getattr__("advance")(*arguments)


async def test_an_idle_peer_says_that_the_ledger_is_away(
    rig: Rig, make_peer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was asked of it when it went, and people see it all the same, and that it is back."""
    monkeypatch.setattr(worker_module, "LOOK_S", 0.05)
    ledger = AwayLedger(rig.ledger, spools=True)
    async with (
        rig.working(ScriptedTranscoder(), make_peer("one"), ledger=ledger) as worker,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(worker.watch)
        ledger.away = True
        await until(lambda: dict(worker.trouble) == {"ledger": "the ledger is down"})
        ledger.away = False
        await until(lambda: not worker.trouble)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("spools", [False, True])
async def test_an_outage_of_the_ledger(rig: Rig, make_peer: Any, spools: bool) -> None:
    """What is being encoded goes on and is committed afterwards, no work is taken meanwhile, people
    see why, and nothing is counted as a failure."""
    ledger = AwayLedger(rig.ledger, spools=spools)
    begun, go_on, encoded = trio.Event(), trio.Event(), trio.Event()

    async def encode(_: Order) -> None:
        begun.set()
        await go_on.wait()
        encoded.set()

    transcoder = ScriptedTranscoder(encode)
    async with rig.working(transcoder, make_peer("one"), ledger=ledger) as worker:
        first = await rig.submit()
        await begun.wait()
        ledger.away = True
        with trio.fail_after(PATIENCE_S):
            while not worker.trouble:  # noqa: ASYNC110 - a breaker announces nothing outside
                await trio.sleep(0.01)
        assert dict(worker.trouble) == {"ledger": "the ledger is down"}
        assert worker.breakers["ledger"] != "closed"
        assert worker.breakers["queue"] == worker.breakers["store"] == "closed"
        second = await rig.submit()
        go_on.set()
        await encoded.wait()
        if spools:
            await ledger.kept.wait()
        await trio.sleep(0.2)  # by then it would have been taken
        assert (await rig.ledger.show_task(str(second))).state is TaskState.QUEUED
        assert len(transcoder.orders) == 1
        ledger.away = False
        reports = [await rig.settled(task) for task in (first, second)]
        await rig.queue_is_empty()
        assert dict(worker.trouble) == {}

    assert [(report.state, report.attempt) for report in reports] == [(TaskState.DONE, 1)] * 2
    assert [dict(report.failures) for report in reports] == [{}, {}]
    assert [await rig.story(task) for task in (first, second)] == [GOOD_WAY, GOOD_WAY]


class FullDisk:
    """A store behind which this machine's disk is full, at one call of one kind."""

    def __init__(self, store: DirectoryStore, call: str, error: Exception) -> None:
        self._store = store
        self._failing = {call: error}

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any, **options: Any) -> Any:
            await trio.lowlevel.checkpoint()
            if (error := self._failing.pop(name, None)) is not None:
                raise error
            return await getattr(self._store, name)(*arguments, **options)

        return call


FULL = OSError(errno.ENOSPC, "No space left on device")
BUG = KeyError("nobody thought of this")


@pytest.mark.parametrize(
    ("where", "error", "stage", "code"),
    [
        ("pull", FULL, Stage.PULL, "disk_full"),
        ("push", FULL, Stage.PUSH, "disk_full"),
        ("encode", FULL, Stage.TRANSCODE, "disk_full"),
        ("pull", BUG, Stage.PULL, "unexpected"),
        ("push", BUG, Stage.PUSH, "unexpected"),
        ("encode", BUG, Stage.TRANSCODE, "unexpected"),
    ],
)
async def test_each_stage_has_its_own_counter(
    rig: Rig, make_peer: Any, where: str, error: Exception, stage: Stage, code: str
) -> None:
    """Whatever goes wrong is counted where it went wrong, told by its cause, and tried again."""
    transcoder = ScriptedTranscoder(*([failing(error)] if where == "encode" else []))
    store = FullDisk(rig.store, where, error)
    async with rig.working(transcoder, make_peer("one"), store=store):
        task_id = await rig.submit()
        report = await rig.settled(task_id)

    assert (report.state, dict(report.failures)) == (TaskState.DONE, {stage: 1})
    first = (await rig.ledger.show_task(str(task_id))).attempts[0]
    assert first.error is not None
    assert (first.error.stage, first.error.code) == (stage, code)


async def test_no_room_for_a_workspace(rig: Rig, make_peer: Any) -> None:
    """The peer has no place to work in: that is its own pull's failure, and passes."""
    async with rig.working(ScriptedTranscoder(), make_peer("one")):
        scratch = rig.directory / "scratch-one"
        scratch.rmdir()
        scratch.write_bytes(b"in the way")
        task_id = await rig.submit()
        await rig.first_failure([task_id])
        scratch.unlink()
        scratch.mkdir()
        report = await rig.settled(task_id)

    assert report.state is TaskState.DONE
    assert set(report.failures) == {Stage.PULL}
    first = (await rig.ledger.show_task(str(task_id))).attempts[0]
    assert first.error is not None
    assert first.error.code == "workspace"


class ForgetfulQueue:
    """A queue that does not hear how a delivery ends before it is told twice."""

    def __init__(self, queue: EmbeddedQueue) -> None:
        self._queue = queue

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)

    async def receive(self) -> Any:
        return ForgetfulDelivery(await self._queue.receive())


class ForgetfulDelivery:
    """A delivery of such a queue."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._is_deaf = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._delivery, name)

    def _hear(self) -> None:
        if self._is_deaf:
            self._is_deaf = False
            raise QueueUnavailable("too many clients", definite=True)

    async def ack(self) -> None:
        self._hear()
        await self._delivery.ack()

    async def put_back(self, delay_s: float) -> None:
        self._hear()
        await self._delivery.put_back(delay_s)

    async def dead_letter(self, reason: str) -> None:
        self._hear()
        await self._delivery.dead_letter(reason)


async def test_a_deliverys_end_is_said_until_it_is_heard(rig: Rig, make_peer: Any) -> None:
    """A failed call to the queue strands neither a retry nor a finished task's message."""
    failed = TranscodeFailed("ffmpeg stumbled", code="ffmpeg_failed")
    queue = ForgetfulQueue(rig.queue)
    async with rig.working(ScriptedTranscoder(failing(failed)), make_peer("one"), queue=queue):
        await rig.queue.publish(b"{not json")
        task_id = await rig.submit()
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert (report.state, report.attempt) == (TaskState.DONE, 2)
    assert (await rig.queue.depth()).dead == 1


async def test_a_key_that_leaves_the_store_escalates(rig: Rig, make_peer: Any) -> None:
    """Nobody can pull it; no retry is wasted on it."""
    submission = replace(rig.submission(), source="../../etc/passwd")
    async with rig.working(ScriptedTranscoder(), make_peer("one")):
        await rig.ledger.submit(submission)
        await rig.wake(submission.task_id)
        report = await rig.settled(submission.task_id)

    assert (report.state, report.attempt) == (TaskState.ESCALATED, 1)
    assert report.error is not None
    assert (report.error.stage, report.error.code) == (Stage.PULL, "bad_key")


class LostAnswer:
    """A ledger whose first commit goes through while its answer gets lost on the way."""

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger
        self._answers_lost = 1
        self.asked_again = trio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def finish(self, *arguments: Any) -> None:
        if self._answers_lost:
            self._answers_lost -= 1
            await self._ledger.finish(*arguments)
            raise LedgerUnavailable("the connection broke", definite=False)
        self.asked_again.set()
        await trio.sleep_forever()  # the other ways to learn of the commit come first


async def test_a_commit_whose_answer_got_lost_is_a_commit(rig: Rig, make_peer: Any) -> None:
    """The renewal finds the claim ended, and by whom: the outputs are not taken for leftovers."""
    ledger = LostAnswer(rig.ledger)
    async with rig.working(ScriptedTranscoder(), make_peer("one"), ledger=ledger):
        task_id = await rig.submit()
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert report.state is TaskState.DONE
    assert await rig.stored(task_id) == [output.key for output in report.outputs]


async def test_stopping_while_a_commits_answer_is_lost(rig: Rig, make_peer: Any) -> None:
    """Handing back finds that there is nothing to hand back, and leaves the outputs alone."""
    ledger = LostAnswer(rig.ledger)
    peer = make_peer("one")
    # Rarely, since a renewal would find the commit first.
    async with rig.working(ScriptedTranscoder(), peer, ledger=ledger, progress_interval_s=60.0):
        task_id = await rig.submit()
        await ledger.asked_again.wait()
    report = await rig.settled(task_id)

    assert report.state is TaskState.DONE
    assert await rig.stored(task_id) == [output.key for output in report.outputs]


class ClearedStore(AwayStore):
    """A store that notes what was removed from it."""

    def __init__(self, store: DirectoryStore) -> None:
        super().__init__(store)
        self.removed: list[str] = []

    async def remove(self, prefix: str) -> None:
        self.removed.append(prefix.rpartition("/")[2])
        await self._store.remove(prefix)


async def test_an_attempt_makes_room_where_the_last_one_died(rig: Rig, make_peer: Any) -> None:
    """Of earlier attempts it clears away the one before it: not all of them, each time again."""
    store = ClearedStore(rig.store)
    script = [failing(TranscodeFailed("it crashed", code="ffmpeg_failed"))] * 3
    async with rig.working(ScriptedTranscoder(*script), make_peer("one"), store=store, slots=1):
        report = await rig.settled(await rig.submit(attempts_max=9))

    assert (report.state, report.attempt) == (TaskState.DONE, 4)
    own, before = 1, 1
    assert {name: store.removed.count(name) for name in set(store.removed)} == dict.fromkeys(
        ("attempt-1", "attempt-2", "attempt-3"), own + before
    )
