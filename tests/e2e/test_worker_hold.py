"""Workers whom the cluster doubts, and those who take over from the dead, on a real ledger."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio

from gossip.rows import Body, Row, State
from membership.view import Member, View
from peer.undertaker import Undertaker
from pipeline.ports import Order
from pipeline.standing import Life
from pipeline.sweeper import Sweeper
from pipeline.tasks import TaskState
from tests.e2e.worker_rig import GOOD_WAY, PATIENCE_S, Rig, ScriptedTranscoder


def life(peer: Any, incarnation: int = 1) -> Life:
    return Life(peer_uid=peer.holder.peer_uid, epoch=peer.holder.epoch, incarnation=incarnation)


def believed_by(peer: Any, other: Any, state: State) -> View:
    """What a peer believes that knows of one other."""

    def member(of: Any, state: State) -> Member:
        holder = of.holder
        body = Body(address=("127.0.0.1", 1), name=holder.peer_name)
        row = Row(int(holder.peer_uid, 16), holder.epoch, 1, state, body)
        return Member(row=row, age_s=0.0, load=None, load_age_s=0.0, silent=False, own=of is peer)

    return View(
        own_uid=int(peer.holder.peer_uid, 16),
        members=(member(peer, State.ALIVE), member(other, state)),
        leader=None,
        candidate=None,
        quorate=True,
        deaf=False,
        suspected=False,
        mass_event=False,
    )


async def nobody_answers(_: Life) -> bool:
    return False


@asynccontextmanager
async def undertaking(rig: Rig, peer: Any, view: View) -> AsyncIterator[None]:
    """Run a peer's undertaker."""
    sweeper = Sweeper(sweep=rig.ledger, queue=rig.queue, rng=random.Random(0))
    undertaker = Undertaker(
        ledger=rig.ledger,
        wake=sweeper.wake,
        view=lambda: view,
        own=lambda: peer.holder,
        recorder=peer.record,
        hears=nobody_answers,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(undertaker.run)
        yield
        nursery.cancel_scope.cancel()


async def test_a_peer_that_is_cut_off_takes_nothing(rig: Rig, make_peer: Any) -> None:
    """Also not what comes while it is waiting for a message; others take it, and it does later."""
    reason: list[str | None] = [None]
    held = rig.working(ScriptedTranscoder(), make_peer("held"), may_take=lambda: reason[-1])
    async with held:
        first = await rig.settled(await rig.submit())
        reason.append("this peer is deaf")
        task_id = await rig.submit()
        async with rig.working(ScriptedTranscoder(), make_peer("other")):
            second = await rig.settled(task_id)
        waiting = await rig.submit()
        assert (await rig.ledger.show_task(str(waiting))).state is TaskState.QUEUED
        reason.append(None)
        third = await rig.settled(waiting)
        await rig.queue_is_empty()

    names = [report.attempts[0].peer_name for report in (first, second, third)]
    assert names == ["held", "other", "held"]
    assert [report.attempt for report in (first, second, third)] == [1, 1, 1]


async def test_a_suspect_gets_no_work(rig: Rig, make_peer: Any) -> None:
    """The ledger refuses it, another one does the task; reinstated, it works again."""
    suspect, other = make_peer("suspect"), make_peer("other")
    await rig.ledger.suspend(other.holder, [life(suspect)])
    async with rig.working(ScriptedTranscoder(), suspect):
        task_id = await rig.submit()
        async with rig.working(ScriptedTranscoder(), other):
            first = await rig.settled(task_id)
        await rig.ledger.reinstate(life(suspect, 2))
        second = await rig.settled(await rig.submit())
        await rig.queue_is_empty()

    assert [report.attempts[0].peer_name for report in (first, second)] == ["other", "suspect"]
    assert await rig.story(task_id) == GOOD_WAY


async def test_a_dead_peers_task_is_taken_over_at_once(rig: Rig, make_peer: Any) -> None:
    """Long before its lease runs out, by the one that is left; the dead one, less dead than it
    looked, commits nothing and leaves nothing behind."""
    dead, other = make_peer("dead"), make_peer("other")
    began, over = trio.Event(), trio.Event()

    async def hang(_: Order) -> None:
        began.set()
        await over.wait()

    async with rig.working(ScriptedTranscoder(hang), dead, slots=1):
        task_id = await rig.submit()
        await began.wait()
        buried_at = trio.current_time()
        async with (
            undertaking(rig, other, believed_by(other, dead, State.DEAD)),
            rig.working(ScriptedTranscoder(), other),
        ):
            report = await rig.settled(task_id)
            took_s = trio.current_time() - buried_at
            over.set()
            await rig.queue_is_empty()

    assert (report.state, report.attempt) == (TaskState.DONE, 2)
    assert [attempt.peer_name for attempt in report.attempts] == ["dead", "other"]
    assert took_s < PATIENCE_S / 2
    story = await rig.story(task_id)
    assert story.count("ContainerErrorRetry") == 1
    assert story[-len(GOOD_WAY) :] == GOOD_WAY
    assert {key.split("/")[2] for key in await rig.stored(task_id)} == {"attempt-2"}
    failures = await rig.ledger.list_events(
        task_id=None, type="ContainerFailureDetected", after_id=0, limit=10
    )
    assert [event.data["failed_name"] for event in failures] == ["dead"]


async def test_two_that_bury_each_other(rig: Rig, make_peer: Any) -> None:
    """They cannot hear each other and both reach the ledger: every task is done, by either."""
    ada, bob = make_peer("ada"), make_peer("bob")
    async with (
        undertaking(rig, ada, believed_by(ada, bob, State.DEAD)),
        undertaking(rig, bob, believed_by(bob, ada, State.DEAD)),
        rig.working(ScriptedTranscoder(), ada),
        rig.working(ScriptedTranscoder(), bob),
    ):
        tasks = [await rig.submit() for _ in range(4)]
        reports = [await rig.settled(task_id) for task_id in tasks]

    assert {report.state for report in reports} == {TaskState.DONE}
    failures = await rig.ledger.list_events(
        task_id=None, type="ContainerFailureDetected", after_id=0, limit=10
    )
    assert len(failures) == 1
