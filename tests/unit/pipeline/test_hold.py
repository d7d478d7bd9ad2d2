"""Why a worker takes no new work, and for how long."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from pipeline.hold import LOOK_AGAIN_S, LOOK_S, Hold
from pipeline.standing import Suspended


async def test_nothing_in_the_way(autojump_clock: trio.testing.MockClock) -> None:
    """It does not wait."""
    hold = Hold(lambda: None)
    await hold.wait()
    assert (hold.reason, trio.current_time()) == (None, autojump_clock.current_time())


async def test_a_reason_of_its_own(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """It waits for as long as there is one, and hardly longer."""
    assert autojump_clock.rate == 0
    reasons: list[str | None] = ["deaf"]
    hold = Hold(lambda: reasons[-1])
    began = trio.current_time()

    async def heal() -> None:
        await trio.sleep(30)
        reasons.append(None)

    nursery.start_soon(heal)
    assert hold.reason == "deaf"
    await hold.wait()

    assert 30 <= trio.current_time() - began <= 30 + LOOK_S


@pytest.mark.parametrize(("left_s", "wait_s"), [(10.0, LOOK_AGAIN_S), (0.3, 0.3)])
async def test_a_suspension(
    autojump_clock: trio.testing.MockClock, left_s: float, wait_s: float
) -> None:
    """It waits a while and then tries again, since nobody tells it of a reinstatement."""
    assert autojump_clock.rate == 0
    hold, began = Hold(lambda: None), trio.current_time()

    assert hold.suspend(Suspended(left_s=left_s, why="suspect"))
    assert hold.reason == "suspect"
    await hold.wait()

    assert wait_s <= trio.current_time() - began <= wait_s + LOOK_S
    assert hold.reason is None
    assert not hold.suspend(Suspended(left_s=left_s, why="suspect")), "it is no news"
    await trio.sleep(60)
    assert hold.suspend(Suspended(left_s=left_s, why="suspect"))
