"""The packet index, on ffprobe's lines as both releases write them."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.media.index import PacketIndex, PacketReader, frame_interval, grid_keyframes


def read(text: str, *, video: int = 0, size: int = 1 << 20) -> PacketIndex:
    reader = PacketReader(video)
    data = text.encode()
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
    return reader.finish()


# Release 5 ends a line that has side data with a bar and an empty line; release 8 has three flags.
PACKETS = """\
1|-0.023220|-0.023220|0.023220|371|KD|

0|0.000000|-0.080000|0.040000|2000|K_
0|0.080000|-0.040000|0.040000|200|__
0|0.040000|0.000000|0.040000|100|___
1|0.000000|0.000000|0.023220|371|K_
0|0.120000|0.080000|0.040000|900|K__
1|0.023220|0.023220|0.023220|371|K_
"""


@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_packets(size: int) -> None:
    """Pictures are counted and ordered as shown; other streams only leave their ends."""
    index = read(PACKETS, size=size)
    assert list(index.times) == [0.0, 0.04, 0.08, 0.12]
    assert list(index.keyframes) == [0.0, 0.12]
    assert index.end_s == pytest.approx(0.16)
    assert index.duration_s == pytest.approx(0.16)
    assert (index.frames, index.leading, index.empty, index.corrupt) == (4, 0, 0, 0)
    assert index.spans[1].packets == 2
    assert index.spans[1].first_s == 0.0
    assert index.end_of_all_s == pytest.approx(0.16)


@pytest.mark.parametrize(
    ("lines", "frames", "leading"),
    [
        (["0|0|0|1|9|KD", "0|1|1|1|9|__"], 1, 1),
        (["0|0|0|1|9|__", "0|1|1|1|9|__", "0|2|2|1|9|K_"], 3, 2),
        (["0|2|0|1|9|K_", "0|1|1|1|9|__", "0|3|2|1|9|__"], 3, 1),
        (["0|0|0|1|9|K_", "0|1|1|1|0|__", "0|2|2|1|9|__"], 2, 0),
        ([], 0, 0),
        (["nonsense", "0|x", "|||||", "x|1|1|1|1|K"], 0, 0),
    ],
)
def test_what_counts(lines: list[str], frames: int, leading: int) -> None:
    """Hidden and empty packets are no pictures; those before the first key frame are leading."""
    index = read("\n".join(lines))
    assert (index.frames, index.leading) == (frames, leading)


def test_times_that_are_missing() -> None:
    """Decoding times stand in for missing ones, and where both are missing the frame rate does."""
    index = read("0|N/A|0.0|0.04|9|K_\n0|N/A|0.04|0.04|9|__\n0|N/A|N/A|0.04|9|__")
    assert list(index.times) == pytest.approx([0.0, 0.04, 0.08])
    assert index.without_time == 3


def test_a_lone_picture_lasts() -> None:
    """One picture without a duration is shown for a moment and not for no time."""
    assert read("0|0.0|0.0|N/A|9|K_").duration_s > 0


def test_a_damaged_packet_is_known() -> None:
    """Release 8 marks what the container's reader found damaged."""
    assert read("0|0.0|0.0|0.04|9|K_C").corrupt == 1


def test_too_many_pictures_are_not_kept() -> None:
    """Memory is bounded, whatever a file claims."""
    reader = PacketReader(0, times_max=2)
    reader.feed(b"0|0|0|1|9|K_\n" * 5)
    assert (reader.finish().frames, reader.overflowed) == (2, True)


@pytest.mark.parametrize(
    ("times", "keyframes"),
    [
        ([0, 1, 2, 3, 4], [0, 2, 4]),
        ([0, 1.9999999, 3], [0, 1.9999999]),
        ([0, 1.99, 3], [0, 3]),
        ([0, 10, 11, 12], [0, 10, 12]),
        ([0.5, 1.5, 2.0, 2.5, 3], [0.5, 2.5]),
        ([7], [7]),
        ([], []),
    ],
)
def test_grid(times: list[float], keyframes: list[float]) -> None:
    """One key frame for each interval that has a picture; a gap is not made up for."""
    assert grid_keyframes(times, 2.0) == keyframes


@given(st.lists(st.integers(0, 3000), min_size=1, unique=True), st.sampled_from([1.0, 2.0, 5.0]))
def test_grid_covers_everything(ticks: list[int], grid_s: float) -> None:
    """No picture is further than an interval behind its key frame, and no two share an interval."""
    times = array("d", sorted(tick / 100 for tick in ticks))
    keys = grid_keyframes(times, grid_s)
    cells = [int((time - times[0]) / grid_s + 1e-5) for time in keys]
    assert len(set(cells)) == len(cells)
    for time in times:
        before = max(key for key in keys if key <= time)
        assert time - before < grid_s + 1e-4


@pytest.mark.parametrize(
    ("times", "crowded"),
    [
        ([0, 1, 2, 3, 4, 5], 0),
        ([0, 1, 2, 3, 3, 4, 4, 5], 2),
        ([0, 1, 2, 3, 3.5, 4.5, 5.5], 1),
        ([0, 1, 2, 30], 0),
        ([0], 0),
    ],
)
def test_crowded(times: list[float], crowded: int) -> None:
    """Pictures that overlap others in time are told from a regular stream and from pauses."""
    lines = [f"0|{time}|{time}|1|9|K_" for time in times]
    assert read("\n".join(lines)).crowded == crowded


def test_interval() -> None:
    """The usual distance, which a pause does not move."""
    assert frame_interval([0, 0.04, 0.08, 60.0, 60.04]) == pytest.approx(0.04)
    assert frame_interval([1.0]) is None
    assert frame_interval([1.0, 1.0]) is None
