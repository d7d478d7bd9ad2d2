"""What was made against what was promised: every fault is found, and none is invented."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pipeline.media import verify
from pipeline.media.index import PacketIndex
from pipeline.media.outputs import Output, OutputReader, OutputTrack
from pipeline.media.plan import Plan
from pipeline.media.probe import SourceInfo

MakeSource = Callable[..., SourceInfo]
MakeIndex = Callable[..., PacketIndex]
MakePlan = Callable[..., Plan]
SOUND = OutputTrack(
    index=1, codec="aac", channels=2, sample_rate=48_000, language="und", default=True, end_s=10.0
)


@pytest.fixture
def make_output(make_index: MakeIndex) -> Callable[..., Output]:
    def make(*, times: Any = None, keyframes: Any = None, **fields: Any) -> Output:
        return Output(
            **{
                "video_codec": "h264",
                "profile": "Main",
                "width": 640,
                "height": 360,
                "pixel_aspect": "1:1",
                "pixel_format": "yuv420p",
                "colour": ("tv", "smpte170m", "smpte170m", "smpte170m"),
                "rotated": False,
                "tracks": (SOUND,),
                "packets": make_index(times=times, keyframes=keyframes),
                **fields,
            }
        )

    return make


def times(count: int, *, shift: float = 0.0) -> list[float]:
    return [at / 25 + (shift if at > count // 2 else 0.0) for at in range(count)]


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({}, None),
        ({"pixel_aspect": "N/A"}, None),
        ({"tracks": (replace(SOUND, end_s=10.2),)}, None),
        ({"times": [at + 0.003 for at in times(250)]}, None),
        ({"video_codec": "hevc"}, "360p has no H.264 video"),
        ({"video_codec": None}, "360p has no H.264 video"),
        ({"width": 638}, "360p has size (638, 360), not (640, 360)"),
        ({"pixel_format": "yuv444p"}, "360p has pixel format yuv444p, not yuv420p"),
        ({"pixel_aspect": "4:3"}, "360p has pixel shape False, not True"),
        ({"rotated": True}, "360p has rotation True, not False"),
        ({"colour": ("pc", "", "", "")}, "360p has colour tags"),
        ({"times": []}, "360p has no pictures"),
        ({"times": times(250, shift=0.03)}, "frame 126 of 360p is shown 0.030 s away"),
        ({"keyframes": [0.0, 2.0, 3.0, 4.0, 6.0, 8.0]}, "key frames off the grid of 2 s: 6"),
        ({"keyframes": [0.0, 2.0, 4.0, 6.04, 8.0]}, "key frames off the grid of 2 s: 5"),
        ({"tracks": ()}, "360p has 0 audio tracks, not 1"),
        ({"tracks": (replace(SOUND, codec="mp3"),)}, "audio track 1 of 360p is mp3"),
        ({"tracks": (replace(SOUND, end_s=None),)}, "audio track 1 of 360p is empty"),
        ({"tracks": (replace(SOUND, end_s=9.0),)}, "ends at 9.00 s, not 10.00 s"),
        ({"tracks": (replace(SOUND, default=False),)}, "is not the default"),
    ],
)
def test_one_rendition(
    *,
    changes: dict[str, Any],
    fault: str | None,
    make_source: MakeSource,
    make_index: MakeIndex,
    make_output: Callable[..., Output],
    plan_of: MakePlan,
) -> None:
    """A faultless rendition has no fault, and each change has one that names it."""
    plan = plan_of()
    expected = verify.expect(make_source(), make_index(), plan)
    faults = verify.check_rendition(
        plan.renditions[0], plan, make_output(**changes), expected, grid_s=2.0
    )
    if fault is None:
        assert faults == []
    else:
        assert len(faults) == 1
        assert fault in faults[0]


@pytest.mark.parametrize(
    ("video", "index", "expected"),
    [
        ({}, {}, (250, 250, 250)),
        ({}, {"leading": 10}, (240, 250, 0)),
        ({}, {"without_time": 3}, (250, 250, 0)),
        ({"codec": "vp8"}, {}, (1, None, 0)),
        ({"codec": "mpeg4"}, {}, (1, None, 0)),
        ({"interlaced": True}, {}, (1, None, 0)),
    ],
)
def test_expectations(
    *,
    video: dict[str, Any],
    index: dict[str, Any],
    expected: tuple[int, int | None, int],
    make_source: MakeSource,
    make_index: MakeIndex,
    plan_of: MakePlan,
) -> None:
    """Where a packet is a picture, exactly so many; else only the ends are compared."""
    made = verify.expect(make_source(**video), make_index(**index), plan_of())
    assert (made.frames_min, made.frames_max, len(made.times)) == expected


def test_missing_pictures(
    make_source: MakeSource,
    make_index: MakeIndex,
    make_output: Callable[..., Output],
    plan_of: MakePlan,
) -> None:
    """The poorest rendition counts."""
    expected = verify.expect(make_source(), make_index(), plan_of())
    whole, short = make_output(), make_output(times=times(240))
    assert verify.missing_frames({"a": whole, "b": whole}, expected) == 0
    assert verify.missing_frames({"a": whole, "b": short}, expected) == 10
    assert verify.missing_frames({"a": whole, "b": short}, verify.relax(expected)) == 0


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ([{}, {}], None),
        ([{}, {"times": times(249)}], "b has 249 frames, but a has 250"),
        ([{}, {"keyframes": [0.0]}], "b has key frames at other times than a"),
        ([{"times": times(251)}], "a has 251 frames, and the source only 250"),
        ([], "there are no renditions"),
    ],
)
def test_agreement(
    *,
    changes: list[dict[str, Any]],
    fault: str | None,
    make_source: MakeSource,
    make_index: MakeIndex,
    make_output: Callable[..., Output],
    plan_of: MakePlan,
) -> None:
    """All renditions have the same pictures and key frames, and not more than the source."""
    expected = verify.expect(make_source(), make_index(), plan_of())
    outputs = {name: make_output(**change) for name, change in zip("abc", changes, strict=False)}
    assert verify.check_agreement(outputs, expected) == ([] if fault is None else [fault])


def test_the_first_picture_may_be_held(
    make_source: MakeSource,
    make_index: MakeIndex,
    make_output: Callable[..., Output],
    plan_of: MakePlan,
) -> None:
    """HLS shows the first picture from zero; all others keep their distances."""
    plan = plan_of(ladder="hls:640x360@800k")
    shown = [at / 25 + 0.5 for at in range(250)]
    expected = verify.expect(make_source(), make_index(times=shown), plan)
    held = make_output(times=[0.0, *shown[1:]], tracks=())
    faults = verify.check_rendition(plan.renditions[0], plan, held, expected, grid_s=2.0)
    assert faults == []


def test_where_times_do_not_tell(
    make_source: MakeSource,
    make_index: MakeIndex,
    make_output: Callable[..., Output],
    plan_of: MakePlan,
) -> None:
    """Pictures that cannot be compared one by one must fill the same time."""
    plan = plan_of()
    expected = verify.expect(make_source(codec="vp8"), make_index(), plan)
    fewer = make_output(times=[at / 20 for at in range(200)])
    shorter = make_output(times=times(200))
    check = verify.check_rendition
    assert check(plan.renditions[0], plan, fewer, expected, grid_s=2.0) == []
    assert check(plan.renditions[0], plan, shorter, expected, grid_s=2.0) == [
        "360p shows 8.00 s of video, not 10.00 s"
    ]


LINES = b"""\
packet|stream_index=0|pts_time=0.000000|dts_time=-0.080000|duration_time=0.040000|size=9|flags=K__
packet|stream_index=1|pts_time=0.000000|dts_time=0.000000|duration_time=0.021333|size=9|flags=K__|
packet|stream_index=0|pts_time=0.040000|dts_time=0.000000|duration_time=0.040000|size=9|flags=___
stream|index=0|codec_name=h264|profile=High|codec_type=video|width=640|height=360|\
sample_aspect_ratio=1:1|pix_fmt=yuv420p|color_range=tv|color_space=bt709|color_transfer=bt709|\
color_primaries=bt709|disposition:default=1|tag:language=und
stream|index=1|codec_name=aac|codec_type=audio|sample_rate=48000|channels=2|\
disposition:default=1|tag:language=eng
"""


@pytest.mark.parametrize("size", [1, 10, 10_000])
def test_reading_an_output(size: int) -> None:
    """One run of ffprobe tells packets and streams, in pieces of any size."""
    reader = OutputReader()
    for at in range(0, len(LINES), size):
        reader.feed(LINES[at : at + size])
    output = reader.finish()
    assert (output.video_codec, output.profile, output.width, output.height) == (
        *("h264", "High"),
        *(640, 360),
    )
    assert output.colour == ("tv", "bt709", "bt709", "bt709")
    assert not output.rotated
    assert list(output.packets.times) == [0.0, 0.04]
    (track,) = output.tracks
    assert (track.codec, track.language, track.default) == ("aac", "eng", True)
    assert track.end_s == pytest.approx(0.021333)
