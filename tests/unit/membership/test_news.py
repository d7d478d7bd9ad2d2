"""What a newer row means to those who are told."""

from __future__ import annotations

import pytest

from gossip.rows import Body, Row, State
from membership.changes import (
    MemberChanged,
    MemberDied,
    MemberJoined,
    MemberLeft,
    MemberRecovered,
    MemberRestarted,
    MemberSuspected,
)
from membership.news import tell

HERE = Body(address=("10.0.0.1", 7946))
THERE = Body(address=("10.0.0.2", 7946))


def row(epoch: int, incarnation: int, state: State, body: Body = HERE) -> Row:
    return Row(1, epoch, incarnation, state, body)


ALIVE, SUSPECT, DEAD, LEFT = State


@pytest.mark.parametrize(
    ("before", "after", "kinds"),
    [
        (None, row(1, 0, ALIVE), [MemberJoined]),
        (None, row(1, 0, SUSPECT), [MemberJoined, MemberSuspected]),
        (None, row(1, 0, DEAD), []),  # a tombstone of a stranger
        (None, row(1, 0, LEFT), []),
        (row(1, 0, ALIVE), row(1, 0, SUSPECT), [MemberSuspected]),
        (row(1, 0, ALIVE), row(1, 0, DEAD), [MemberDied]),
        (row(1, 0, SUSPECT), row(1, 0, DEAD), [MemberDied]),
        (row(1, 0, ALIVE), row(1, 0, LEFT), [MemberLeft]),
        (row(1, 0, SUSPECT), row(1, 1, ALIVE), [MemberRecovered]),
        (row(1, 0, DEAD), row(1, 1, ALIVE), [MemberRecovered]),
        (row(1, 0, DEAD), row(1, 1, SUSPECT), [MemberRecovered]),
        (row(1, 0, SUSPECT), row(1, 1, SUSPECT), []),
        (row(1, 0, ALIVE), row(1, 1, ALIVE), []),
        (row(1, 0, ALIVE), row(1, 1, ALIVE, THERE), [MemberChanged]),
        (row(1, 5, ALIVE), row(2, 0, ALIVE), [MemberRestarted]),
        (row(1, 5, DEAD), row(2, 0, ALIVE), [MemberRestarted]),
        (row(1, 5, ALIVE), row(2, 0, DEAD), [MemberRestarted, MemberDied]),
        (row(1, 5, ALIVE), row(2, 0, LEFT), [MemberRestarted, MemberLeft]),
    ],
)
def test_what_is_told(before: Row | None, after: Row, kinds: list[type]) -> None:
    """Each step that a row takes is told as what it means, and nothing twice."""
    assert [type(change) for change in tell(before, after, 3.0)] == kinds
