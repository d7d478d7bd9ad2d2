"""HLS playlists, thumbnail sheets, and the reasons for rejections: what is written for others."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SourceRejected, TranscodeFailed
from pipeline.media import hls
from pipeline.media.layout import Layout
from pipeline.media.limits import SourceLimits
from pipeline.media.process import Finished
from pipeline.media.rejection import explain_stopped, explain_unreadable, tidy_log
from pipeline.media.thumbnails import choose_cells, plan_sheets, poster_spacing_s, write_vtt

PLAYLIST = """\
#EXTM3U
#EXT-X-VERSION:7
#EXT-X-TARGETDURATION:4
#EXT-X-MAP:URI="init.mp4"
#EXTINF:4.000000,
segment_00000.m4s
#EXTINF:0.040000,
segment_00001.m4s
#EXT-X-ENDLIST
"""
SIZES = {"segment_00000.m4s": 500_000, "segment_00001.m4s": 50_000}


def test_media_playlist() -> None:
    """Init segment, segments and lengths are read; a short tail does not make the peak."""
    playlist = hls.parse_playlist(PLAYLIST)
    assert playlist.files == ["init.mp4", "segment_00000.m4s", "segment_00001.m4s"]
    bandwidth = hls.measure_bandwidth(playlist, SIZES)
    assert bandwidth.mean == round(8 * 550_000 / 4.04)
    assert bandwidth.peak == bandwidth.mean


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        PLAYLIST.replace("#EXT-X-ENDLIST\n", ""),
        PLAYLIST.replace('#EXT-X-MAP:URI="init.mp4"\n', ""),
        "#EXTM3U\n#EXT-X-ENDLIST\n",
    ],
)
def test_playlists_that_are_not_whole(text: str) -> None:
    """A playlist without a beginning, an init segment, a segment or an end is refused."""
    with pytest.raises(hls.BadPlaylist):
        hls.parse_playlist(text)


def test_codec_name() -> None:
    """Profile, constraints and level, as the configuration record has them."""
    assert hls.codec_of(b"....avcC\x01\x64\x00\x1f...") == "avc1.64001f"
    for broken in (b"", b"avcC", b"avcC\x01\x64"):
        with pytest.raises(hls.BadPlaylist):
            hls.codec_of(broken)


def track(title: str, language: str = "eng", *, default: bool = False) -> hls.AudioRendition:
    return hls.AudioRendition(
        uri="audio_1/playlist.m3u8",
        language=language,
        title=title,
        default=default,
        channels=2,
        bandwidth=hls.Bandwidth(peak=130, mean=100),
    )


VARIANT = hls.Variant(
    uri="720p/playlist.m3u8",
    codec="avc1.64001f",
    width=1280,
    height=720,
    frame_rate=Fraction(30000, 1001),
    bandwidth=hls.Bandwidth(peak=2000, mean=1000),
)


def test_master() -> None:
    """Bandwidths include one track of sound; names are unique and cannot end the attribute."""
    tracks = [track("", default=True), track(""), track('a "b",c'), track("", "und")]
    lines = hls.write_master([VARIANT], tracks).splitlines()
    assert lines[-2:] == [
        '#EXT-X-STREAM-INF:BANDWIDTH=2130,AVERAGE-BANDWIDTH=1100,CODECS="avc1.64001f,mp4a.40.2",'
        'RESOLUTION=1280x720,FRAME-RATE=29.970,AUDIO="audio"',
        "720p/playlist.m3u8",
    ]
    names = [line.partition('NAME="')[2].partition('"')[0] for line in lines if "NAME=" in line]
    assert names == ["eng", "eng (2)", "a b,c", "Audio 4"]
    assert [line.count("LANGUAGE") for line in lines if "NAME=" in line] == [1, 1, 1, 0]
    silent = hls.write_master([VARIANT], [])
    assert "AUDIO" not in silent
    assert 'CODECS="avc1.64001f"' in silent


@pytest.mark.parametrize(
    ("duration_s", "interval_s", "count", "grid", "sheets"),
    [
        (0.04, 1, 1, (1, 1), 1),
        (2.0, 1, 2, (2, 1), 1),
        (12.5, 1, 13, (10, 2), 1),
        (100.0, 1, 100, (10, 10), 1),
        (101.0, 1, 101, (10, 10), 2),
        (600.0, 2, 300, (10, 10), 3),
        (3600.0, 5, 720, (10, 10), 8),
        (86_400.0, 30, 2880, (10, 10), 29),
    ],
)
def test_sheets(
    duration_s: float, interval_s: int, count: int, grid: tuple[int, int], sheets: int
) -> None:
    """The interval grows with the duration, and a sheet holds ten by ten at most."""
    made = plan_sheets(duration_s, 1920, 1080)
    assert (made.interval_s, made.count, (made.columns, made.rows)) == (interval_s, count, grid)
    assert made.sheets == sheets
    assert (made.cell_width, made.cell_height) == (160, 90)


def test_upright_cells() -> None:
    """Thumbnails turn with the picture, and are not enlarged."""
    upright = plan_sheets(10.0, 1080, 1920)
    assert (upright.cell_width, upright.cell_height) == (90, 160)
    tiny = plan_sheets(10.0, 64, 48)
    assert (tiny.cell_width, tiny.cell_height) == (64, 48)


@given(st.floats(0.01, 90_000.0))
def test_cues_cover_the_video(duration_s: float) -> None:
    """Cues follow one another without a gap from zero to the end, each in a cell of its sheet."""
    sheets = plan_sheets(duration_s, 640, 360)
    blocks = write_vtt(sheets, duration_s).split("\n\n")
    assert blocks[0] == "WEBVTT"
    cues = [block.strip().splitlines() for block in blocks[1:]]
    assert len(cues) == sheets.count
    times = [cue[0].split(" --> ") for cue in cues]
    assert times[0][0] == "00:00:00.000"
    assert all(before[1] == after[0] for before, after in pairwise(times))
    places = {cue[1] for cue in cues}
    assert len(places) == sheets.count
    for place in places:
        left, top, width, height = map(int, place.partition("#xywh=")[2].split(","))
        assert left + width <= sheets.columns * sheets.cell_width
        assert top + height <= sheets.rows * sheets.cell_height


@pytest.mark.parametrize(("duration_s", "spacing_s"), [(0.04, 0.5), (5, 0.5), (100, 10)])
def test_poster_candidates(duration_s: float, spacing_s: float) -> None:
    """About ten over the whole video, and at most two in a second."""
    assert poster_spacing_s(duration_s) == spacing_s


@pytest.mark.parametrize(
    ("count", "times_s", "cells"),
    [
        (3, [0.0, 0.52, 1.52, 2.52], [1, 2, 3]),
        (3, [0.0, 0.5, 1.5], [1, 2, 2]),
        (3, [0.0], [0, 0, 0]),
        (1, [7.0], [0]),
        (3, [0.0, 2.6], [0, 0, 1]),
        (3, [0.0, 0.6, 1.0, 1.6], [1, 3, 3]),
    ],
    ids=["each", "end", "one", "late", "gap", "one_too_many"],
)
def test_cells(count: int, times_s: list[float], cells: list[int]) -> None:
    """Each cue shows what is seen in its middle, which may be what was seen long before."""
    sheets = replace(plan_sheets(1.0, 640, 360), count=count)
    assert choose_cells(sheets, times_s) == cells


def finished(log: str = "", *, code: int = 1, stopped_for: str | None = None) -> Finished:
    return Finished(
        returncode=code,
        stdout=b"",
        log=log,
        cpu_seconds=0.1,
        memory_peak_bytes=1,
        stopped_for=stopped_for,
    )


NO_INDEX = Layout(container="mp4", size=9, declared_size=9, has_index=False)
SHORT = Layout(container="matroska", size=10, declared_size=15)


@pytest.mark.parametrize(
    ("log", "layout", "code", "says"),
    [
        ("[error] x: Invalid data found", None, "not_media", "is not a media file"),
        ("[mov @ 0x1] [error] moov atom not found", NO_INDEX, "truncated", "the moov box"),
        ("[error] x: Invalid data found", SHORT, "truncated", "5 of its 15 bytes are missing"),
        (
            "[svg_pipe @ 0x1] [error] Format not on whitelist 'mov,mp4'",
            None,
            "unsupported_format",
            "ffmpeg takes it for 'svg'.",
        ),
        (
            "[magicyuv @ 0x1] [error] Codec (magicyuv) not on whitelist 'h264'",
            None,
            "unsupported_codec",
            "the codec 'magicyuv'",
        ),
        (
            "[mov @ 0x1] [error] Number of streams exceeds max_streams parameter (64), see\n"
            "[error] x: Cannot allocate memory",
            None,
            "too_many_streams",
            "more than 64 streams",
        ),
    ],
)
def test_unreadable(log: str, layout: Layout | None, code: str, says: str) -> None:
    """The cause is found in what ffprobe said and how the file is built."""
    error = explain_unreadable(finished(log), layout, SourceLimits())
    assert isinstance(error, SourceRejected)
    assert error.code == code
    assert says in error.message
    assert "mov,mp4" not in error.log_tail


@pytest.mark.parametrize(
    ("ended", "code"),
    [
        (finished(stopped_for="wall", code=-15), "time_limit"),
        (finished(stopped_for="stall", code=-15), "stalled"),
        (finished(stopped_for="output", code=-15), "output_limit"),
        (finished(code=-9), "killed"),
        (finished(code=-25), "output_limit"),
        (finished(code=-11), "killed"),
        (finished(code=1), None),
        (finished(code=0), None),
    ],
)
def test_stopped(ended: Finished, code: str | None) -> None:
    """Our own limits and signals come before anything the log says, and may pass."""
    error = explain_stopped(ended, "looking at the source")
    assert (None if error is None else error.code) == code
    assert error is None or (not error.permanent and "while looking at the source" in error.message)


def test_memory_is_not_the_sources_fault() -> None:
    """A probe that ran out of memory says nothing about the source for good."""
    error = explain_unreadable(finished("[error] Cannot allocate memory"), None, SourceLimits())
    assert isinstance(error, TranscodeFailed)
    assert error.code == "out_of_memory"


def test_logs_are_tidied() -> None:
    """Our own lists are left out, also where the log's beginning was cut inside one."""
    cut = f"{'abc,' * 100}def'\n[error] rest"
    assert tidy_log(cut) == "[error] rest"
    assert tidy_log("a not on whitelist 'b,c' d") == "a not on whitelist d"


@pytest.mark.parametrize(
    ("said", "tidied"),
    [
        ("[error] /data dir/5f/in/source: Invalid data", "[error] source: Invalid data"),
        (
            "[in#0 @ 0x5] Error opening input file /d/in/source.\nnext",
            "[in#0 @ 0x5] Error opening input file source.\nnext",
        ),
        ("open '/d/in/source'", "open 'source'"),
        ("[in#0/mov,mp4 @ 0x5] no source here", "[in#0/mov,mp4 @ 0x5] no source here"),
        ("/d/source.mp4: and /d/source/x", "/d/source.mp4: and /d/source/x"),
    ],
)
def test_logs_do_not_tell_where_the_work_was_done(said: str, tidied: str) -> None:
    """A workspace is gone when its log is read, and its place is nobody's business."""
    assert tidy_log(said) == tidied
