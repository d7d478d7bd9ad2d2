"""What the ledger makes of parts that failed for lack of memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, Protocol
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg.rows import dict_row

from membership.events import ContainerFailureDetected
from pipeline.errors import Stage
from pipeline.events import Record, Recordable
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Expired, Release
from pipeline.shortage import LOOK_AGAIN_S, OUT_OF_MEMORY, PASS_ON_S
from pipeline.standing import ENDED, EXPLAINED, Death, Life
from pipeline.tasks import Busy, Claim, Failure, Holder
from tests.ledger_rig import MakeSubmission

GIBIBYTE = 1 << 30


class Peer(Protocol):
    """What `make_peer` makes."""

    holder: Holder

    def record(self, event: Recordable) -> Record: ...
    def received(self, task_id: UUID) -> Record: ...
    async def take(self, ledger: PostgresLedger, task_id: UUID) -> Claim: ...


MakePeer = Callable[[str], Peer]
Run = Callable[[str], list[dict[str, Any]]]


@pytest.fixture
def psql(ledger_url: str) -> Iterator[Run]:
    """Read, or change, the database past the ledger."""
    with psycopg.connect(ledger_url, autocommit=True, row_factory=dict_row) as connection:

        def run(query: str) -> list[dict[str, Any]]:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

        yield run


def failed(memory_bytes: int | None, code: str = OUT_OF_MEMORY) -> Release:
    failure = Failure(
        stage=Stage.TRANSCODE, code=code, message="It was too much.", memory_bytes=memory_bytes
    )
    return Release(failure=failure, retry_in_s=0.0)


async def ask(
    ledger: PostgresLedger, peer: Peer, task_id: UUID, memory_bytes: int | None
) -> object:
    holder = replace(peer.holder, memory_bytes=memory_bytes)
    return await ledger.claim(task_id, 0, holder, uuid4(), peer.received(task_id))


async def test_shortages_are_counted(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """Each later claim knows how many there were; other failures are none, and a person's retry
    lets the count begin anew."""
    peer = make_peer("ada")
    for release, shortages in ((failed(GIBIBYTE), 0), (failed(None), 1), (failed(1, "other"), 2)):
        claim = await peer.take(ledger, task_id)
        assert claim.shortages == shortages
        await ledger.release(claim, release, [])
    claim = await peer.take(ledger, task_id)
    assert (claim.shortages, claim.failures) == (2, {Stage.TRANSCODE: 3})
    await ledger.release(claim, replace(failed(GIBIBYTE), retry_in_s=None), [])
    await ledger.retry(task_id, "there is more of it now")
    assert (await peer.take(ledger, task_id)).shortages == 0


@pytest.mark.parametrize(
    ("where", "here", "taken"),
    [
        pytest.param(2 * GIBIBYTE, GIBIBYTE, False, id="it has less"),
        pytest.param(2 * GIBIBYTE, 2 * GIBIBYTE, True, id="it has as much"),
        pytest.param(2 * GIBIBYTE, 3 * GIBIBYTE, True, id="it has more"),
        pytest.param(2 * GIBIBYTE, None, True, id="nobody knows how much it has"),
        pytest.param(None, GIBIBYTE, True, id="nobody knows where it failed"),
    ],
)
async def test_who_has_less_leaves_it_to_others(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    where: int | None,
    here: int | None,
    taken: bool,
) -> None:
    """For two seconds, and then looks again."""
    claim = await make_peer("ada").take(ledger, task_id)
    await ledger.release(claim, failed(where), [])
    answer = await ask(ledger, make_peer("bob"), task_id, here)
    assert isinstance(answer, Claim) == taken
    if not taken:
        assert isinstance(answer, Busy)
        assert (answer.look_again_s, answer.held) == (LOOK_AGAIN_S, None)
        assert str(where) in answer.why


async def test_nobody_waits_for_a_larger_peer_for_ever(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, psql: Run
) -> None:
    """There may be none: after a minute anybody takes it."""
    claim = await make_peer("ada").take(ledger, task_id)
    await ledger.release(claim, failed(2 * GIBIBYTE), [])
    bob = make_peer("bob")
    waited = "UPDATE parts SET not_before = clock_timestamp() - interval '{} s'"
    psql(waited.format(PASS_ON_S - 5))
    assert isinstance(await ask(ledger, bob, task_id, GIBIBYTE), Busy)
    psql(waited.format(PASS_ON_S + 1))
    assert isinstance(await ask(ledger, bob, task_id, GIBIBYTE), Claim)


async def test_a_peer_that_ran_out_of_memory(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """What it held failed for that, and the next attempt is told."""
    ada, bob = make_peer("ada"), make_peer("bob")
    await ada.take(ledger, task_id)
    death = Death(
        life=Life(peer_uid=ada.holder.peer_uid, epoch=1, incarnation=ENDED),
        how="ran out of memory (the orchestrator says: non-zero exit (137))",
        silent_s=0.0,
        out_of_memory=True,
        memory_bytes=GIBIBYTE,
    )
    (expired,) = await taken(ledger, bob, death)
    assert expired.stage is Stage.CRASH
    error = (await ledger.show_task(str(task_id))).error
    assert error == Failure(
        stage=Stage.CRASH,
        code=OUT_OF_MEMORY,
        message="peer ada ran out of memory (the orchestrator says: non-zero exit (137))",
        memory_bytes=GIBIBYTE,
    )
    claim = await bob.take(ledger, task_id)
    assert (claim.shortages, claim.failures) == (1, {Stage.CRASH: 1})


def silent(peer: Peer) -> Death:
    life = Life(peer_uid=peer.holder.peer_uid, epoch=1, incarnation=3)
    return Death(life=life, how="died (silent for 6.2 s)", silent_s=6.2)


def starved(peer: Peer) -> Death:
    life = Life(peer_uid=peer.holder.peer_uid, epoch=1, incarnation=EXPLAINED)
    return Death(life=life, how="ran out of memory", silent_s=0.0, out_of_memory=True)


def told(by: Peer, dead: Peer, reason: str) -> Record:
    return by.record(
        ContainerFailureDetected(
            failed_uid=dead.holder.peer_uid,
            failed_name=dead.holder.peer_name,
            failed_epoch=1,
            failed_container=dead.holder.container,
            failed_node=dead.holder.node,
            silent_s=0.0,
            witnesses=0,
            reason=reason,
        )
    )


REASONS = "SELECT data->>'reason' AS reason FROM events WHERE type = 'ContainerFailureDetected'"


async def test_why_a_peer_died_may_be_known_later(
    ledger: PostgresLedger, make_peer: MakePeer, make_submission: MakeSubmission, psql: Run
) -> None:
    """Gossip was quicker than the orchestrator: the cause is told once more, and once; what the
    peer had held has failed for lack of memory, whether it waits or somebody works on it."""
    ada, bob = make_peer("ada"), make_peer("bob")
    tasks = [make_submission(), make_submission()]
    for each in tasks:
        await ledger.submit(each)
        await ada.take(ledger, each.task_id)
    assert await ledger.bury(bob.holder, silent(ada), told(bob, ada, "silent"))
    first = await bob.take(ledger, tasks[0].task_id)
    assert first.shortages == 0, "nobody knew"
    for _ in range(2):  # the next leader says it again
        assert await ledger.bury(bob.holder, starved(ada), told(bob, ada, "out_of_memory")) == []
    assert psql(REASONS) == [{"reason": "silent"}, {"reason": "out_of_memory"}]
    error = (await ledger.show_task(str(tasks[1].task_id))).error
    assert error is not None
    assert (error.stage, error.code) == (Stage.CRASH, OUT_OF_MEMORY)
    assert error.message == "peer ada ran out of memory"
    assert (await bob.take(ledger, tasks[1].task_id)).shortages == 1
    await ledger.release(first, failed(None, "other"), [])
    assert (await bob.take(ledger, tasks[0].task_id)).shortages == 1


async def test_a_cause_that_is_known_is_not_forgotten(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, psql: Run
) -> None:
    """Whoever says later that the peer is silent, or has just ended, tells nothing new."""
    ada, bob = make_peer("ada"), make_peer("bob")
    await ada.take(ledger, task_id)
    assert await ledger.bury(bob.holder, starved(ada), told(bob, ada, "out_of_memory"))
    assert await ledger.bury(bob.holder, silent(ada), told(bob, ada, "silent")) == []
    ended = replace(silent(ada), life=replace(silent(ada).life, incarnation=ENDED))
    assert await ledger.bury(bob.holder, ended, told(bob, ada, "ended")) == []
    assert psql(REASONS) == [{"reason": "out_of_memory"}]
    assert (await bob.take(ledger, task_id)).shortages == 1


async def test_an_older_loss_of_the_same_life_is_not_explained(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, psql: Run
) -> None:
    """It was frozen once, and came back; what it lost then did not fail for lack of memory."""
    ada, bob = make_peer("ada"), make_peer("bob")
    await ada.take(ledger, task_id)
    await ledger.bury(bob.holder, silent(ada), told(bob, ada, "silent"))
    psql("UPDATE claims SET ended_at = ended_at - interval '11 minutes'")
    await ledger.bury(bob.holder, starved(ada), told(bob, ada, "out_of_memory"))
    assert (await bob.take(ledger, task_id)).shortages == 0


async def test_a_container_that_two_leaders_tell_of(
    ledger: PostgresLedger, make_peer: MakePeer, psql: Run
) -> None:
    """One that nobody has heard a peer of is buried by its own name: once, whoever says it."""
    life = Life(peer_uid="container:task-1", epoch=0, incarnation=ENDED)
    death = Death(life=life, how="ended", silent_s=0.0)
    event = ContainerFailureDetected(
        failed_uid="",
        failed_name="",
        failed_epoch=0,
        failed_container="task-1",
        failed_node="n1",
        silent_s=0.0,
        witnesses=0,
        reason="ended",
    )
    for name in ("ada", "bob", "ada"):
        peer = make_peer(name)
        assert await ledger.bury(peer.holder, death, peer.record(event)) == []
    assert psql("SELECT count(*) AS told FROM events") == [{"told": 1}]


async def taken(ledger: PostgresLedger, by: Peer, death: Death) -> list[Expired]:
    answer = await ledger.bury(by.holder, death, None)
    assert isinstance(answer, list)
    return answer
