"""Thumbnail sheets: how many small pictures, how large, on how many sheets, and the index of them.

A player that shows a picture while the pointer is on the time line reads a WebVTT file whose cues
point into a few large JPEGs (`sheet_001.jpg#xywh=160,90,160,90`). One file per thumbnail would be
thousands of objects in the store; one sheet for all would have to be loaded whole.

A cue covers an interval and shows the picture from its middle, so that the first one is not the
black frame that films begin with.

Pure: a duration and a size in, numbers and text out.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.media.ladder import fit_inside

CELL_LONG_SIDE, CELL_SHORT_SIDE = 160, 90
COLUMNS_MAX = ROWS_MAX = 10
INTERVALS_S = ((120.0, 1), (600.0, 2), (3600.0, 5), (4 * 3600.0, 10), (math.inf, 30))
"""Up to which duration, in seconds, how far apart: never more than 30 sheets in a day."""

POSTER_LONG_SIDE, POSTER_SHORT_SIDE = 1280, 720
POSTER_CANDIDATES = 10
POSTER_SPACING_MIN_S = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheets:
    """How the thumbnails of one video lie on their sheets.

    Args:
        interval_s: Length of a cue, in whole seconds.
        count: How many thumbnails there are on all sheets together.
        cell_width: Of a thumbnail, in pixels.
    """

    interval_s: int
    count: int
    columns: int
    rows: int
    cell_width: int
    cell_height: int

    @property
    def per_sheet(self) -> int:
        """How many thumbnails a sheet holds."""
        return self.columns * self.rows

    @property
    def sheets(self) -> int:
        """How many sheets that makes; the last one may be partly empty."""
        return math.ceil(self.count / self.per_sheet)


def plan_sheets(duration_s: float, width: int, height: int) -> Sheets:
    """Lay out the thumbnails of a video whose picture has this size."""
    interval_s = next(interval for limit, interval in INTERVALS_S if duration_s <= limit)
    count = max(1, math.ceil(duration_s / interval_s - 1e-3))
    columns = min(COLUMNS_MAX, count)
    cell_width, cell_height = fit_inside(width, height, CELL_LONG_SIDE, CELL_SHORT_SIDE)
    return Sheets(
        interval_s=interval_s,
        count=count,
        columns=columns,
        rows=min(ROWS_MAX, math.ceil(count / columns)),
        cell_width=cell_width,
        cell_height=cell_height,
    )


def poster_spacing_s(duration_s: float) -> float:
    """How far apart the candidates for the poster are taken, in seconds, to the millisecond."""
    return round(max(POSTER_SPACING_MIN_S, duration_s / POSTER_CANDIDATES), 3)


def choose_cells(sheets: Sheets, times_s: Sequence[float]) -> list[int]:
    """Which of the pictures that were picked stands in each cell.

    Picked were the first picture of the video, and the first one behind the middle of each cue.
    Where a cue has none, because nothing changed for so long or the video ended, what was last
    shown stands.

    Args:
        times_s: When each picked picture is shown, rising; not empty.

    Returns:
        For each cell the index of its picture.
    """
    chosen = []
    for number in range(sheets.count):
        middle_s = (number + 0.5) * sheets.interval_s
        first = bisect.bisect_left(times_s, middle_s - 0.001)
        is_there = first < len(times_s) and times_s[first] < middle_s + sheets.interval_s - 0.001
        chosen.append(first if is_there else max(0, first - 1))
    return chosen


def sheet_name(number: int) -> str:
    """The name of a sheet's file, counted from 1; ffmpeg's pattern for it is `SHEET_PATTERN`."""
    return f"sheet_{number:03d}.jpg"


SHEET_PATTERN = "sheet_%03d.jpg"


def write_vtt(sheets: Sheets, duration_s: float) -> str:
    """The WebVTT index; it lies beside the sheets, and the last cue ends with the video."""
    lines = ["WEBVTT", ""]
    for number in range(sheets.count):
        start_s = number * sheets.interval_s
        end_s = min(start_s + sheets.interval_s, duration_s)
        if number == sheets.count - 1:
            end_s = max(duration_s, start_s + 0.001)
        sheet, place = divmod(number, sheets.per_sheet)
        row, column = divmod(place, sheets.columns)
        box = (
            column * sheets.cell_width,
            row * sheets.cell_height,
            sheets.cell_width,
            sheets.cell_height,
        )
        lines += [
            f"{_clock(start_s)} --> {_clock(end_s)}",
            f"{sheet_name(sheet + 1)}#xywh={','.join(map(str, box))}",
            "",
        ]
    return "\n".join(lines)


def _clock(seconds: float) -> str:
    milliseconds = round(seconds * 1000)
    hours, rest = divmod(milliseconds, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    return f"{hours:02d}:{minutes:02d}:{rest // 1000:02d}.{rest % 1000:03d}"
