"""How many must miss how much: the numbers of the protocol, and whose word counts."""

from __future__ import annotations

import math

import pytest

from membership.config import lan
from membership.quorum import FALSE_QUORUM, Accusations, misses, threshold


@pytest.mark.parametrize(
    ("observers", "quorum", "loss_percent", "expected"),
    [
        (8, 6, 0, 5),  # a good link: the least
        (8, 6, 30, 5),
        (8, 6, 50, 7),
        (2, 2, 30, 10),  # three members: two must agree, so each waits longer
        (1, 1, 30, 20),  # two members: nobody to ask
        (1, 1, 90, 40),  # the most
        (8, 6, 100, 40),
    ],
)
def test_misses_follow_the_loss_and_the_number_of_witnesses(
    observers: int, quorum: int, loss_percent: int, expected: int
) -> None:
    """The fewer there are to agree, and the worse the link, the longer an observer waits."""
    assert misses(observers, quorum, loss_percent, 5, 40) == expected


@pytest.mark.parametrize(
    ("observers", "quorum", "loss_percent"), [(8, 6, 50), (2, 2, 30), (4, 3, 40)]
)
def test_losses_alone_hardly_ever_make_a_quorum(
    observers: int, quorum: int, loss_percent: int
) -> None:
    """With as many misses as asked for chance stays below the limit; with one less it does not."""
    needed = misses(observers, quorum, loss_percent, 1, 1000)

    def chance(count: int) -> float:
        return math.comb(observers, quorum) * (loss_percent / 100) ** (count * quorum)

    assert chance(needed) <= FALSE_QUORUM < chance(needed - 1)


@pytest.mark.parametrize(
    ("counted", "observers", "members", "expected"),
    [
        (8, 8, 100, 6),
        (7, 8, 100, 6),
        (4, 4, 5, 3),
        (2, 2, 3, 2),
        (1, 2, 3, 2),  # two of three died: the last one cannot tell
        (1, 1, 2, 1),
        (4, 8, 100, 3),  # half of them died too: three are enough
        (1, 8, 100, 3),  # a small side of a cut hardly ever gets there
        (2, 3, 4, 2),  # two of four died
    ],
)
def test_three_quarters_agree_but_half_of_all_must(
    counted: int, observers: int, members: int, expected: int
) -> None:
    """So a cluster survives the death of many, and nobody decides alone."""
    assert threshold(counted, observers, members, 0.75) == expected


def test_an_accusation_holds_for_a_while_for_one_epoch_and_until_withdrawn() -> None:
    """An alert is somebody's word at a moment, about one life of a peer."""
    accusations = Accusations(lan())
    accusations.add(10.0, subject=1, epoch=7, observer=2, silent_s=3.0)
    accusations.add(10.5, subject=1, epoch=7, observer=3, silent_s=4.0)
    accusations.add(10.5, subject=1, epoch=6, observer=4, silent_s=9.0)
    assert accusations.against(11.0, 1, 7) == {2: 7.0, 3: 6.5}
    accusations.withdraw(1, 3)
    assert accusations.against(11.0, 1, 7) == {2: 7.0}
    assert accusations.against(12.6, 1, 7) == {}
    accusations.forget(20.0)
    assert accusations.against(11.0, 1, 7) == {}
