"""What follows from a view for the ledger, and whose turn it is."""

from __future__ import annotations

from itertools import pairwise

import pytest

from gossip.rows import Row
from membership.changes import MemberDied, MemberJoined, MemberRestarted
from membership.view import View
from peer.duties import (
    DEPUTIES,
    GRAVE_AGE_MAX_S,
    GRAVES_MAX,
    HEAD_START_S,
    RENEW_S,
    STEP_S,
    Bury,
    Duties,
    Duty,
    Reinstate,
    Suspend,
    former_life,
    life_of,
    turn_s,
)
from pipeline.standing import ENDED, EXPLAINED, SUSPENSION_S, Life
from tests.unit.peer.views import ALIVE, DEAD, LEFT, SUSPECT, row, view


def died(dead: Row, *, witnesses: int = 6) -> MemberDied:
    return MemberDied(row=dead, silent_s=6.2, witnesses=witnesses, quorum=6)


def kinds(duties: list[Duty]) -> list[type]:
    return [type(duty) for duty in duties]


def do_all(duties: Duties, now: float, of: View) -> list[type]:
    """Do what is due, and tell what it was."""
    due = duties.due(now, of)
    for duty in due:
        duties.done(now, duty)
    return kinds(due)


@pytest.mark.parametrize(
    ("own", "leader", "alive", "expected_s"),
    [
        pytest.param(1, 1, (1, 2, 3, 4, 5, 6), 0.0, id="the leader, at once"),
        pytest.param(6, 1, (1, 2, 3, 4, 5, 6), HEAD_START_S, id="the next after 5"),
        pytest.param(2, 1, (1, 2, 3, 4, 5, 6), HEAD_START_S + STEP_S, id="the leader is left out"),
        pytest.param(4, 1, (1, 2, 3, 4, 5, 6), None, id="the fourth after it is no deputy"),
        pytest.param(6, None, (1, 2, 3, 4, 6), 0.0, id="nobody leads: the next one at once"),
        pytest.param(1, None, (1, 2, 3, 4, 6), STEP_S, id="nobody leads: the one after that"),
        pytest.param(6, 5, (1, 2, 3, 4, 6), 0.0, id="it was the leader that died"),
        pytest.param(6, 3, (1, 2, 4, 6), 0.0, id="the leader is no more than suspect"),
        pytest.param(1, None, (1,), 0.0, id="one of two, the other is gone"),
    ],
)
def test_whose_turn_it_is(
    own: int, leader: int | None, alive: tuple[int, ...], expected_s: float | None
) -> None:
    """The leader at once; its three deputies later, or at once where nobody leads."""
    others = [row(uid) for uid in alive if uid != own]
    assert turn_s(view(*others, row(5, DEAD), own=own, leader=leader), 5) == expected_s


def test_few_do_the_same_work() -> None:
    """Of a hundred members that see one death, four ever tell the ledger."""
    rows = [row(uid, DEAD if uid == 50 else ALIVE) for uid in range(1, 101)]
    turns = [turn_s(view(*rows, own=uid, leader=7), 50) for uid in range(1, 101) if uid != 50]
    taken = sorted(turn for turn in turns if turn is not None)
    assert taken == [0.0, *(HEAD_START_S + rank * STEP_S for rank in range(DEPUTIES))]


@pytest.mark.parametrize(
    ("witnesses", "how"),
    [
        (6, "died (silent for 6.2 s to 6 observers)"),
        (1, "died (silent for 6.2 s to 1 observer)"),
        (0, "died (silent for 6.2 s)"),
    ],
)
def test_a_death(witnesses: int, how: str) -> None:
    """It is buried with who it was, and by what it was found out."""
    duties, dead = Duties(), row(2, DEAD, epoch=7, incarnation=3)
    duties.notice(0.0, died(dead, witnesses=witnesses))

    bury, suspend = duties.due(0.0, view(dead, leader=1))

    assert isinstance(bury, Bury)
    assert (bury.death.life, bury.death.how) == (life_of(dead), how)
    assert bury.death.silent_s == 6.2
    assert bury.event is not None
    assert (bury.event.failed_uid, bury.event.failed_epoch) == ("0000000000000002", 7)
    assert (bury.event.failed_name, bury.event.failed_container) == ("peer 2", "pid:2")
    assert (bury.event.silent_s, bury.event.witnesses) == (6.2, witnesses)
    assert suspend == Suspend(lives=(life_of(dead),))


