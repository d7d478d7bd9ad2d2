"""The shares of the priorities."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from itertools import pairwise

import pytest

from pipeline.priority import WEIGHTS, Turns
from pipeline.tasks import Priority

HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW


def take(turns: Turns, waiting: Collection[Priority]) -> Priority:
    taken = next(priority for priority in turns.order() if priority in waiting)
    turns.took(taken)
    return taken


@pytest.mark.parametrize(
    "waiting",
    [{HIGH, NORMAL, LOW}, {HIGH, LOW}, {NORMAL, LOW}, {HIGH, NORMAL}, {LOW}],
    ids=lambda waiting: "+".join(sorted(waiting)),
)
def test_all_that_wait_get_their_shares(waiting: set[Priority]) -> None:
    """In the long run each takes what its weight says, so none starves."""
    turns = Turns()
    taken = Counter(take(turns, waiting) for _ in range(2100))
    total = sum(WEIGHTS[priority] for priority in waiting)
    for priority in waiting:
        assert taken[priority] == pytest.approx(2100 * WEIGHTS[priority] / total, rel=0.1)


def test_the_most_important_comes_first() -> None:
    """Without a history, high goes before normal, and normal before low."""
    assert list(Turns().order()) == [HIGH, NORMAL, LOW]


def test_who_has_nothing_saves_nothing_up() -> None:
    """After a long time of normal ones alone, the first high one comes at once, and low ones do
    not come in a row."""
    turns = Turns()
    for _ in range(1000):
        assert take(turns, {NORMAL}) is NORMAL
    taken = [take(turns, {HIGH, NORMAL, LOW}) for _ in range(21)]
    assert taken[0] is HIGH
    assert Counter(taken)[LOW] <= 2


def test_the_low_ones_are_mixed_in() -> None:
    """What waits low is not put off to the end of each round."""
    turns = Turns()
    taken = [take(turns, {HIGH, LOW}) for _ in range(170)]
    gaps = [at for at, priority in enumerate(taken) if priority is LOW]
    assert 9 <= len(gaps) <= 11
    assert max(b - a for a, b in pairwise(gaps)) <= 18
