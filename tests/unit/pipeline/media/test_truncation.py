"""Files that end too early, and those that only look like it."""

from __future__ import annotations

import io
import struct
from array import array

import pytest

from pipeline.media.index import PacketIndex, StreamSpan
from pipeline.media.layout import Layout, read_layout
from pipeline.media.probe import SourceInfo, VideoStream
from pipeline.media.truncation import describe_truncation


def box(name: bytes, payload: bytes = b"", *, length: int | None = None) -> bytes:
    return struct.pack(">I", len(payload) + 8 if length is None else length) + name + payload


FTYP, MOOV, MDAT = box(b"ftyp", b"isom"), box(b"moov", bytes(20)), box(b"mdat", bytes(50))
LARGE = struct.pack(">I4sQ", 1, b"mdat", 66) + bytes(50)
EBML = b"\x1a\x45\xdf\xa3\x82xx\x18\x53\x80\x67"


def riff(size: int, kind: bytes = b"AVI ") -> bytes:
    return b"RIFF" + struct.pack("<I", size) + kind


@pytest.mark.parametrize(
    ("data", "layout"),
    [
        (FTYP + MOOV + MDAT, ("mp4", 0, True)),
        (FTYP + MDAT + MOOV, ("mp4", 0, True)),
        (FTYP + MOOV + MDAT[:-10], ("mp4", 10, True)),
        (FTYP + MDAT[:-10], ("mp4", 10, False)),
        (FTYP + MOOV + LARGE, ("mp4", 0, True)),
        (FTYP + MOOV + LARGE[:-7], ("mp4", 7, True)),
        (FTYP + MOOV + box(b"mdat", bytes(9), length=0), ("mp4", 0, True)),
        (FTYP + MOOV + MDAT + bytes(30), ("mp4", 0, True)),
        (FTYP + MOOV + MDAT + b"\xff" * 30, ("mp4", 0, True)),
        (FTYP + MOOV + MDAT + b"abc", ("mp4", 0, True)),
        (EBML + b"\x85abcde", ("matroska", 0, True)),
        (EBML + b"\x85ab", ("matroska", 3, True)),
        (EBML + b"\x40\x05ab", ("matroska", 3, True)),
        (EBML + b"\xffab", None),
        (EBML + b"\x01\xff\xff\xff\xff\xff\xff\xffab", None),
        (EBML[:5], None),
        (riff(8) + b"data", ("avi", 0, True)),
        (riff(8) + b"data" + riff(8, b"AVIX") + b"dat", ("avi", 1, True)),
        (riff(100) + b"data", ("avi", 92, True)),
        (b"hello, world, this is a text", None),
        (b"", None),
        (b"\x00", None),
    ],
)
def test_layout(data: bytes, layout: tuple[str, int, bool] | None) -> None:
    """The outermost structure says how long the file should be, or nothing at all."""
    found = read_layout(io.BytesIO(data), len(data))
    told = None if found is None else (found.container, found.missing_bytes, found.has_index)
    assert told == layout


def source(
    *, frames: int | None = 750, duration_s: float | None = 30.0, format_name: str = "mov,mp4"
) -> SourceInfo:
    return SourceInfo(
        format_name=format_name,
        size=1000,
        duration_s=duration_s,
        duration_promised=duration_s is not None,
        video=VideoStream(
            index=0,
            codec="h264",
            width=640,
            height=360,
            display_width=640,
            display_height=360,
            frames_promised=frames,
            duration_s=duration_s if frames else None,
        ),
    )


def index(frames: int, *, others_end_s: float = 0.0) -> PacketIndex:
    times = array("d", [number / 25 for number in range(frames)])
    return PacketIndex(
        times=times,
        keyframes=times[:1],
        end_s=frames / 25,
        leading=0,
        without_time=0,
        empty=0,
        corrupt=0,
        spans={
            0: StreamSpan(packets=frames, first_s=0.0, end_s=frames / 25),
            1: StreamSpan(packets=1, first_s=0.0, end_s=others_end_s),
        },
    )


WHOLE = Layout(container="mp4", size=1000, declared_size=1000)
SHORT = Layout(container="mp4", size=1000, declared_size=1900)
CUT = "The source is cut short: "


@pytest.mark.parametrize(
    ("claimed", "found", "layout", "said_so", "sentence"),
    [
        (
            source(),
            index(406),
            SHORT,
            True,
            f"{CUT}its index promises 750 frames (30.0 s), but only 406 frames (16.2 s) can be "
            "read.",
        ),
        (
            source(frames=None, format_name="matroska,webm"),
            index(406),
            None,
            True,
            f"{CUT}its header promises 30.0 s, but only 406 frames (16.2 s) can be read.",
        ),
        (
            source(frames=None, format_name="flv"),
            index(406),
            None,
            False,
            f"{CUT}its header promises 30.0 s, but only 406 frames (16.2 s) can be read.",
        ),
        (
            source(frames=None, duration_s=None),
            index(1),
            SHORT,
            False,
            f"{CUT}900 of its 1900 bytes are missing at the end, and only 1 frame (0.0 s) can "
            "be read.",
        ),
        (
            source(frames=None, duration_s=None),
            index(25),
            None,
            True,
            f"{CUT}it ends in the middle of a packet, and only 25 frames (1.0 s) can be read.",
        ),
    ],
)
def test_cut_short(
    claimed: SourceInfo,
    found: PacketIndex,
    layout: Layout | None,
    said_so: bool,
    sentence: str,
) -> None:
    """The sentence says what was promised, as exactly as the container did, and what there is."""
    assert describe_truncation(claimed, found, layout, reader_said_so=said_so) == sentence


@pytest.mark.parametrize(
    ("claimed", "found", "layout"),
    [
        (source(), index(750), WHOLE),
        (source(), index(375), WHOLE),
        (source(), index(750), SHORT),
        (source(frames=None, format_name="matroska"), index(740), None),
        (source(frames=None, format_name="matroska"), index(500, others_end_s=29.9), None),
        (source(frames=None, duration_s=None), index(5), None),
        (source(frames=751, format_name="avi"), index(750), WHOLE),
    ],
    ids=["whole", "edited", "padded", "rounded", "longer_sound", "live", "avi_counts_one_more"],
)
def test_no_false_alarm(claimed: SourceInfo, found: PacketIndex, layout: Layout | None) -> None:
    """Edit lists, padding, rounding, longer sound and live recordings are no truncation."""
    assert describe_truncation(claimed, found, layout, reader_said_so=False) is None
