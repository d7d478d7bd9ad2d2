"""Rumours: what is told next, and when it has been told often enough."""

from __future__ import annotations

from math import ceil, log2

import pytest

from gossip.rumours import Rumours

MEMBERS = 100
LIMIT = 3 * 7


def _rumours(*uids: int) -> Rumours:
    rumours = Rumours(3)
    for uid in uids:
        rumours.add(uid)
    return rumours


def test_there_is_nothing_to_tell_at_first() -> None:
    """And sending something that is no rumour makes none of it."""
    rumours = Rumours(3)
    rumours.sent([1, 2], MEMBERS)
    rumours.drop(1)
    assert rumours.pick(10, MEMBERS) == []
    assert len(rumours) == 0


def test_the_newest_is_told_first() -> None:
    """Among those that were told equally often."""
    assert _rumours(1, 2, 3).pick(2, MEMBERS) == [3, 2]


def test_the_least_told_is_told_first() -> None:
    """However new another is."""
    rumours = _rumours(1, 2, 3)
    rumours.sent([3, 2], MEMBERS)
    rumours.sent([3], MEMBERS)
    assert rumours.pick(10, MEMBERS) == [1, 2, 3]
    rumours.add(4)
    assert rumours.pick(10, MEMBERS) == [4, 1, 2, 3]


def test_picking_counts_nothing() -> None:
    """What was picked may not fit, or not be paid for."""
    rumours = _rumours(1, 2)
    assert rumours.pick(1, MEMBERS) == rumours.pick(1, MEMBERS) == [2]


def test_the_urgent_go_before_all_others() -> None:
    """Also when they were told more often; among themselves the same order holds."""
    rumours = _rumours(1)
    rumours.add(2, urgent=True)
    rumours.add(3, urgent=True)
    rumours.sent([3], MEMBERS)
    rumours.add(4)
    assert rumours.pick(10, MEMBERS) == [2, 3, 4, 1]
    assert rumours.pick(1, MEMBERS) == [2]
    assert len(rumours) == 4


@pytest.mark.parametrize(
    ("before", "then", "urgent"), [(False, True, True), (True, False, True), (False, False, False)]
)
def test_what_is_urgent_stays_urgent(before: bool, then: bool, urgent: bool) -> None:
    """A change that follows at once must not slow down what went before: it is one row."""
    rumours = Rumours(3)
    rumours.add(1, urgent=before)
    rumours.add(1, urgent=then)
    rumours.add(2)
    assert rumours.pick(1, MEMBERS) == [1 if urgent else 2]
    assert len(rumours) == 2


def test_a_newer_row_begins_again() -> None:
    """Its sends are counted anew, and it is the newest."""
    rumours = _rumours(1, 2)
    rumours.sent([1] * (LIMIT - 1), MEMBERS)
    rumours.add(1)
    assert rumours.pick(10, MEMBERS) == [1, 2]
    rumours.sent([1] * (LIMIT - 1), MEMBERS)
    assert 1 in rumours.pick(10, MEMBERS)


@pytest.mark.parametrize("members", [1, 2, 3, 4, 7, 8, 100, 1023, 1024, 3000])
def test_a_rumour_is_told_so_often(members: int) -> None:
    """factor * ceil(log2(members + 1)) times, and then no more."""
    rumours = _rumours(1)
    rumours.add(2, urgent=True)
    limit = 3 * ceil(log2(members + 1))
    for sends in range(limit):
        assert sorted(rumours.pick(10, members)) == [1, 2], sends
        rumours.sent([1, 2], members)
    assert rumours.pick(10, members) == []
    assert len(rumours) == 0


def test_the_limit_follows_the_members() -> None:
    """Of a cluster that has shrunk fewer need to hear it."""
    rumours = _rumours(1)
    rumours.sent([1] * 9, MEMBERS)
    assert rumours.pick(10, 7) == []
    assert rumours.pick(10, MEMBERS) == [1]
    rumours.sent([1], 7)
    assert len(rumours) == 0


def test_what_is_dropped_is_not_told() -> None:
    """Urgent or not."""
    rumours = _rumours(1, 2)
    rumours.add(3, urgent=True)
    rumours.drop(3)
    rumours.drop(1)
    assert rumours.pick(10, MEMBERS) == [2]


def test_after_a_storm_each_is_told_equally_often() -> None:
    """Three thousand at once: whoever sends a few at a time gets through to all of them."""
    rumours = _rumours(*range(3000))
    told = dict.fromkeys(range(3000), 0)
    for _ in range(3000 * 36 // 10):
        picked = rumours.pick(10, 3000)
        rumours.sent(picked, 3000)
        for uid in picked:
            told[uid] += 1
        assert len(picked) == 10
    assert set(told.values()) == {36}
    assert len(rumours) == 0
