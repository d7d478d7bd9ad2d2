"""Taking over from a holder that the queue has given up, and that does not answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from pipeline.errors import BadRequest, ClaimLost, NoSuchTask, Stage
from pipeline.events import Recordable
from pipeline.ledger.claims import Rules
from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Expired, Release, Submission
from pipeline.standing import Life, Suspended
from pipeline.tasks import (
    Busy,
    Claim,
    Held,
    Priority,
    Product,
    ProductKind,
    Settled,
    TaskState,
    Unknown,
)
from tests.ledger_rig import Look, MakePeer, Peer

PRODUCT = Product(kind=ProductKind.POSTER, name="poster.jpg", size=1)
NEVER_S = float("inf")


async def ask(
    ledger: PostgresLedger, peer: Peer, task_id: UUID, unheard: Held | None = None
) -> Claim | Busy | Settled | Unknown | Suspended:
    record = peer.received(task_id)
    return await ledger.claim(task_id, 0, peer.holder, uuid4(), record, unheard=unheard)


async def test_who_is_in_the_way_is_named(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, look: Look
) -> None:
    """With the claim's token, the holder's life, and for how long it has said nothing."""
    ada, bob = make_peer("ada"), make_peer("bob")
    claim = await ada.take(ledger, task_id)
    look("UPDATE claims SET renewed_at = clock_timestamp() - interval '3 s'")

    answer = await ask(ledger, bob, task_id)

    assert isinstance(answer, Busy)
    assert answer.held is not None
    assert 3.0 <= answer.held.silent_s < 10.0
    (row,) = look("SELECT renewed_at FROM claims")
    assert replace(answer.held, silent_s=0.0) == Held(
        token=claim.token,
        peer_uid=ada.holder.peer_uid,
        peer_name="ada",
        epoch=ada.holder.epoch,
        renewed_at=row["renewed_at"],
        silent_s=0.0,
    )
    await ledger.renew(claim, None)
    answer = await ask(ledger, bob, task_id)
    assert isinstance(answer, Busy)
    assert answer.held is not None
    assert answer.held.silent_s < 3.0


async def test_an_unheard_holder_loses_its_part(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """At once, although its lease holds; a crash is counted, and its later calls change nothing."""
    ada, bob = make_peer("ada"), make_peer("bob")
    stale = await ada.take(ledger, task_id)
    held = await bob.find_held(ledger, task_id)

    claim = await ask(ledger, bob, task_id, unheard=held)

    assert isinstance(claim, Claim)
    assert (claim.attempt, claim.failures) == (2, {Stage.CRASH: 1})
    lost = "not heard by another one and peer bob took the part"
    with pytest.raises(ClaimLost, match=lost):
        await ledger.finish(stale, [PRODUCT], [], ada.finished(task_id))
    with pytest.raises(ClaimLost, match=lost):
        await ledger.renew(stale, None)
    await ledger.finish(claim, [PRODUCT], [], bob.finished(task_id))
    report = await ledger.show_task(str(task_id))
    assert report.state is TaskState.DONE
    assert [(each.peer_name, each.outcome) for each in report.attempts] == [
        ("ada", "expired"),
        ("bob", "done"),
    ]


async def test_only_exactly_that_claim_is_taken_over(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """The question whether a holder answers was about one claim: the next one's is left alone."""
    ada, bob, cyd = make_peer("ada"), make_peer("bob"), make_peer("cyd")
    await ada.take(ledger, task_id)
    first = await bob.find_held(ledger, task_id)
    second = await ask(ledger, bob, task_id, unheard=first)
    assert isinstance(second, Claim)

    late = await ask(ledger, cyd, task_id, unheard=first)

    assert isinstance(late, Busy)
    assert late.held is not None
    assert late.held.token == second.token
    await ledger.renew(second, None)
    refused = await ask(ledger, cyd, task_id, unheard=replace(first, token=uuid4()))
    assert isinstance(refused, Busy)


