"""What a source says about itself: ffprobe's JSON as values that the rest can rely on.

A source's own description is a claim by whoever made the file. Fields are missing, absurd, or
written as text, so every one is read with a type and a range, and what does not hold is treated as
missing. Only what nothing can be done without (a video stream with a size) is demanded.

Nothing here decides what is made of it, except for one choice: which of several video streams is
*the* video. Cover art and stills are not; of the rest the one marked as default wins, then the
largest, then the first, as in ffmpeg's own choice.

Pure: ffprobe's output in, a `SourceInfo` or `SourceRejected` out.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from pipeline.errors import SourceRejected
from pipeline.media.limits import SourceLimits

SIDE_MIN = 16
"""Pictures with a shorter side are one block of a codec and no video."""
ASPECT_MAX = 16
"""A pixel that is said to be wider (or higher) than that many times its other side is a mistake."""
FRAME_RATE_MAX = 1000
TEXT_LENGTH_MAX = 200

INTERLACED_ORDERS = frozenset({"tt", "bb", "tb", "bt"})
HDR_TRANSFERS = frozenset({"smpte2084", "arib-std-b67"})
STILL_CODECS = frozenset({"png", "bmp", "gif", "webp", "tiff"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Colour:
    """How numbers become light, in ffmpeg's words; None where the source does not say.

    Args:
        space: The matrix between RGB and the coded components: `bt709`, `bt2020nc`, `gbr`, …
        primaries: `bt709`, `bt2020`, …
        transfer: `bt709`, `smpte2084` (PQ), `arib-std-b67` (HLG), …
        full_range: Components use the whole range, as in JPEG.
    """

    space: str | None = None
    primaries: str | None = None
    transfer: str | None = None
    full_range: bool = False

    @property
    def hdr(self) -> bool:
        """Made for displays that are brighter than BT.709 knows."""
        return self.transfer in HDR_TRANSFERS

    @property
    def wide(self) -> bool:
        """Of ordinary brightness, with BT.2020's colours."""
        return not self.hdr and (self.primaries == "bt2020" or (self.space or "")[:6] == "bt2020")


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoStream:
    """The video of a source.

    Args:
        width: As coded, in samples.
        height: As coded.
        display_width: As meant to be seen: in square pixels, and turned upright.
        display_height: The same.
        rotation: How far the picture is to be turned, in degrees.
        frame_rate: The mean over the file, as the container has it; None where unknown.
        frames_promised: How many pictures the container's index lists, where it has one.
        start_s: Time of the first picture on the file's clock.
        duration_s: As the container says.
        bit_depth: Of a component, 8 where unknown.
        dolby_vision_profile: 5 has no picture that anything but a Dolby decoder can show right.
    """

    index: int
    codec: str
    width: int
    height: int
    display_width: int
    display_height: int
    rotation: int = 0
    frame_rate: Fraction | None = None
    interlaced: bool = False
    pixel_format: str = "unknown"
    bit_depth: int = 8
    colour: Colour = field(default_factory=Colour)
    frames_promised: int | None = None
    start_s: float | None = None
    duration_s: float | None = None
    dolby_vision_profile: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioTrack:
    """One audio stream of a source.

    Args:
        language: ISO 639, as the source has it; `und` where it does not say.
        title: Of the track, bounded and free of control characters; empty where it has none.
    """

    index: int
    codec: str
    channels: int
    sample_rate: int
    language: str = "und"
    title: str = ""
    default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """A source as far as its headers tell.

    Args:
        format_name: ffmpeg's name for the container, such as `mov,mp4,m4a,3gp,3g2,mj2`.
        size: Of the file, in bytes.
        start_s: Where the file's clock begins; ffmpeg makes it the output's zero.
        duration_s: As the container says or ffprobe estimates; None where neither can.
        duration_promised: The duration is written in a header, so that what is missing can be
            told; false where ffprobe derived it from what it could read.
        left_out: What is not transcoded, by kind, with how many there are of it.
    """

    format_name: str
    size: int
    video: VideoStream
    audio: tuple[AudioTrack, ...] = ()
    start_s: float = 0.0
    duration_s: float | None = None
    duration_promised: bool = False
    left_out: Mapping[str, int] = field(default_factory=dict)


PROMISING_FORMATS = frozenset({"mov", "matroska", "webm", "avi", "flv", "asf", "mxf", "nut"})
"""Containers whose header holds the duration. Of the others ffprobe looks at the last packets."""


