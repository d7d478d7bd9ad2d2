"""What people ask of the ledger: to submit, look, retry and cancel; and what the sweeper asks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol
from uuid import UUID, uuid4

import psycopg
import pytest

from pipeline.errors import BadRequest, ClaimLost, NoSuchTask, NotAllowed, Stage
from pipeline.events import Record, Recordable, TaskDetailsRetrieved, VideoFilePulled
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Release, Submission
from pipeline.tasks import (
    Busy,
    Claim,
    Failure,
    Holder,
    Product,
    ProductKind,
    Strictness,
    TaskState,
)

FAILURE = Failure(stage=Stage.PULL, code="test", message="It did not work.", log_tail="no such")
ESCALATE = Release(failure=FAILURE, retry_in_s=None)
PRODUCT = Product(kind=ProductKind.POSTER, name="poster.jpg", size=1)


class Peer(Protocol):
    """What `make_peer` makes."""

    holder: Holder

    def record(self, event: Recordable) -> Record: ...
    def received(self, task_id: UUID) -> Record: ...
    def finished(self, task_id: UUID) -> Record: ...
    async def take(self, ledger: PostgresLedger, task_id: UUID) -> Claim: ...


MakePeer = Callable[[str], Peer]
MakeSubmission = Callable[[], Submission]


async def test_a_submission_is_kept_whole(
    ledger: PostgresLedger, make_submission: MakeSubmission, make_peer: MakePeer
) -> None:
    """What was submitted is what the worker gets and people see; a repeat changes nothing."""
    submission = replace(make_submission(), strictness=Strictness.LENIENT, attempts_max=7)
    await ledger.submit(submission)
    await ledger.submit(replace(submission, title="another"))
    peer = make_peer("ada")
    claim = await peer.take(ledger, submission.task_id)

    task = await ledger.retrieve_details(
        claim,
        lambda task: peer.record(
            TaskDetailsRetrieved(task_id=task.id, source=task.source, ladder=task.ladder.name)
        ),
    )

    assert (task.id, task.source, task.title) == (
        submission.task_id,
        submission.source,
        submission.title,
    )
    assert (task.ladder, task.strictness, task.attempts_max) == (
        submission.ladder,
        Strictness.LENIENT,
        7,
    )
    assert claim.attempts_max == 7
    (report,) = await ledger.list_tasks(None, 10)
    assert (report.ladder, report.state) == (submission.ladder.name, TaskState.RUNNING)


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

    assert await ledger.retry(task_id, "the store is back") == [0]

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
    assert await ledger.retry(task_id, "it was the right one") == [0]


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
    assert await ledger.unannounced(3600.0) == []
    assert await ledger.unannounced(0.0) == [(task_id, 0)]
    assert await ledger.unannounced(0.0) == [(task_id, 0)]
    await ledger.announced(task_id, 0)
    assert await ledger.unannounced(0.0) == []

    await make_peer("ada").take(ledger, task_id)
    assert await ledger.unannounced(0.0) == []


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
    assert await ledger.unannounced(0.0) == [(task_id, 0)]

    await ledger.announced(task_id, 0)
    await ledger.cancel(task_id, "wait")
    assert await ledger.unannounced(0.0) == []
    await ledger.retry(task_id, "go")
    assert await ledger.unannounced(0.0) == [(task_id, 0)]


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
    assert await ledger.unannounced(0.0) == []

    assert await ledger.retry(task_id, "go") == [0, 1]
    assert sorted(await ledger.unannounced(0.0)) == [(task_id, 0), (task_id, 1)]
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

    assert await ledger.retry(task_id, "go") == [1, 2]
