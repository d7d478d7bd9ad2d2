"""Each checker must be seen to catch what it is there for: one that cannot fail proves nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gossip.messages import Alert, Gossip, Heartbeat, Message
from gossip.rows import Body, Row, State
from membership.changes import MemberDied, MemberJoined
from tests.simulation.checkers import (
    BytesWithinBudget,
    DatagramsFit,
    DeathNeedsEvidence,
    HealthyNeverDie,
    NobodyReturnsFromTheDead,
    OwnRowStands,
    RowsOnlyAdvance,
    TableStaysBounded,
    every_rule,
)
from tests.simulation.settled import tables_differ, uids_shared
from tests.simulation.world import Violation

HEARTBEAT = Heartbeat(sequence=1, incarnation=0, tardiness=0, grace_s=0.0)


def _alert(subject: Any, silent_s: float) -> Message:
    return Alert(uid=subject.host.uid, epoch=subject.host.epoch, incarnation=0, silent_s=silent_s)


def _row_goes_back(stage: Any) -> None:
    one, other, *_ = stage.puppets
    stage.believe(one, other, State.DEAD)
    stage.act()
    stage.believe(one, other, State.SUSPECT)


def _own_row_is_downgraded(stage: Any) -> None:
    stage.believe(stage.puppets[0], stage.puppets[0], State.SUSPECT)


def _dies_though_heard(stage: Any) -> None:
    one, other, third, *_ = stage.puppets
    other.say(one.host, HEARTBEAT)
    stage.act(2.5)
    third.say(one.host, _alert(other, 7.0))
    stage.act()
    _call_dead(stage, one, other, quorum=2)


def _dies_by_one_voice(stage: Any) -> None:
    one, other, *_ = stage.puppets
    _call_dead(stage, one, other, quorum=1)


def _dies_without_the_others(stage: Any) -> None:
    one, other, *_ = stage.puppets
    _call_dead(stage, one, other, quorum=3)


def _call_dead(stage: Any, one: Any, other: Any, quorum: int) -> None:
    row = stage.believe(one, other, State.DEAD)
    one.changes.append(MemberDied(row=row, silent_s=9.0, witnesses=quorum, quorum=quorum))


def _alerts_though_heard(stage: Any) -> None:
    one, other, third, *_ = stage.puppets
    other.say(one.host, HEARTBEAT)
    stage.act(4.5)
    one.say(third.host, _alert(other, 9.0))


def _alerts_too_soon(stage: Any) -> None:
    one, other, third, *_ = stage.puppets
    other.say(one.host, HEARTBEAT)
    stage.act(2.5)
    one.say(third.host, _alert(other, 1.0))


def _healthy_dies(stage: Any) -> None:
    one, other, *_ = stage.puppets
    row = stage.believe(one, other, State.DEAD)
    one.changes.append(MemberDied(row=row, silent_s=9.0, witnesses=0))


def _sends_too_much(stage: Any) -> None:
    one, other, *_ = stage.puppets
    for number in range(200):
        one.say(other.host, replace(HEARTBEAT, sequence=number, loads=bytes(960)))


def _sends_a_long_one(stage: Any) -> None:
    one, other, *_ = stage.puppets
    one.say(other.host, Gossip(loads=bytes(1104)))
    datagram = one.outgoing[0]
    one.outgoing[0] = datagram._replace(datagram=datagram.datagram + bytes(100))


def _dead_returns(stage: Any) -> None:
    one, other, third, *_ = stage.puppets
    stage.world.crash(other.host, for_good=True)
    for puppet in stage.puppets:
        stage.believe(puppet, other, State.DEAD)
    stage.act()
    one.rows.pop(other.host.uid)
    row = stage.believe(third, other)
    third.changes.append(MemberJoined(row=row))


def _phantom_appears(stage: Any) -> None:
    body = Body(address=("10.9.9.9", 1))
    stage.puppets[0].rows[7] = Row(7, 1, 0, State.ALIVE, body)


def _the_dead_pile_up(stage: Any) -> None:
    for uid in range(300):
        stage.world.uids[uid] = 0
        body = Body(address=("10.9.9.9", 1))
        stage.puppets[0].rows[uid] = Row(uid, 1, 0, State.DEAD, body)


@pytest.mark.parametrize(
    ("checker", "crime", "words"),
    [
        (RowsOnlyAdvance, _row_goes_back, "went back"),
        (OwnRowStands, _own_row_is_downgraded, "says SUSPECT"),
        (DeathNeedsEvidence, _dies_though_heard, "has heard it"),
        (DeathNeedsEvidence, _dies_by_one_voice, "quorum of 1|alone"),
        (DeathNeedsEvidence, _dies_without_the_others, "0 others have told"),
        (DeathNeedsEvidence, _alerts_though_heard, "has heard it"),
        (DeathNeedsEvidence, _alerts_too_soon, "only"),
        (HealthyNeverDie, _healthy_dies, "it is well"),
        (BytesWithinBudget, _sends_too_much, "budget"),
        (DatagramsFit, _sends_a_long_one, "bytes"),
        (NobodyReturnsFromTheDead, _dead_returns, "dead"),
        (TableStaysBounded, _phantom_appears, "never was"),
        (TableStaysBounded, _the_dead_pile_up, "remembers 300"),
    ],
)
def test_each_rule_catches_its_crime(
    theatre: Any, checker: Callable[[], Any], crime: Callable[[Any], None], words: str
) -> None:
    """A run in which the rule is broken ends with a sentence that says so."""
    stage = theatre(4, checker())
    stage.act()
    crime(stage)
    with pytest.raises(Violation, match=words):
        stage.act(2.0)


def test_innocent_puppets_break_no_rule(theatre: Any) -> None:
    """Peers that greet each other, and one that truly falls silent and is called dead by those
    who heard nothing, are accused of nothing."""
    stage = theatre(4, *every_rule())
    one, other, third, fourth = stage.puppets
    for puppet in (other, third, fourth):
        puppet.say(one.host, HEARTBEAT)
    stage.act(2.0)
    stage.world.crash(other.host, for_good=True)
    stage.act(7.0)
    for puppet in (third, fourth):
        puppet.say(one.host, _alert(other, 7.0))
    stage.act()
    _call_dead(stage, one, other, quorum=3)
    stage.act(2.0)
    assert one.rows[other.host.uid].state is State.DEAD


def test_tables_that_differ_are_told_apart(theatre: Any) -> None:
    """The question whether all is settled names the peers and the row that differ."""
    stage = theatre(3)
    one, other, third = stage.puppets
    assert tables_differ(stage.world) is None
    stage.believe(one, third, State.SUSPECT)
    assert f"{third.host.uid:016x}" in (tables_differ(stage.world) or "")
    for puppet in stage.puppets:
        stage.believe(puppet, third, State.DEAD)
    assert "p2 runs, and is" in (tables_differ(stage.world) or "")
    other.host.uid = one.host.uid
    assert "p0 and p1 are both" in (uids_shared(stage.world) or "")