async def test_who_renews_is_left_alone(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """The ledger hears a holder that another peer cannot hear: its work is not done twice, nor a
    crash counted. It was heard by nobody any more: it is taken over."""
    ada, bob = make_peer("ada"), make_peer("bob")
    claim = await ada.take(ledger, task_id)
    held = await bob.find_held(ledger, task_id)
    await ledger.renew(claim, None)

    refused = await ask(ledger, bob, task_id, unheard=held)

    assert isinstance(refused, Busy)
    assert refused.held is not None
    assert refused.held.token == claim.token
    assert refused.held.renewed_at > held.renewed_at
    assert (await ledger.show_task(str(task_id))).failures == {}
    taken = await ask(ledger, bob, task_id, unheard=refused.held)
    assert isinstance(taken, Claim)
    assert taken.failures == {Stage.CRASH: 1}


async def test_a_take_over_is_safe_to_repeat(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """Its answer got lost: the same call gives the same claim, and one crash is counted."""
    ada, bob = make_peer("ada"), make_peer("bob")
    await ada.take(ledger, task_id)
    held = await bob.find_held(ledger, task_id)
    token, record = uuid4(), bob.received(task_id)

    answers = [
        await ledger.claim(task_id, 0, bob.holder, token, record, unheard=held) for _ in range(2)
    ]

    assert answers[0] == answers[1]
    report = await ledger.show_task(str(task_id))
    assert report.failures == {Stage.CRASH: 1}
    assert len(report.attempts) == 2


async def test_the_retrys_delay_is_kept_and_nobody_is_woken_twice(
    database: Database, rules: Rules, task_id: UUID, make_peer: MakePeer
) -> None:
    """Whoever takes over is told when to look again; its wake-up is the only one that is needed."""

    def later(expired: Expired) -> tuple[Release, list[Recordable]]:
        release, events = rules.expiry(expired)
        return replace(release, retry_in_s=3600.0), list(events)

    ledger = PostgresLedger(database, lease_s=15.0, expiry=later, recorder=rules.recorder)
    ada, bob = make_peer("ada"), make_peer("bob")
    await ada.take(ledger, task_id)
    held = await bob.find_held(ledger, task_id)

    for _ in range(2):
        answer = await ask(ledger, bob, task_id, unheard=held)
        assert isinstance(answer, Busy)
        assert answer.held is None
        assert 3590 < answer.look_again_s <= 3600

    report = await ledger.show_task(str(task_id))
    assert (report.state, report.failures) == (TaskState.QUEUED, {Stage.CRASH: 1})
    assert await ledger.unannounced(-7200.0, NEVER_S) == []


async def test_a_task_that_kills_its_peers_escalates(
    ledger: PostgresLedger, make_submission: Callable[[], Submission], make_peer: MakePeer
) -> None:
    """Unheard holders count up to the threshold (3); the last one's message is settled."""
    told: list[Expired] = []
    submission = replace(make_submission(), priority=Priority.HIGH)
    task_id = submission.task_id
    await ledger.submit(submission)
    usual = ledger._rules.expiry

    def expiry(expired: Expired) -> tuple[Release, Any]:
        told.append(expired)
        return usual(expired)

    object.__setattr__(ledger._rules, "expiry", expiry)
    peer = make_peer("ada")
    answer: object = await peer.take(ledger, task_id)
    for _ in range(3):
        assert isinstance(answer, Claim)
        held = await peer.find_held(ledger, task_id)
        answer = await ask(ledger, peer, task_id, unheard=held)

    assert isinstance(answer, Settled)
    report = await ledger.show_task(str(task_id))
    assert (report.state, report.failures) == (TaskState.ESCALATED, {Stage.CRASH: 3})
    assert [(each.unheard, each.failures, each.priority) for each in told] == [
        (True, failures, Priority.HIGH) for failures in (1, 2, 3)
    ]
    (notice,) = await ledger.escalations(10)
    assert [each["attempt"] for each in notice.data["story"]] == [1, 2, 3]


async def test_a_suspended_peer_takes_nothing_over(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """Who is not heard may be the one that asks: whom the cluster suspects judges nobody."""
    ada, bob, cyd = make_peer("ada"), make_peer("bob"), make_peer("cyd")
    claim = await ada.take(ledger, task_id)
    held = await bob.find_held(ledger, task_id)
    life = Life(peer_uid=bob.holder.peer_uid, epoch=bob.holder.epoch, incarnation=1)
    assert await ledger.suspend(cyd.holder, [life]) is None

    assert isinstance(await ask(ledger, bob, task_id, unheard=held), Suspended)
    await ledger.renew(claim, None)


async def test_an_ended_claim_is_not_taken_over(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """Its holder finished between the question and the call: the part is done, and settled."""
    ada, bob = make_peer("ada"), make_peer("bob")
    claim = await ada.take(ledger, task_id)
    held = await bob.find_held(ledger, task_id)
    await ledger.finish(claim, [PRODUCT], [], ada.finished(task_id))

    assert isinstance(await ask(ledger, bob, task_id, unheard=held), Settled)
    assert (await ledger.show_task(str(task_id))).failures == {}


async def test_a_message_that_brings_its_task(
    ledger: PostgresLedger, make_submission: Callable[[], Submission], make_peer: MakePeer
) -> None:
    """The task is recorded and taken at once; sent again, to another peer or with other contents,
    it changes nothing, and finds its holder in the way."""
    submission, ada, bob = make_submission(), make_peer("ada"), make_peer("bob")
    task_id, token, record = submission.task_id, uuid4(), ada.received(submission.task_id)
    claim = await ledger.claim(task_id, 0, ada.holder, token, record, submission=submission)
    assert isinstance(claim, Claim)
    assert claim.task is not None
    assert (claim.task.id, claim.task.ladder) == (task_id, submission.ladder)

    again = await ledger.claim(task_id, 0, ada.holder, token, record, submission=submission)
    assert again == claim
    other = replace(submission, title="another")
    answer = await ledger.claim(
        task_id, 0, bob.holder, uuid4(), bob.received(task_id), submission=other
    )
    assert isinstance(answer, Busy)
    assert (await ledger.show_task(str(task_id))).title == submission.title


async def test_a_message_that_brings_its_task_to_a_suspect(
    ledger: PostgresLedger, make_submission: Callable[[], Submission], make_peer: MakePeer
) -> None:
    """It may take nothing, and people see the task all the same."""
    submission, ada, bob = make_submission(), make_peer("ada"), make_peer("bob")
    task_id = submission.task_id
    life = Life(peer_uid=ada.holder.peer_uid, epoch=ada.holder.epoch, incarnation=0)
    await ledger.suspend(bob.holder, [life])
    answer = await ledger.claim(
        task_id, 0, ada.holder, uuid4(), ada.received(task_id), submission=submission
    )
    assert isinstance(answer, Suspended)
    assert (await ledger.show_task(str(task_id))).state is TaskState.QUEUED


async def test_a_message_that_brings_a_task_that_cannot_be(
    ledger: PostgresLedger, make_submission: Callable[[], Submission], make_peer: MakePeer
) -> None:
    """It is refused, and nothing of it is kept, nor of its claim."""
    submission, ada = replace(make_submission(), source="a\0b"), make_peer("ada")
    task_id = submission.task_id
    with pytest.raises(BadRequest, match="cannot be the key"):
        await ledger.claim(
            task_id, 0, ada.holder, uuid4(), ada.received(task_id), submission=submission
        )
    with pytest.raises(NoSuchTask):
        await ledger.show_task(str(task_id))


async def test_a_message_that_brings_its_task_to_several(
    ledger: PostgresLedger, make_submission: Callable[[], Submission], make_peer: MakePeer
) -> None:
    """At the same time: there is one task, and one of them has it."""
    submission = make_submission()
    task_id, answers = submission.task_id, []

    async def claim(name: str) -> None:
        peer = make_peer(name)
        record = peer.received(task_id)
        answers.append(
            await ledger.claim(task_id, 0, peer.holder, uuid4(), record, submission=submission)
        )

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(claim, f"peer-{number}")
    assert sorted(type(answer).__name__ for answer in answers) == ["Busy"] * 3 + ["Claim"]
