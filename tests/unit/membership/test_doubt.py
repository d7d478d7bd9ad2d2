"""What is made of a silence that somebody asked about."""

from __future__ import annotations

import math

import pytest

from gossip.rows import Body, Row, State
from membership.doubt import ASK_S, WITHIN_S, Listening, judge
from membership.view import Member, View

OWN, OTHER, STRANGER = 1, 2, 3


def view(*, state: State = State.ALIVE, age_s: float = 0.0, deaf: bool = False) -> View:
    """One in which OTHER was heard that long ago."""

    def member(uid: int, state: State, age_s: float) -> Member:
        body = Body(name=f"peer-{uid}", node="here", address=("127.0.0.1", 7000 + uid))
        row = Row(uid=uid, epoch=5, incarnation=0, state=state, body=body)
        return Member(
            row=row,
            age_s=age_s,
            load=None,
            load_age_s=math.inf,
            silent=False,
            own=uid == OWN,
        )

    return View(
        own_uid=OWN,
        members=(member(OWN, State.ALIVE, 0.0), member(OTHER, state, age_s)),
        leader=None,
        candidate=None,
        quorate=True,
        deaf=deaf,
        suspected=False,
        mass_event=False,
    )


@pytest.mark.parametrize(
    ("seen", "uid", "epoch", "asked_s_ago", "verdict"),
    [
        (view(age_s=0.1), OTHER, 5, 0.2, True),
        (view(age_s=0.9), OTHER, 5, 0.2, None),
        (view(age_s=9.0), OTHER, 5, WITHIN_S, False),
        (view(age_s=0.1, state=State.SUSPECT), OTHER, 5, 0.2, True),
        (view(state=State.DEAD), OTHER, 5, 0.0, False),
        (view(state=State.LEFT), OTHER, 5, 0.0, False),
        (view(age_s=0.0), OTHER, 4, 0.2, False),
        (view(), STRANGER, 5, 9.0, True),
        (view(), OWN, 5, 9.0, True),
        (view(), OWN, 4, 0.0, False),
        (view(age_s=9.0, deaf=True), OTHER, 5, 9.0, True),
    ],
    ids=[
        "heard since",
        "not yet",
        "silent for long enough",
        "a suspect that was heard",
        "dead",
        "departed",
        "a former life",
        "never heard of",
        "itself",
        "itself, before",
        "who asks is deaf",
    ],
)
def test_a_doubted_life(
    seen: View, uid: int, epoch: int, asked_s_ago: float, verdict: bool | None
) -> None:
    """It goes on when it was heard after it was asked, or when nobody here may judge."""
    found = judge(seen, uid, epoch, asked_s_ago=asked_s_ago, listened_s=asked_s_ago)
    assert found is verdict


def test_who_stood_still_has_not_listened() -> None:
    """What was answered meanwhile has not been read yet, so nobody is judged for that time."""
    listening = Listening(asked_at=100.0)
    listening.look(100.1)
    listening.look(109.0)
    assert listening.listened_s == pytest.approx(0.1 + ASK_S)
    seen = view(age_s=99.0)
    still = judge(seen, OTHER, 5, asked_s_ago=9.0, listened_s=listening.listened_s)
    assert still is None
    for nth in range(1, 4):
        listening.look(109.0 + nth * ASK_S)
    assert judge(seen, OTHER, 5, asked_s_ago=9.75, listened_s=listening.listened_s) is False
