"""What is made of one source: every decision, as values, before a single argument is written.

The shapes of sources are met here: which audio tracks are kept and how, whether the picture is
interlaced, which colours it has and what is done about them. `arguments` only spells it out for
ffmpeg. Two modules, so that a decision can be read and tested without reading ffmpeg's language.

Pure: what the source is and what was asked for in, a `Plan` out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction

from pipeline.media.config import TranscodeConfig
from pipeline.media.index import PacketIndex, frame_interval
from pipeline.media.ladder import Ladder, Packaging, Rendition, fit
from pipeline.media.probe import AudioTrack, Colour, SourceInfo
from pipeline.media.thumbnails import Sheets, plan_sheets, poster_spacing_s

HD_HEIGHT = 720
FRAME_RATE_UNKNOWN = Fraction(25)
TITLE_LENGTH_MAX = 80


class Tone(StrEnum):
    """What is done about colours that an ordinary display does not have."""

    KEEP = "keep"
    """Nothing: the source is ordinary (SDR)."""
    WIDE = "wide"
    """BT.2020 primaries at ordinary brightness: converted to BT.709."""
    ZSCALE = "zscale"
    """HDR, tone-mapped in linear light by the filters zscale and tonemap."""
    SWSCALE = "swscale"
    """HDR, mapped by swscale's own colour management, which ffmpeg has from release 8 on."""
    UNTREATED = "untreated"
    """HDR that this build cannot map: the picture will look flat and grey."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tags:
    """The colour tags that the outputs carry; always all three, so that no player has to guess."""

    space: str
    primaries: str
    transfer: str


BT709 = Tags(space="bt709", primaries="bt709", transfer="bt709")
NTSC = Tags(space="smpte170m", primaries="smpte170m", transfer="smpte170m")
PAL = Tags(space="bt470bg", primaries="bt470bg", transfer="bt709")

_KNOWN_SPACES = {"bt709": BT709, "smpte170m": NTSC, "bt470bg": PAL}
_KNOWN_PRIMARIES = frozenset({"bt709", "bt470m", "bt470bg", "smpte170m", "smpte240m", "smpte432"})
_KNOWN_TRANSFERS = frozenset({"bt709", "smpte170m", "smpte240m", "iec61966-2-1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackPlan:
    """One audio track of every output: AAC, 48 kHz, stereo, or mono when the source is.

    Args:
        source_index: The stream in the source.
        name: `audio_1`, …: where it lies in HLS.
        default: Exactly one track of an output is.
    """

    source_index: int
    name: str
    channels: int
    language: str
    title: str
    default: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What is made of one source.

    Args:
        width, height: Of the largest rendition, to which unusual colours are converted once.
        frame_rate: The mean; the encoder only uses it to choose its level.
        hold_first_s: The first picture, which comes before this time, is shown from zero; None: it
            keeps its time. HLS players do not honour the gap, and would lose the synchronisation.
        poster_spacing_s: How far apart the candidates for the poster are.
        warnings: What is left out or cannot be done well, a sentence each.
    """

    packaging: Packaging
    renditions: tuple[Rendition, ...]
    tracks: tuple[TrackPlan, ...]
    video_index: int
    width: int
    height: int
    frame_rate: Fraction
    deinterlace: bool
    tone: Tone
    colour: Colour
    tags: Tags
    from_rgb: bool
    hold_first_s: float | None
    sheets: Sheets
    poster_spacing_s: float
    warnings: tuple[str, ...] = ()


def make_plan(
    source: SourceInfo,
    index: PacketIndex,
    ladder: Ladder,
    config: TranscodeConfig,
    *,
    version: str,
    filters: frozenset[str],
) -> Plan:
    """Decide everything.

    Args:
        version: Of ffmpeg, as it names itself.
        filters: That this build has.
    """
    video = source.video
    tone = choose_tone(video.colour, version=version, filters=filters)
    tracks, warnings = _choose_tracks(source, index, config)
    if tone is Tone.UNTREATED:
        warnings.append(
            "The source is HDR, and this ffmpeg cannot convert it to ordinary brightness: "
            "the renditions look flat; use one with zscale, or release 8."
        )
    if video.dolby_vision_profile == 5:
        warnings.append(
            "The source is Dolby Vision profile 5, which ffmpeg cannot show in its true colours."
        )
    renditions = fit(ladder, video.display_width, video.display_height)
    timeline_s = max(index.end_s - source.start_s, index.duration_s)
    return Plan(
        packaging=ladder.packaging,
        renditions=renditions,
        tracks=tracks,
        video_index=video.index,
        width=renditions[0].width,
        height=renditions[0].height,
        frame_rate=_frame_rate(source, index),
        deinterlace=video.interlaced,
        tone=tone,
        colour=video.colour,
        tags=choose_tags(source) if tone is Tone.KEEP else BT709,
        from_rgb=_is_rgb(video.pixel_format),
        hold_first_s=_hold_first_s(source, index) if ladder.packaging is Packaging.HLS else None,
        sheets=plan_sheets(timeline_s, renditions[0].width, renditions[0].height),
        poster_spacing_s=poster_spacing_s(timeline_s),
        warnings=tuple(warnings),
    )


