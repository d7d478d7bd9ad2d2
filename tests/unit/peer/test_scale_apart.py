"""What goes wrong in scaling by a mistake ends nobody's work."""

from __future__ import annotations

import logging

import pytest
import trio
from trio.testing import MockClock

from peer.scale.apart import PAUSE_MAX_S, PAUSE_S, SETTLED_S, kept_apart


class Loop:
    """Fails after so many seconds, each time."""

    def __init__(self, *lasting_s: float) -> None:
        self.lasting_s = list(lasting_s)
        self.began_s: list[float] = []

    async def run(self) -> None:
        self.began_s.append(trio.current_time())
        await trio.sleep(self.lasting_s.pop(0) if self.lasting_s else 0.0)
        raise KeyError("TaskTemplate")


async def test_a_loop_that_fails_is_begun_anew(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """After a pause that doubles up to five minutes; each failure is told with where it was."""
    loop = Loop()
    with trio.move_on_after(1200.0):
        await kept_apart(loop.run, "rounds")()
    pauses = [later - former for former, later in zip(loop.began_s, loop.began_s[1:], strict=False)]
    assert pauses == pytest.approx([5.0, 10.0, 20.0, 40.0, 80.0, 160.0, PAUSE_MAX_S, PAUSE_MAX_S])
    (first, *_) = caplog.records
    assert first.levelno == logging.ERROR
    assert first.exc_info is not None
    assert getattr(first, "part", "") == "rounds"


async def test_who_has_gone_on_for_long_fails_anew(autojump_clock: MockClock) -> None:
    """Ten minutes without a failure are forgotten ones."""
    loop = Loop(0.0, 0.0, SETTLED_S)
    with trio.move_on_after(SETTLED_S + 3 * PAUSE_S + PAUSE_S + 1):
        await kept_apart(loop.run, "rounds")()
    assert loop.began_s == pytest.approx([0.0, 5.0, 15.0, 15.0 + SETTLED_S + PAUSE_S])


async def test_a_failure_beside_others_is_kept_apart(autojump_clock: MockClock) -> None:
    """Also one that comes out of a nursery within; and the end is no failure."""

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            raise ValueError("a mistake")

    worked = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kept_apart(run, "rounds"))
        for _ in range(10):
            await trio.sleep(10.0)
            worked += 1
        nursery.cancel_scope.cancel()
    assert worked == 10
