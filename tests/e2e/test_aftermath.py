"""After an attempt failed, on a real ledger: administrators hear of it, and nothing stays."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest
import trio

from pipeline.clearing import ABANDONED_S, Clearer
from pipeline.errors import SourceRejected, TranscodeFailed
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.postgres import PostgresLedger
from pipeline.notifier import Notifier
from pipeline.notify.channel import AppriseChannel
from pipeline.notify.config import NotifyConfig
from pipeline.tasks import TaskState
from tests.e2e.worker_rig import PATIENCE_S, Rig, ScriptedTranscoder, failing
from tests.servers.webhook import WebHook

# apprise's own import, on the Python that still has it.
pytestmark = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated:DeprecationWarning")


@pytest.fixture
def hook() -> Iterator[WebHook]:
    """Where administrators look."""
    with WebHook().running() as server:
        yield server


def notifier(rig: Rig, hook: WebHook) -> Notifier:
    config = NotifyConfig(urls=(f"json://127.0.0.1:{hook.server_port}/x",), interval_s=300.0)
    return Notifier(
        notices=rig.ledger,
        channel=AppriseChannel(config.urls),
        config=config,
        rng=random.Random(0),
        hold_s=10.0,
        look_s=0.05,
    )


async def posted(hook: WebHook, count: int) -> list[dict[str, Any]]:
    """Wait until so many messages have come."""
    with trio.fail_after(PATIENCE_S):
        while len(hook.posted) < count:  # noqa: ASYNC110 - it answers in a thread
            await trio.sleep(0.01)
    return [each.fields for each in hook.posted]


async def test_administrators_hear_the_whole_story(rig: Rig, hook: WebHook, make_peer: Any) -> None:
    """Of a task that failed three times, once, though two peers look after the outbox."""
    error = TranscodeFailed("ffmpeg stopped in the middle.", code="stalled", log_tail="a\nb\nlast")
    transcoder = ScriptedTranscoder(*[failing(error)] * 3)
    async with trio.open_nursery() as services:
        services.start_soon(notifier(rig, hook).run)
        services.start_soon(notifier(rig, hook).run)
        async with rig.working(transcoder, make_peer("ada")):
            task_id = await rig.submit()
            assert (await rig.settled(task_id)).state is TaskState.ESCALATED
        [message] = await posted(hook, 1)
        with trio.fail_after(PATIENCE_S):
            while await _untold(rig):  # noqa: ASYNC110 - a table announces nothing
                await trio.sleep(0.01)
        services.cancel_scope.cancel()

    assert len(hook.posted) == 1
    assert message["title"] == "Grapevine: clip.mp4 was given up"
    body = message["message"]
    assert body.count("ada on here  transcode: ffmpeg stopped in the middle.") == 3
    for told in (
        "transcode (stalled), 3 of 3 times",
        f"Source   sources/{task_id}/source.mp4",
        "  last\n",
        f"peerctl retry {task_id}",
    ):
        assert told in body


async def test_a_flood_is_two_messages(rig: Rig, hook: WebHook, make_peer: Any) -> None:
    """The first at once; the others in one, when the pause is over."""
    error = SourceRejected("It is no video.", code="not_a_video")
    async with trio.open_nursery() as services:
        services.start_soon(notifier(rig, hook).run)
        async with rig.working(ScriptedTranscoder(*[failing(error)] * 6), make_peer("ada")):
            await rig.settled(await rig.submit())
            await posted(hook, 1)
            tasks = [await rig.submit() for _ in range(5)]
            for task_id in tasks:
                await rig.settled(task_id)
        assert len(await _untold(rig)) == 5
        assert len(hook.posted) == 1
        with psycopg.connect(rig.url) as connection:
            connection.execute("UPDATE notices SET told_at = told_at - interval '300 s'")
        [_, second] = await posted(hook, 2)
        services.cancel_scope.cancel()
    assert second["title"] == "Grapevine: 5 tasks were given up"
    assert all(str(task_id) in second["message"] for task_id in tasks)


async def _untold(rig: Rig) -> list[int]:
    def look() -> list[int]:
        with psycopg.connect(rig.url) as connection:
            rows = connection.execute("SELECT event_id FROM notices WHERE told_at IS NULL")
            return [row[0] for row in rows]

    return await trio.to_thread.run_sync(look)


async def test_what_a_killed_attempt_left_is_cleared_away(
    rig: Rig, ledger_url: str, make_ledger: Any, make_peer: Any, let_leases_run_out: Any
) -> None:
    """Its prefix goes when it has been over for long enough; the next attempt's outputs stay."""
    task_id = await _upload_and_die(rig, make_peer("victim"))
    let_leases_run_out()
    await rig.ledger.expire_leases()
    database = Database(DatabaseConfig(conninfo=ledger_url))
    ledger: PostgresLedger = make_ledger(database)
    clearer = Clearer(clearing=ledger, store=rig.store, rng=random.Random(0))
    await clearer.clear()
    assert await rig.stored(task_id) == [f"tasks/{task_id}/attempt-1/360p.mp4"], "too early"

    with psycopg.connect(ledger_url) as connection:
        connection.execute(
            "UPDATE claims SET ended_at = ended_at - make_interval(secs => %s)", [ABANDONED_S]
        )
    await clearer.clear()
    assert await rig.stored(task_id) == []
    async with rig.working(ScriptedTranscoder(), make_peer("two")):
        await rig.wake(task_id)
        assert (await rig.settled(task_id)).state is TaskState.DONE
    with psycopg.connect(ledger_url) as connection:
        connection.execute(
            "UPDATE claims SET ended_at = ended_at - make_interval(secs => %s)", [ABANDONED_S]
        )
    await clearer.clear()
    assert await rig.stored(task_id) == [f"tasks/{task_id}/attempt-2/360p.mp4"]
    assert await ledger.abandoned(0.0) == []
    await database.aclose()


async def _upload_and_die(rig: Rig, peer: Any) -> UUID:
    submission = rig.submission()
    (rig.directory / "upload").write_bytes(b"a video")
    await rig.store.push(rig.directory / "upload", submission.source)
    await rig.ledger.submit(submission)
    claim = await peer.take(rig.ledger, submission.task_id)
    (rig.directory / "output").write_bytes(b"half of it")
    await rig.store.push(rig.directory / "output", f"{claim.prefix}/360p.mp4")
    return submission.task_id
