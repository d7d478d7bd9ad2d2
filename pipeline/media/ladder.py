"""Ladders: which renditions a task asks for, and what of it a given source can give.

(Types fixed here; parsing and fitting are the media part's to write.)
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


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


def parse_ladder(text: str) -> Ladder:
    """`web`, `hls`, or `WIDTHxHEIGHT@BITRATE,…` (raises BadRequest)."""
    raise NotImplementedError


def ladder_from_json(fields: Any) -> Ladder:
    """The inverse of `ladder_to_json` (raises BadRequest)."""
    raise NotImplementedError


def ladder_to_json(ladder: Ladder) -> dict[str, Any]:
    raise NotImplementedError
