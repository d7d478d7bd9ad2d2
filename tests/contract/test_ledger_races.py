"""What must hold when calls meet in the ledger, each titled by the anomaly that would break it.

Two real connections: a test holds one transaction open at the moment that matters, and goes on when
the other one waits for it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID, uuid4

import psycopg
import pytest
import trio
from psycopg.rows import dict_row

from pipeline.errors import ClaimLost, PipelineError, Stage
from pipeline.events import (
    Record,
    VideoFilePulled,
)
from pipeline.ledger import claims, desk
from pipeline.ledger.claims import Request, Rules
from pipeline.ledger.connections import Connection
from pipeline.ledger.locked_task import write_events
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Submission
from pipeline.standing import Suspended
from pipeline.tasks import (
    Busy,
    Claim,
    Product,
    ProductKind,
    Settled,
    TaskState,
    Unknown,
)
from tests.ledger_rig import MakePeer, Peer

T = TypeVar("T")

PRODUCT = Product(
    kind=ProductKind.RENDITION, name="720p.mp4", rendition="720p", size=7, media={"width": 1280}
)


@dataclass(slots=True)
class OpenTransaction:
    """Another peer's transaction, which a test holds open; and who comes meanwhile."""

    connection: Connection
    rules: Rules
    nursery: trio.Nursery

    async def meanwhile(self, call: Callable[[], Awaitable[T]]) -> Callable[[], Awaitable[T]]:
        """Start a call, and go on when it waits for a lock of this transaction, or has not had to.

        Returns:
            What waits for the call's end, and gives or raises what it did.
        """
        ended = trio.Event()
        results: list[T] = []
        errors: list[PipelineError] = []

        async def run() -> None:
            try:
                results.append(await call())
            except PipelineError as error:
                errors.append(error)
            ended.set()

        async def end() -> T:
            await ended.wait()
            if errors:
                raise errors[0]
            return results[0]

        self.nursery.start_soon(run)
        with trio.fail_after(10):
            # Only the server knows who waits for whom.
            while not (ended.is_set() or self._blocks_somebody()):  # noqa: ASYNC110
                await trio.sleep(0.002)
        return end

    def _blocks_somebody(self) -> bool:
        query = "SELECT 1 FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
        pid = self.connection.info.backend_pid
        return self.connection.execute(query, (pid,)).fetchone() is not None


@pytest.fixture
def transaction(ledger_url: str, rules: Rules, nursery: trio.Nursery) -> Iterator[OpenTransaction]:
    """Begins with `with transaction.connection.transaction()`."""
    with psycopg.connect(ledger_url, autocommit=True, row_factory=dict_row) as connection:
        yield OpenTransaction(connection, rules, nursery)


def pulled(peer: Peer, task_id: UUID) -> Record:
    return peer.record(VideoFilePulled(task_id=task_id, size=1, seconds=0.1))


