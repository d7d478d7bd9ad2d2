"""Whose fault a line of ffmpeg's log is, as releases 5.1 and 8.1 write it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.media.complaints import Complaints, speakers_of
from pipeline.media.probe import AudioTrack, SourceInfo

MP3 = AudioTrack(index=1, codec="mp3", channels=2, sample_rate=44_100)


@pytest.fixture
def complaints(make_source: Callable[..., SourceInfo]) -> Complaints:
    return Complaints(speakers=speakers_of(make_source(tracks=[MP3])))


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("[h264 @ 0x55d5] [error] error while decoding MB 11 18, bytestream -7", 1),
        ("[mp3float @ 0x55d5] [error] overread, skip 5 enddists: -2 -2", 1),
        ("[matroska,webm @ 0x55d5] [error] Invalid EBML number size tag 0x10", 1),
        ("[in#0/matroska,webm @ 0x55d5] [error] Invalid EBML number", 1),
        ("[vist#0:0/h264 @ 0x1] [dec:h264 @ 0x2] [error] Decoding error: Invalid data", 1),
        ("[NULL @ 0x55d5] [error] missing picture in access unit with size 635", 1),
        ("[error] Error while decoding stream #0:0: Invalid data found", 1),
        ("[h264 @ 0x55d5] [fatal] no frame!", 1),
        ("[h264 @ 0x55d5] [warning] Increasing reorder buffer to 2", 0),
        ("[h264 @ 0x55d5] [error] mmco: unref short failure", 0),
        ("[h264 @ 0x55d5] [error] number of reference frames (0+5) exceeds max (4; …)", 0),
        ("[mp3float @ 0x55d5] [error] Header missing", 0),
        ("[matroska,webm @ 0x55d5] [error] File ended prematurely", 0),
        ("[libx264 @ 0x55d5] [error] broken ffmpeg default settings detected", 0),
        ("[tee @ 0x55d5] [error] Slave muxer #1 failed", 0),
        ("[mp4 @ 0x55d5] [error] Application provided invalid dts", 0),
        ("[out#0/tee @ 0x55d5] [error] Error muxing a packet", 0),
        ("[error] Conversion failed!", 0),
        ("frame=  12 fps=0.0", 0),
        ("", 0),
        ("[h264 @ 0x55d5] [error] ", 1),
    ],
)
def test_what_counts_as_damage(line: str, count: int, complaints: Complaints) -> None:
    """Errors of decoders and demuxers count; benign ones, warnings and our own side do not."""
    complaints.take(line)
    assert complaints.source_errors == count
    assert len(complaints.examples) == count


def test_repeats_count(complaints: Complaints) -> None:
    """ffmpeg folds equal lines; the fold counts for what it folds, and only for that."""
    complaints.take("[h264 @ 0x1] [error] cbp too large")
    complaints.take("    Last message repeated 5 times")
    complaints.take("[mp4 @ 0x1] [error] dts")
    complaints.take("    Last message repeated 9 times")
    assert complaints.source_errors == 6


@pytest.mark.parametrize(
    ("line", "attribute"),
    [
        ("[mov,mp4 @ 0x1] [error] stream 1, offset 0x1494ac: partial file", None),
        ("[matroska,webm @ 0x1] [error] File ended prematurely", "truncated"),
        ("[in#0/mov,mp4 @ 0x1] [error] stream 0, offset 0x1: partial file", "truncated"),
        ("[tee @ 0x1] [error] No space left on device", "disk_full"),
        ("[error] Error writing trailer of x: No space left on device", "disk_full"),
        ("[libx264 @ 0x1] [error] malloc of size 3110400 failed", "out_of_memory"),
        ("[h264 @ 0x1] [error] Cannot allocate memory", "out_of_memory"),
        ("[mp4 @ 0x1] [error] File too large", "file_too_large"),
    ],
)
def test_what_else_is_heard(line: str, attribute: str | None, complaints: Complaints) -> None:
    """Truncation and this machine's own troubles, each told apart."""
    complaints.take(line)
    flags = ("truncated", "disk_full", "out_of_memory", "file_too_large")
    assert [name for name in flags if getattr(complaints, name)] == [attribute] * bool(attribute)


def test_memory_is_bounded(complaints: Complaints) -> None:
    """A source that is damaged everywhere leaves a number and a few examples."""
    for number in range(10_000):
        complaints.take(f"[h264 @ 0x1] [error] error {number}")
    assert (complaints.source_errors, len(complaints.examples)) == (10_000, 5)
