"""What follows on a lack of memory, and slots that are withheld for it."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from pipeline.shortage import (
    PASS_ON_S,
    WITHHOLD_S,
    Shortage,
    leaves_to_others,
    reduced_threads,
)
from pipeline.slots import Slots


@pytest.mark.parametrize(
    ("threads", "shortages", "left"),
    [(8, 0, 8), (8, 1, 4), (8, 2, 2), (8, 3, 1), (8, 9, 1), (3, 1, 1), (1, 1, 1)],
)
def test_threads_are_halved(threads: int, shortages: int, left: int) -> None:
    """Each time, down to one."""
    assert reduced_threads(threads, shortages) == left


@pytest.mark.parametrize(
    ("where", "here", "due_for_s", "leaves"),
    [
        (2, 1, 0.0, True),
        (2, 1, PASS_ON_S, False),
        (2, 2, 0.0, False),
        (2, 3, 0.0, False),
        (None, 1, 0.0, False),
        (2, None, 0.0, False),
    ],
)
def test_who_leaves_a_part_to_others(
    where: int | None, here: int | None, due_for_s: float, leaves: bool
) -> None:
    """Who knows to have less than where it failed, for a minute."""
    shortage = Shortage(times=1, memory_bytes=where)
    assert leaves_to_others(shortage, here, due_for_s=due_for_s) == leaves


async def test_slots_come_back(autojump_clock: trio.testing.MockClock) -> None:
    """Each ten minutes after it was withheld, in the order in which they were."""
    slots = Slots(3)
    for _ in range(3):
        await slots.acquire()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(slots.watch)
        assert slots.withhold()
        await trio.sleep(10.0)
        assert slots.withhold()
        assert slots.count == 1
        slots.release()
        await slots.acquire()
        with trio.move_on_after(WITHHOLD_S - 11.0) as waiting:
            await slots.acquire()
        assert waiting.cancelled_caught
        await trio.sleep(2.0)
        assert slots.count == 2
        await trio.sleep(10.0)
        assert slots.count == 3
        with trio.fail_after(1.0):
            await slots.acquire()
            await slots.acquire()
        nursery.cancel_scope.cancel()


async def test_the_last_slot_is_never_withheld() -> None:
    """A peer of one slot goes on: its next attempt has fewer threads."""
    slots = Slots(1)
    await slots.acquire()
    assert not slots.withhold()
    assert slots.count == 1
    with trio.fail_after(1.0):
        await slots.acquire()