def test_a_death_that_was_not_seen() -> None:
    """A peer that has just come, or just become the leader, buries whom the view shows as dead."""
    duties, dead = Duties(), row(2, DEAD)

    bury, _ = duties.due(0.0, view(dead, leader=1, ages_s={2: 42.0}))

    assert isinstance(bury, Bury)
    assert (bury.death.how, bury.death.silent_s) == ("died", 42.0)


def test_an_earlier_death_is_not_confused() -> None:
    """What was seen of one life's end is not told of the next life's."""
    duties, dead = Duties(), row(2, DEAD, epoch=2)
    duties.notice(0.0, died(row(2, DEAD, epoch=1)))

    bury, _ = duties.due(0.0, view(dead, leader=1))

    assert isinstance(bury, Bury)
    assert bury.death.how == "died"


def test_a_death_is_due_until_it_is_done() -> None:
    """While the ledger is away it stays due; afterwards only the suspension is said again."""
    duties, of = Duties(), view(row(2, DEAD), leader=1)

    assert [kinds(duties.due(now, of)) for now in (0.0, 1.0)] == [[Bury, Suspend]] * 2
    assert do_all(duties, 1.0, of) == [Bury, Suspend]
    assert [do_all(duties, 1.0 + after_s, of) for after_s in (1.0, RENEW_S, RENEW_S + 1)] == [
        [],
        [Suspend],
        [],
    ]


def test_a_deputy_waits_for_the_leader() -> None:
    """Not longer than its turn, counted from when it saw the death; at once when nobody leads."""
    dead = row(5, DEAD)
    led, leaderless = view(row(1), dead, own=6, leader=1), view(row(1), dead, own=6)
    duties = Duties()

    assert do_all(duties, 10.0, led) == []
    assert do_all(duties, 10.0 + HEAD_START_S - 0.1, led) == []
    assert kinds(duties.due(10.0 + HEAD_START_S - 0.1, leaderless)) == [Bury, Suspend]
    assert do_all(duties, 10.0 + HEAD_START_S, led) == [Bury, Suspend]


def test_a_suspect() -> None:
    """It is suspended again and again while it is suspect, so that it does not run out."""
    duties, of = Duties(), view(row(2, SUSPECT), leader=1)

    said = [now for now in range(30) if do_all(duties, float(now), of)]

    assert said[0] == 0
    gaps = [later - earlier for earlier, later in pairwise(said)]
    assert max(gaps) <= SUSPENSION_S / 2


@pytest.mark.parametrize("was", [SUSPECT, DEAD])
def test_a_recovery(was: object) -> None:
    """It is told once, with the incarnation that contradicts; and a new accusation is a new one."""
    duties, bad = Duties(), row(2, SUSPECT if was is SUSPECT else DEAD)
    do_all(duties, 0.0, view(bad, leader=1))
    well = row(2, incarnation=2)

    assert duties.due(1.0, view(well, leader=1)) == [Reinstate(life=life_of(well))]
    assert do_all(duties, 1.0, view(well, leader=1)) == [Reinstate]
    assert do_all(duties, 2.0, view(well, leader=1)) == []
    assert do_all(duties, 3.0, view(row(2, SUSPECT, incarnation=2), leader=1)) == [Suspend]


def test_a_recovery_by_restart() -> None:
    """A new life needs no reinstatement: nothing was said of it."""
    duties = Duties()
    do_all(duties, 0.0, view(row(2, DEAD), leader=1))

    assert do_all(duties, 1.0, view(row(2, epoch=2), leader=1)) == []


def test_a_restart() -> None:
    """The life before is buried although the view shows the next one, and nobody is suspended."""
    duties, before, now = Duties(), row(2), row(2, epoch=2)
    duties.notice(0.0, MemberRestarted(row=now, before=before))

    (bury,) = duties.due(0.0, view(now, leader=1))

    assert isinstance(bury, Bury)
    assert bury.death.life == life_of(before)
    assert bury.death.how == "was started again without having left"
    assert bury.event is not None
    assert bury.event.failed_epoch == 1
    duties.done(0.0, bury)
    assert duties.due(1.0, view(now, leader=1)) == []


