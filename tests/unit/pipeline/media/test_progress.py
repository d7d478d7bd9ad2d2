"""ProgressParser: ffmpeg's report, whole or in pieces."""

from __future__ import annotations

import pytest

from pipeline.media.progress import LINE_BYTES_MAX, ProgressParser, Snapshot

# Taken from ffmpeg 5.1.9, two blocks; `out_time_ms` repeats the microseconds.
REPORT = b"""frame=12
fps=0.00
stream_0_0_q=28.0
bitrate=  12.9kbits/s
total_size=786
out_time_us=485333
out_time_ms=485333
out_time=00:00:00.485333
dup_frames=0
drop_frames=0
speed=0.97x
progress=continue
frame=25
fps=24.5
stream_0_0_q=-1.0
bitrate= 701.2kbits/s
total_size=87656
out_time_us=1021678
out_time_ms=1021678
out_time=00:00:01.021678
dup_frames=0
drop_frames=0
speed= 232x
progress=end
"""
SNAPSHOTS = [
    Snapshot(frame=12, out_time_s=0.485333, speed=0.97, total_size=786),
    Snapshot(frame=25, out_time_s=1.021678, speed=232.0, total_size=87656, end=True),
]


def test_a_whole_report_is_read() -> None:
    """Every block gives one snapshot, in seconds and bytes, and the last says that it is."""
    assert ProgressParser().feed(REPORT) == SNAPSHOTS


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 1000])
def test_pieces_make_no_difference(size: int) -> None:
    """Snapshots do not depend on where the pipe cuts the report."""
    parser = ProgressParser()
    pieces = [REPORT[start : start + size] for start in range(0, len(REPORT), size)]
    assert [snapshot for piece in pieces for snapshot in parser.feed(piece)] == SNAPSHOTS


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"progress=continue\n", Snapshot()),
        (b"frame=0\nout_time_us=N/A\nspeed=N/A\ntotal_size=N/A\nprogress=end\n",
         Snapshot(frame=0, end=True)),
        (b"out_time_us=-40000\nprogress=continue\n", Snapshot(out_time_s=-0.04)),
        (b"out_time_ms=1000000\nprogress=continue\n", Snapshot()),
        (b"frame=12\r\nprogress=continue\r\n", Snapshot(frame=12)),
        (b"frame=twelve\nspeed=infx\nprogress=continue\n", Snapshot()),
        (b"speed=nanx\nprogress=continue\n", Snapshot()),
        (b"speed=1.1e+03x\nprogress=continue\n", Snapshot(speed=1100.0)),
        (b"noise without a sign\nframe=3\n\xff\xfe=1\nprogress=continue\n", Snapshot(frame=3)),
        (b"frame=1\nframe=2\nprogress=continue\n", Snapshot(frame=2)),
    ],
)  # fmt: skip
def test_one_block(block: bytes, expected: Snapshot) -> None:
    """What ffmpeg does not know is None, and what is not progress is skipped."""
    assert ProgressParser().feed(block) == [expected]


def test_a_block_forgets_the_one_before() -> None:
    """A value that is missing from a block is unknown, not that of the block before."""
    parser = ProgressParser()
    parser.feed(b"frame=5\nprogress=continue\n")
    assert parser.feed(b"total_size=7\nprogress=continue\n") == [Snapshot(total_size=7)]


def test_a_line_without_end_is_dropped() -> None:
    """A flood without a newline costs no memory, and the report after it is read."""
    parser = ProgressParser()
    for _ in range(100):
        assert parser.feed(b"x" * LINE_BYTES_MAX) == []
    assert parser.feed(b"\nframe=5\nprogress=end\n") == [Snapshot(frame=5, end=True)]
