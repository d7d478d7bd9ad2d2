"""How late a loop ran: lately, and by quantiles."""

from __future__ import annotations

import pytest

from membership.lag import SMALLEST_S, LoopLag


def test_the_worst_is_forgotten_after_a_while() -> None:
    """What was late counts for about ten seconds."""
    lag = LoopLag()
    lag.add(100.0, 0.3)
    lag.add(101.0, 0.1)

    assert lag.worst_s(101.0) == 0.3
    assert lag.worst_s(109.0) == 0.3
    assert lag.worst_s(114.0) == 0.0


def test_the_last_turn_is_known() -> None:
    """Whoever asks whether the loop still turns can see when it last did, late or not."""
    lag = LoopLag()
    before = lag.turned_at
    lag.add(100.0, 0.3)
    lag.add(101.5, 0.0)
    assert (before, lag.turned_at) == (None, 101.5)


@pytest.mark.parametrize(("share", "expected_s"), [(0.5, 0.010), (0.99, 0.010), (1.0, 2.0)])
def test_a_quantile_is_right_within_a_tenth(share: float, expected_s: float) -> None:
    """A thousand turns of 10 ms and one of 2 s are told apart."""
    lag = LoopLag()
    for _ in range(1000):
        lag.add(0.0, 0.010)
    lag.add(0.0, 2.0)

    assert expected_s <= lag.quantile_s(share) <= 1.1 * expected_s


def test_bars_count_every_turn_once() -> None:
    """Turns that were early or on time are in the lowest bar."""
    lag = LoopLag()
    for late_s in (-1.0, 0.0, SMALLEST_S, 0.5, 0.5):
        lag.add(0.0, late_s)

    bars = lag.bars()

    assert sum(bars.values()) == 5
    assert bars[SMALLEST_S] == 3
    assert list(bars) == sorted(bars)


def test_nothing_is_known_before_the_first_turn() -> None:
    """No turn was late then."""
    lag = LoopLag()

    assert (lag.worst_s(0.0), lag.quantile_s(0.999), lag.bars()) == (0.0, 0.0, {})
