"""The window of what was needed."""

from __future__ import annotations

import pytest

from scaling.window import Window


def _seen(values: list[tuple[float, int]], span_s: float = 300.0, gap_s: float = 25.0) -> Window:
    window = Window()
    for at_s, value in values:
        window = window.noting(at_s, value, span_s=span_s, gap_s=gap_s)
    return window


@pytest.mark.parametrize(
    ("values", "largest"),
    [
        ([], 0),
        ([(0, 5)], 5),
        ([(0, 5), (10, 3)], 5),
        ([(0, 5), (10, 8), (20, 2)], 8),
        ([(0, 5), (10, 8), (20, 8)], 8),
        ([(0, 9), *((20.0 * number, 2) for number in range(1, 16))], 9),
        ([(0, 9), *((20.0 * number, 2) for number in range(1, 17))], 2),
    ],
)
def test_the_largest_is_that_of_the_last_span(
    values: list[tuple[float, int]], largest: int
) -> None:
    """What is older than the span counts no more; all else does."""
    assert _seen(values).largest == largest


def test_it_is_covered_when_it_was_watched_for_so_long() -> None:
    """From the first look on, and from the first after a gap."""
    steady = [(5.0 * number, 1) for number in range(61)]
    assert not _seen(steady[:-1]).covers(300)
    assert _seen(steady).covers(300)
    assert not _seen([*steady, (330.0, 1)]).covers(300)
    assert not Window().covers(0)


def test_a_gap_forgets_what_was_before() -> None:
    """Nobody knows what was needed meanwhile, so what was needed before says nothing."""
    assert _seen([(0, 9), (100, 2)]).largest == 2


def test_it_keeps_few_marks() -> None:
    """Only what may still become the largest is kept: never more marks than values."""
    window = _seen([(float(number), 7 - number % 7) for number in range(250)])
    assert len(window.marks) <= 7
    values = [mark.value for mark in window.marks]
    assert values == sorted(values, reverse=True)
