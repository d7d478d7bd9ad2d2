"""Kernel stamps become monotonic seconds, whatever people do to the time of day."""

from __future__ import annotations

import pytest

from gossip.receive_clock import SECOND_NS, ReceiveClock

BOOT = 1_700_000_000
"""What the time of day is ahead of the monotonic clock, in seconds."""


def clock_at(monotonic_s: float) -> ReceiveClock:
    """A clock that was made, and found the socket empty, at that moment."""
    return ReceiveClock(ns(monotonic_s), ns(BOOT + monotonic_s))


def ns(seconds: float) -> int:
    return round(seconds * SECOND_NS)


@pytest.mark.parametrize(
    ("what", "set_by_s", "stamp_s", "expected_s"),
    [
        ("as it was stamped", 0, BOOT + 103, 103),
        ("just before the drain", 0, BOOT + 110, 110),
        ("a hair after the drain began", 0, BOOT + 110.01, 110),
        ("a hair before the last drain", 0, BOOT + 99.99, 100),
        ("impossibly new", 0, BOOT + 200, 110),
        ("impossibly old", 0, BOOT + 50, 110),
        ("not stamped at all", 0, None, 110),
        ("stamped after the clock was set ahead", 3600, BOOT + 3600 + 105, 105),
        ("stamped before the clock was set ahead", 3600, BOOT + 105, 105),
        ("stamped after the clock was set back", -3600, BOOT - 3600 + 105, 105),
        ("stamped before the clock was set back", -3600, BOOT + 105, 105),
        ("stamped by a clock in between", -3600, BOOT - 1800 + 105, 110),
    ],
)
def test_a_stamp_is_believed_where_it_can_be_true(
    what: str, set_by_s: float, stamp_s: float | None, expected_s: float
) -> None:
    """Between the drain that emptied the socket (at 100 s) and this one (at 110 s), a stamp is
    taken by the offset of now or of before; otherwise the answer is now."""
    clock = clock_at(100)
    clock.sample(ns(110), ns(BOOT + set_by_s + 110))

    received_at = clock.received_at(None if stamp_s is None else ns(stamp_s))

    assert received_at == pytest.approx(expected_s, abs=1e-6), what
    assert clock.jumps == (1 if set_by_s else 0)


def test_what_a_full_drain_left_behind_keeps_its_time() -> None:
    """Only a drain that emptied the socket proves that the rest is newer."""
    clock = clock_at(100)
    clock.sample(ns(110), ns(BOOT + 110))
    left_behind = ns(BOOT + 105)

    clock.sample(ns(111), ns(BOOT + 111))
    assert clock.received_at(left_behind) == pytest.approx(105)

    clock.emptied()
    clock.sample(ns(112), ns(BOOT + 112))
    assert clock.received_at(left_behind) == pytest.approx(112)


def test_slow_drift_is_no_jump() -> None:
    """A clock that a time server pulls right is followed, and nobody is told of a jump."""
    clock = clock_at(0)
    for second in range(1, 1000):
        clock.sample(ns(second), ns(BOOT + second * 1.0005))
        clock.emptied()

    assert clock.jumps == 0
    assert clock.received_at(ns(BOOT + 999 * 1.0005)) == pytest.approx(999, abs=1e-3)
