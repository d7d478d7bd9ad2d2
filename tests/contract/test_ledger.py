"""The ledger's promises, each titled by the anomaly that would break it (as hermitage does).

Here one call comes after the other; test_ledger_races.py has those that meet.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from uuid import UUID, uuid4

import psycopg
import pytest

from pipeline.errors import ClaimLost, Stage
from pipeline.events import (
    ContainerErrorEscalation,
    ContainerErrorRetry,
    Record,
    TaskDetailsRetrieved,
    VideoFilePulled,
    WorkloadProcessingStarted,
)
from pipeline.ledger.claims import Rules
from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Release, Submission
from pipeline.tasks import (
    Busy,
    Claim,
    Failure,
    Product,
    ProductKind,
    Progress,
    Settled,
    TaskState,
    Unknown,
)
from tests.ledger_rig import Look, MakePeer, Peer

PRODUCT = Product(
    kind=ProductKind.RENDITION, name="720p.mp4", rendition="720p", size=7, media={"width": 1280}
)
FAILURE = Failure(stage=Stage.PULL, code="test", message="It did not work.", log_tail="no such")
RETRY_NOW = Release(failure=FAILURE, retry_in_s=0.0)
RETRY_LATER = Release(failure=FAILURE, retry_in_s=3600.0)
ESCALATE = Release(failure=FAILURE, retry_in_s=None)
HAND_BACK = Release(failure=None, retry_in_s=0.0)


def pulled(peer: Peer, task_id: UUID) -> Record:
    return peer.record(VideoFilePulled(task_id=task_id, size=1, seconds=0.1))


async def state_of(ledger: PostgresLedger, task_id: UUID) -> TaskState:
    return (await ledger.show_task(str(task_id))).state


async def test_answer_lost(ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer) -> None:
    """A claim that is repeated because its answer got lost is the same claim, with one event."""
    peer, token = make_peer("ada"), uuid4()
    record = peer.received(task_id)
    first = await ledger.claim(task_id, 0, peer.holder, token, record)

    assert await ledger.claim(task_id, 0, peer.holder, token, record) == first
    assert isinstance(first, Claim)
    assert first.attempt == 1
    found = await ledger.list_events(task_id=task_id, type=None, after_id=0, limit=100)
    assert [(event.type, event.data) for event in found] == [("TaskReceived", {"attempt": 1})]


async def test_revived_token(ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer) -> None:
    """The token of a claim that has ended never becomes a claim again."""
    peer, token = make_peer("ada"), uuid4()
    record = peer.received(task_id)
    claim = await ledger.claim(task_id, 0, peer.holder, token, record)
    assert isinstance(claim, Claim)
    await ledger.release(claim, HAND_BACK, [])

    again = await ledger.claim(task_id, 0, peer.holder, token, record)

    assert isinstance(again, Busy)
    assert await state_of(ledger, task_id) is TaskState.QUEUED


async def test_stale_commit(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    let_leases_run_out: Callable[[], None],
) -> None:
    """A peer that froze, and wakes up after another one took over, changes nothing by any call."""
    frozen, other = make_peer("frozen"), make_peer("other")
    stale = await frozen.take(ledger, task_id)
    let_leases_run_out()
    await other.take(ledger, task_id)
    before = await ledger.show_task(str(task_id))

    calls: Sequence[Callable[[], Awaitable[None]]] = (
        lambda: ledger.finish(stale, [PRODUCT], [], frozen.finished(task_id)),
        lambda: ledger.release(stale, ESCALATE, []),
        lambda: ledger.renew(stale, None),
        lambda: ledger.advance(stale, pulled(frozen, task_id)),
    )
    for call in calls:
        with pytest.raises(ClaimLost, match="the lease ran out and peer other took the part over"):
            await call()

    assert await ledger.show_task(str(task_id)) == before


async def test_late_but_not_too_late(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    let_leases_run_out: Callable[[], None],
) -> None:
    """A lease that ran out takes nothing by itself: unless somebody acts, its holder goes on."""
    peer = make_peer("ada")
    claim = await peer.take(ledger, task_id)
    let_leases_run_out()

    await ledger.renew(claim, None)
    assert await ledger.expire_leases() == []
    let_leases_run_out()
    await ledger.finish(claim, [PRODUCT], [], peer.finished(task_id))

    assert await ledger.expire_leases() == []
    assert await state_of(ledger, task_id) is TaskState.DONE


async def test_dirty_outputs(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, look: Look
) -> None:
    """A commit that fails at its last file leaves no output, no event, and the claim as it was."""
    peer = make_peer("ada")
    claim = await peer.take(ledger, task_id)
    bad = [PRODUCT, replace(PRODUCT, name="second"), replace(PRODUCT, name="third", size=-1)]

    with pytest.raises(psycopg.errors.CheckViolation):
        await ledger.finish(claim, bad, ["warned"], peer.finished(task_id))

    assert look("SELECT * FROM outputs") == []
    assert [row["type"] for row in look("SELECT type FROM events")] == ["TaskReceived"]
    report = await ledger.show_task(str(task_id))
    assert (report.state, report.warnings) == (TaskState.RUNNING, ())
    await ledger.renew(claim, None)


async def test_double_commit(ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer) -> None:
    """A commit that is repeated because its answer got lost has happened once."""
    peer = make_peer("ada")
    claim = await peer.take(ledger, task_id)
    record = peer.finished(task_id)
    await ledger.finish(claim, [PRODUCT], ["as is"], record)
    first = await ledger.show_task(str(task_id))

    await ledger.finish(claim, [PRODUCT], ["as is"], record)

    assert await ledger.show_task(str(task_id)) == first
    assert [output.key for output in first.outputs] == [f"{claim.prefix}/720p.mp4"]
    assert first.warnings == ("as is",)


@pytest.mark.parametrize("ends", ["finish", "release"])
async def test_steps_that_come_with_the_end(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer, look: Look, ends: str
) -> None:
    """They are told in their order before it, each once, and all or none: repeated together with
    the end, or written before it, they change nothing."""
    peer = make_peer("ada")
    claim = await peer.take(ledger, task_id)
    details = TaskDetailsRetrieved(task_id=task_id, source="clip", ladder="web")
    steps = [
        peer.record(details),
        pulled(peer, task_id),
        peer.record(WorkloadProcessingStarted(task_id=task_id)),
    ]
    end = peer.finished(task_id)
    await ledger.advance(claim, steps[0])
    bad = replace(PRODUCT, size=-1)
    with pytest.raises(psycopg.errors.CheckViolation):
        await ledger.finish(claim, [bad], [], end, steps=steps)
    assert look("SELECT step FROM claims") == [{"step": "details_retrieved"}]

    for _ in range(2):
        if ends == "finish":
            await ledger.finish(claim, [PRODUCT], [], end, steps=steps)
        else:
            await ledger.release(claim, RETRY_NOW, [end], steps=steps)

    told = look("SELECT type, at FROM events ORDER BY id")
    assert [row["type"] for row in told[1:]] == [each.event.kind for each in (*steps, end)]
    assert [row["at"] for row in told[1:]] == [each.stamp.at for each in (*steps, end)]
    step = "finished" if ends == "finish" else "processing"
    assert look("SELECT step FROM claims") == [{"step": step}]


async def test_commit_after_giving_up(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """Whoever gave a part up cannot commit it any more; nor the other way round."""
    peer = make_peer("ada")
    claim = await peer.take(ledger, task_id)
    await ledger.release(claim, RETRY_NOW, [])
    with pytest.raises(ClaimLost, match="already ended as retry"):
        await ledger.finish(claim, [PRODUCT], [], peer.finished(task_id))

    claim = await peer.take(ledger, task_id)
    await ledger.finish(claim, [PRODUCT], [], peer.finished(task_id))
    with pytest.raises(ClaimLost, match="already ended as done"):
        await ledger.release(claim, ESCALATE, [])
    assert await state_of(ledger, task_id) is TaskState.DONE


async def test_unknown_claim(ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer) -> None:
    """A token that the ledger never gave is refused, also where nobody holds the part."""
    made_up = Claim(task_id=task_id, part=0, attempt=1, token=uuid4(), lease_s=15.0)
    with pytest.raises(ClaimLost, match="does not know it"):
        await ledger.finish(made_up, [PRODUCT], [], make_peer("ada").finished(task_id))
    with pytest.raises(ClaimLost, match="does not know it"):
        await ledger.renew(replace(made_up, task_id=uuid4()), None)


async def test_resurrected_progress(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    let_leases_run_out: Callable[[], None],
) -> None:
    """A lost claim's progress is not the next attempt's; a renewal without one keeps the last."""
    claim = await make_peer("dead").take(ledger, task_id)
    progress = Progress(step="transcode", fraction=0.9, frames=90, frames_total=100)
    await ledger.renew(claim, progress)
    await ledger.renew(claim, None)
    assert (await ledger.show_task(str(task_id))).progress == progress
    let_leases_run_out()

    await make_peer("ada").take(ledger, task_id)

    report = await ledger.show_task(str(task_id))
    assert (report.holder, report.progress) == ("ada", None)


async def test_repeated_event(ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer) -> None:
    """Events are recorded once by (peer, epoch, sequence), alone or in a batch with new ones."""
    peer = make_peer("ada")
    first, second = pulled(peer, task_id), pulled(peer, task_id)
    await ledger.record([first])
    await ledger.record([first, second])
    await ledger.record([])

    found = await ledger.list_events(task_id=task_id, type=None, after_id=0, limit=10)
    assert [event.sequence for event in found] == [
        first.stamp.sequence,
        second.stamp.sequence,
    ]
    assert [event.data for event in found] == [{"size": 1, "seconds": 0.1}] * 2


async def test_repeated_details(ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer) -> None:
    """Details that are read again, also with a new stamp, are told of once."""
    peer, token = make_peer("ada"), uuid4()
    record = peer.received(task_id)

    for _ in range(2):
        claim = await ledger.claim(task_id, 0, peer.holder, token, record)
        assert isinstance(claim, Claim)
        assert claim.task is not None
        task = claim.task
        assert task.id == task_id
        details = TaskDetailsRetrieved(task_id=task.id, source=task.source, ladder=task.ladder.name)
        await ledger.advance(claim, peer.record(details))

    found = await ledger.list_events(task_id=task_id, type=None, after_id=0, limit=10)
    assert [event.type for event in found] == ["TaskReceived", "TaskDetailsRetrieved"]


async def test_hostile_text(
    ledger: PostgresLedger,
    make_submission: Callable[[], Submission],
    make_peer: MakePeer,
) -> None:
    """What PostgreSQL cannot store (NUL, half a surrogate, NaN) fails no commit."""
    nasty = "a\0b\udc80c"
    submission = replace(make_submission(), title=nasty)
    peer, task_id = make_peer("ada"), submission.task_id
    await ledger.submit(submission)
    failure = replace(FAILURE, message=nasty, log_tail=nasty)
    claim = await peer.take(ledger, task_id)
    await ledger.release(claim, Release(failure=failure, retry_in_s=0.0), [])
    assert (await ledger.show_task(str(task_id))).error == replace(
        FAILURE, message="a\N{REPLACEMENT CHARACTER}b?c", log_tail="a\N{REPLACEMENT CHARACTER}b?c"
    )
    claim = await peer.take(ledger, task_id)
    media = {nasty: [nasty, float("nan")], "peak": float("inf")}

    await ledger.finish(claim, [replace(PRODUCT, media=media)], [nasty], peer.finished(task_id))

    report = await ledger.show_task(str(task_id))
    clean = "a\N{REPLACEMENT CHARACTER}b?c"
    assert (report.title, report.warnings) == (clean, (clean,))
    assert report.outputs[0].media == {clean: [clean, None], "peak": None}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param((RETRY_NOW, TaskState.QUEUED, {Stage.PULL: 1}, Claim), id="retry"),
        pytest.param((RETRY_LATER, TaskState.QUEUED, {Stage.PULL: 1}, Busy), id="retry-later"),
        pytest.param((ESCALATE, TaskState.ESCALATED, {Stage.PULL: 1}, Settled), id="escalate"),
        pytest.param((HAND_BACK, TaskState.QUEUED, {}, Claim), id="hand-back"),
    ],
)
async def test_release(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    case: tuple[Release, TaskState, dict[Stage, int], type[Claim | Busy | Settled]],
) -> None:
    """A claim's end decides the state, what is counted, and whether the part can be claimed now."""
    release, state, failures, next_claim = case
    peer = make_peer("ada")
    claim = await peer.take(ledger, task_id)

    await ledger.release(claim, release, [peer.finished(task_id)])

    report = await ledger.show_task(str(task_id))
    assert (report.state, report.failures, report.error) == (state, failures, release.failure)
    assert (report.retry_at is not None) == (release is RETRY_LATER)
    answer = await ledger.claim(task_id, 0, peer.holder, uuid4(), peer.received(task_id))
    assert isinstance(answer, next_claim)
    if isinstance(answer, Claim):
        assert (answer.attempt, answer.failures) == (2, failures)
    if isinstance(answer, Busy):
        assert 3590 < answer.look_again_s <= 3600