async def test_double_claim(
    ledger: PostgresLedger, another_ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """Of twenty peers that claim one part at once over two pools, exactly one gets it."""
    answers: list[Claim | Busy | Settled | Unknown | Suspended] = []

    async def claim(on: PostgresLedger, peer: Peer) -> None:
        record = peer.received(task_id)
        answers.append(await on.claim(task_id, 0, peer.holder, uuid4(), record))

    async with trio.open_nursery() as nursery:
        for number in range(20):
            on = ledger if number % 2 else another_ledger
            nursery.start_soon(claim, on, make_peer(f"peer {number}"))

    assert sum(isinstance(answer, Claim) for answer in answers) == 1
    assert sum(isinstance(answer, Busy) for answer in answers) == 19
    found = await ledger.list_events(task_id=task_id, type="TaskReceived", after_id=0, limit=100)
    assert len(found) == 1


async def test_double_claim_of_an_expired_lease(
    ledger: PostgresLedger,
    another_ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    let_leases_run_out: Callable[[], None],
) -> None:
    """Of many that find one expired lease at once, one expires it and one takes the part."""
    await make_peer("dead").take(ledger, task_id)
    let_leases_run_out()
    answers: list[object] = []

    async def claim(on: PostgresLedger, peer: Peer) -> None:
        record = peer.received(task_id)
        answers.append(await on.claim(task_id, 0, peer.holder, uuid4(), record))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            on = ledger if number % 2 else another_ledger
            nursery.start_soon(claim, on, make_peer(f"peer {number}"))
            nursery.start_soon(on.expire_leases)

    assert sum(isinstance(answer, Claim) for answer in answers) == 1
    report = await ledger.show_task(str(task_id))
    assert report.failures == {Stage.CRASH: 1}
    assert [attempt.outcome for attempt in report.attempts] == ["expired", None]


async def test_double_take_over_of_an_unheard_holder(
    ledger: PostgresLedger,
    another_ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
) -> None:
    """Of many that had no answer from one holder, one ends its claim and takes the part."""
    await make_peer("unheard").take(ledger, task_id)
    unheard = await make_peer("asker").find_held(ledger, task_id)
    answers: list[object] = []

    async def claim(on: PostgresLedger, peer: Peer) -> None:
        record = peer.received(task_id)
        answers.append(await on.claim(task_id, 0, peer.holder, uuid4(), record, unheard=unheard))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            on = ledger if number % 2 else another_ledger
            nursery.start_soon(claim, on, make_peer(f"peer {number}"))

    assert sum(isinstance(answer, Claim) for answer in answers) == 1
    report = await ledger.show_task(str(task_id))
    assert report.failures == {Stage.CRASH: 1}
    assert [attempt.outcome for attempt in report.attempts] == ["expired", None]


async def take_over_during(
    write: Callable[[Connection], None],
    ledger: PostgresLedger,
    task_id: UUID,
    taker: Peer,
    transaction: OpenTransaction,
) -> object:
    """What is told to one who takes a part over while its holder's write is not committed yet."""
    held, record = await taker.find_held(ledger, task_id), taker.received(task_id)
    with transaction.connection.transaction():
        write(transaction.connection)
        take_over = await transaction.meanwhile(
            lambda: ledger.claim(task_id, 0, taker.holder, uuid4(), record, unheard=held)
        )
    return await take_over()


async def test_lost_update_between_finish_and_take_over(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, transaction: OpenTransaction
) -> None:
    """A holder that is not heard, but is committing just then, wins: its outputs count."""
    ada = make_peer("ada")
    claim = await ada.take(ledger, task_id)

    def finish(connection: Connection) -> None:
        claims.finish(connection, claim, [PRODUCT], [], ada.finished(task_id))

    answer = await take_over_during(finish, ledger, task_id, make_peer("bob"), transaction)

    assert isinstance(answer, Settled)
    report = await ledger.show_task(str(task_id))
    assert (report.state, report.failures) == (TaskState.DONE, {})


async def test_lost_update_between_renewal_and_take_over(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, transaction: OpenTransaction
) -> None:
    """A renewal that is under way when its holder is taken for gone wins: the claim stays."""
    claim = await make_peer("ada").take(ledger, task_id)

    def renew(connection: Connection) -> None:
        claims.renew(connection, transaction.rules, claim, None)

    answer = await take_over_during(renew, ledger, task_id, make_peer("bob"), transaction)

    assert isinstance(answer, Busy)
    await ledger.renew(claim, None)


async def test_lost_update_between_renewal_and_expiry(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    let_leases_run_out: Callable[[], None],
    transaction: OpenTransaction,
) -> None:
    """A renewal that is under way when somebody finds the lease expired wins: the claim stays."""
    claim = await make_peer("ada").take(ledger, task_id)
    let_leases_run_out()

    with transaction.connection.transaction():
        claims.renew(transaction.connection, transaction.rules, claim, None)  # not committed yet
        expired = await transaction.meanwhile(ledger.expire_leases)

    assert await expired() == []
    await ledger.renew(claim, None)


async def test_lost_update_between_finish_and_cancel(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, transaction: OpenTransaction
) -> None:
    """A cancellation that is under way when the holder commits wins; the outputs do not count."""
    peer = make_peer("ada")
    claim = await peer.take(ledger, task_id)

    with transaction.connection.transaction():
        desk.cancel(transaction.connection, task_id, "a mistake")
        finish = await transaction.meanwhile(
            lambda: ledger.finish(claim, [PRODUCT], [], peer.finished(task_id))
        )

    with pytest.raises(ClaimLost, match="the task was cancelled: a mistake"):
        await finish()
    report = await ledger.show_task(str(task_id))
    assert (report.state, report.outputs) == (TaskState.CANCELLED, ())


async def test_lost_update_between_two_claims(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    transaction: OpenTransaction,
) -> None:
    """The second of two claims waits for the first to commit, and then finds the part taken."""
    ada, bob = make_peer("ada"), make_peer("bob")
    request = Request(
        task_id=task_id,
        part=0,
        holder=ada.holder,
        token=uuid4(),
        record=ada.received(task_id),
    )
    with transaction.connection.transaction():
        first = claims.claim(transaction.connection, transaction.rules, request)
        second = await transaction.meanwhile(
            lambda: ledger.claim(task_id, 0, bob.holder, uuid4(), bob.received(task_id)),
        )

    assert isinstance(first, Claim)
    answer = await second()
    assert isinstance(answer, Busy)
    assert answer.why == "peer ada holds it"


async def test_rolled_back_claim(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    transaction: OpenTransaction,
) -> None:
    """A claimer that dies before its commit leaves nothing: the next one gets attempt 1."""
    ada, bob = make_peer("ada"), make_peer("bob")
    request = Request(
        task_id=task_id, part=0, holder=ada.holder, token=uuid4(), record=ada.received(task_id)
    )
    with transaction.connection.transaction(force_rollback=True):
        claims.claim(transaction.connection, transaction.rules, request)

    assert (await bob.take(ledger, task_id)).attempt == 1
    found = await ledger.list_events(task_id=task_id, type=None, after_id=0, limit=10)
    assert [event.peer_uid for event in found] == [bob.holder.peer_uid]


async def test_sweepers_do_not_wait_for_each_other(
    ledger: PostgresLedger,
    make_submission: Callable[[], Submission],
    make_peer: MakePeer,
    let_leases_run_out: Callable[[], None],
    transaction: OpenTransaction,
) -> None:
    """A sweep leaves out the task that somebody is just changing, and does the others."""
    tasks = [make_submission() for _ in range(3)]
    for submission in tasks:
        await ledger.submit(submission)
        await make_peer("dead").take(ledger, submission.task_id)
    let_leases_run_out()

    with transaction.connection.transaction():
        transaction.connection.execute(
            "SELECT 1 FROM tasks WHERE id = %s FOR UPDATE", (tasks[0].task_id,)
        )
        with trio.fail_after(5):
            found = await ledger.expire_leases()

    assert {each.task_id for each in found} == {each.task_id for each in tasks[1:]}
    assert [each.task_id for each in await ledger.expire_leases()] == [tasks[0].task_id]


async def test_missed_event(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, transaction: OpenTransaction
) -> None:
    """Who follows the events does not overtake one that has its id already and commits later."""
    peer = make_peer("ada")
    await ledger.record([pulled(peer, task_id)])
    (seen,) = await ledger.list_events(task_id=None, type=None, after_id=0, limit=10)

    with transaction.connection.transaction():
        slow = pulled(make_peer("slow"), task_id)
        write_events(transaction.connection, [slow])
        await ledger.record([pulled(peer, task_id)])
        early = await ledger.list_events(task_id=None, type=None, after_id=seen.id, limit=10)
        assert early == []
    late = await ledger.list_events(task_id=None, type=None, after_id=seen.id, limit=10)

    assert [event.peer_uid for event in late] == [
        slow.stamp.peer_uid,
        peer.holder.peer_uid,
    ]


async def test_missed_event_at_the_first_look(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, transaction: OpenTransaction
) -> None:
    """Who begins to follow does not overtake it either; who only looks sees all there is."""

    async def look(after_id: int = 0, *, follow: bool) -> list[tuple[int, str]]:
        found = await ledger.list_events(
            task_id=None, type=None, after_id=after_id, limit=10, follow=follow
        )
        return [(event.id, event.peer_uid) for event in found]

    quick, slow = make_peer("quick"), make_peer("slow")
    await ledger.record([pulled(quick, task_id)])
    with transaction.connection.transaction():
        write_events(transaction.connection, [pulled(slow, task_id)])
        await ledger.record([pulled(quick, task_id)])
        followed = await look(follow=True)
        assert len(await look(follow=False)) == 2
    followed += await look(followed[-1][0], follow=True)

    assert followed == await look(follow=False)
    names = {quick.holder.peer_uid: "quick", slow.holder.peer_uid: "slow"}
    assert [names[peer_uid] for _, peer_uid in followed] == ["quick", "slow", "quick"]
