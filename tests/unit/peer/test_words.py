from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from peer.screen import words


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (99_949, "99.9 kB"),
        (99_950, "100 kB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (3_400_000, "3.4 MB"),
        (120e9, "120 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes(size_bytes: float, text: str) -> None:
    """Three digits and a decimal unit; rounding never shows a thousand of the smaller one."""
    assert words.size_text(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "clock", "age"),
    [
        (-3, "0:00", "0 s"),
        (0.4, "0:00", "0 s"),
        (59.6, "1:00", "59 s"),
        (60, "1:00", "1 min"),
        (3599, "59:59", "59 min"),
        (3600, "1:00:00", "1 h"),
        (90_000, "25:00:00", "1 d"),
    ],
)
def test_times(seconds: float, clock: str, age: str) -> None:
    """Clocks round, ages do not claim more than has passed, and neither is ever negative."""
    assert words.clock_text(seconds) == clock
    assert words.age_text(seconds) == age


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "~1 s"),
        (42.4, "~42 s"),
        (89, "~89 s"),
        (90, "~2 min"),
        (3600, "~60 min"),
        (10_000, "~3 h"),
        (200_000, "~2 d"),
    ],
)
def test_estimates_are_coarse(seconds: float, text: str) -> None:
    """An estimate claims no more than it knows."""
    assert words.about_text(seconds) == text


@pytest.mark.parametrize(
    ("place", "text"),
    [(1, "next in line"), (2, "no. 2 in line"), (12_345, "no. 12,345 in line")],
)
def test_places(place: int, text: str) -> None:
    """The first in line is the next; large numbers can be read."""
    assert words.place_text(place) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.416, "0.42 s"), (7.34, "7.3 s"), (83.2, "83 s")])
def test_measured_seconds(seconds: float, text: str) -> None:
    """As many digits as say something."""
    assert words.seconds_text(seconds) == text


@pytest.mark.parametrize(
    ("rate", "text"), [(128_000, "128 kb/s"), (999_499, "999 kb/s"), (5e6, "5.0 Mb/s")]
)
def test_bitrates(rate: float, text: str) -> None:
    """In the units that encoders are set with."""
    assert words.bitrate_text(rate) == text


@pytest.mark.parametrize(
    ("fraction", "text"), [(0, "0 %"), (0.999, "99 %"), (1, "100 %"), (1.2, "100 %")]
)
def test_percent_is_not_full_too_early(fraction: float, text: str) -> None:
    """100 % is said only when it is true."""
    assert words.percent_text(fraction) == text


def test_short_ids_stay_apart() -> None:
    """Eight digits, or as many as it takes to tell the ids of one list apart."""
    one, two, other = "3f2a1b2c-aaaa-4000", "3f2a1b2c-abaa-4000", "99999999-aaaa-4000"
    assert words.short_ids([one, other]) == {one: "3f2a1b2c", other: "99999999"}
    assert words.short_ids([one, two]) == {one: "3f2a1b2c-aa", two: "3f2a1b2c-ab"}
    assert words.short_ids([one, one]) == {one: "3f2a1b2c"}
    assert words.short_ids([]) == {}


@pytest.mark.parametrize(
    ("text", "width", "line"),
    [("short", 5, "short"), ("longer", 5, "long…"), ("two\nlines", 9, "two"), ("\n", 5, "")],
)
def test_one_line(text: str, width: int, line: str) -> None:
    """The first line, never wider than asked."""
    assert words.one_line(text, width) == line


def test_since() -> None:
    """The age of a moment."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert words.since(now - timedelta(minutes=5), now) == "5 min"