def choose_tone(colour: Colour, *, version: str, filters: frozenset[str]) -> Tone:
    """What this build does about a source's colours."""
    if colour.wide:
        return Tone.WIDE if "colorspace" in filters else Tone.KEEP
    if not colour.hdr:
        return Tone.KEEP
    if {"zscale", "tonemap"} <= filters:
        return Tone.ZSCALE
    release = re.match(r"n?(\d+)\.", version)
    return Tone.SWSCALE if release and int(release[1]) >= 8 else Tone.UNTREATED


def choose_tags(source: SourceInfo) -> Tags:
    """The tags of an ordinary source; what it does not say is what players assume of its size.

    They must be written into every rendition: a player that sees a 360p rendition of an untagged
    1080p source assumes other colours for it than for the 1080p rendition.
    """
    video = source.video
    colour = video.colour
    if _is_rgb(video.pixel_format):
        return BT709
    assumed = _KNOWN_SPACES.get(colour.space or "")
    if assumed is None:
        is_hd = max(video.width, video.height) >= 1280 or min(video.width, video.height) >= 720
        assumed = BT709 if is_hd else PAL if video.height in (576, 288) else NTSC
    return Tags(
        space=assumed.space,
        primaries=colour.primaries
        if colour.primaries in _KNOWN_PRIMARIES and colour.primaries
        else assumed.primaries,
        transfer=colour.transfer
        if colour.transfer in _KNOWN_TRANSFERS and colour.transfer
        else assumed.transfer,
    )


def _choose_tracks(
    source: SourceInfo, index: PacketIndex, config: TranscodeConfig
) -> tuple[tuple[TrackPlan, ...], list[str]]:
    warnings: list[str] = []
    usable: list[AudioTrack] = []
    for number, track in enumerate(source.audio, start=1):
        span = index.spans.get(track.index)
        if track.codec == "unknown" or not track.channels or not track.sample_rate:
            warnings.append(f"Audio track {number} ({track.codec}) cannot be decoded: left out.")
        elif span is None or span.packets == 0:
            warnings.append(f"Audio track {number} ({track.codec}) is empty: left out.")
        else:
            usable.append(track)
    if len(usable) > config.audio_tracks_max:
        warnings.append(
            f"Of {len(usable)} audio tracks only the first {config.audio_tracks_max} are kept."
        )
        usable = usable[: config.audio_tracks_max]
    chosen = next((track for track in usable if track.default), usable[0] if usable else None)
    plans = tuple(
        TrackPlan(
            source_index=track.index,
            name=f"audio_{number}",
            channels=min(2, track.channels),
            language=track.language,
            title=track.title[:TITLE_LENGTH_MAX],
            default=track is chosen,
        )
        for number, track in enumerate(usable, start=1)
    )
    return plans, warnings


def _frame_rate(source: SourceInfo, index: PacketIndex) -> Fraction:
    """The mean over the packets, where they have times; the container's claim may be anything."""
    if index.frames > 1 and index.duration_s > 0:
        interval = frame_interval(index.times)
        claimed = source.video.frame_rate
        measured = Fraction(index.frames / index.duration_s).limit_denominator(1001)
        if claimed is not None and interval and abs(float(claimed) * interval - 1) < 0.01:
            return claimed
        return max(Fraction(1, 100), min(measured, Fraction(1000)))
    return source.video.frame_rate or FRAME_RATE_UNKNOWN


def _hold_first_s(source: SourceInfo, index: PacketIndex) -> float | None:
    """Half a second behind the first picture, unless that comes at zero anyway."""
    first_s = index.first_s - source.start_s
    return first_s + 0.5 if first_s > 0.001 else None


def _is_rgb(pixel_format: str) -> bool:
    return pixel_format.startswith(("rgb", "bgr", "gbr", "0rgb", "argb", "abgr", "pal8", "0bgr"))