def parse_source(answer: bytes, *, size: int, limits: SourceLimits) -> SourceInfo:
    """Read what `ffprobe -show_format -show_streams -of json` wrote.

    Raises:
        SourceRejected: Not ffprobe's answer, no video in it, or above a limit.
    """
    fields = _parse_json(answer)
    streams = [stream for stream in _list(fields.get("streams")) if isinstance(stream, dict)]
    container = fields.get("format")
    container = container if isinstance(container, dict) else {}
    format_name = _text(container.get("format_name")) or "unknown"
    if len(streams) > limits.streams_max:
        raise SourceRejected(
            f"The source has {len(streams)} streams, and {limits.streams_max} is the limit.",
            code="too_many_streams",
        )
    chosen = _choose_video(streams, format_name)
    video = _parse_video(chosen, limits)
    duration_s = _positive(container.get("duration")) or video.duration_s
    if duration_s is not None and duration_s > limits.duration_max_s:
        raise SourceRejected(
            f"The source is {describe_duration(duration_s)} long, and "
            f"{describe_duration(limits.duration_max_s)} is the limit.",
            code="too_long",
        )
    return SourceInfo(
        format_name=format_name,
        size=size,
        video=video,
        audio=tuple(_parse_audio(stream) for stream in streams if _is_audio(stream)),
        start_s=_number(container.get("start_time")) or 0.0,
        duration_s=duration_s,
        duration_promised=not PROMISING_FORMATS.isdisjoint(format_name.split(",")),
        left_out=_count_left_out(streams, chosen),
    )


