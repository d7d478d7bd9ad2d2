"""Every call to every dependency may fail, before or after it took effect: the sum must come out.

A seeded run of workers over real services whose calls fail now and then. Half of the failures
happen after the call went through, so its answer is lost: what every network does.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import trio

from pipeline.errors import (
    LedgerUnavailable,
    QueueUnavailable,
    StoreUnavailable,
    TranscodeFailed,
    Unavailable,
)
from pipeline.ports import Order
from pipeline.tasks import TaskState
from tests.e2e.worker_rig import FAILED_TRANSCODE, GOOD_WAY, Rig, ScriptedTranscoder

TASKS = 12
FAILURES = 0.12
"""The share of calls that fail."""

# What another attempt at a task goes through before its own good way.
BEFORE = (
    [*FAILED_TRANSCODE, "ContainerErrorRetry"],
    ["TaskReceived", "ContainerErrorRetry"],  # its claim's answer came when nobody waited for it
)


class Noisy:
    """Something whose calls fail now and then, half of them after they went through.

    Args:
        wrap: What is done with what a call returns.
        heard: Calls whose answers do not get lost, because a failed one has left nothing behind.
    """

    def __init__(
        self,
        inner: Any,
        error: type[Unavailable],
        rng: random.Random,
        *,
        wrap: Callable[[Any], Any] = lambda answer: answer,
        heard: frozenset[str] = frozenset(),
    ) -> None:
        self._inner = inner
        self._error = error
        self._rng = rng
        self._wrap = wrap
        self._heard = heard

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if not callable(found):
            return found

        async def call(*arguments: Any, **options: Any) -> Any:
            fails = self._rng.random() < FAILURES
            if fails and (name in self._heard or self._rng.random() < 0.5):
                await trio.lowlevel.checkpoint()
                raise self._error(f"{name} did not get through", definite=True)
            answer = await found(*arguments, **options)
            if fails:
                raise self._error(f"the answer to {name} got lost", definite=False)
            return self._wrap(answer)

        return call


@pytest.mark.parametrize("handover_s", [0.01, 900.0])
@pytest.mark.parametrize("seed", range(3))
async def test_noise(rig: Rig, make_peer: Any, seed: int, handover_s: float) -> None:
    """Each task is done once, at the first or a counted later attempt, its events are a path, its
    outputs those of the attempt that counts, and no message is left over."""
    rng = random.Random(seed)
    ledger = Noisy(rig.ledger, LedgerUnavailable, rng)
    store = Noisy(rig.store, StoreUnavailable, rng, heard=frozenset({"pull"}))

    def noisy_delivery(delivery: Any) -> Any:
        return Noisy(delivery, QueueUnavailable, rng)

    queue = Noisy(
        rig.queue, QueueUnavailable, rng, wrap=noisy_delivery, heard=frozenset({"receive"})
    )
    failures = 0

    async def stumble(_: Order) -> None:
        nonlocal failures
        await trio.sleep(0.02)
        if rng.random() < 0.2:
            failures += 1
            raise TranscodeFailed("ffmpeg stumbled", code="ffmpeg_failed")

    def worker(name: str) -> Any:
        transcoder = ScriptedTranscoder(*[stumble] * 100)
        peer = make_peer(name)
        return rig.working(
            transcoder, peer, ledger=ledger, store=store, queue=queue, handover_s=handover_s
        )

    async with worker("ada"), worker("bob"):
        tasks = [await rig.submit(attempts_max=20) for _ in range(TASKS)]
        reports = [await rig.settled(task_id) for task_id in tasks]
        await rig.queue_is_empty()

    assert [report.state for report in reports] == [TaskState.DONE] * TASKS
    counted = [
        attempt.error.code
        for report in reports
        for attempt in (await rig.ledger.show_task(str(report.id))).attempts
        if attempt.error is not None
    ]
    assert counted == ["ffmpeg_failed"] * failures
    for report in reports:
        story = await rig.story(report.id)
        *earlier, way = split(story)
        assert way == GOOD_WAY
        assert all(attempt in BEFORE for attempt in earlier)
        assert len(earlier) == report.attempt - 1
        prefix = f"tasks/{report.id}/attempt-{report.attempt}/"
        assert [output.key for output in report.outputs] == [f"{prefix}360p.mp4"]
        assert f"{prefix}360p.mp4" in await rig.stored(report.id)


def split(story: list[str]) -> list[list[str]]:
    """Cut a task's events into those of its attempts."""
    attempts: list[list[str]] = []
    for event in story:
        if event == "TaskReceived":
            attempts.append([])
        attempts[-1].append(event)
    return attempts
