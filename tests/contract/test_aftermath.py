"""What comes after attempts that failed: the story, the administrators' notice, and clearing up."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

import psycopg
import pytest
import trio

from pipeline.errors import Stage
from pipeline.events import ContainerErrorEscalation
from pipeline.ledger.clearing import BATCH
from pipeline.ledger.escalations import MESSAGE_CHARACTERS_MAX, STORY_MAX
from pipeline.ledger.postgres import PostgresLedger
from pipeline.notices import Notice
from pipeline.ports import Evidence, Release
from pipeline.tasks import Claim, Failure, Product, ProductKind
from tests.ledger_rig import Look, MakePeer, MakeSubmission, Peer

PRODUCT = Product(kind=ProductKind.POSTER, name="poster.jpg", size=1)
HAND_BACK = Release(failure=None, retry_in_s=0.0)


def failure(message: str = "It did not work.", stage: Stage = Stage.PULL) -> Failure:
    return Failure(stage=stage, code="test", message=message)


def escalation(claim: Claim, failed: Failure) -> ContainerErrorEscalation:
    return ContainerErrorEscalation(
        task_id=claim.task_id,
        part=claim.part,
        attempt=claim.attempt,
        stage=failed.stage,
        code=failed.code,
        message=failed.message,
        failures=1,
        attempts_max=3,
        reason="no retry can help",
        log_tail="the last words",
    )


async def fail(
    ledger: PostgresLedger,
    peer: Peer,
    task_id: UUID,
    message: str,
    stage: Stage = Stage.PULL,
) -> None:
    claim = await peer.take(ledger, task_id)
    failed = replace(failure(message), stage=stage)
    await ledger.release(claim, Release(failure=failed, retry_in_s=0.0), [])


async def escalate(
    ledger: PostgresLedger, peer: Peer, task_id: UUID, message: str = "It did not work."
) -> None:
    claim = await peer.take(ledger, task_id)
    record = peer.record(escalation(claim, failure(message)))
    release = Release(failure=failure(message), retry_in_s=None)
    for _ in range(2):  # as when its answer got lost
        await ledger.release(claim, release, [record])


async def submitted(ledger: PostgresLedger, make_submission: MakeSubmission) -> UUID:
    submission = make_submission()
    await ledger.submit(submission)
    return submission.task_id


async def test_an_escalation_tells_the_whole_story(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    let_leases_run_out: Callable[[], None],
) -> None:
    """Who failed, where and why, the present one last; what was handed back is no part of it."""
    ada, bob = make_peer("ada"), make_peer("bob")
    await fail(ledger, ada, task_id, "first")
    await ledger.release(await ada.take(ledger, task_id), HAND_BACK, [])
    await bob.take(ledger, task_id)
    let_leases_run_out()
    await ledger.expire_leases()
    await escalate(ledger, ada, task_id, "last")

    (event,) = await ledger.list_events(
        task_id=task_id, type="ContainerErrorEscalation", after_id=0, limit=10
    )
    story = event.data["story"]
    assert [(each["attempt"], each["peer"], each["stage"], each["code"]) for each in story] == [
        (1, "ada", "pull", "test"),
        (3, "bob", "crash", "lease_expired"),
        (4, "ada", "pull", "test"),
    ]
    assert [each["message"] for each in story][::2] == ["first", "last"]
    assert {each["node"] for each in story} == {"here"}
    ended = [each["ended_at"] for each in story]
    assert ended == sorted(ended)
    assert event.data["log_tail"] == "the last words"


async def test_a_story_begins_where_a_person_did(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """What failed before a person let the task start again was another story."""
    peer = make_peer("ada")
    await escalate(ledger, peer, task_id, "before")
    await ledger.retry(task_id, "mended")
    await fail(ledger, peer, task_id, "after")
    await escalate(ledger, peer, task_id, "again")

    (notice,) = await ledger.escalations(10)
    assert [each["message"] for each in notice.data["story"]] == ["after", "again"]


async def test_a_story_is_bounded(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """Its newest attempts, each with the beginning of what it said."""
    peer, long = make_peer("ada"), "x" * (MESSAGE_CHARACTERS_MAX + 1)
    for _ in range(STORY_MAX + 2):
        await fail(ledger, peer, task_id, "tried")
    await escalate(ledger, peer, task_id, long)

    (notice,) = await ledger.escalations(10)
    story = notice.data["story"]
    assert [each["attempt"] for each in story] == list(range(4, STORY_MAX + 4))
    assert story[-1]["message"] == "x" * (MESSAGE_CHARACTERS_MAX - 1) + "…"
    report = await ledger.show_task(str(task_id))
    assert report.error is not None
    assert report.error.message == long


async def test_an_expired_lease_that_escalates_is_told_like_any_other(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    let_leases_run_out: Callable[[], None],
) -> None:
    """Whoever finds it: the story and one notice."""
    for _ in range(3):
        await make_peer("victim").take(ledger, task_id)
        let_leases_run_out()
        await ledger.expire_leases()

    (notice,) = await ledger.take_notices(10, 60.0)
    assert notice.task_id == task_id
    assert [each["code"] for each in notice.data["story"]] == ["lease_expired"] * 3


async def test_a_notice_is_one_peers_at_a_time(
    ledger: PostgresLedger,
    another_ledger: PostgresLedger,
    make_submission: MakeSubmission,
    make_peer: MakePeer,
    look: Look,
) -> None:
    """Oldest first; when its time is over it is anybody's; when it was told it is nobody's."""
    peer = make_peer("ada")
    ids = [await submitted(ledger, make_submission) for _ in range(3)]
    for task_id in ids:
        await escalate(ledger, peer, task_id)

    first = await ledger.take_notices(2, 60.0)
    assert [notice.task_id for notice in first] == ids[:2]
    (third,) = await another_ledger.take_notices(10, 60.0)
    assert (third.task_id, third.title) == (ids[2], "clip.mp4")
    assert await ledger.take_notices(10, 60.0) == []

    await ledger.notices_told([first[0].id])
    await ledger.notices_told([first[0].id])
    await ledger.notices_told([])
    look("UPDATE notices SET taken_until = clock_timestamp() - interval '1 s'")
    assert await another_ledger.take_notices(10, 60.0) == [first[1], third]
    told = look("SELECT event_id FROM notices WHERE told_at IS NOT NULL")
    assert [row["event_id"] for row in told] == [first[0].id]


async def test_notices_that_are_taken_at_once(
    ledger: PostgresLedger,
    another_ledger: PostgresLedger,
    make_submission: MakeSubmission,
    make_peer: MakePeer,
) -> None:
    """However many ask, each notice is given to one of them."""
    peer = make_peer("ada")
    for _ in range(10):
        await escalate(ledger, peer, await submitted(ledger, make_submission))
    taken: list[Notice] = []

    async def take(on: PostgresLedger) -> None:
        taken.extend(await on.take_notices(2, 60.0))

    while len(taken) < 10:
        before = len(taken)
        async with trio.open_nursery() as nursery:
            for on in (ledger, another_ledger, ledger, another_ledger):
                nursery.start_soon(take, on)
        assert len(taken) > before
    assert len({notice.id for notice in taken}) == 10


async def test_a_notice_comes_with_its_escalation_or_not_at_all(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, look: Look
) -> None:
    """The transaction that could not be finished leaves neither."""
    peer = make_peer("ada")
    claim = await peer.take(ledger, task_id)
    good, bad = (peer.record(escalation(claim, failure())) for _ in range(2))
    object.__setattr__(bad.stamp, "peer_uid", None)

    release = Release(failure=failure(), retry_in_s=None)
    with pytest.raises(psycopg.errors.NotNullViolation):
        await ledger.release(claim, release, [good, bad])
    assert look("SELECT * FROM notices") == []
    await ledger.renew(claim, None)

    await ledger.release(claim, release, [good])
    assert len(look("SELECT * FROM notices")) == 1


async def test_a_notice_of_a_task_that_was_removed(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, look: Look
) -> None:
    """It is told all the same, so that it does not stand before the others for ever."""
    await escalate(ledger, make_peer("ada"), task_id)
    look("DELETE FROM tasks")

    (notice,) = await ledger.take_notices(10, 60.0)
    assert (notice.task_id, notice.title) == (task_id, "a task that was removed")


async def test_what_waits_for_a_person(
    ledger: PostgresLedger, make_submission: MakeSubmission, make_peer: MakePeer
) -> None:
    """The newest escalation first; not what was resumed or cancelled; told of or not."""
    peer = make_peer("ada")
    ids = [await submitted(ledger, make_submission) for _ in range(4)]
    for task_id in ids[:3]:
        await escalate(ledger, peer, task_id)
    (notice, *_) = await ledger.take_notices(10, 60.0)
    await ledger.notices_told([notice.id])
    await ledger.retry(ids[1], "go")

    waiting = await ledger.escalations(10)

    assert [each.task_id for each in waiting] == [ids[2], ids[0]]
    assert waiting[1] == notice
    assert [each.task_id for each in await ledger.escalations(1)] == [ids[2]]
    await ledger.cancel(ids[2], "enough")
    assert [each.task_id for each in await ledger.escalations(10)] == [ids[0]]


async def test_an_escalation_without_its_event_is_not_hidden(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, look: Look
) -> None:
    """Where events were removed, the part's own error tells what there is to tell."""
    await escalate(ledger, make_peer("ada"), task_id)
    look("DELETE FROM events")

    (waiting,) = await ledger.escalations(10)

    assert (waiting.task_id, waiting.data["message"]) == (task_id, "It did not work.")


