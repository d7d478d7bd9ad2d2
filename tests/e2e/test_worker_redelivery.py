"""A message comes again: its peer died, or only lost its line to the queue. Work is neither left
lying until a lease runs out, nor doubled."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import psycopg
import trio

from pipeline.errors import Stage, TranscodeFailed
from pipeline.messages import decode_untrusted
from pipeline.ports import Delivery, Order
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.redelivery import SILENT_S
from pipeline.tasks import Claim, Held, Progress, TaskState
from tests.e2e.worker_rig import GOOD_WAY, PATIENCE_S, Rig, ScriptedTranscoder

LEASE_S = 15.0
"""The ledger's in these tests: what a takeover must stay well below."""


class Asked:
    """`Answers`, as the cluster would give it; remembers about whom it was asked."""

    def __init__(self, answer: bool) -> None:
        self.answer = answer
        self.about: list[Held] = []

    async def __call__(self, held: Held) -> bool:
        self.about.append(held)
        return self.answer


class Encoding:
    """A script that says when it has begun, and goes on when it is told to."""

    def __init__(self) -> None:
        self.begun = trio.Event()
        self.go_on = trio.Event()

    async def __call__(self, _: Order) -> None:
        self.begun.set()
        await self.go_on.wait()


@asynccontextmanager
async def taken_by(
    rig: Rig, peer: Any, task_id: UUID, *, unheard: Held | None = None
) -> AsyncIterator[tuple[Claim, Delivery]]:
    """A peer with a message in its hands and its part claimed; its session ends with the block."""
    queue = EmbeddedQueue(rig.database)
    try:
        delivery = await queue.receive()
        claim = await rig.ledger.claim(
            task_id, 0, peer.holder, uuid4(), peer.received(task_id), unheard=unheard
        )
        assert isinstance(claim, Claim)
        yield claim, delivery
    finally:
        await queue.aclose()


def lose_lines(rig: Rig) -> None:
    """End all consumers' sessions with the server, as a network that was cut does."""
    with psycopg.connect(rig.url) as connection:
        ended = connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN %' AND datname = current_database()"
        ).fetchall()
    assert ended, "nobody was listening"


async def delivered_again(rig: Rig, task_id: UUID, *, beside: UUID | None = None) -> None:
    """Wait until a task's only message has been delivered for the second time, at least.

    Args:
        beside: Of this task a message may be left until then.
    """
    with trio.fail_after(PATIENCE_S), psycopg.connect(rig.url, autocommit=True) as connection:
        while True:
            rows = connection.execute("SELECT body, deliveries FROM queue_messages").fetchall()
            deliveries = {decode_untrusted(bytes(body)).task_id: count for body, count in rows}
            assert len(deliveries) == len(rows)
            assert {task_id} <= set(deliveries) <= {task_id, beside}
            if deliveries[task_id] >= 2 and len(rows) == 1:
                return
            await trio.sleep(0.01)


async def test_a_killed_peers_part_is_taken_over_at_once(rig: Rig, make_peer: Any) -> None:
    """The queue gives its message to another, who asks it, hears nothing and does the work."""
    killed, asked = make_peer("killed"), Asked(False)
    task_id = await rig.submit()
    async with taken_by(rig, killed, task_id) as (claim, _):
        pass  # killed: its session with the queue is gone, its claim and lease are not
    began = trio.current_time()
    async with rig.working(ScriptedTranscoder(), make_peer("other"), answers=asked):
        report = await rig.settled(task_id)
        await rig.queue_is_empty()
    took_s = trio.current_time() - began

    assert took_s < LEASE_S / 3
    assert [(held.token, held.peer_name) for held in asked.about] == [(claim.token, "killed")]
    assert (report.state, report.attempt) == (TaskState.DONE, 2)
    assert dict(report.failures) == {Stage.CRASH: 1}
    assert [attempt.outcome for attempt in report.attempts] == ["expired", "done"]
    assert await rig.story(task_id) == ["TaskReceived", "ContainerErrorRetry", *GOOD_WAY]


async def test_a_peer_that_answers_keeps_its_part(rig: Rig, make_peer: Any) -> None:
    """Its message came to another one; its work is not doubled, and the message waits for it."""
    alive, asked, transcoder = make_peer("alive"), Asked(True), ScriptedTranscoder()
    task_id = await rig.submit()
    async with taken_by(rig, alive, task_id) as (claim, _):
        pass  # only the line to the queue is gone
    async with rig.working(transcoder, make_peer("other"), answers=asked):
        await rig.message_is_put_back()
        await rig.ledger.finish(claim, (), (), alive.finished(task_id))
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert (report.state, report.attempt) == (TaskState.DONE, 1)
    assert len(asked.about) == 1, "what was put back was given up by nobody"
    assert transcoder.orders == []


async def test_a_peer_that_renews_keeps_its_part(rig: Rig, make_peer: Any) -> None:
    """It lost its line to the queue, and datagrams between it and the one that asks are dropped:
    it works on, which the ledger hears. Its work is not doubled, and no crash is counted."""
    encoding, asked = Encoding(), Asked(False)
    one, other = ScriptedTranscoder(encoding), ScriptedTranscoder()
    queue = EmbeddedQueue(rig.database)
    async with (
        aclosing(queue),
        rig.working(one, make_peer("one"), slots=1, queue=queue),
    ):
        task_id = await rig.submit()
        await encoding.begun.wait()
        async with rig.working(other, make_peer("other"), answers=asked):
            lose_lines(rig)
            await rig.message_is_put_back()
            encoding.go_on.set()
            report = await rig.settled(task_id)
            await rig.queue_is_empty()

    assert len(asked.about) == 1
    assert (report.state, report.attempt, report.failures) == (TaskState.DONE, 1, {})
    assert other.orders == []


