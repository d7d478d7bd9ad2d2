"""The checker sees on the real services what is missing, too much, or spoiled."""

from __future__ import annotations

import io
from uuid import uuid4

import pytest
import trio

from tests.chaos import checker
from tests.chaos.checker import Broken, check, left_over
from tests.chaos.services.peer import working
from tests.chaos.services.rig import Rig, until
from tests.chaos.services.small import DigestTranscoder

pytestmark = pytest.mark.slow

WITHIN_S = 30.0
SAID_OF_QUEUES = (
    "queue grapevine.normal: 1 messages are left",
    "queue grapevine.delay.10min: 1 messages are left",
)


async def done(rig: Rig) -> str:
    """Let a task be done; return the key of an output."""
    async with working(rig.peer("one", 1), DigestTranscoder()):
        await rig.submit()
        await rig.wait_until_settled(WITHIN_S)
        await rig.wait_until_quiet()
    await rig.conclude()
    rows = await rig.read("SELECT key FROM outputs ORDER BY key LIMIT 1")
    return str(rows[0]["key"])


def put(rig: Rig, key: str, data: bytes) -> None:
    rig.site.minio().put_object(rig.site.name, key, io.BytesIO(data), len(data))


async def objects_to(rig: Rig, said: str) -> None:
    """Demand that the checker says so."""
    with pytest.raises(Broken, match=said):
        await trio.to_thread.run_sync(check, rig.site.scene, rig.tasks)


async def test_what_is_in_the_store_is_looked_at(rig: Rig) -> None:
    """An output with other bytes, with fewer, or gone; an object that is nobody's, and one of an
    attempt that was given up."""
    key = await done(rig)
    whole = rig.site.minio().get_object(rig.site.name, key).read()
    put(rig, key, bytes(len(whole)))
    await objects_to(rig, f"output {key} has other bytes than were made")
    put(rig, key, whole[:-1])
    await objects_to(rig, f"output {key} has not the {len(whole)} bytes")
    rig.site.minio().remove_object(rig.site.name, key)
    await objects_to(rig, f"output {key} is not in the store")
    put(rig, key, whole)
    put(rig, f"tasks/{rig.tasks[0]}/attempt-2/720p.mp4", b"x")
    await objects_to(rig, "attempt-2/720p.mp4 is nobody's")


async def test_what_is_in_the_queues_is_looked_at(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that waits, and one that is delayed."""
    monkeypatch.setattr(checker, "TOLD_LATE_S", 0.0)  # they are told already, and stay
    await done(rig)
    await rig.wake(rig.tasks[0])
    await rig.queue.publish(b"{}", delay_s=600.0)

    async def both_are_told() -> bool:  # a busy broker may be a moment late
        left = await trio.to_thread.run_sync(lambda: list(left_over(rig.site.scene)))
        return all(any(said in each for each in left) for said in SAID_OF_QUEUES)

    await until(both_are_told, WITHIN_S)
    for said in SAID_OF_QUEUES:
        await objects_to(rig, said)


async def test_what_is_in_the_embedded_queue_is_looked_at(embedded_rig: Rig) -> None:
    """A message that waits."""
    await done(embedded_rig)
    await embedded_rig.wake(embedded_rig.tasks[0])
    await objects_to(embedded_rig, "the embedded queue: message .* is left")


async def test_what_is_in_the_ledger_is_looked_at(rig: Rig) -> None:
    """A task that is not there, one that nobody handed in, one without an end, and an event that
    went missing."""
    await done(rig)
    rig.tasks.append(lost := uuid4())
    await objects_to(rig, f"task {lost} is lost")
    rig.tasks.remove(lost)
    handed_in = rig.tasks.pop()
    await objects_to(rig, f"task {handed_in} came from nowhere")
    rig.tasks.append(handed_in)
    await rig.record()
    await objects_to(rig, "it came to no end: it is queued")
    await rig.read("DELETE FROM events WHERE type = 'VideoFilePulled' RETURNING id")
    await objects_to(rig, f"task {handed_in}: attempt 1, .* was told as")
