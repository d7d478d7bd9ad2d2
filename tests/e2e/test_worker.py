"""The worker on a real ledger, queue and store; only ffmpeg is a script that does as told.

What it promises: one outcome for every task, a story of events that is a path through the steps,
and nothing left over, whatever the transcoder, the queue or the person does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import uuid4

import psycopg
import trio

from pipeline.errors import (
    SourceRejected,
    TranscodeFailed,
)
from pipeline.ports import Order
from pipeline.tasks import TaskState
from tests.e2e.worker_rig import (
    FAILED_TRANSCODE,
    GOOD_WAY,
    OUTPUT,
    PATIENCE_S,
    FrozenLedger,
    Rig,
    ScriptedTranscoder,
    failing,
)


async def test_a_task_goes_its_way(rig: Rig, make_peer: Any) -> None:
    """Seven events in order, the outputs committed, nothing left in the queue."""
    async with rig.working(ScriptedTranscoder(), make_peer("one")):
        task_id = await rig.submit()
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert report.state is TaskState.DONE
    assert await rig.story(task_id) == GOOD_WAY
    assert [output.key for output in report.outputs] == [f"tasks/{task_id}/attempt-1/360p.mp4"]
    assert (rig.directory / "store" / report.outputs[0].key).read_bytes() == OUTPUT
    assert report.warnings == ("a warning",)


async def test_a_permanent_error_escalates_at_once(rig: Rig, make_peer: Any) -> None:
    """One attempt, one sentence of cause, the log's end, and the peer goes on."""
    rejected = SourceRejected("this is not a video", code="not_media", log_tail="moov atom")
    async with rig.working(ScriptedTranscoder(failing(rejected)), make_peer("one")):
        bad = await rig.submit()
        report = await rig.settled(bad)
        good = await rig.settled(await rig.submit())
        await rig.queue_is_empty()

    assert (report.state, report.attempt, good.state) == (TaskState.ESCALATED, 1, TaskState.DONE)
    assert report.error is not None
    assert report.error.message == "this is not a video"
    assert report.error.log_tail == "moov atom"
    assert await rig.story(bad) == [*FAILED_TRANSCODE, "ContainerErrorEscalation"]


async def test_a_passing_error_is_retried(rig: Rig, make_peer: Any) -> None:
    """Two failures and a success: three attempts, and only the third one's outputs stay."""
    failed = TranscodeFailed("ffmpeg stumbled", code="ffmpeg_failed")
    transcoder = ScriptedTranscoder(failing(failed), failing(failed))
    async with rig.working(transcoder, make_peer("one")):
        task_id = await rig.submit()
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert (report.state, report.attempt) == (TaskState.DONE, 3)
    assert await rig.story(task_id) == 2 * [*FAILED_TRANSCODE, "ContainerErrorRetry"] + GOOD_WAY
    assert await rig.stored(task_id) == [f"tasks/{task_id}/attempt-3/360p.mp4"]


async def test_a_lasting_error_is_escalated_at_the_threshold(rig: Rig, make_peer: Any) -> None:
    """And taken up again when a person says so, with a fresh count."""
    failed = TranscodeFailed("ffmpeg stumbled", code="ffmpeg_failed")
    transcoder = ScriptedTranscoder(*[failing(failed)] * 3)
    async with rig.working(transcoder, make_peer("one")):
        task_id = await rig.submit(attempts_max=3)
        escalated = await rig.settled(task_id)
        await rig.ledger.retry(task_id, "the disk was full")
        await rig.wake(task_id)
        done = await rig.settled(task_id, TaskState.DONE)
        await rig.queue_is_empty()

    assert (escalated.state, escalated.attempt) == (TaskState.ESCALATED, 3)
    assert (done.state, done.attempt, dict(done.failures)) == (TaskState.DONE, 4, {})
    assert await rig.story(task_id) == [
        *2 * [*FAILED_TRANSCODE, "ContainerErrorRetry"],
        *[*FAILED_TRANSCODE, "ContainerErrorEscalation"],
        *GOOD_WAY,
    ]


async def test_a_bug_fails_its_task_alone(rig: Rig, make_peer: Any) -> None:
    """An exception nobody thought of counts as a failed attempt, with its traceback."""
    async with rig.working(
        ScriptedTranscoder(failing(KeyError("nobody thought of this"))), make_peer("one")
    ):
        task_id = await rig.submit(attempts_max=1)
        report = await rig.settled(task_id)

    assert report.state is TaskState.ESCALATED
    assert report.error is not None
    assert report.error.code == "unexpected"
    assert "nobody thought of this" in report.error.log_tail


async def test_a_source_that_is_not_there_escalates(rig: Rig, make_peer: Any) -> None:
    """No retry makes it come back; the failure counts as one of the pull."""
    async with rig.working(ScriptedTranscoder(), make_peer("one")):
        task_id = uuid4()
        await rig.submit(task_id=task_id, source=f"sources/{task_id}/source.mp4")
        await rig.settled(task_id)
        await rig.store.remove(f"sources/{task_id}")
        await rig.ledger.submit(
            replace(rig.submission(), task_id=(lost := uuid4()), source="sources/none")
        )
        await rig.wake(lost)
        report = await rig.settled(lost)

    assert (report.state, report.attempt) == (TaskState.ESCALATED, 1)
    assert report.error is not None
    assert report.error.stage == "pull"
    assert await rig.story(lost) == [*GOOD_WAY[:2], "ContainerErrorEscalation"]


