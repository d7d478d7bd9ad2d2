"""Ladders: which renditions a task asks for, and what of it a given source can give.

A rung is a *box*, not a size: the picture keeps its shape and is made as large as fits. The box
turns with the picture, so that one ladder serves films and telephones held upright. The picture is
never enlarged. A rung larger than the source is given at the source's own size, and of several
rungs that then come to the same size only the one with the lowest bitrate is made: more bits for
the same picture would be spent on nothing. (The alternative, to drop every rung that is larger
than the source, leaves a 1000x562 source with nothing above 854x480.)

Pure: a ladder and a size in, renditions out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from pipeline.errors import BadRequest

SIDE_MIN = 2
"""Every side of a rendition is even, because its chroma has half the resolution."""
SIDE_MAX = 8192
VIDEO_BITRATE_MIN, VIDEO_BITRATE_MAX = 10_000, 400_000_000
AUDIO_BITRATE_MIN, AUDIO_BITRATE_MAX = 16_000, 512_000
RUNGS_MAX = 12
"""Every rung has an encoder of its own in one process, and each holds a second of pictures."""
TEXT_LENGTH_MAX = 1000


class Packaging(StrEnum):
    """How renditions are wrapped."""

    MP4 = "mp4"
    """One file a rendition, with its index at the front (faststart)."""
    HLS = "hls"
    """CMAF segments (fragmented MP4) with a playlist each, and a master playlist."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """A box that a rendition must fit into, and the bitrates in bits per second."""

    width: int
    height: int
    video_bitrate: int
    audio_bitrate: int = 128_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """What a task asks for, largest rung first."""

    name: str
    packaging: Packaging
    rungs: tuple[Rung, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """What is made of one rung: square pixels, even sides, bitrates in bits per second.

    Args:
        name: `720p` after the shorter side; `1278x720` where that name is taken.
    """

    name: str
    width: int
    height: int
    video_bitrate: int
    audio_bitrate: int


WEB_RUNGS = (
    Rung(width=1920, height=1080, video_bitrate=5_000_000),
    Rung(width=1280, height=720, video_bitrate=2_800_000),
    Rung(width=854, height=480, video_bitrate=1_400_000),
    Rung(width=640, height=360, video_bitrate=800_000),
)
PRESETS: Mapping[str, Ladder] = {
    "web": Ladder(name="web", packaging=Packaging.MP4, rungs=WEB_RUNGS),
    "hls": Ladder(name="hls", packaging=Packaging.HLS, rungs=WEB_RUNGS),
}

_EXAMPLE = "1280x720@2500k,640x360@800k"
_RUNG = re.compile(r"(\d{1,5})x(\d{1,5})@(\d{1,9}(?:\.\d{1,6})?)([kKmM]?)", re.ASCII)
_FACTORS = {"": 1, "k": 1_000, "m": 1_000_000}


def parse_ladder(text: str) -> Ladder:
    """Read what a person asks for.

    Args:
        text: A preset's name (`web`, `hls`), or `WIDTHxHEIGHT@BITRATE` once or more, separated by
            commas, with bitrates such as `800000`, `800k` or `2.5M`; `hls:` in front of such a
            list packages it as HLS, `mp4:` (or nothing) as MP4.

    Raises:
        BadRequest: It is none of these; the message says what would be right.
    """
    asked = text.strip()
    if asked in PRESETS:
        return PRESETS[asked]
    if len(asked) > TEXT_LENGTH_MAX:
        raise BadRequest(f"the ladder is longer than {TEXT_LENGTH_MAX} characters")
    prefix, colon, listed = asked.rpartition(":")
    if colon and prefix not in tuple(Packaging):
        raise BadRequest(
            f"packaging {prefix!r} is unknown: put 'hls:' or 'mp4:' before the list, or nothing"
        )
    packaging = Packaging(prefix) if colon else Packaging.MP4
    if "@" not in listed:
        names = " or ".join(f"'{name}'" for name in PRESETS)
        raise BadRequest(f"ladder {asked!r} is unknown: use {names}, or a list like '{_EXAMPLE}'")
    rungs = tuple(_parse_rung(item.strip()) for item in listed.split(","))
    return _checked(_describe(packaging, rungs), packaging, rungs)


def ladder_to_json(ladder: Ladder) -> dict[str, Any]:
    """Describe a ladder in JSON's types, to be read by `ladder_from_json`."""
    return {
        "name": ladder.name,
        "packaging": ladder.packaging.value,
        "rungs": [
            {
                "width": rung.width,
                "height": rung.height,
                "video_bitrate": rung.video_bitrate,
                "audio_bitrate": rung.audio_bitrate,
            }
            for rung in ladder.rungs
        ],
    }


def ladder_from_json(fields: Any) -> Ladder:
    """Read what `ladder_to_json` wrote, or what a client wrote in its place.

    Raises:
        BadRequest: Something is missing, of the wrong type, or out of range.
    """
    if not isinstance(fields, dict):
        raise BadRequest('a ladder is a JSON object with "name", "packaging" and "rungs"')
    if unknown := sorted(str(key) for key in fields.keys() - {"name", "packaging", "rungs"}):
        raise BadRequest(f'a ladder has no "{unknown[0]}", only "name", "packaging" and "rungs"')
    listed = fields.get("rungs")
    if not isinstance(listed, list):
        raise BadRequest('a ladder needs "rungs", a list of boxes')
    try:
        packaging = Packaging(fields.get("packaging", Packaging.MP4))
    except ValueError as error:
        raise BadRequest('a ladder\'s "packaging" is "mp4" or "hls"') from error
    rungs = tuple(_rung_from_json(rung) for rung in listed)
    checked = _checked(_describe(packaging, rungs), packaging, rungs)
    name = fields.get("name", checked.name)
    if not isinstance(name, str) or not 0 < len(name) <= TEXT_LENGTH_MAX:
        raise BadRequest('a ladder\'s "name" is a short text')
    return replace(checked, name=name)


