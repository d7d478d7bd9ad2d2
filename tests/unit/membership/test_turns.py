"""That everybody is told once before anybody is told twice."""

from __future__ import annotations

import random

from membership.turns import Turns


def test_everybody_has_a_turn_in_each_round() -> None:
    """Two rounds name all others twice, and this peer never."""
    turns = Turns(random.Random(1))
    members = tuple(range(10))
    for _ in range(2):
        drawn = [turns.next(members, own=3) for _ in range(9)]
        assert sorted(uid for uid in drawn if uid is not None) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_whoever_comes_has_a_turn_and_whoever_goes_has_none() -> None:
    """A change of the members does not start the round anew."""
    turns = Turns(random.Random(1))
    first = turns.next((1, 2, 3), own=0)
    changed = (2, 3, 4)
    rest = {turns.next(changed, own=0) for _ in range(len({2, 3, 4} - {first}))}
    assert rest == {2, 3, 4} - {first}


def test_alone_there_is_nobody_to_tell() -> None:
    """And that is not an error."""
    assert Turns(random.Random(1)).next((5,), own=5) is None