def describe_duration(seconds: float) -> str:
    """A length as people write it: `0.4 s`, `30.0 s`, `12 min 3 s`, `1 h 20 min`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _parse_json(answer: bytes) -> dict[str, Any]:
    try:
        fields = json.loads(answer)
    except (ValueError, RecursionError):
        fields = None
    if not isinstance(fields, dict):
        raise SourceRejected("The source is not a media file.", code="not_media")
    return fields


def _choose_video(streams: list[dict[str, Any]], format_name: str) -> dict[str, Any]:
    candidates = [stream for stream in streams if _is_video(stream)]
    if candidates:
        return max(
            candidates,
            key=lambda stream: (
                _disposition(stream, "default"),
                _pixels(stream),
                -(_integer(stream.get("index")) or 0),
            ),
        )
    held = []
    if tracks := [stream for stream in streams if _is_audio(stream)]:
        codecs = ", ".join(sorted({_text(track.get("codec_name")) or "?" for track in tracks}))
        held.append(f"audio ({codecs})")
    if any(_is_picture(stream) for stream in streams):
        held.append("cover art or a still picture")
    if any(_kind(stream) == "subtitle" for stream in streams):
        held.append("subtitles")
    what = " and ".join(held) if held else f"nothing that can be used ({format_name})"
    raise SourceRejected(f"The source has no video; it holds {what}.", code="no_video")


def _parse_video(stream: dict[str, Any], limits: SourceLimits) -> VideoStream:
    codec = _text(stream.get("codec_name")) or "unknown"
    if codec in ("unknown", "none"):
        tag = _text(stream.get("codec_tag_string")) or "no tag"
        raise SourceRejected(
            f"The video's codec is unknown here ({tag}), so it cannot be decoded.",
            code="unsupported_codec",
        )
    width, height = _integer(stream.get("width")) or 0, _integer(stream.get("height")) or 0
    if width <= 0 or height <= 0:
        raise SourceRejected(
            f"The video ({codec}) does not say how large its pictures are, "
            "and none of them can be decoded.",
            code="no_picture_size",
        )
    if width * height > limits.pixels_max:
        raise SourceRejected(
            f"The picture has {width}x{height} pixels, and {limits.pixels_max} "
            "pixels in all is the limit.",
            code="too_many_pixels",
        )
    if min(width, height) < SIDE_MIN:
        raise SourceRejected(
            f"The picture has {width}x{height} pixels; a side below {SIDE_MIN} cannot be encoded.",
            code="too_small",
        )
    rotation = _rotation(stream)
    display_width = max(1, round(width * _pixel_aspect(stream)))
    display_height = height
    if rotation % 180 == 90:
        display_width, display_height = display_height, display_width
    return VideoStream(
        index=_integer(stream.get("index")) or 0,
        codec=codec,
        width=width,
        height=height,
        display_width=display_width,
        display_height=display_height,
        rotation=rotation,
        frame_rate=_frame_rate(stream),
        interlaced=stream.get("field_order") in INTERLACED_ORDERS,
        pixel_format=_text(stream.get("pix_fmt")) or "unknown",
        bit_depth=_bit_depth(stream),
        colour=_colour(stream),
        frames_promised=_integer(stream.get("nb_frames")),
        start_s=_number(stream.get("start_time")),
        duration_s=_positive(stream.get("duration")),
        dolby_vision_profile=_dolby_vision_profile(stream),
    )


def _parse_audio(stream: dict[str, Any]) -> AudioTrack:
    return AudioTrack(
        index=_integer(stream.get("index")) or 0,
        codec=_text(stream.get("codec_name")) or "unknown",
        channels=_integer(stream.get("channels")) or 0,
        sample_rate=_integer(stream.get("sample_rate")) or 0,
        language=_language(_tag(stream, "language")),
        title=_tag(stream, "title") or "",
        default=_disposition(stream, "default"),
    )


def _count_left_out(streams: list[dict[str, Any]], chosen: dict[str, Any]) -> dict[str, int]:
    counts: Counter[str] = Counter()
    for stream in streams:
        if _is_picture(stream):
            counts["cover art"] += 1
        elif _kind(stream) == "video" and stream is not chosen:
            counts["video"] += 1
        elif _kind(stream) not in ("video", "audio"):
            counts[_kind(stream)] += 1
    return dict(sorted(counts.items()))


def _kind(stream: dict[str, Any]) -> str:
    return _text(stream.get("codec_type")) or "unknown"


def _is_picture(stream: dict[str, Any]) -> bool:
    """Cover art, a still, or a track of thumbnails: looks like video and is none."""
    if _kind(stream) != "video":
        return False
    marks = ("attached_pic", "still_image", "timed_thumbnails")
    return (
        any(_disposition(stream, mark) for mark in marks)
        or _text(stream.get("codec_name")) in STILL_CODECS
    )


def _is_video(stream: dict[str, Any]) -> bool:
    return _kind(stream) == "video" and not _is_picture(stream)


def _is_audio(stream: dict[str, Any]) -> bool:
    return _kind(stream) == "audio"


def _disposition(stream: dict[str, Any], mark: str) -> bool:
    marks = stream.get("disposition")
    return isinstance(marks, dict) and marks.get(mark) == 1


def _pixels(stream: dict[str, Any]) -> int:
    return (_integer(stream.get("width")) or 0) * (_integer(stream.get("height")) or 0)


def _side_data(stream: dict[str, Any], kind: str) -> dict[str, Any] | None:
    for item in _list(stream.get("side_data_list")):
        if isinstance(item, dict) and item.get("side_data_type") == kind:
            return item
    return None


def _rotation(stream: dict[str, Any]) -> int:
    """Degrees, a multiple of 90. Only the display matrix counts, since ffmpeg obeys only that."""
    matrix = _side_data(stream, "Display Matrix")
    angle = _number(matrix.get("rotation")) if matrix else None
    if angle is None:
        return 0
    return round(angle / 90) * 90 % 360 if abs(angle - round(angle / 90) * 90) < 1 else 0


def _pixel_aspect(stream: dict[str, Any]) -> Fraction:
    ratio = _ratio(stream.get("sample_aspect_ratio"), ":")
    if ratio is None or not Fraction(1, ASPECT_MAX) <= ratio <= ASPECT_MAX:
        return Fraction(1)
    return ratio


def _frame_rate(stream: dict[str, Any]) -> Fraction | None:
    for name in ("avg_frame_rate", "r_frame_rate"):
        rate = _ratio(stream.get(name), "/")
        if rate is not None and rate <= FRAME_RATE_MAX:
            return rate
    return None


def _bit_depth(stream: dict[str, Any]) -> int:
    told = _integer(stream.get("bits_per_raw_sample"))
    if told is not None and 1 <= told <= 16:
        return told
    name = _text(stream.get("pix_fmt")) or ""
    for depth in (10, 12, 14, 16, 9):
        if f"p{depth}" in name:
            return depth
    return 8


def _colour(stream: dict[str, Any]) -> Colour:
    def told(name: str) -> str | None:
        value = _text(stream.get(name))
        return None if value in (None, "unknown", "unspecified", "reserved") else value

    return Colour(
        space=told("color_space"),
        primaries=told("color_primaries"),
        transfer=told("color_transfer"),
        full_range=told("color_range") == "pc",
    )


def _dolby_vision_profile(stream: dict[str, Any]) -> int | None:
    record = _side_data(stream, "DOVI configuration record")
    return _integer(record.get("dv_profile")) if record else None


def _tag(stream: dict[str, Any], name: str) -> str | None:
    tags = stream.get("tags")
    return _text(tags.get(name)) if isinstance(tags, dict) else None


def _language(text: str | None) -> str:
    """ISO 639, perhaps with a region; what does not look like it is unknown."""
    if text is None or not 2 <= len(text) <= 12:
        return "und"
    return text if text.replace("-", "").isascii() and text.replace("-", "").isalnum() else "und"


def _text(value: Any) -> str | None:
    """A short text without control characters, or None."""
    if not isinstance(value, str):
        return None
    clean = "".join(letter if letter.isprintable() else " " for letter in value[:TEXT_LENGTH_MAX])
    return clean.strip() or None


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _integer(value: Any) -> int | None:
    """ffprobe writes some numbers as JSON numbers and some as texts; negative ones mean unknown."""
    number = _number(value)
    return int(number) if number is not None and 0 <= number < 2**53 else None


def _positive(value: Any) -> float | None:
    number = _number(value)
    return number if number is not None and number > 0 else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _ratio(value: Any, separator: str) -> Fraction | None:
    """Read `30000/1001` or `4:3`; zero and nonsense are None."""
    over, found, under = (value if isinstance(value, str) else "").partition(separator)
    numerator, denominator = _integer(over), _integer(under)
    if not found or not numerator or not denominator:
        return None
    return Fraction(numerator, denominator)
