"""That everybody computes the same observers, in both directions."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from membership import ring

UIDS = st.sets(st.integers(0, 2**64 - 1), min_size=1, max_size=40).map(sorted)


@given(members=UIDS, count=st.integers(1, 12))
def test_the_watched_and_the_watching_agree(members: list[int], count: int) -> None:
    """Whoever is an observer of a member has that member among its subjects, and the reverse."""
    pairs = {(uid, other) for uid in members for other in ring.observers(members, uid, count)}
    assert pairs == {
        (other, uid) for uid in members for other in ring.subjects(members, uid, count)
    }


@given(members=UIDS, count=st.integers(1, 12))
def test_everybody_has_as_many_observers_as_there_can_be(members: list[int], count: int) -> None:
    """Distinct ones, never itself, and all others where those are fewer."""
    for uid in members:
        observers = ring.observers(members, uid, count)
        assert len(set(observers)) == len(observers) == min(count, len(members) - 1)
        assert uid not in observers


def test_who_is_not_on_the_ring_has_the_observers_of_its_place() -> None:
    """A subject that this peer's table has just lost still has neighbours."""
    assert ring.observers([10, 20, 30], 15, 2) == (20, 30)
    assert ring.observers([10, 20, 30], 35, 2) == (10, 20)
    assert ring.subjects([10, 20, 30], 15, 2) == (10, 30)
