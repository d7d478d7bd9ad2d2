"""Limits: the numbers that follow from a source, and the options that guard its opening."""

from __future__ import annotations

import pytest

from pipeline.media.limits import (
    GIBIBYTE,
    MEBIBYTE,
    SourceLimits,
    as_arguments,
    input_guard,
    inspecting,
    transcoding,
)

POINTING_FORMATS = {
    *("hls", "applehttp", "dash", "concat", "webm_dash_manifest", "sdp", "rtsp", "rtp", "sap"),
    *("image2", "image2pipe", "svg_pipe", "xbin", "tty", "bin", "adf", "idf", "lavfi", "imf"),
    *("rawvideo", "vobsub", "data", "ffmetadata", "tedcaptions", "subviewer", "srt", "ass"),
}
TEXT_DECODERS = {"ansi", "xbin", "bintext", "idf", "librsvg", "magicyuv"}


def test_the_guard_allows_files_only() -> None:
    """No protocol reaches the network, another file or bytes in the name."""
    assert input_guard(SourceLimits())["protocol_whitelist"] == "file"


def test_the_guard_names_no_format_that_points_elsewhere() -> None:
    """Playlists, patterns, session descriptions and formats made of text cannot be opened."""
    allowed = set(input_guard(SourceLimits())["format_whitelist"].split(","))
    assert not allowed & POINTING_FORMATS
    assert {"mov", "mp4", "matroska", "webm", "mpegts", "avi", "mp3"} <= allowed


def test_the_guard_names_no_decoder_that_renders_text() -> None:
    """Decoders are those that containers carry in practice."""
    allowed = set(input_guard(SourceLimits())["codec_whitelist"].split(","))
    assert not allowed & TEXT_DECODERS
    assert {"h264", "hevc", "vp9", "libdav1d", "aac", "pcm_s16le", "mov_text"} <= allowed


def test_the_guard_carries_the_limits() -> None:
    """Pixels and streams of the configuration are what ffmpeg is told."""
    guard = input_guard(SourceLimits(pixels_max=1000, streams_max=3))
    assert (guard["max_pixels"], guard["max_streams"]) == ("1000", "3")


def test_arguments() -> None:
    """Options become pairs of words, in their order."""
    assert as_arguments({"a": "1", "b": "x,y"}) == ["-a", "1", "-b", "x,y"]
    assert as_arguments({}) == []


@pytest.mark.parametrize(
    ("duration_s", "bitrate", "wall_s", "file_bytes"),
    [
        (0.0, 5_000_000, 600.0, 64 * MEBIBYTE),
        (1.0, 8_000_000, 660.0, 64 * MEBIBYTE + 2_000_000),
        (3600.0, 8_000_000, 216_600.0, 64 * MEBIBYTE + 7_200_000_000),
        (86_400.0, 80_000_000, 5_184_600.0, 64 * GIBIBYTE),
    ],
)
def test_a_transcode_is_bounded_by_its_source(
    duration_s: float, bitrate: int, wall_s: float, file_bytes: int
) -> None:
    """Time and file size follow from the source's duration, and end at what is allowed at all."""
    limits = transcoding(SourceLimits(), duration_s=duration_s, bitrate=bitrate)
    assert (limits.wall_s, limits.file_bytes) == (wall_s, file_bytes)
    assert (limits.memory_bytes, limits.stall_s) == (4 * GIBIBYTE, 120.0)


def test_an_inspection_writes_nothing() -> None:
    """Looking at a source is bounded in time and memory, and can fill no disk."""
    limits = inspecting(SourceLimits(inspect_wall_s=7.0, memory_bytes=GIBIBYTE))
    assert (limits.wall_s, limits.memory_bytes, limits.file_bytes) == (7.0, GIBIBYTE, 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [("pixels_max", 0), ("duration_max_s", -1.0), ("streams_max", 0), ("memory_bytes", MEBIBYTE)],
)
def test_limits_that_allow_nothing_are_refused(name: str, value: float) -> None:
    """A limit that could not be meant is named."""
    with pytest.raises(ValueError, match=name):
        SourceLimits(**{name: value})  # type: ignore[arg-type]  # the values are of both kinds