async def test_what_was_abandoned_is_cleared_once(
    ledger: PostgresLedger,
    make_submission: MakeSubmission,
    make_peer: MakePeer,
    let_leases_run_out: Callable[[], None],
    look: Look,
) -> None:
    """Every attempt that ended without outputs, however; not one that is done or alive."""
    peer = make_peer("ada")
    done, expired, stopped, alive = [await submitted(ledger, make_submission) for _ in range(4)]
    failed = await peer.take(ledger, done)
    await ledger.release(failed, Release(failure=failure(), retry_in_s=0.0), [])
    handed_back = await peer.take(ledger, done)
    await ledger.release(handed_back, HAND_BACK, [])
    await ledger.finish(await peer.take(ledger, done), [PRODUCT], [], peer.finished(done))
    crashed = await peer.take(ledger, expired)
    let_leases_run_out()
    await ledger.expire_leases()
    cancelled = await peer.take(ledger, stopped)
    await ledger.cancel(stopped, "enough")
    await peer.take(ledger, alive)

    found = await ledger.abandoned(0.0)

    expected = [failed, handed_back, crashed, cancelled]
    assert [(each.token, each.prefix) for each in found] == [
        (claim.token, claim.prefix) for claim in expected
    ]
    assert await ledger.abandoned(3600.0) == []
    everything = [row["token"] for row in look("SELECT token FROM claims")]
    await ledger.cleared([failed.token, cancelled.token, uuid4()])
    assert [each.token for each in await ledger.abandoned(0.0)] == [
        handed_back.token,
        crashed.token,
    ]
    await ledger.cleared(everything)
    await ledger.cleared([])
    assert await ledger.abandoned(0.0) == []
    marked = look("SELECT count(*) AS marked FROM claims WHERE cleared_at IS NOT NULL")
    assert marked == [{"marked": len(expected)}]


