"""Which changes of the cluster are lines of a log, and how loud."""

from __future__ import annotations

import logging
from typing import get_args

import pytest

from gossip.messages import Keys, Verb
from gossip.rows import Body, Row, State
from membership.changes import (
    Change,
    IdentityLost,
    KeysChanged,
    LeaderProposed,
    MemberChanged,
    MemberDied,
    MemberForgotten,
    MemberJoined,
    MemberLeft,
    MemberRecovered,
    MemberRestarted,
    MemberSuspected,
    OrderAnswered,
    OrderReceived,
    Refuted,
)
from peer.cluster_news import log_change

ROW = Row(0xAA, 7, 2, State.DEAD, Body(address=("192.0.2.7", 7946), name="two"))
RING = Keys(version=1, origin=1, primary=3, keys=((3, bytes(range(32))),))

LINES: list[tuple[Change, int | None]] = [
    (MemberJoined(row=ROW), logging.INFO),
    (MemberRestarted(row=ROW, before=ROW), logging.INFO),
    (MemberSuspected(row=ROW, silent_s=3.0, witnesses=2), logging.INFO),
    (MemberDied(row=ROW, silent_s=6.0, witnesses=2, quorum=2), logging.INFO),
    (MemberLeft(row=ROW), logging.INFO),
    (MemberRecovered(row=ROW, was=State.DEAD), logging.INFO),
    (LeaderProposed(uid=0xAA), logging.INFO),
    (LeaderProposed(uid=None), logging.INFO),
    (Refuted(said=State.SUSPECT, incarnation=3), logging.WARNING),
    (OrderReceived(verb=Verb.DRAIN, by=0xBB), logging.INFO),
    (IdentityLost(old_uid=0xAA, uid=0xBB, epoch=7), logging.ERROR),
    (MemberChanged(row=ROW), None),
    (MemberForgotten(row=ROW), None),
    (KeysChanged(keys=RING), logging.INFO),
    (OrderAnswered(nonce=1, heard=True), None),
]


@pytest.mark.parametrize(("change", "level"), LINES)
def test_a_change_is_said_as_loud_as_it_concerns_people(
    change: Change, level: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """One line or none; only a lost identity asks for a person. No key is ever in it."""
    with caplog.at_level(logging.DEBUG):
        log_change(change)
    assert [record.levelno for record in caplog.records] == ([] if level is None else [level])
    assert "\\x01\\x02" not in caplog.text
    for record in caplog.records:
        assert record.__dict__["action"]


def test_every_change_has_been_thought_of() -> None:
    """A new kind of change comes with a line, or with the decision that there is none."""
    assert {type(change) for change, _ in LINES} == set(get_args(Change))
