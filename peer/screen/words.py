"""Numbers as people read them, and ids as short as they can be.

Pure: the time is an argument. Sizes are decimal (1 MB = 1,000,000 bytes), as file managers and
video people count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from peer.protocol import PeerStatus

SHORT_ID_LENGTH = 8


def size_text(size_bytes: float) -> str:
    """`512 B`, `3.4 MB`, `120 GB`: three digits are enough to compare."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            digits = 0 if unit == "B" or size >= 99.95 else 1
            return f"{size:.{digits}f} {unit}"
        size /= 1000
    raise AssertionError("the loop ends with TB")


def clock_text(seconds: float) -> str:
    """A length of video or of waiting: `0:07`, `12:30`, `1:02:03`."""
    whole = max(0, round(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def about_text(seconds: float) -> str:
    """An estimated length of waiting, no finer than it deserves: `~40 s`, `~12 min`, `~3 h`."""
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            return f"~{round(seconds / length)} {unit}"
    return f"~{max(1, round(seconds))} s"


def place_text(place: int) -> str:
    """A place in line, from 1: `next in line`, `no. 1,234 in line`."""
    return "next in line" if place <= 1 else f"no. {place:,} in line"


def age_text(seconds: float) -> str:
    """How long ago, in one unit: `8 s`, `5 min`, `3 h`, `12 d`."""
    whole = max(0, int(seconds))
    for unit, length in (("d", 86_400), ("h", 3600), ("min", 60)):
        if whole >= length:
            return f"{whole // length} {unit}"
    return f"{whole} s"


def seconds_text(seconds: float) -> str:
    """A measured time: `0.42 s`, `7.3 s`, `83 s`."""
    return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.{1 if seconds < 10 else 0}f} s"


def milliseconds_text(seconds: float) -> str:
    """A short time, to be compared: `4 ms`, `850 ms`, `2.3 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 0.9995 else f"{seconds:.1f} s"


def bitrate_text(bits_per_second: float) -> str:
    """`128 kb/s`, `5.0 Mb/s`."""
    if bits_per_second < 999_500:
        return f"{bits_per_second / 1000:.0f} kb/s"
    return f"{bits_per_second / 1_000_000:.1f} Mb/s"


def since(moment: datetime, now: datetime) -> str:
    """The age of a moment; both with a time zone."""
    return age_text((now - moment).total_seconds())


def percent_text(fraction: float) -> str:
    """`45 %`; never 100 before it is."""
    return f"{min(99, int(fraction * 100)) if fraction < 1 else 100} %"


def peer_state(status: PeerStatus) -> str:
    """The state as people understand it: to take work and to have none is `ready`."""
    return "ready" if status.state == "working" and not status.running else status.state


def short_ids(ids: Iterable[str]) -> Mapping[str, str]:
    """Shorten ids to eight digits, or to as many more as tell them apart."""
    whole = list(ids)
    length = SHORT_ID_LENGTH
    while length < 36 and len({one[:length] for one in whole}) < len(set(whole)):
        length += 1
    return {one: one[:length].rstrip("-") for one in whole}


def one_line(text: str, width: int) -> str:
    """The first line, cut with an ellipsis where it is longer than the width."""
    line = text.strip().splitlines()[0] if text.strip() else ""
    return line if len(line) <= width else line[: max(0, width - 1)].rstrip() + "…"
