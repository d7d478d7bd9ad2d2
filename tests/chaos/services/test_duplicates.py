"""Messages come as often as they like and in any order: each task is done once."""

from __future__ import annotations

import random
from collections.abc import Sequence
from uuid import UUID

import pytest
import trio

from pipeline.tasks import PartState, Priority
from tests.chaos.services.peer import working
from tests.chaos.services.rig import Rig
from tests.chaos.services.small import DigestTranscoder

pytestmark = pytest.mark.slow

TASKS = 50
COPIES = 20
SETTLED_WITHIN_S = 90.0
SEED = 7


async def test_a_thousand_duplicate_and_reordered_messages(rig: Rig) -> None:
    """1,000 messages about 50 tasks, shuffled, in all priorities, some
    of them long after the task is done, at two peers: every task is done by its first
    attempt, and every message is gone."""
    rng = random.Random(SEED)
    tasks = [await rig.record() for _ in range(TASKS)]
    messages = [task_id for task_id in tasks for _ in range(COPIES)]
    rng.shuffle(messages)
    first, late = messages[: -2 * TASKS], messages[-2 * TASKS :]
    transcoder = DigestTranscoder(takes_s=0.02)
    one, other = rig.peer("one", 1), rig.peer("other", 2)
    async with working(one, transcoder), working(other, transcoder):
        async with trio.open_nursery() as senders:
            for sender in range(4):
                senders.start_soon(_send, rig, first[sender::4], rng)
        await rig.wait_until_settled(SETTLED_WITHIN_S)
        for task_id in late:
            await rig.wake(task_id)
        await rig.wait_until_quiet()
    trails = await rig.conclude()
    assert len(trails) == TASKS
    assert {(trail.state, len(trail.claims)) for trail in trails.values()} == {(PartState.DONE, 1)}


async def _send(rig: Rig, tasks: Sequence[UUID], rng: random.Random) -> None:
    for task_id in tasks:
        await rig.wake(task_id, priority=rng.choice(list(Priority)))
