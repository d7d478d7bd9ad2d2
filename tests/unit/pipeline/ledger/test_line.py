"""Where a part stands in line, compared with the turns that peers really take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger.line import Line, Pace, eta_s, place
from pipeline.priority import WEIGHTS, Turns
from pipeline.tasks import Priority

HIGH, NORMAL, LOW = Priority
ROUND = sum(WEIGHTS.values())
NO_PACE = Pace(running=0, mean_s=None)


def taken(waiting: dict[Priority, int]) -> dict[tuple[Priority, int], int]:
    """When a peer that takes all comes to each part: by how many of its priority are before it."""
    turns, left = Turns(), dict(waiting)
    order: dict[tuple[Priority, int], int] = {}
    for count in range(1, sum(waiting.values()) + 1):
        whose = next(name for name in turns.order() if left[name])
        turns.took(whose)
        order[whose, waiting[whose] - left[whose]] = count
        left[whose] -= 1
    return order


@given(st.fixed_dictionaries({name: st.integers(0, 120) for name in Priority}))
def test_the_place_is_when_it_is_taken(waiting: dict[Priority, int]) -> None:
    """Within a round of what `Turns` does, wherever it stands and whatever waits beside it."""
    actual = taken(waiting)
    guessed = {part: place(*part, waiting) for part in actual}
    assert all(1 <= guess <= len(actual) for guess in guessed.values())
    assert all(abs(guessed[part] - actual[part]) <= ROUND + 1 for part in actual)


@pytest.mark.parametrize(
    ("priority", "ahead", "waiting", "expected"),
    [
        pytest.param(NORMAL, 0, {NORMAL: 1}, 1, id="alone"),
        pytest.param(NORMAL, 41, {NORMAL: 100}, 42, id="among its own"),
        pytest.param(LOW, 0, {HIGH: 10_000, LOW: 1}, 9, id="a low one is not behind all high ones"),
        pytest.param(LOW, 9, {HIGH: 20, LOW: 10}, 30, id="the high ones run out"),
        pytest.param(HIGH, 0, {HIGH: 1, NORMAL: 10_000, LOW: 10_000}, 1, id="a high one is first"),
        pytest.param(HIGH, 99, {HIGH: 100, NORMAL: 10_000, LOW: 1}, 126, id="and not always"),
        pytest.param(LOW, 99, {LOW: 100, HIGH: 5, NORMAL: 7}, 112, id="the last of all"),
    ],
)
def test_places(
    priority: Priority, ahead: int, waiting: dict[Priority, int], expected: int
) -> None:
    """By the shares 16 : 4 : 1, and never more than there are."""
    assert place(priority, ahead, dict.fromkeys(Priority, 0) | waiting) == expected


def test_a_line_counts_its_slices() -> None:
    """A part is behind those of its priority in all slices before its own time."""
    times = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number) for number in range(3)]
    counts = {(NORMAL, 0): 5, (NORMAL, 1): 2, (NORMAL, 3): 1, (HIGH, 3): 3}
    line = Line(times, counts, NO_PACE)
    assert [line.place(NORMAL, time) for time in times] == [9, 11, 11]
    assert [line.place(HIGH, time) for time in times] == [1, 1, 1]
    assert line.eta_s(9) is None


@pytest.mark.parametrize(
    ("where", "pace", "expected"),
    [
        pytest.param(1, Pace(running=1, mean_s=10.0), 20.0, id="when the one before is done"),
        pytest.param(8, Pace(running=4, mean_s=10.0), 30.0, id="two rounds of four, and itself"),
        pytest.param(1, Pace(running=0, mean_s=10.0), None, id="nobody works"),
        pytest.param(1, Pace(running=3, mean_s=None), None, id="nobody knows how long"),
    ],
)
def test_etas(where: int, pace: Pace, expected: float | None) -> None:
    """As many as work now go on, and each takes as long as the last ones did."""
    assert eta_s(where, pace) == expected