async def test_a_repeated_wake_up_asks_nobody(rig: Rig, make_peer: Any) -> None:
    """A message that was delivered for the first time says nothing about the holder."""
    alive, asked = make_peer("alive"), Asked(False)
    task_id = await rig.submit()
    async with taken_by(rig, alive, task_id) as (claim, delivery):
        await rig.wake(task_id)
        async with rig.working(ScriptedTranscoder(), make_peer("other"), answers=asked):
            await rig.message_is_put_back()
            await rig.ledger.finish(claim, (), (), alive.finished(task_id))
            await delivery.ack()
            await rig.queue_is_empty()

    assert asked.about == []


async def test_a_peers_own_message_comes_back_to_it(rig: Rig, make_peer: Any) -> None:
    """It lost its line in the middle of its work: it keeps the new delivery in the place of the
    void one, does the work once, and leaves no message behind."""
    encoding = Encoding()
    transcoder = ScriptedTranscoder(encoding)
    async with rig.working(transcoder, make_peer("one"), slots=2):
        task_id = await rig.submit()
        await encoding.begun.wait()
        lose_lines(rig)
        await delivered_again(rig, task_id)
        await trio.sleep(0.1)  # by then it would have been put back
        depth = await rig.queue.depth()
        assert (depth.ready, depth.unacknowledged, depth.delayed) == (0, 1, 0)
        encoding.go_on.set()
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert (report.state, report.attempt, len(transcoder.orders)) == (TaskState.DONE, 1, 1)
    assert await rig.story(task_id) == GOOD_WAY


async def test_a_busy_peer_loses_its_line(rig: Rig, make_peer: Any) -> None:
    """All its slots are at work, so nobody waits for a message and notices. The first slot that is
    free is given the messages of both once more; what is done then needs none, and what fails
    later has one to be tried again by."""
    failing, good = Encoding(), Encoding()

    async def fail(order: Order) -> None:
        await failing(order)
        raise TranscodeFailed("ffmpeg was killed", code="crashed")

    async with rig.working(ScriptedTranscoder(fail, good), make_peer("one"), slots=2):
        failed = await rig.submit()
        await failing.begun.wait()
        done = await rig.submit()
        await good.begun.wait()
        lose_lines(rig)
        good.go_on.set()
        assert (await rig.settled(done)).attempt == 1
        await delivered_again(rig, failed, beside=done)
        await trio.sleep(0.2)  # by then the void delivery was ended
        await delivered_again(rig, failed)
        failing.go_on.set()
        report = await rig.settled(failed)
        await rig.queue_is_empty()

    assert (report.state, report.attempt) == (TaskState.DONE, 2)


async def test_a_former_life_of_the_peer_itself(rig: Rig, make_peer: Any) -> None:
    """It was killed and started again: nobody has to be asked whether it is still alive."""
    peer, asked = make_peer("one"), Asked(True)
    task_id = await rig.submit()
    async with taken_by(rig, peer, task_id):
        pass
    peer.holder = replace(peer.holder, epoch=peer.holder.epoch + 1)
    began = trio.current_time()
    async with rig.working(ScriptedTranscoder(), peer, answers=asked):
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert trio.current_time() - began < LEASE_S / 3
    assert (report.state, report.attempt, asked.about) == (TaskState.DONE, 2, [])


async def test_a_task_that_kills_its_peers(rig: Rig, make_peer: Any) -> None:
    """Each death counts as a crash; at the threshold it is escalated, and goes round no more."""
    killed: Held | None = None
    task_id = await rig.submit(attempts_max=3)
    for name in ("ada", "bob", "eve"):
        async with taken_by(rig, make_peer(name), task_id, unheard=killed):
            pass
        killed = await make_peer("asker").find_held(rig.ledger, task_id)
    transcoder = ScriptedTranscoder()
    async with rig.working(transcoder, make_peer("last"), answers=Asked(False)):
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert (report.state, report.attempt) == (TaskState.ESCALATED, 3)
    assert dict(report.failures) == {Stage.CRASH: 3}
    assert transcoder.orders == []
    assert (await rig.story(task_id))[-1] == "ContainerErrorEscalation"


class Renewals:
    """A ledger that notes when it was renewed in."""

    def __init__(self, ledger: Any) -> None:
        self._ledger = ledger
        self.at: list[float] = []

    async def renew(self, claim: Claim, progress: Progress | None) -> None:
        self.at.append(trio.current_time())
        await self._ledger.renew(claim, progress)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)


async def test_a_holder_renews_often_enough_to_be_seen(rig: Rig, make_peer: Any) -> None:
    """However seldom there is progress to be told, and whatever its interval is: others take a
    claim without a renewal for abandoned. One that renewed by its lease, or by its interval alone,
    would have no gap as short as that; a machine that stalls makes some of them longer."""
    encoding, ledger = Encoding(), Renewals(rig.ledger)
    async with rig.working(
        ScriptedTranscoder(encoding), make_peer("one"), ledger=ledger, progress_interval_s=0.9
    ):
        task_id = await rig.submit()
        await encoding.begun.wait()
        ledger.at = []
        with trio.fail_after(PATIENCE_S):
            while len(ledger.at) < 4:  # noqa: ASYNC110 - a call that is noted
                await trio.sleep(0.01)
        encoding.go_on.set()
        await rig.settled(task_id)

    gaps = [later - earlier for earlier, later in pairwise(ledger.at)]
    assert min(gaps) < SILENT_S
