"""ffprobe's answer: what is read from a good one, and that no bad one does harm."""

from __future__ import annotations

import json
from contextlib import suppress
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SourceRejected
from pipeline.media.limits import SourceLimits
from pipeline.media.probe import SourceInfo, describe_duration, parse_source

LIMITS = SourceLimits()
VIDEO: dict[str, Any] = {
    "index": 0,
    "codec_type": "video",
    "codec_name": "h264",
    "width": 1920,
    "height": 1080,
    "sample_aspect_ratio": "1:1",
    "pix_fmt": "yuv420p",
    "avg_frame_rate": "30000/1001",
    "r_frame_rate": "30000/1001",
    "nb_frames": "300",
    "duration": "10.01",
    "start_time": "0.000000",
    "disposition": {"default": 1, "attached_pic": 0},
}
AUDIO: dict[str, Any] = {
    "index": 1,
    "codec_type": "audio",
    "codec_name": "aac",
    "channels": 6,
    "sample_rate": "48000",
    "disposition": {"default": 1},
    "tags": {"language": "deu", "title": "Kommentar\x1b[31m"},
}
COVER = VIDEO | {"index": 2, "codec_name": "mjpeg", "disposition": {"attached_pic": 1}}
FORMAT = {"format_name": "mov,mp4,m4a,3gp,3g2,mj2", "duration": "10.01", "start_time": "0.5"}


def parse(*streams: Any, container: Any = FORMAT, limits: SourceLimits = LIMITS) -> SourceInfo:
    answer = json.dumps({"streams": streams, "format": container}).encode()
    return parse_source(answer, size=1000, limits=limits)


def test_a_good_answer() -> None:
    """Everything that is decided on later is read, with its type."""
    source = parse(VIDEO, AUDIO, COVER, {"index": 3, "codec_type": "data"})
    assert source.video.frame_rate == Fraction(30000, 1001)
    assert (source.video.frames_promised, source.video.duration_s) == (300, 10.01)
    assert (source.start_s, source.duration_s, source.duration_promised) == (0.5, 10.01, True)
    (track,) = source.audio
    assert (track.channels, track.sample_rate, track.language) == (6, 48_000, "deu")
    assert track.title == "Kommentar [31m"
    assert track.default
    assert source.left_out == {"cover art": 1, "data": 1}


def rotated(angle: Any) -> dict[str, Any]:
    return {"side_data_list": [{"side_data_type": "Display Matrix", "rotation": angle}]}


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({}, (1920, 1080)),
        (rotated(-90), (1080, 1920)),
        (rotated(90), (1080, 1920)),
        (rotated(180), (1920, 1080)),
        (rotated(-90.4), (1080, 1920)),
        (rotated(45), (1920, 1080)),
        (rotated("nonsense"), (1920, 1080)),
        ({"side_data_list": "nonsense"}, (1920, 1080)),
        ({"tags": {"rotate": "90"}}, (1920, 1080)),
        ({"width": 1440, "sample_aspect_ratio": "4:3"}, (1920, 1080)),
        ({"width": 720, "height": 576, "sample_aspect_ratio": "16:15"}, (768, 576)),
        ({"sample_aspect_ratio": "0:1"}, (1920, 1080)),
        ({"sample_aspect_ratio": "1:1000"}, (1920, 1080)),
        ({"sample_aspect_ratio": 7}, (1920, 1080)),
        ({"width": 1440, "sample_aspect_ratio": "4:3", **rotated(270)}, (1080, 1920)),
    ],
)
def test_display_size(fields: dict[str, Any], size: tuple[int, int]) -> None:
    """The size is what is meant to be seen: pixels made square first, then turned upright."""
    video = parse(VIDEO | fields).video
    assert (video.display_width, video.display_height) == size


@pytest.mark.parametrize(
    ("name", "value", "attribute", "expected"),
    [
        ("field_order", "tt", "interlaced", True),
        ("field_order", "progressive", "interlaced", False),
        ("bits_per_raw_sample", "10", "bit_depth", 10),
        ("pix_fmt", "yuv420p12le", "bit_depth", 12),
        ("pix_fmt", None, "pixel_format", "unknown"),
        ("nb_frames", "N/A", "frames_promised", None),
        ("nb_frames", -5, "frames_promised", None),
        ("duration", "inf", "duration_s", None),
        ("duration", "1e999", "duration_s", None),
        ("avg_frame_rate", "0/0", "frame_rate", Fraction(30000, 1001)),
        ("avg_frame_rate", "90000/1", "frame_rate", Fraction(30000, 1001)),
    ],
)
def test_fields(name: str, value: Any, attribute: str, expected: Any) -> None:
    """A field is read from a number or a text; what is absurd counts as missing."""
    assert getattr(parse(VIDEO | {name: value}).video, attribute) == expected