async def test_a_look_for_the_abandoned_is_bounded(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, look: Look
) -> None:
    """However many there are, a look finds a batch, and the next one goes on."""
    claim = await make_peer("ada").take(ledger, task_id)
    await ledger.release(claim, HAND_BACK, [])
    look(
        "INSERT INTO claims (token, task_id, part, attempt, peer_uid, peer_name, epoch, container,"
        "                    node, lease_expires_at, ended_at, outcome)"
        " SELECT gen_random_uuid(), task_id, part, attempt + n, peer_uid, peer_name, epoch,"
        "        container, node, lease_expires_at, ended_at, outcome"
        f" FROM claims, generate_series(1, {BATCH}) AS n"
    )
    first = await ledger.abandoned(0.0)
    assert len(first) == BATCH
    await ledger.cleared([each.token for each in first])
    assert len(await ledger.abandoned(0.0)) == 1


async def test_who_failed_what_this_peer_failed(
    ledger: PostgresLedger, make_submission: MakeSubmission, make_peer: MakePeer, look: Look
) -> None:
    """Tasks that failed in the same stage on another peer that is sound: this life of it has
    finished something within the last hour. Not what failed otherwise there, or here alone."""
    ada, bob, cyd = make_peer("ada"), make_peer("bob"), make_peer("cyd")
    both, other_stage, own, cyds, good = [
        await submitted(ledger, make_submission) for _ in range(5)
    ]
    for task_id in (both, other_stage, own, cyds):
        await fail(ledger, ada, task_id, "it crashed")
    await fail(ledger, bob, both, "it crashed")
    await fail(ledger, bob, other_stage, "it crashed", stage=Stage.PUSH)
    await fail(ledger, cyd, cyds, "it crashed")
    tasks, uid = [both, other_stage, own, cyds], ada.holder.peer_uid
    assert (await ledger.testify(uid, tasks)).failed == frozenset(), "who says that they are sound?"
    await ledger.finish(await bob.take(ledger, good), [PRODUCT], [], bob.finished(good))

    assert await ledger.testify(uid, tasks) == Evidence(finished=frozenset(), failed={both})

    look("UPDATE claims SET epoch = epoch + 1 WHERE outcome = 'done'")
    assert (await ledger.testify(uid, tasks)).failed == frozenset()
    look(
        "UPDATE claims SET epoch = epoch - 1, ended_at = ended_at - interval '2 h'"
        " WHERE outcome = 'done'"
    )
    assert (await ledger.testify(uid, tasks)).failed == frozenset()


async def test_who_finished_what_this_peer_failed(
    ledger: PostgresLedger, make_submission: MakeSubmission, make_peer: MakePeer
) -> None:
    """Tasks that another peer has done; not one's own, and not what nobody has done."""
    ada, bob = make_peer("ada"), make_peer("bob")
    theirs, own, nobodys, unasked = [await submitted(ledger, make_submission) for _ in range(4)]
    for task_id, peer in ((theirs, bob), (own, ada), (unasked, bob)):
        await fail(ledger, ada, task_id, "mine failed")
        await ledger.finish(await peer.take(ledger, task_id), [PRODUCT], [], peer.finished(task_id))

    uid = ada.holder.peer_uid
    asked = [theirs, own, nobodys, uuid4()]
    assert (await ledger.testify(uid, asked)).finished == {theirs}
    assert (await ledger.testify(uid, [])).finished == frozenset()
    for order in itertools.permutations([theirs, own]):
        assert (await ledger.testify(bob.holder.peer_uid, order)).finished == {own}