async def test_busy_for_as_long_as_the_lease(
    database: Database, task_id: UUID, make_peer: MakePeer, rules: Rules
) -> None:
    """Who finds a part held looks again in two seconds, or sooner when its lease ends sooner."""
    peer = make_peer("ada")

    async def look_again_s(lease_s: float) -> float:
        short = PostgresLedger(
            database, lease_s=lease_s, expiry=rules.expiry, recorder=rules.recorder
        )
        claim = await peer.take(short, task_id)
        answer = await short.claim(task_id, 0, peer.holder, uuid4(), peer.received(task_id))
        assert isinstance(answer, Busy)
        await short.release(claim, HAND_BACK, [])
        return answer.look_again_s

    assert await look_again_s(60.0) == 2.0
    assert 0.05 <= await look_again_s(1.0) <= 1.0


async def test_crashes_count_up_to_the_threshold(
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: MakePeer,
    let_leases_run_out: Callable[[], None],
) -> None:
    """A task that kills its peers is escalated at its threshold (3), with the events of it."""
    for _ in range(3):
        claim = await make_peer("victim").take(ledger, task_id)
        let_leases_run_out()
        (expired,) = await ledger.expire_leases()
        assert (expired.attempt, expired.peer_name) == (claim.attempt, "victim")

    report = await ledger.show_task(str(task_id))
    assert report.state is TaskState.ESCALATED
    assert report.failures == {Stage.CRASH: 3}
    assert report.error is not None
    assert report.error.code == "lease_expired"
    found = await ledger.list_events(task_id=task_id, type=None, after_id=0, limit=10)
    retry, escalation = ContainerErrorRetry.kind, ContainerErrorEscalation.kind
    told = [event.type for event in found if event.type != "TaskReceived"]
    assert told == [retry, retry, escalation]


async def test_the_container_is_remembered(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """Every claim keeps the details of the container that processed the part, and how it ended."""
    ada, bob = make_peer("ada"), make_peer("bob")
    await ledger.release(await ada.take(ledger, task_id), RETRY_NOW, [])
    await bob.take(ledger, task_id)

    report = await ledger.show_task(str(task_id))

    assert (report.holder, report.node) == ("bob", "here")
    assert [
        (each.attempt, each.peer_uid, each.container, each.outcome, each.error)
        for each in report.attempts
    ] == [
        (1, ada.holder.peer_uid, "pid:ada", "retry", FAILURE),
        (2, bob.holder.peer_uid, "pid:bob", None, None),
    ]


async def test_a_part_that_does_not_exist(
    ledger: PostgresLedger, task_id: UUID, make_peer: MakePeer
) -> None:
    """A wake-up for an unknown task or part is not settled: its row may be about to come."""
    peer = make_peer("ada")
    for which, part in ((uuid4(), 0), (task_id, 7)):
        answer = await ledger.claim(which, part, peer.holder, uuid4(), peer.received(which))
        assert isinstance(answer, Unknown)