@pytest.mark.parametrize(
    ("colour", "hdr", "wide"),
    [
        ({"color_transfer": "smpte2084", "color_primaries": "bt2020"}, True, False),
        ({"color_transfer": "arib-std-b67"}, True, False),
        ({"color_transfer": "bt2020-10", "color_primaries": "bt2020"}, False, True),
        ({"color_space": "bt2020nc"}, False, True),
        ({"color_transfer": "bt709", "color_primaries": "bt709"}, False, False),
        ({"color_transfer": "unknown"}, False, False),
    ],
)
def test_colour(colour: dict[str, str], hdr: bool, wide: bool) -> None:
    """HDR is told by the transfer, wide colour by primaries or matrix."""
    found = parse(VIDEO | colour).video.colour
    assert (found.hdr, found.wide) == (hdr, wide)


def test_the_video_is_chosen() -> None:
    """Default beats large, large beats first; cover art and stills are none."""
    small = VIDEO | {"index": 4, "width": 640, "height": 360, "disposition": {"default": 1}}
    large = VIDEO | {"index": 5, "disposition": {"default": 0}}
    larger = VIDEO | {"index": 6, "width": 3840, "disposition": {}}
    still = VIDEO | {"index": 7, "codec_name": "png"}
    assert parse(COVER, small, large).video.index == 4
    assert parse(COVER, large, larger).video.index == 6
    assert parse(still, large).video.index == 5
    assert parse(small, large).left_out == {"video": 1}


@pytest.mark.parametrize(
    ("streams", "code", "says"),
    [
        ([AUDIO], "no_video", "it holds audio (aac)."),
        ([AUDIO, COVER], "no_video", "it holds audio (aac) and cover art or a still picture."),
        ([{"codec_type": "subtitle"}], "no_video", "it holds subtitles."),
        ([], "no_video", "it holds nothing that can be used"),
        (["nonsense", 5, None], "no_video", "it holds nothing"),
        ([VIDEO | {"codec_name": None}], "unsupported_codec", "codec is unknown here (no tag)"),
        ([VIDEO | {"width": 0}], "no_picture_size", "does not say how large"),
        ([VIDEO | {"width": 99_999, "height": 99_999}], "too_many_pixels", "99999x99999 pixels"),
        ([VIDEO | {"height": 8}], "too_small", "1920x8 pixels"),
        ([VIDEO] * 65, "too_many_streams", "65 streams, and 64 is the limit"),
    ],
)
def test_rejections(streams: list[Any], code: str, says: str) -> None:
    """What cannot be transcoded is refused with a stable code and one sentence."""
    with pytest.raises(SourceRejected) as caught:
        parse(*streams)
    assert caught.value.code == code
    assert says in caught.value.message
    assert caught.value.message.endswith(".")


def test_too_long() -> None:
    """A duration above the limit is refused, though it is only a claim: it costs time to check."""
    with pytest.raises(SourceRejected) as caught:
        parse(VIDEO, container=FORMAT | {"duration": "200000"})
    assert caught.value.code == "too_long"
    assert "55 h 33 min" in caught.value.message


@pytest.mark.parametrize("answer", [b"", b"{", b"[]", b"null", b"[" * 100_000])
def test_no_answer_at_all(answer: bytes) -> None:
    """What is not a JSON object is no media file."""
    with pytest.raises(SourceRejected) as caught:
        parse_source(answer, size=1, limits=LIMITS)
    assert caught.value.code == "not_media"


VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["1/0", "4:3", "-1", "nan", "30000/1001", "9" * 400]),
    st.lists(st.dictionaries(st.text(max_size=5), st.integers(), max_size=2), max_size=2),
)


@given(st.dictionaries(st.sampled_from(sorted({*VIDEO, *AUDIO, "side_data_list"})), VALUES))
def test_nothing_crashes_it(fields: dict[str, Any]) -> None:
    """Whatever a field holds, the answer is a source with sane numbers, or a rejection."""
    with suppress(SourceRejected):
        source = parse(VIDEO | fields, AUDIO | fields)
        assert source.video.display_width > 0
        assert source.video.display_height > 0
        assert source.video.index >= 0


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (30, "30.0 s"),
        (723, "12 min 3 s"),
        (4800, "80 min 0 s"),
        (7260, "2 h 1 min"),
    ],
)
def test_durations_for_people(seconds: float, text: str) -> None:
    """Short ones in seconds, long ones without."""
    assert describe_duration(seconds) == text
