"""What people ask of the ledger: to submit, look, retry and cancel; and what the sweeper asks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

import psycopg
import pytest

from pipeline.errors import BadRequest, ClaimLost, NoSuchTask, NotAllowed, Stage
from pipeline.events import VideoFilePulled
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Due, Release
from pipeline.tasks import (
    Busy,
    Claim,
    Failure,
    Priority,
    Product,
    ProductKind,
    Progress,
    Strictness,
    TaskState,
)
from tests.ledger_rig import Look, MakePeer, MakeSubmission

FAILURE = Failure(stage=Stage.PULL, code="test", message="It did not work.", log_tail="no such")
ESCALATE = Release(failure=FAILURE, retry_in_s=None)
NEVER_S = math.inf
PRODUCT = Product(kind=ProductKind.POSTER, name="poster.jpg", size=1)


async def test_a_submission_is_kept_whole(
    ledger: PostgresLedger, make_submission: MakeSubmission, make_peer: MakePeer
) -> None:
    """What was submitted is what the worker gets and people see; a repeat changes nothing."""
    submission = replace(
        make_submission(), strictness=Strictness.LENIENT, attempts_max=7, priority=Priority.LOW
    )
    await ledger.submit(submission)
    await ledger.submit(replace(submission, title="another"))
    peer = make_peer("ada")
    claim = await peer.take(ledger, submission.task_id)
    task = claim.task

    assert task is not None
    assert (task.id, task.source, task.title) == (
        submission.task_id,
        submission.source,
        submission.title,
    )
    assert (task.ladder, task.strictness, task.attempts_max, task.priority) == (
        submission.ladder,
        Strictness.LENIENT,
        7,
        Priority.LOW,
    )
    assert claim.attempts_max == 7
    (report,) = await ledger.list_tasks(None, 10)
    assert (report.ladder, report.state) == (submission.ladder.name, TaskState.RUNNING)
    assert report.priority is Priority.LOW


async def test_a_key_that_cannot_be_stored_is_refused(
    ledger: PostgresLedger, make_submission: MakeSubmission
) -> None:
    """A title may be mended, a source's key not: it would be another object's."""
    with pytest.raises(BadRequest, match="cannot be the key"):
        await ledger.submit(replace(make_submission(), source="sources/a\0b"))
    assert await ledger.list_tasks(None, 10) == []


async def test_lists_have_the_newest_first(
    ledger: PostgresLedger, make_submission: MakeSubmission, make_peer: MakePeer
) -> None:
    """In any state or in one, and no more than were asked for."""
    submissions = [make_submission() for _ in range(4)]
    for submission in submissions:
        await ledger.submit(submission)
    oldest, *_, newest = (submission.task_id for submission in submissions)
    await make_peer("ada").take(ledger, oldest)

    everything = await ledger.list_tasks(None, 10)
    assert [report.id for report in everything] == [each.task_id for each in submissions][::-1]
    assert [report.id for report in await ledger.list_tasks(None, 1)] == [newest]
    assert [report.id for report in await ledger.list_tasks(TaskState.RUNNING, 10)] == [oldest]
    assert await ledger.list_tasks(TaskState.DONE, 10) == []


async def test_ids_may_be_abbreviated(
    ledger: PostgresLedger, make_submission: MakeSubmission
) -> None:
    """An id may be cut short while it names one task, in either way of writing it."""
    ids = [UUID(f"abcdef0{digit}-0000-4000-8000-00000000000{digit}") for digit in range(7)]
    for task_id in ids:
        await ledger.submit(replace(make_submission(), task_id=task_id))

    for prefix in ("abcdef03", "ABCDEF03-0", "abcdef030000", str(ids[3]), f" {ids[3].hex} "):
        assert (await ledger.show_task(prefix)).id == ids[3]
    with pytest.raises(NoSuchTask, match=f"several tasks' ids begin with 'abcd': {ids[0]}, .*, …"):
        await ledger.show_task("abcd")
    with pytest.raises(NoSuchTask, match="no task has an id that begins with 'abcd0'"):
        await ledger.show_task("abcd0")
    with pytest.raises(NoSuchTask, match="ids look like"):
        await ledger.show_task("clip.mp4")


async def test_retry_starts_afresh_and_keeps_the_cause(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """A retried task has no failures and no error, counts its attempts on, and says why it was."""
    peer = make_peer("ada")
    await ledger.release(await peer.take(ledger, task_id), ESCALATE, [])

    assert await ledger.retry(task_id, "the store is back") == [Due(task_id=task_id, part=0)]

    report = await ledger.show_task(str(task_id))
    assert (report.state, report.failures, report.error) == (TaskState.QUEUED, {}, None)
    (intervention,) = report.interventions
    assert (intervention.action, intervention.reason) == ("retry", "the store is back")
    assert intervention.error == FAILURE
    assert report.attempts[0].error == FAILURE
    claim = await peer.take(ledger, task_id)
    assert (claim.attempt, claim.failures) == (2, {})


async def test_retry_and_cancel_are_refused_where_they_make_no_sense(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """The refusal says what the task is; nothing changes."""
    with pytest.raises(NotAllowed, match="is queued; only an escalated or cancelled one"):
        await ledger.retry(task_id, "impatient")
    peer = make_peer("ada")
    claim = await peer.take(ledger, task_id)
    with pytest.raises(NotAllowed, match="is running"):
        await ledger.retry(task_id, "impatient")
    await ledger.finish(claim, [PRODUCT], [], peer.finished(task_id))
    with pytest.raises(NotAllowed, match="already done"):
        await ledger.cancel(task_id, "too late")
    for call in (ledger.retry, ledger.cancel):
        with pytest.raises(NoSuchTask):
            await call(uuid4(), "a typo")

    assert (await ledger.show_task(str(task_id))).interventions == ()


async def test_cancel_takes_the_claim_away(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """The holder learns it, with the reason, at its next renewal; a second cancel is none."""
    claim = await make_peer("ada").take(ledger, task_id)
    await ledger.cancel(task_id, "wrong video")
    await ledger.cancel(task_id, "wrong video, I said")

    with pytest.raises(ClaimLost, match=r"the task was cancelled: wrong video$"):
        await ledger.renew(claim, None)
    report = await ledger.show_task(str(task_id))
    assert (report.state, report.holder) == (TaskState.CANCELLED, None)
    assert [each.action for each in report.interventions] == ["cancel"]
    assert await ledger.retry(task_id, "it was the right one") == [Due(task_id=task_id, part=0)]


async def test_events_are_filtered_and_followed(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """By task, by type, after an id, and the newest where no id is given; always in order."""
    peer = make_peer("ada")
    await peer.take(ledger, task_id)
    other = uuid4()
    for which in (task_id, other, other):
        await ledger.record([peer.record(VideoFilePulled(task_id=which, size=1, seconds=0.1))])

    async def sequences(
        task_id: UUID | None = None, type: str | None = None, after_id: int = 0, limit: int = 10
    ) -> list[int]:
        found = await ledger.list_events(task_id=task_id, type=type, after_id=after_id, limit=limit)
        return [event.sequence for event in found]

    assert await sequences() == [1, 2, 3, 4]
    assert await sequences(limit=2) == [3, 4]
    assert await sequences(task_id=other) == [3, 4]
    assert await sequences(type="VideoFilePulled") == [2, 3, 4]
    assert await sequences(task_id=task_id, type="VideoFilePulled") == [2]
    first = (await ledger.list_events(task_id=None, type=None, after_id=0, limit=10))[0]
    assert await sequences(after_id=first.id) == [2, 3, 4]
    assert await sequences(after_id=first.id, limit=2) == [2, 3]
    assert await sequences(after_id=first.id, task_id=task_id) == [2]


async def test_a_lost_wake_up_is_found_once(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """A due part that nobody was woken for is found until it is announced, or claimed."""
    assert await ledger.unannounced(3600.0, NEVER_S) == []
    assert await ledger.unannounced(0.0, NEVER_S) == [Due(task_id=task_id, part=0)]
    assert await ledger.unannounced(0.0, NEVER_S) == [Due(task_id=task_id, part=0)]
    await ledger.announced(task_id, 0)
    assert await ledger.unannounced(0.0, NEVER_S) == []

    await make_peer("ada").take(ledger, task_id)
    assert await ledger.unannounced(0.0, NEVER_S) == []


async def test_a_wake_up_that_the_queue_lost_is_found(
    ledger: PostgresLedger, make_submission: MakeSubmission, look: Look
) -> None:
    """One that was announced, and due, for long enough is found again; once in as long."""
    submission = replace(make_submission(), priority=Priority.HIGH)
    task_id = submission.task_id
    await ledger.submit(submission)
    await ledger.announced(task_id, 0)
    assert await ledger.unannounced(0.0, 3600.0) == []
    forgotten = Due(task_id=task_id, part=0, priority=Priority.HIGH)
    assert await ledger.unannounced(3600.0, 0.0) == [forgotten]

    look("UPDATE parts SET announced_at = clock_timestamp() - interval '2 hours'")
    assert await ledger.unannounced(0.0, 3600.0) == []  # announced long ago, and due just now
    look("UPDATE parts SET not_before = clock_timestamp() - interval '2 hours'")
    assert await ledger.unannounced(0.0, NEVER_S) == []
    assert await ledger.unannounced(0.0, 3600.0) == [forgotten]
    lines = [Priority.NORMAL, Priority.LOW]
    assert await ledger.unannounced(0.0, 3600.0, lines) == []  # it may wait for its turn
    assert await ledger.unannounced(0.0, 3600.0, [Priority.HIGH]) == [forgotten]
    await ledger.announced(task_id, 0)
    assert await ledger.unannounced(0.0, 3600.0) == []


async def test_who_was_overtaken_in_the_line_is_found(
    ledger: PostgresLedger, make_submission: MakeSubmission, make_peer: MakePeer, look: Look
) -> None:
    """The queue keeps the order of each priority, so a part that was announced long before one that
    is worked on has no wake-up any more, however many others wait. Not what was announced, or
    became due, shortly before it; nor another priority, which has a line of its own."""
    lost, shortly, just_due, low, later = [make_submission() for _ in range(5)]
    low = replace(low, priority=Priority.LOW)
    submitted_min_ago = ((lost, 120), (shortly, 10), (just_due, 120), (low, 120), (later, 10))
    for each, minutes in submitted_min_ago:
        await ledger.submit(each)
        await ledger.announced(each.task_id, 0)
        at = f"clock_timestamp() - interval '{minutes} min'"
        due_at = "clock_timestamp()" if each is just_due else at
        look(
            f"UPDATE parts SET announced_at = {at}, not_before = {due_at}"
            f" WHERE task_id = '{each.task_id}'"
        )
    assert await ledger.unannounced(3600.0, NEVER_S) == [], "nobody says how far the line has come"

    claim = await make_peer("ada").take(ledger, later.task_id)

    assert await ledger.unannounced(3600.0, NEVER_S) == [Due(task_id=lost.task_id, part=0)]
    await ledger.announced(lost.task_id, 0)
    assert await ledger.unannounced(3600.0, NEVER_S) == []
    await ledger.release(claim, ESCALATE, [])
    look("UPDATE parts SET announced_at = clock_timestamp() - interval '2 h'")
    assert await ledger.unannounced(3600.0, NEVER_S) == [], "nothing is worked on"


async def test_a_task_that_waits_knows_its_place(
    ledger: PostgresLedger, make_submission: MakeSubmission, make_peer: MakePeer, look: Look
) -> None:
    """Alone and in a list; not before its retry is due, nor when it is taken, done or stopped."""
    names = ["high", "low", "normal", "normal", "high"]
    submissions = [replace(make_submission(), priority=Priority(name)) for name in names]
    for submission in submissions:
        await ledger.submit(submission)
    ids = [submission.task_id for submission in submissions]

    async def places() -> list[int | None]:
        listed = {report.id: report.place for report in await ledger.list_tasks(None, 10)}
        for task_id, place in listed.items():
            assert (await ledger.show_task(str(task_id))).place == place
        return [listed[task_id] for task_id in ids]

    assert await places() == [1, 5, 3, 4, 2]
    peer = make_peer("ada")
    await ledger.finish(await peer.take(ledger, ids[0]), [PRODUCT], [], peer.finished(ids[0]))
    await peer.take(ledger, ids[4])
    later = Release(failure=FAILURE, retry_in_s=3600.0)
    await ledger.release(await peer.take(ledger, ids[2]), later, [])
    assert await places() == [None, 2, None, 1, None]
    await ledger.cancel(ids[3], "enough")
    assert await places() == [None, 1, None, None, None]


async def test_when_it_may_be_done(
    ledger: PostgresLedger, make_submission: MakeSubmission, make_peer: MakePeer, look: Look
) -> None:
    """From what was done in the last hour and who works now; a holder says so itself."""
    submissions = [make_submission() for _ in range(3)]
    for submission in submissions:
        await ledger.submit(submission)
    done, running, waiting = (submission.task_id for submission in submissions)

    async def eta_s(task_id: UUID) -> float | None:
        return (await ledger.show_task(str(task_id))).eta_s

    assert await eta_s(waiting) is None
    peer = make_peer("ada")
    claim = await peer.take(ledger, running)
    assert await eta_s(running) is None
    await ledger.renew(claim, Progress(step="transcode", fraction=0.5, eta_s=40.0))
    assert await eta_s(running) == 40.0
    look("UPDATE claims SET claimed_at = clock_timestamp() - interval '40 s'")
    assert await eta_s(done) == pytest.approx(160.0, abs=5.0)  # the first of a line behind one slot
    await ledger.finish(await peer.take(ledger, done), [PRODUCT], [], peer.finished(done))
    look(f"UPDATE claims SET claimed_at = ended_at - interval '10 s' WHERE task_id = '{done}'")
    assert await eta_s(waiting) == pytest.approx(20.0)
    look(f"UPDATE claims SET ended_at = ended_at - interval '2 hours' WHERE task_id = '{done}'")
    assert await eta_s(waiting) == pytest.approx(160.0, abs=5.0)
    assert await eta_s(done) is None


async def test_who_must_be_woken_again(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    let_leases_run_out: Callable[[], None],
) -> None:
    """Nobody would wake a peer for a part whose holder died, or that a person resumed."""
    await ledger.announced(task_id, 0)
    await make_peer("dead").take(ledger, task_id)
    let_leases_run_out()
    await ledger.expire_leases()
    assert await ledger.unannounced(0.0, NEVER_S) == [Due(task_id=task_id, part=0)]

    await ledger.announced(task_id, 0)
    await ledger.cancel(task_id, "wait")
    assert await ledger.unannounced(0.0, NEVER_S) == []
    await ledger.retry(task_id, "go")
    assert await ledger.unannounced(0.0, NEVER_S) == [Due(task_id=task_id, part=0)]


async def test_a_stopped_task_stops_all_its_parts(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, ledger_url: str
) -> None:
    """Beside an escalated part a queued one is not worked on, until a person resumes the task."""
    with psycopg.connect(ledger_url) as connection:
        connection.execute("INSERT INTO parts VALUES (%s, 1, 'whole')", (task_id,))
    peer = make_peer("ada")
    await ledger.release(await peer.take(ledger, task_id), ESCALATE, [])

    refused = await ledger.claim(task_id, 1, peer.holder, uuid4(), peer.received(task_id))
    assert not isinstance(refused, Claim | Busy)
    assert refused.why == "its task is escalated"
    assert await ledger.unannounced(0.0, NEVER_S) == []

    both = [Due(task_id=task_id, part=part) for part in (0, 1)]
    assert await ledger.retry(task_id, "go") == both
    found = await ledger.unannounced(0.0, NEVER_S)
    assert sorted(found, key=lambda due: due.part) == both
    claims = [
        await ledger.claim(task_id, part, peer.holder, uuid4(), peer.received(task_id))
        for part in (0, 1)
    ]
    for claim in claims:
        assert isinstance(claim, Claim)
        await ledger.finish(claim, [PRODUCT], [], peer.finished(task_id))
    report = await ledger.show_task(str(task_id))
    assert (report.state, len(report.outputs)) == (TaskState.DONE, 2)


async def test_retry_names_the_parts_that_wait(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, ledger_url: str
) -> None:
    """Where one of three parts is done, somebody must be woken for the others, by their numbers."""
    with psycopg.connect(ledger_url) as connection:
        for part in (1, 2):
            connection.execute("INSERT INTO parts VALUES (%s, %s, 'whole')", (task_id, part))
    peer = make_peer("ada")
    await ledger.finish(await peer.take(ledger, task_id), [PRODUCT], [], peer.finished(task_id))
    claim = await ledger.claim(task_id, 1, peer.holder, uuid4(), peer.received(task_id))
    assert isinstance(claim, Claim)
    await ledger.release(claim, ESCALATE, [])

    waiting = await ledger.retry(task_id, "go")
    assert waiting == [Due(task_id=task_id, part=part) for part in (1, 2)]
