"""Who may say that a peer takes no work, and who may take that back."""

from __future__ import annotations

from math import inf

import pytest

from peer.restraint import Restraint


def after(*words: str) -> Restraint:
    """A restraint to which that was said, a second each, with parks of ten seconds."""
    restraint = Restraint(10.0)
    for now, word in enumerate(words):
        match word:
            case "park":
                restraint.park(now)
            case "drain":
                restraint.drain()
            case "resume":
                restraint.resume()
            case "unpark":
                restraint.unpark()
            case "stop":
                restraint.stop()
    return restraint


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((), "working"),
        (("drain",), "draining"),
        (("drain", "resume"), "working"),
        (("park",), "parked"),
        (("park", "unpark"), "working"),
        (("drain", "unpark"), "draining"),
        (("park", "drain"), "draining"),
        (("park", "drain", "unpark"), "draining"),
        (("drain", "park", "resume"), "working"),
        (("park", "resume"), "working"),
        (("stop",), "draining"),
        (("stop", "resume"), "draining"),
        (("park", "stop", "unpark", "resume"), "draining"),
    ],
)
def test_each_takes_back_its_own(words: tuple[str, ...], told: str) -> None:
    """The scaler lifts only its parks, a person everything, and nobody the end of the process."""
    restraint = after(*words)
    assert restraint.holds == (told != "working")
    assert restraint.draining == (told == "draining")
    assert restraint.parked == (told == "parked")


def test_a_forgotten_park_ends_by_itself() -> None:
    """Ten seconds after it was said last, and not before; once."""
    restraint = Restraint(10.0)
    assert not restraint.expire(5.0)
    assert restraint.park(0.0)
    assert not restraint.park(8.0)
    assert restraint.parked_until == 18.0
    assert not restraint.expire(17.9)
    assert restraint.parked
    assert restraint.expire(18.0)
    assert not restraint.holds
    assert restraint.parked_until == -inf
    assert not restraint.expire(19.0)


def test_it_says_whether_something_has_changed() -> None:
    """So that nobody is told twice."""
    restraint = Restraint(10.0)
    assert [restraint.drain(), restraint.drain(), restraint.resume()] == [True, False, True]
    assert [restraint.resume(), restraint.unpark(), restraint.stop()] == [False, False, True]
    assert not restraint.stop()
