"""What the ledger makes of being told who is gone, each titled by the anomaly that breaks it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from copy import copy
from dataclasses import replace
from itertools import permutations
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import trio
from psycopg.rows import dict_row

from membership.events import ContainerFailureDetected
from pipeline.errors import ClaimLost, Stage
from pipeline.events import Record, TaskReceived, VideoFilePulled
from pipeline.ledger import claims, undertaking
from pipeline.ledger.claims import Request, Rules
from pipeline.ledger.connections import Connection
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Expired, Release, Submission
from pipeline.standing import ENDED, SUSPENSION_S, Death, Life, Suspended
from pipeline.tasks import (
    Busy,
    Claim,
    Product,
    ProductKind,
    Settled,
    TaskState,
    Unknown,
)
from tests.ledger_rig import Look, MakePeer, Peer

PRODUCT = Product(kind=ProductKind.RENDITION, name="720p.mp4", rendition="720p", size=7)
HAND_BACK = Release(failure=None, retry_in_s=0.0)


@pytest.fixture
def let_suspensions_run_out(look: Look) -> Callable[[], None]:
    """What waiting would do."""
    past = "UPDATE standings SET suspended_until = clock_timestamp() - interval '1 s'"

    def do() -> None:
        look(f"{past} WHERE verdict <> 'well'")

    return do


def life(peer: Peer, incarnation: int = 1) -> Life:
    holder = peer.holder
    return Life(peer_uid=holder.peer_uid, epoch=holder.epoch, incarnation=incarnation)


def death(peer: Peer, incarnation: int = 1) -> Death:
    how = "died (silent for 6.2 s to 6 observers)"
    return Death(life=life(peer, incarnation), how=how, silent_s=6.2)


def failure(by: Peer, dead: Peer) -> Record:
    holder = dead.holder
    event = ContainerFailureDetected(
        failed_uid=holder.peer_uid,
        failed_name=holder.peer_name,
        failed_epoch=holder.epoch,
        failed_container=holder.container,
        failed_node=holder.node,
        silent_s=6.2,
        witnesses=6,
    )
    return by.record(event)


async def bury(ledger: PostgresLedger, by: Peer, dead: Peer) -> Sequence[Expired] | Suspended:
    return await ledger.bury(by.holder, death(dead), failure(by, dead))


async def claim(
    ledger: PostgresLedger, peer: Peer, task_id: UUID
) -> Claim | Busy | Settled | Unknown | Suspended:
    return await ledger.claim(task_id, 0, peer.holder, uuid4(), peer.received(task_id))


async def submitted(
    ledger: PostgresLedger, make_submission: Callable[[], Submission], count: int
) -> list[UUID]:
    """New tasks, in the order of their ids."""
    submissions = [make_submission() for _ in range(count)]
    for submission in submissions:
        await ledger.submit(submission)
    return sorted(submission.task_id for submission in submissions)


def reborn(peer: Peer) -> Peer:
    """The same peer after a restart."""
    later = copy(peer)
    later.holder = replace(peer.holder, epoch=peer.holder.epoch + 1)
    return later


async def failures_told(ledger: PostgresLedger) -> list[tuple[str, int]]:
    rows = await ledger.list_events(
        task_id=None, type=ContainerFailureDetected.kind, after_id=0, limit=100
    )
    return [(row.data["failed_uid"], row.data["failed_epoch"]) for row in rows]


async def test_stale_commit_of_the_buried(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """A peer that was buried alive changes nothing by any call, and the part is free at once."""
    dead, other = make_peer("dead"), make_peer("other")
    stale = await dead.take(ledger, task_id)

    (taken,) = await bury(ledger, other, dead)  # type: ignore[misc]  # not Suspended, or it fails

    assert (taken.task_id, taken.peer_name, taken.stage) == (task_id, "dead", Stage.CRASH)
    assert taken.death == death(dead)
    assert (await ledger.show_task(str(task_id))).state is TaskState.QUEUED
    before = (await other.take(ledger, task_id), await ledger.show_task(str(task_id)))
    pulled = dead.record(VideoFilePulled(task_id=task_id, size=1, seconds=0.1))
    calls: Sequence[Callable[[], Awaitable[None]]] = (
        lambda: ledger.finish(stale, [PRODUCT], [], dead.finished(task_id)),
        lambda: ledger.release(stale, HAND_BACK, []),
        lambda: ledger.renew(stale, None),
        lambda: ledger.advance(stale, pulled),
    )
    for call in calls:
        with pytest.raises(ClaimLost, match="took this peer for dead and peer other took the part"):
            await call()
    assert (before[0], await ledger.show_task(str(task_id))) == before
    assert before[0].attempt == 2


async def test_what_people_read(ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer) -> None:
    """The task says who died and how that was found out; the events come in their order."""
    dead, other = make_peer("dead"), make_peer("other")
    await dead.take(ledger, task_id)

    await bury(ledger, other, dead)

    report = await ledger.show_task(str(task_id))
    assert report.error is not None
    assert (report.error.code, dict(report.failures)) == ("peer_died", {Stage.CRASH: 1})
    assert report.error.message == "peer dead died (silent for 6.2 s to 6 observers)"
    assert [attempt.outcome for attempt in report.attempts] == ["expired"]
    rows = await ledger.list_events(task_id=None, type=None, after_id=0, limit=10)
    assert [row.type for row in rows] == [
        "TaskReceived",
        "ContainerFailureDetected",
        "ContainerErrorRetry",
    ]
    assert rows[1].peer_uid == other.holder.peer_uid


async def test_double_burial(
    ledger: PostgresLedger, another_ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """Of twenty peers that bury one life at once, and again later, one takes the part and tells."""
    dead = make_peer("dead")
    await dead.take(ledger, task_id)
    answers: list[Sequence[Expired] | Suspended] = []

    async def run(on: PostgresLedger, by: Peer) -> None:
        answers.append(await bury(on, by, dead))

    peers = [make_peer(f"peer {number}") for number in range(20)]
    for _ in range(2):
        async with trio.open_nursery() as nursery:
            for number, peer in enumerate(peers):
                nursery.start_soon(run, ledger if number % 2 else another_ledger, peer)

    assert sorted(len(answer) for answer in answers if not isinstance(answer, Suspended)) == [
        *39 * [0],
        1,
    ]
    assert await failures_told(ledger) == [(dead.holder.peer_uid, 1)]
    assert (await ledger.show_task(str(task_id))).failures == {Stage.CRASH: 1}


async def test_buried_with_the_old_life(
    ledger: PostgresLedger, make_peer: MakePeer, make_submission: Callable[[], Submission]
) -> None:
    """What a peer took after its restart is not its old life's; what it took before that one is."""
    first = make_peer("ada")
    second, undertaker = reborn(first), make_peer("other")
    third = reborn(second)
    tasks = await submitted(ledger, make_submission, 3)
    held = [
        await peer.take(ledger, task_id)
        for peer, task_id in zip([first, second, third], tasks, strict=True)
    ]

    taken = await bury(ledger, undertaker, second)

    assert not isinstance(taken, Suspended)
    assert [each.task_id for each in taken] == tasks[:2]
    await ledger.renew(held[2], None)
    assert isinstance(await claim(ledger, third, tasks[0]), Claim)


