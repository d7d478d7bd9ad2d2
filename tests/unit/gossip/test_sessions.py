"""Sessions: each datagram once, a former life never, and never too many of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.sessions import WINDOW, Session, Sessions


def _seen(*counters: int) -> Session:
    session = Session(1, 1, 1)
    for counter in counters:
        session.note(counter)
    return session


@pytest.mark.parametrize(
    ("seen", "counter", "is_new"),
    [
        ([], 1, True),
        ([], 2**32 - 1, True),
        ([1], 1, False),
        ([1], 2, True),
        ([5], 4, True),
        ([5, 4], 4, False),
        ([5, 4], 5, False),
        ([100], 100 - WINDOW + 1, True),
        ([100], 100 - WINDOW, False),
        ([100], 1, False),
        ([1, 64], 1, False),
        ([1, 64], 2, True),
        ([1, 65], 1, False),
        ([1, 65], 2, True),
        ([1, 66], 2, False),
        ([1, 2**32 - 1], 2, False),
        ([1, 2**32 - 1], 2**32 - 2, True),
    ],
)
def test_the_window(seen: list[int], counter: int, is_new: bool) -> None:
    """What was seen is not new, nor is what is so old that nobody can tell."""
    assert _seen(*seen).is_new(counter) is is_new


@given(st.lists(st.integers(1, 200) | st.integers(1, 2**32 - 1), max_size=100))
def test_the_window_agrees_with_a_list(counters: list[int]) -> None:
    """In any order: new is what is not in the list of the seen, and not `WINDOW` below its top."""
    session = Session(1, 1, 1)
    seen: set[int] = set()
    for counter in counters:
        is_new = counter not in seen and counter > max(seen, default=0) - WINDOW
        assert session.is_new(counter) is is_new
        if is_new:
            session.note(counter)
            seen.add(counter)


def _heard(sessions: Sessions, uid: int, epoch: int = 1, *, verified: bool = False) -> Session:
    identity = b"%d %d" % (uid, epoch)
    session = sessions.get(identity) or Session(uid, epoch, 0)
    session.verified = verified or session.verified
    sessions.heard(identity, session)
    return session


def _uids(sessions: Sessions) -> set[int]:
    return {session.uid for session in sessions}


def test_the_unverified_go_first() -> None:
    """When there are too many, those go that have proved nothing, the oldest of them first."""
    sessions = Sessions(4)
    for uid in (1, 2, 3, 4):
        _heard(sessions, uid, verified=uid in (1, 3))
    _heard(sessions, 5)
    assert _uids(sessions) == {1, 3, 4, 5}
    _heard(sessions, 6)
    assert _uids(sessions) == {1, 3, 5, 6}


def test_of_the_verified_the_longest_silent_goes() -> None:
    """When all have proved to live, whoever was heard least recently is forgotten."""
    sessions = Sessions(3)
    for uid in (1, 2, 3):
        _heard(sessions, uid, verified=True)
    _heard(sessions, 1)
    _heard(sessions, 4)
    assert _uids(sessions) == {1, 3, 4}


def test_a_flood_of_recordings_costs_one_live_session_at_most() -> None:
    """Old lives without end make room for each other, not in the place of the living."""
    sessions = Sessions(100)
    for uid in range(100):
        _heard(sessions, uid, verified=True)
    for uid in range(1000, 3000):
        _heard(sessions, uid)
    assert len(sessions) == 100
    assert len(_uids(sessions) & set(range(100))) == 99


def test_a_former_life_is_over_when_the_later_one_is_proved() -> None:
    """Not before: a recording could pretend to be later."""
    sessions = Sessions()
    former = _heard(sessions, 1, epoch=10, verified=True)
    later = _heard(sessions, 1, epoch=11)
    assert not sessions.is_over(1, former.epoch)
    later.verified = True
    assert sessions.is_over(1, former.epoch)
    assert not sessions.is_over(1, later.epoch)
    assert not sessions.is_over(2, former.epoch)
    _heard(sessions, 1, epoch=11)
    assert list(sessions) == [later]
    assert sessions.is_over(1, former.epoch)


def test_forgetting_a_peer_forgets_all_its_lives() -> None:
    """And nothing of the others."""
    sessions = Sessions()
    for epoch in (1, 2, 3):
        _heard(sessions, 1, epoch)
    kept = _heard(sessions, 2)
    sessions.forget(1)
    sessions.forget(1)
    assert list(sessions) == [kept]


def test_shows_itself_without_its_cipher() -> None:
    """In a traceback or a log: who, and whether it is proved."""
    assert repr(Session(0xAB, 3, 0xC)) == "<Session 00000000000000ab 3 0000000c unverified>"