def test_a_restart_after_a_death() -> None:
    """What was buried is not buried again when the dead one comes back under a new epoch."""
    duties, dead, now = Duties(), row(2, DEAD), row(2, epoch=2)
    do_all(duties, 0.0, view(dead, leader=1))
    duties.notice(1.0, MemberRestarted(row=now, before=dead))

    assert do_all(duties, 1.0, view(now, leader=1)) == []


@pytest.mark.parametrize("restarted", [False, True])
def test_a_departure(restarted: bool) -> None:
    """What it could not give back is taken, without a failure being told; it is no suspect."""
    duties, left = Duties(), row(2, LEFT)
    of = view(row(2, epoch=2) if restarted else left, leader=1)
    if restarted:
        duties.notice(0.0, MemberRestarted(row=row(2, epoch=2), before=left))

    (bury,) = duties.due(0.0, of)

    assert isinstance(bury, Bury)
    assert (bury.death.how, bury.event) == ("left without giving it back", None)
    assert do_all(duties, 0.0, of) == [Bury]
    assert do_all(duties, 60.0, of) == []


@pytest.mark.parametrize(("quorate", "deaf"), [(False, False), (True, True)])
def test_a_peer_that_is_cut_off(quorate: bool, deaf: bool) -> None:
    """It judges nobody; once it hears enough again it does what is still true."""
    duties, bad = Duties(), [row(2, DEAD), row(3, SUSPECT)]

    assert duties.due(0.0, view(*bad, leader=1, quorate=quorate, deaf=deaf)) == []
    assert kinds(duties.due(1.0, view(*bad, leader=1))) == [Bury, Suspend]


@pytest.mark.parametrize("alone", [True, False])
def test_its_own_former_life(alone: bool) -> None:
    """That is buried whatever the view says, also by who is cut off or alone, until it is done."""
    own = former_life("0" * 15 + "1", 7, name="one", node="here")
    duties = Duties(own)
    of = view(quorate=False, deaf=True) if alone else view(row(2), row(3, LEFT), leader=2)

    assert duties.due(0.0, of)[0] is own
    assert own.death.life == Life(peer_uid="0" * 15 + "1", epoch=7, incarnation=ENDED)
    assert (own.death.how, own.death.silent_s) == ("was started again without having left", 0.0)
    assert own.event is not None
    assert (own.event.failed_uid, own.event.failed_epoch) == ("0" * 15 + "1", 7)
    assert (own.event.failed_name, own.event.failed_node) == ("one", "here")
    assert duties.own_burial is own
    duties.done(0.0, own)
    assert duties.own_burial is None
    assert own not in duties.due(1.0, of)


def test_a_former_life_that_ran_out_of_memory_is_explained() -> None:
    """The others may have buried it for its silence; the cause is told all the same."""
    own = former_life("0" * 15 + "1", 7, name="one", node="here", out_of_memory=True)
    assert own.death.life.incarnation == EXPLAINED
    assert own.death.out_of_memory
    assert own.event is not None
    assert own.event.reason == "out_of_memory"


def test_what_is_remembered_is_bounded() -> None:
    """Restarts that nobody buries are forgotten, and so is what the view shows no more."""
    duties = Duties()
    for uid in range(2, GRAVES_MAX + 102):
        duties.notice(0.0, MemberRestarted(row=row(uid, epoch=2), before=row(uid)))
        duties.notice(0.0, MemberJoined(row=row(uid)))
    newest = view(row(GRAVES_MAX + 101), leader=1)

    due = duties.due(0.0, newest)
    assert len(due) == GRAVES_MAX
    assert duties.due(GRAVE_AGE_MAX_S, newest) == []
    for number in range(3):
        do_all(duties, 100.0, view(row(2, DEAD, epoch=number), row(3, SUSPECT), leader=1))
        do_all(duties, 100.0, view(leader=1))
    kept = [getattr(duties, name) for name in vars(duties)]
    assert not any(kept)
