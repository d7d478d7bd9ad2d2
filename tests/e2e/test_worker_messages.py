"""What messages bring, how long they are kept, and that none is left over."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import trio

from pipeline.errors import QueueUnavailable, Stage, TranscodeFailed
from pipeline.ledger.claims import Rules
from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Order
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.sweeper import Sweeper
from pipeline.tasks import Priority, TaskState
from tests.e2e.worker_rig import (
    FAILED_TRANSCODE,
    GOOD_WAY,
    PATIENCE_S,
    FrozenLedger,
    Rig,
    ScriptedTranscoder,
)


class Encoding:
    """A script that says when it has begun and when it was stopped, and goes on when told to."""

    def __init__(self, *, then: Exception | None = None) -> None:
        self.begun = trio.Event()
        self.go_on = trio.Event()
        self.stopped = trio.Event()
        self._then = then

    async def __call__(self, _: Order) -> None:
        self.begun.set()
        try:
            await self.go_on.wait()
        finally:
            self.stopped.set()
        if self._then is not None:
            raise self._then


def reasons(rig: Rig) -> list[str]:
    """Why messages were set aside, the oldest first."""
    with psycopg.connect(rig.url) as connection:
        rows = connection.execute(
            "SELECT dead_reason FROM queue_messages WHERE dead_at IS NOT NULL ORDER BY id"
        ).fetchall()
    return [row[0] for row in rows]


async def publish(rig: Rig, task_id: UUID, **task: Any) -> None:
    """Send a message as a client does, with the whole task if there is one."""
    await rig.queue.publish(
        json.dumps({"v": 1, "task_id": str(task_id), **({"task": task} if task else {})}).encode()
    )


# -- tasks that nobody knows yet -----------------------------------------------------------------


async def test_an_unknown_task_is_set_aside(rig: Rig, make_peer: Any) -> None:
    """After a second look, with the reason; it does not go round."""
    unknown = uuid4()
    async with rig.working(ScriptedTranscoder(), make_peer("one")):
        await publish(rig, unknown)
        await rig.queue_is_empty()

    (reason,) = reasons(rig)
    assert str(unknown) in reason
    assert "record a task and commit before publishing" in reason


async def test_a_message_that_was_faster_than_its_task(rig: Rig, make_peer: Any) -> None:
    """Its client commits a moment later: the second look finds the task."""
    submission = rig.submission()
    async with rig.working(ScriptedTranscoder(), make_peer("one")):
        await publish(rig, submission.task_id)
        await rig.message_is_put_back()
        (rig.directory / "upload").write_bytes(b"a video")
        await rig.store.push(rig.directory / "upload", submission.source)
        await rig.ledger.submit(submission)
        report = await rig.settled(submission.task_id)
        await rig.queue_is_empty()

    assert (report.state, reasons(rig)) == (TaskState.DONE, [])


# -- messages with a whole task ------------------------------------------------------------------


async def test_a_message_with_a_whole_task(rig: Rig, make_peer: Any) -> None:
    """The peer records it first, however often it comes, and then it is a task like any other."""
    task_id = uuid4()
    (rig.directory / "upload").write_bytes(b"a video")
    await rig.store.push(rig.directory / "upload", "inbox/clip.mp4")
    async with rig.working(ScriptedTranscoder(), make_peer("one"), attempts_max=7):
        for _ in range(3):
            await publish(rig, task_id, source="inbox/clip.mp4", ladder="web", priority="high")
        with trio.fail_after(PATIENCE_S):
            while True:
                if await rig.ledger.list_tasks(None, 10):
                    break
                await trio.sleep(0.01)
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert (report.state, report.attempt, report.source) == (TaskState.DONE, 1, "inbox/clip.mp4")
    assert (report.attempts_max, report.priority) == (7, Priority.HIGH)
    assert await rig.story(task_id) == GOOD_WAY


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ({"source": "inbox/clip.mp4", "ladder": "no such"}, "ladder"),
        ({"source": "inbox/\x00.mp4", "ladder": "web"}, "source"),
        ({"ladder": "web"}, "source"),
    ],
)
async def test_a_whole_task_that_makes_no_sense(
    rig: Rig, make_peer: Any, task: dict[str, Any], said: str
) -> None:
    """It is set aside with a reason that names the field, and is recorded nowhere."""
    async with rig.working(ScriptedTranscoder(), make_peer("one")):
        await publish(rig, uuid4(), **task)
        await rig.queue_is_empty()

    (reason,) = reasons(rig)
    assert said in reason
    assert await rig.ledger.list_tasks(None, 10) == []


# -- the hand-over ---------------------------------------------------------------------------------


async def test_a_long_encode_keeps_no_message(rig: Rig, make_peer: Any) -> None:
    """After the hand-over the queue is empty while the work goes on, and stays so at its end."""
    encoding = Encoding()
    async with rig.working(ScriptedTranscoder(encoding), make_peer("one"), handover_s=0.05):
        task_id = await rig.submit()
        await encoding.begun.wait()
        await rig.queue_is_empty()
        encoding.go_on.set()
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert (report.state, report.attempt) == (TaskState.DONE, 1)
    assert await rig.story(task_id) == GOOD_WAY


async def test_a_long_encode_that_fails_is_tried_again(rig: Rig, make_peer: Any) -> None:
    """Its message is gone; another one brings the next attempt."""
    encoding = Encoding(then=TranscodeFailed("ffmpeg stumbled", code="ffmpeg_failed"))
    async with rig.working(ScriptedTranscoder(encoding), make_peer("one"), handover_s=0.05):
        task_id = await rig.submit()
        await encoding.begun.wait()
        await rig.queue_is_empty()
        encoding.go_on.set()
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert (report.state, report.attempt) == (TaskState.DONE, 2)
    assert await rig.story(task_id) == [*FAILED_TRANSCODE, "ContainerErrorRetry", *GOOD_WAY]


class Closed(EmbeddedQueue):
    """Takes no messages before it is opened, and says when it has refused one."""

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self.refused = trio.Event()
        self.is_open = False

    async def publish(
        self, body: bytes, *, delay_s: float = 0.0, priority: Priority = Priority.NORMAL
    ) -> None:
        """See `TaskQueue`."""
        if not self.is_open:
            self.refused.set()
            raise QueueUnavailable("the test says so", definite=True)
        await super().publish(body, delay_s=delay_s, priority=priority)


async def test_a_claim_is_held_while_nobody_can_be_woken_for_it(rig: Rig, make_peer: Any) -> None:
    """A long encode fails while the queue takes no message for the next attempt: however long that
    lasts, its lease does not run out, and what failed is told instead of a crash."""
    encoding = Encoding(then=TranscodeFailed("ffmpeg stumbled", code="ffmpeg_failed"))
    queue = Closed(rig.database)
    async with aclosing(queue):
        async with rig.working(
            ScriptedTranscoder(encoding), make_peer("one"), queue=queue, handover_s=0.05
        ):
            task_id = await rig.submit()
            await encoding.begun.wait()
            await rig.queue_is_empty()
            encoding.go_on.set()
            with trio.fail_after(PATIENCE_S):
                await queue.refused.wait()
                await lease_is_renewed(rig, task_id)
            queue.is_open = True
            report = await rig.settled(task_id)
            await rig.queue_is_empty()

    assert (report.state, dict(report.failures)) == (TaskState.DONE, {Stage.TRANSCODE: 1})
    assert await rig.story(task_id) == [*FAILED_TRANSCODE, "ContainerErrorRetry", *GOOD_WAY]


async def lease_is_renewed(rig: Rig, task_id: UUID) -> None:
    """Wait until the only claim of a task runs out later than it did."""
    query = "SELECT lease_expires_at FROM claims WHERE task_id = %s"
    with psycopg.connect(rig.url, autocommit=True) as connection:
        before = connection.execute(query, [task_id]).fetchall()
        while True:
            if connection.execute(query, [task_id]).fetchall() != before:
                return
            await trio.sleep(0.01)


async def test_a_long_encode_is_handed_back(rig: Rig, make_peer: Any) -> None:
    """A peer that stops leaves a message for the others, though it had none in its hands."""
    encoding = Encoding()
    async with rig.working(ScriptedTranscoder(encoding), make_peer("one"), handover_s=0.05):
        task_id = await rig.submit()
        await encoding.begun.wait()
        await rig.queue_is_empty()
    async with rig.working(ScriptedTranscoder(), make_peer("two")):
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert (report.state, report.attempt, dict(report.failures)) == (TaskState.DONE, 2, {})


async def test_the_lease_carries_a_long_encode(
    rig: Rig, make_peer: Any, let_leases_run_out: Callable[[], None]
) -> None:
    """Its peer is gone and the queue knows of nothing: the sweeper finds the part and wakes
    somebody; the peer, which was only frozen, changes nothing when it comes back."""
    frozen, ledger = Encoding(), FrozenLedger(rig.ledger)
    async with rig.working(
        ScriptedTranscoder(frozen), make_peer("one"), ledger=ledger, slots=1, handover_s=0.05
    ):
        task_id = await rig.submit()
        await frozen.begun.wait()
        await rig.queue_is_empty()
        let_leases_run_out()
        await Sweeper(sweep=rig.ledger, queue=rig.queue, rng=random.Random(1)).sweep()
        async with rig.working(ScriptedTranscoder(), make_peer("two")):
            report = await rig.settled(task_id)
            frozen.go_on.set()
            await rig.queue_is_empty()

    assert (report.state, report.attempt) == (TaskState.DONE, 2)
    assert {key.split("/")[2] for key in await rig.stored(task_id)} == {"attempt-2"}


# -- cancelling ------------------------------------------------------------------------------------


async def test_cancelling_does_not_wait_for_a_renewal(
    rig: Rig, make_peer: Any, database: Database, rules: Rules
) -> None:
    """An encode stops within five seconds, however long the lease is and however rarely there is
    progress to be told."""
    patient = replace(rules, lease_s=600.0)
    ledger = PostgresLedger(
        database, lease_s=patient.lease_s, expiry=patient.expiry, recorder=patient.recorder
    )
    encoding = Encoding()
    async with rig.working(
        ScriptedTranscoder(encoding), make_peer("one"), ledger=ledger, progress_interval_s=600.0
    ):
        task_id = await rig.submit()
        await encoding.begun.wait()
        await trio.sleep(0.1)  # into the middle of the interval
        await rig.ledger.cancel(task_id, "wrong film")
        with trio.fail_after(5.0):
            await encoding.stopped.wait()
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert (report.state, report.outputs) == (TaskState.CANCELLED, ())