async def test_late_burial(ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer) -> None:
    """A burial that was held up until its subject had contradicted it changes nothing."""
    ada, other = make_peer("ada"), make_peer("other")
    await ledger.reinstate(life(ada, 2))
    held = await ada.take(ledger, task_id)

    assert await bury(ledger, other, ada) == []

    await ledger.renew(held, None)
    assert await failures_told(ledger) == []


async def test_two_deaths_of_one_life(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """A peer that was buried alive, came back and then died is buried again, and both are said."""
    ada, other = make_peer("ada"), make_peer("other")
    await bury(ledger, other, ada)
    await ledger.reinstate(life(ada, 2))
    await ada.take(ledger, task_id)

    taken = await ledger.bury(other.holder, death(ada, 2), failure(other, ada))

    assert not isinstance(taken, Suspended)
    assert [each.task_id for each in taken] == [task_id]
    assert len(await failures_told(ledger)) == 2


@pytest.mark.parametrize("others_first", [False, True])
async def test_a_crash_that_two_tell(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, others_first: bool
) -> None:
    """The next life of a peer buries the former one, and so does somebody who saw the restart, by
    the incarnation that he had heard: in either order one failure is told, the part is taken once,
    and the new life is in good standing."""
    ada, other = make_peer("ada"), make_peer("other")
    await ada.take(ledger, task_id)
    again = reborn(ada)

    async def own() -> Sequence[Expired] | Suspended:
        return await ledger.bury(again.holder, death(ada, ENDED), failure(again, ada))

    async def others() -> Sequence[Expired] | Suspended:
        return await ledger.bury(other.holder, death(ada, 5), failure(other, ada))

    answers = [await tell() for tell in ([others, own] if others_first else [own, others])]
    answers.append(await own())  # its answer had been lost

    assert [len(taken) for taken in answers if not isinstance(taken, Suspended)] == [1, 0, 0]
    assert await failures_told(ledger) == [(ada.holder.peer_uid, 1)]
    assert isinstance(await claim(ledger, again, task_id), Claim)


async def test_a_life_that_came_back_before_it_ended(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    let_suspensions_run_out: Callable[[], None],
) -> None:
    """Buried alive, it worked on when its suspension had run out; its next life takes that, too."""
    ada, other = make_peer("ada"), make_peer("other")
    await bury(ledger, other, ada)
    let_suspensions_run_out()
    await ada.take(ledger, task_id)
    again = reborn(ada)

    taken = await ledger.bury(again.holder, death(ada, ENDED), failure(again, ada))

    assert not isinstance(taken, Suspended)
    assert [each.task_id for each in taken] == [task_id]
    assert len(await failures_told(ledger)) == 1


@pytest.mark.parametrize("is_dead", [False, True])
async def test_work_for_the_suspended(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    let_suspensions_run_out: Callable[[], None],
    is_dead: bool,
) -> None:
    """Suspect or dead, it gets no work and others do, until its time has passed."""
    ada, other = make_peer("ada"), make_peer("other")
    if is_dead:
        await bury(ledger, other, ada)
    else:
        assert await ledger.suspend(other.holder, [life(ada)]) is None

    refused = await claim(ledger, ada, task_id)

    assert isinstance(refused, Suspended)
    assert 0 < refused.left_s <= SUSPENSION_S
    assert refused.why == f"the cluster takes this peer for {'dead' if is_dead else 'suspect'}"
    held = await other.take(ledger, task_id)
    await ledger.release(held, HAND_BACK, [])
    let_suspensions_run_out()
    assert isinstance(await claim(ledger, ada, task_id), Claim)


async def test_a_suspect_keeps_what_it_has(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """Suspicion takes nothing away, also no claim that is repeated because its answer got lost."""
    ada, other = make_peer("ada"), make_peer("other")
    token, record = uuid4(), ada.received(task_id)
    held = await ledger.claim(task_id, 0, ada.holder, token, record)
    await ledger.suspend(other.holder, [life(ada)])

    assert await ledger.claim(task_id, 0, ada.holder, token, record) == held
    assert isinstance(held, Claim)
    await ledger.finish(held, [PRODUCT], [], ada.finished(task_id))
    assert (await ledger.show_task(str(task_id))).state is TaskState.DONE


async def test_a_new_life_is_in_good_standing(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """A restart is no reason to wait for the end of what was said of the life before."""
    ada, other = make_peer("ada"), make_peer("other")
    await bury(ledger, other, ada)

    assert isinstance(await claim(ledger, reborn(ada), task_id), Claim)


async def test_order_of_arrival(ledger: PostgresLedger, make_peer: MakePeer, look: Look) -> None:
    """In whatever order peers say what they saw, and how often, the ledger believes the same."""
    other = make_peer("other")

    def said(of: Peer) -> list[Callable[[], Any]]:
        return [
            lambda: ledger.suspend(other.holder, [life(of, 1)]),
            lambda: ledger.bury(other.holder, death(of, 1), None),
            lambda: ledger.reinstate(life(of, 2)),
            lambda: ledger.suspend(other.holder, [life(of, 3)]),
        ]

    for number, order in enumerate(permutations(range(4))):
        peer = make_peer(f"peer {number}")
        for which in (*order, *order):
            await said(peer)[which]()

    standings = look(
        "SELECT DISTINCT incarnation, verdict, suspended_until > clock_timestamp() AS suspended"
        f" FROM standings WHERE peer_uid <> '{other.holder.peer_uid}'"
    )
    assert standings == [{"incarnation": 3, "verdict": "suspect", "suspended": True}]


async def test_mutual_burial(
    ledger: PostgresLedger, another_ledger: PostgresLedger, make_peer: MakePeer
) -> None:
    """Of two that cannot hear each other and suspect each other at once, one goes on working."""
    for number in range(10):
        ada, bob = make_peer(f"ada {number}"), make_peer(f"bob {number}")
        answers: dict[str, Suspended | None] = {}

        async def suspend(
            on: PostgresLedger, by: Peer, whom: Peer, answers: dict[str, Suspended | None] = answers
        ) -> None:
            answers[by.holder.peer_name] = await on.suspend(by.holder, [life(whom)])

        async with trio.open_nursery() as nursery:
            nursery.start_soon(suspend, ledger, ada, bob)
            nursery.start_soon(suspend, another_ledger, bob, ada)

        (winner,) = [peer for peer in (ada, bob) if answers[peer.holder.peer_name] is None]
        loser = bob if winner is ada else ada
        assert isinstance(await bury(ledger, loser, winner), Suspended)
        assert await bury(ledger, winner, loser) == []
        assert (loser.holder.peer_uid, 1) in await failures_told(ledger)
    assert len(await failures_told(ledger)) == 10


async def test_a_suspended_one_judges_nobody(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, look: Look
) -> None:
    """It may be cut off from all the others: nothing changes by what it says of them."""
    ada, bob, other = make_peer("ada"), make_peer("bob"), make_peer("other")
    held = await bob.take(ledger, task_id)
    await ledger.suspend(other.holder, [life(ada)])
    before = look("SELECT * FROM standings ORDER BY peer_uid")

    assert isinstance(await bury(ledger, ada, bob), Suspended)
    assert isinstance(await ledger.suspend(ada.holder, [life(bob)]), Suspended)

    assert look("SELECT * FROM standings ORDER BY peer_uid") == before
    assert await failures_told(ledger) == []
    await ledger.renew(held, None)


async def test_a_task_that_kills_its_peers(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """It is escalated at the threshold instead of going round the cluster for ever."""
    other = make_peer("other")
    for number in range(3):
        victim = make_peer(f"victim {number}")
        await victim.take(ledger, task_id)
        await bury(ledger, other, victim)

    report = await ledger.show_task(str(task_id))
    assert (report.state, dict(report.failures)) == (TaskState.ESCALATED, {Stage.CRASH: 3})


async def test_a_burial_needs_no_steady_ledger(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, look: Look
) -> None:
    """Leases are spared after an outage of the ledger; the dead are dead all the same."""
    dead, other = make_peer("dead"), make_peer("other")
    await dead.take(ledger, task_id)
    look("DELETE FROM heartbeat")

    taken = await bury(ledger, other, dead)

    assert not isinstance(taken, Suspended)
    assert len(taken) == 1


@pytest.fixture
def transaction(ledger_url: str) -> Iterator[Connection]:
    """Another peer's connection, on which a test holds a transaction open."""
    with psycopg.connect(ledger_url, autocommit=True, row_factory=dict_row) as connection:
        yield connection


async def waits_for(connection: Connection) -> None:
    """Wait until somebody waits for a lock of this connection's transaction."""
    query = "SELECT 1 FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    pid = connection.info.backend_pid
    with trio.fail_after(10):
        # Only the server knows who waits for whom.
        while connection.execute(query, (pid,)).fetchone() is None:  # noqa: ASYNC110
            await trio.sleep(0.002)


@pytest.mark.parametrize("has_claimed_before", [False, True])
async def test_claim_that_slips_past_a_burial(
    ledger: PostgresLedger,
    make_peer: MakePeer,
    make_submission: Callable[[], Submission],
    transaction: Connection,
    rules: Rules,
    has_claimed_before: bool,
) -> None:
    """A burial waits for a claim of the dead that is about to commit, and takes that part too."""
    dead, other = make_peer("dead"), make_peer("other")
    first, second = await submitted(ledger, make_submission, 2)
    if has_claimed_before:
        await dead.take(ledger, first)
    request = Request(
        task_id=second, part=0, holder=dead.holder, token=uuid4(), record=dead.received(second)
    )
    taken: list[Expired] = []

    async def run() -> None:
        answer = await bury(ledger, other, dead)
        assert not isinstance(answer, Suspended)
        taken.extend(answer)

    async with trio.open_nursery() as nursery:
        with transaction.transaction():
            assert isinstance(claims.claim(transaction, rules, request), Claim)
            nursery.start_soon(run)
            await waits_for(transaction)

    assert [each.task_id for each in taken] == [first, second][not has_claimed_before :]


async def test_claim_beside_a_burial(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    transaction: Connection,
    rules: Rules,
) -> None:
    """A claim that comes while its holder is being buried waits, and is refused."""
    dead, other = make_peer("dead"), make_peer("other")
    answers: list[object] = []

    async def run() -> None:
        answers.append(await claim(ledger, dead, task_id))

    async with trio.open_nursery() as nursery:
        with transaction.transaction():
            undertaking.bury(transaction, rules, other.holder, death(dead), None)
            nursery.start_soon(run)
            await waits_for(transaction)

    assert [type(answer) for answer in answers] == [Suspended]


async def test_burials_that_cross(
    ledger: PostgresLedger,
    another_ledger: PostgresLedger,
    make_peer: MakePeer,
    make_submission: Callable[[], Submission],
    look: Look,
) -> None:
    """Two dead peers shared the parts of the same tasks: both burials end, and nothing is left."""
    ada, bob, other = make_peer("ada"), make_peer("bob"), make_peer("other")
    tasks = await submitted(ledger, make_submission, 4)
    for number, task_id in enumerate(tasks):
        look(f"INSERT INTO parts VALUES ('{task_id}', 1, 'whole')")
        for part, peer in enumerate([ada, bob] if number % 2 else [bob, ada]):
            received = peer.record(TaskReceived(task_id=task_id, part=part, attempt=0))
            answer = await ledger.claim(task_id, part, peer.holder, uuid4(), received)
            assert isinstance(answer, Claim)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(bury, ledger, other, ada)
        nursery.start_soon(bury, another_ledger, other, bob)

    assert look("SELECT DISTINCT state FROM parts") == [{"state": "queued"}]
    assert look("SELECT count(*) FROM claims WHERE ended_at IS NULL") == [{"count": 0}]
