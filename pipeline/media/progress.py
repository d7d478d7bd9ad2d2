"""What ffmpeg says about its progress (`-progress pipe:1`), as values.

The machine-readable form is the only one read. The status line on standard error is for people,
has changed between releases, and has broken other systems when it did.

Pure: bytes in, snapshots out, in pieces of any size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

LINE_BYTES_MAX = 4096
"""No real line is longer than 100 bytes; what is longer is not progress, and is dropped."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """One block of the report. A value that ffmpeg does not know yet is None.

    Args:
        frame: Video frames written to the first output so far.
        out_time_s: Where the slowest output stands on its timeline; may jump, and be negative.
        speed: Seconds of video written per second.
        total_size: Bytes written; of a file whose index comes last it says little.
        end: The last block: ffmpeg is about to exit.
    """

    frame: int | None = None
    out_time_s: float | None = None
    speed: float | None = None
    total_size: int | None = None
    end: bool = False


class ProgressParser:
    """Cuts the stream of `key=value` lines into snapshots; `progress=` ends each.

    What does not look like progress is skipped: a line that cannot be read must not end a
    transcode that goes well.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._fields: dict[str, str] = {}

    def feed(self, data: bytes) -> list[Snapshot]:
        """Take the next bytes and return the snapshots that they complete."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > LINE_BYTES_MAX:
            self._rest = b""
        snapshots = []
        for line in lines:
            key, separator, value = line.decode("ascii", errors="replace").partition("=")
            if not separator:
                continue
            key, value = key.strip(), value.strip()
            if key == "progress":
                snapshots.append(_snapshot(self._fields, end=value == "end"))
                self._fields = {}
            elif key in _KEYS:
                self._fields[key] = value
        return snapshots


# `out_time_ms` is not read: it is in microseconds too, in every release, against its name.
_KEYS = frozenset({"frame", "out_time_us", "speed", "total_size"})


def _snapshot(fields: dict[str, str], *, end: bool) -> Snapshot:
    out_time_us = _integer(fields.get("out_time_us"))
    return Snapshot(
        frame=_integer(fields.get("frame")),
        out_time_s=None if out_time_us is None else out_time_us / 1_000_000,
        speed=_speed(fields.get("speed")),
        total_size=_integer(fields.get("total_size")),
        end=end,
    )


def _integer(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:  # "N/A"
        return None


def _speed(text: str | None) -> float | None:
    """Read `1.53x`; `N/A` and what is not a finite number are None."""
    try:
        speed = float(text.removesuffix("x")) if text is not None else math.nan
    except ValueError:
        return None
    return speed if math.isfinite(speed) else None