async def test_what_a_dead_peer_left_behind_is_removed(
    rig: Rig, make_peer: Any, let_leases_run_out: Callable[[], None]
) -> None:
    """Half a push of an attempt that can never be committed does not stay in the store."""
    task_id = await rig.submit()
    await make_peer("dead").take(rig.ledger, task_id)
    (rig.directory / "half").write_bytes(b"half")
    await rig.store.push(rig.directory / "half", f"tasks/{task_id}/attempt-1/360p.mp4")
    let_leases_run_out()
    async with rig.working(ScriptedTranscoder(), make_peer("two")):
        await rig.settled(task_id)

    assert await rig.stored(task_id) == [f"tasks/{task_id}/attempt-2/360p.mp4"]


async def test_cancelling_stops_a_running_encode(rig: Rig, make_peer: Any) -> None:
    """The transcoder is cancelled within a second or two, and nothing is committed."""
    started, stopped = trio.Event(), trio.Event()

    async def encode_for_ever(_: Order) -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            stopped.set()

    async with rig.working(ScriptedTranscoder(encode_for_ever), make_peer("one")):
        task_id = await rig.submit()
        await started.wait()
        await rig.ledger.cancel(task_id, "wrong film")
        with trio.fail_after(PATIENCE_S):
            await stopped.wait()
        report = await rig.settled(task_id)
        await rig.queue_is_empty()

    assert (report.state, report.outputs) == (TaskState.CANCELLED, ())
    assert await rig.stored(task_id) == []


async def test_a_stopping_worker_hands_its_work_back(rig: Rig, make_peer: Any) -> None:
    """Another one takes it at once, and the interrupted attempt is not held against the task."""
    started = trio.Event()

    async def encode_for_ever(_: Order) -> None:
        started.set()
        await trio.sleep_forever()

    async with rig.working(ScriptedTranscoder(encode_for_ever), make_peer("one")):
        task_id = await rig.submit()
        await started.wait()
    handed_back = await rig.settled(task_id, TaskState.QUEUED)
    async with rig.working(ScriptedTranscoder(), make_peer("two")):
        done = await rig.settled(task_id, TaskState.DONE)

    assert dict(handed_back.failures) == dict(done.failures) == {}
    assert done.attempt == 2
    assert await rig.story(task_id) == [*FAILED_TRANSCODE, *GOOD_WAY]


async def test_a_frozen_worker_changes_nothing(
    rig: Rig, make_peer: Any, let_leases_run_out: Callable[[], None]
) -> None:
    """It wakes up after its part was taken over, finishes, and finds that it does not count."""
    frozen, thaw = trio.Event(), trio.Event()

    async def freeze(_: Order) -> None:
        frozen.set()
        await thaw.wait()

    frozen_ledger = FrozenLedger(rig.ledger)
    async with rig.working(ScriptedTranscoder(freeze), make_peer("one"), ledger=frozen_ledger):
        task_id = await rig.submit()
        await frozen.wait()
        let_leases_run_out()
        await rig.wake(task_id)
        async with rig.working(ScriptedTranscoder(), make_peer("two")):
            report = await rig.settled(task_id)
            thaw.set()
            await rig.queue_is_empty()

    assert (report.state, report.attempt) == (TaskState.DONE, 2)
    assert [output.key for output in report.outputs] == [f"tasks/{task_id}/attempt-2/360p.mp4"]
    assert await rig.stored(task_id) == [f"tasks/{task_id}/attempt-2/360p.mp4"]
    story = await rig.story(task_id)
    assert story.count("WorkloadProcessingFinished") == 1
    assert story.count("ContainerErrorRetry") == 1


async def test_repeated_wake_ups_do_the_work_once(rig: Rig, make_peer: Any) -> None:
    """A message is a hint; ten of them are not ten tasks."""
    transcoder = ScriptedTranscoder()
    async with rig.working(transcoder, make_peer("one")):
        task_id = await rig.submit()
        for _ in range(9):
            await rig.wake(task_id)
        await rig.settled(task_id)
        await rig.queue_is_empty()

    assert len(transcoder.orders) == 1
    assert await rig.story(task_id) == GOOD_WAY


async def test_a_bad_message_is_set_aside(rig: Rig, make_peer: Any) -> None:
    """With the reason; the work behind it goes on."""
    async with rig.working(ScriptedTranscoder(), make_peer("one")):
        await rig.queue.publish(b"{not json")
        report = await rig.settled(await rig.submit())
        await rig.queue_is_empty()

    with psycopg.connect(rig.url) as connection:
        reasons = connection.execute("SELECT dead_reason FROM queue_messages").fetchall()
    assert report.state is TaskState.DONE
    assert len(reasons) == 1
    assert "not JSON" in reasons[0][0]


async def test_slots_bound_what_runs_at_once(rig: Rig, make_peer: Any) -> None:
    """Two slots, five tasks: never more than two at a time, and all of them done."""
    running, most = 0, 0

    async def count(_: Order) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await trio.sleep(0.02)
        running -= 1

    async with rig.working(ScriptedTranscoder(*[count] * 5), make_peer("one")):
        tasks = [await rig.submit() for _ in range(5)]
        states = [(await rig.settled(task)).state for task in tasks]

    assert states == [TaskState.DONE] * 5
    assert most == 2


async def test_progress_is_published(rig: Rig, make_peer: Any) -> None:
    """What the transcoder reports can be read from the ledger while it runs."""
    seen, go_on = trio.Event(), trio.Event()

    async def wait(_: Order) -> None:
        seen.set()
        await go_on.wait()

    async with rig.working(ScriptedTranscoder(wait), make_peer("one")):
        task_id = await rig.submit()
        await seen.wait()
        with trio.fail_after(PATIENCE_S):
            while True:
                report = await rig.ledger.show_task(str(task_id))
                if report.progress is not None and report.progress.step == "transcode":
                    break
                await trio.sleep(0.01)
        go_on.set()
        await rig.settled(task_id)

    assert report.holder == "one"
    assert 0.4 < report.progress.fraction < 0.6
