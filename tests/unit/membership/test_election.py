"""Who is proposed to lead, when, and when nobody is."""

from __future__ import annotations

import pytest

from gossip.load import Flag, Load
from gossip.rows import Body, Row, State
from membership.config import lan
from membership.election import Election, best, has_resigned


def standing(
    uid: int,
    epoch: int = 100,
    state: State = State.ALIVE,
    load: Load | None = None,
    *,
    eligible: bool = True,
    priority: int = 0,
) -> tuple[Row, Load | None]:
    body = Body(address=("10.0.0.1", 7946), eligible=eligible, priority=priority)
    return Row(uid, epoch, 0, state, body), load


@pytest.mark.parametrize(
    ("standings", "expected"),
    [
        ([], None),
        ([standing(2), standing(1)], 1),  # of two that started together, the lower uid
        ([standing(1, epoch=200), standing(2, epoch=100)], 2),  # the oldest
        ([standing(1, epoch=100), standing(2, epoch=200, priority=-0)], 1),
        ([standing(1, priority=1), standing(2, epoch=900)], 2),  # priority before age
        ([standing(1, eligible=False), standing(2)], 2),
        ([standing(1, state=State.SUSPECT), standing(2)], 2),
        ([standing(1, load=Load(flags=Flag.DRAINING)), standing(2)], 2),
        ([standing(1, load=Load(flags=Flag.DEAF)), standing(2)], 2),
        ([standing(1, load=Load(flags=Flag.FLAPPING)), standing(2)], 2),
        ([standing(1, load=Load(lag_s=0.6)), standing(2)], 2),
        ([standing(1, load=Load(lag_s=0.4, flags=Flag.QUEUE_AWAY)), standing(2)], 1),
        # Where all are late, one of them is better than nobody, but no one in other trouble.
        ([standing(2, load=Load(lag_s=0.6)), standing(1, load=Load(lag_s=9.0))], 1),
        ([standing(1, load=Load(lag_s=0.6, flags=Flag.DEAF))], None),
    ],
)
def test_the_oldest_fit_member_is_the_best(
    standings: list[tuple[Row, Load | None]], expected: int | None
) -> None:
    """Fit is who is alive, eligible, and neither leaving nor in trouble with its ears; and on time,
    if anybody is."""
    loads = {row.uid: load for row, load in standings}
    assert best((row for row, _ in standings), loads.get, lag_max_s=0.5) == expected


def test_a_candidate_is_proposed_when_it_has_been_stable() -> None:
    """And the proposal ends at once when it is not the best any more."""
    config = lan()
    election = Election(config, 0.0)
    assert not election.observe(0.0, 1, living=3)
    assert not election.observe(config.leader_stable_s - 0.1, 1, living=3)
    assert election.observe(config.leader_stable_s, 1, living=3)
    assert election.leader == 1
    assert election.observe(20.0, 2, living=2)
    assert election.leader is None
    assert not election.observe(29.9, 2, living=2)
    assert election.observe(30.0, 2, living=2)
    assert election.leader == 2


@pytest.mark.parametrize(
    ("standing", "expected"),
    [
        (standing(1), False),
        (standing(1, state=State.LEFT), True),
        (standing(1, eligible=False), True),
        (standing(1, load=Load(flags=Flag.DRAINING)), True),
        (standing(1, state=State.SUSPECT), False),  # others say so
        (standing(1, state=State.DEAD), False),
        (standing(1, load=Load(flags=Flag.DEAF | Flag.FLAPPING, lag_s=9.0)), False),  # a symptom
    ],
)
def test_who_resigns_says_so_itself(standing: tuple[Row, Load | None], expected: bool) -> None:
    """What others say of it, and what may be over in a second, is none of that."""
    assert has_resigned(*standing) is expected


def test_whom_a_leader_leaves_it_to_need_not_wait() -> None:
    """It was the second best of a view that was stable. Where nobody led, there is none to say."""
    election = Election(lan(), 0.0)
    election.observe(0.0, 1, living=3)
    assert not election.observe(1.0, 2, living=3, resigned=True)
    assert election.leader is None
    election.observe(20.0, 2, living=3)
    assert election.leader == 2
    assert election.observe(21.0, 3, living=3, resigned=True)
    assert election.leader == 3
    assert election.observe(22.0, 4, living=3, resigned=False)
    assert election.leader is None


def test_a_minority_proposes_nobody() -> None:
    """Half of the recent membership is enough; less is not, until the memory of it fades."""
    config = lan()
    election = Election(config, 0.0)
    election.observe(0.0, 1, living=10)
    election.observe(10.0, 1, living=10)
    assert election.leader == 1
    assert not election.observe(11.0, 1, living=5)
    assert election.observe(12.0, 1, living=4)
    assert not election.quorate
    later = 12.0 + 1.3 * config.leader_memory_s
    election.observe(later, 1, living=4)
    assert election.quorate


def test_those_who_said_good_bye_are_not_missed() -> None:
    """A cluster that was made smaller on purpose still has its leader."""
    election = Election(lan(), 0.0)
    election.observe(0.0, 1, living=10)
    election.observe(10.0, 1, living=10)
    for _ in range(7):
        election.departed()
    election.observe(11.0, 1, living=3)
    assert (election.leader, election.quorate) == (1, True)