def fit(ladder: Ladder, width: int, height: int) -> tuple[Rendition, ...]:
    """What a source of this size gives, largest first; never empty, never two of the same size.

    Args:
        width: Of the picture as it is meant to be seen, in square pixels, turned upright.
        height: The same.
    """
    by_size: dict[tuple[int, int], Rung] = {}
    for rung in ladder.rungs:
        size = _fit_box(rung, width, height)
        known = by_size.get(size)
        if known is None or rung.video_bitrate < known.video_bitrate:
            by_size[size] = rung
    renditions: list[Rendition] = []
    names: set[str] = set()
    for size in sorted(by_size, key=lambda size: (size[0] * size[1], size), reverse=True):
        name = f"{min(size)}p"
        if name in names:
            name = f"{size[0]}x{size[1]}"
        names.add(name)
        renditions.append(
            Rendition(
                name=name,
                width=size[0],
                height=size[1],
                video_bitrate=by_size[size].video_bitrate,
                audio_bitrate=by_size[size].audio_bitrate,
            )
        )
    return tuple(renditions)


def fit_inside(width: int, height: int, long_side: int, short_side: int) -> tuple[int, int]:
    """The largest even size of the picture's shape inside a box that turns with it."""
    box_width, box_height = long_side, short_side
    if height > width:
        box_width, box_height = short_side, long_side
    scale = min(1.0, box_width / width, box_height / height)
    return _even(width * scale, width), _even(height * scale, height)


def _fit_box(rung: Rung, width: int, height: int) -> tuple[int, int]:
    long_side, short_side = max(rung.width, rung.height), min(rung.width, rung.height)
    return fit_inside(width, height, long_side, short_side)


def _even(side: float, side_max: int) -> int:
    """The nearest even number, not above what the source has, and at least 2."""
    nearest = 2 * int(side / 2 + 0.5)
    return max(SIDE_MIN, min(nearest, side_max - side_max % 2))


def _parse_rung(item: str) -> Rung:
    match = _RUNG.fullmatch(item)
    if match is None:
        raise BadRequest(
            f"rung {item!r} is not WIDTHxHEIGHT@BITRATE: write a list like '{_EXAMPLE}'"
        )
    width, height, number, suffix = match.groups()
    return Rung(
        width=int(width),
        height=int(height),
        video_bitrate=round(float(number) * _FACTORS[suffix.lower()]),
    )


def _rung_from_json(fields: Any) -> Rung:
    if not isinstance(fields, dict):
        raise BadRequest('a rung is a JSON object with "width", "height" and "video_bitrate"')
    known = {"width", "height", "video_bitrate", "audio_bitrate"}
    if unknown := sorted(str(key) for key in fields.keys() - known):
        raise BadRequest(f'a rung has no "{unknown[0]}", only {", ".join(sorted(known))}')
    values = {"audio_bitrate": 128_000, **fields}
    for name in sorted(known):
        if type(values.get(name)) is not int:
            raise BadRequest(f'a rung needs "{name}" as a whole number')
    return Rung(**values)


def _checked(name: str, packaging: Packaging, rungs: tuple[Rung, ...]) -> Ladder:
    if not 0 < len(rungs) <= RUNGS_MAX:
        raise BadRequest(f"a ladder has 1 to {RUNGS_MAX} rungs, not {len(rungs)}")
    for rung in rungs:
        size = f"{rung.width}x{rung.height}"
        if not (16 <= rung.width <= SIDE_MAX and 16 <= rung.height <= SIDE_MAX):
            raise BadRequest(f"rung {size}: each side must be 16 to {SIDE_MAX} pixels")
        if not VIDEO_BITRATE_MIN <= rung.video_bitrate <= VIDEO_BITRATE_MAX:
            raise BadRequest(
                f"rung {size}: {rung.video_bitrate} bits per second of video is not between 10k "
                "and 400M; write 2500k or 2.5M for two and a half million"
            )
        if not AUDIO_BITRATE_MIN <= rung.audio_bitrate <= AUDIO_BITRATE_MAX:
            raise BadRequest(
                f"rung {size}: {rung.audio_bitrate} bits per second of audio is not between "
                "16k and 512k"
            )
    largest_first = sorted(
        rungs, key=lambda rung: (rung.width * rung.height, rung.video_bitrate), reverse=True
    )
    return Ladder(name=name, packaging=packaging, rungs=tuple(largest_first))


def _describe(packaging: Packaging, rungs: tuple[Rung, ...]) -> str:
    listed = ",".join(f"{rung.width}x{rung.height}@{_short(rung.video_bitrate)}" for rung in rungs)
    return f"{packaging.value}:{listed}" if packaging is Packaging.HLS else listed


def _short(bitrate: int) -> str:
    return f"{bitrate // 1000}k" if bitrate % 1000 == 0 else str(bitrate)
