"""Sources and plans in one line, for the tests of what is decided and written."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from pipeline.media.config import TranscodeConfig
from pipeline.media.index import PacketIndex, StreamSpan, grid_keyframes
from pipeline.media.ladder import parse_ladder
from pipeline.media.plan import Plan, make_plan
from pipeline.media.probe import AudioTrack, SourceInfo, VideoStream

MakeSource = Callable[..., SourceInfo]
MakeIndex = Callable[..., PacketIndex]
MakePlan = Callable[..., Plan]


@pytest.fixture
def make_source() -> MakeSource:
    """`make_source(tracks=2, interlaced=True)`: 640x360 H.264 with that many stereo tracks."""

    def make(*, tracks: int | Sequence[AudioTrack] = 1, **video: Any) -> SourceInfo:
        width, height = video.pop("width", 640), video.pop("height", 360)
        if isinstance(tracks, int):
            tracks = [
                AudioTrack(index=number, codec="aac", channels=2, sample_rate=44_100)
                for number in range(1, tracks + 1)
            ]
        return SourceInfo(
            format_name="matroska,webm",
            size=1000,
            audio=tuple(tracks),
            video=VideoStream(
                **{
                    "index": 0,
                    "codec": "h264",
                    "width": width,
                    "height": height,
                    "display_width": width,
                    "display_height": height,
                    **video,
                }
            ),
        )

    return make


@pytest.fixture
def make_index() -> MakeIndex:
    """`make_index(times=[…])`: by default 10 s at 25 frames a second, with sound as long."""

    def make(
        *,
        times: Sequence[float] | None = None,
        keyframes: Sequence[float] | None = None,
        sound_ends_s: float = 10.0,
        **fields: Any,
    ) -> PacketIndex:
        shown = array("d", [at / 25 for at in range(250)] if times is None else times)
        sound = StreamSpan(packets=100, first_s=0.0, end_s=sound_ends_s)
        end_s = shown[-1] + 0.04 if shown else 0.0
        return PacketIndex(
            **{
                "times": shown,
                "keyframes": array(
                    "d", grid_keyframes(shown, 2.0) if keyframes is None else keyframes
                ),
                "end_s": end_s,
                "leading": 0,
                "without_time": 0,
                "empty": 0,
                "corrupt": 0,
                "spans": {
                    0: StreamSpan(packets=len(shown), first_s=0.0, end_s=end_s),
                    **dict.fromkeys(range(1, 12), sound),
                },
                **fields,
            }
        )

    return make


@pytest.fixture
def plan_of(make_source: MakeSource, make_index: MakeIndex) -> MakePlan:
    """`plan_of(source, "web")`: a plan on a build with every filter."""

    def make(
        source: SourceInfo | None = None,
        ladder: str = "640x360@800k,320x180@300k",
        *,
        index: PacketIndex | None = None,
        version: str = "5.1.9",
        filters: Sequence[str] = ("zscale", "tonemap", "colorspace"),
        config: TranscodeConfig | None = None,
    ) -> Plan:
        return make_plan(
            source or make_source(),
            index or make_index(),
            parse_ladder(ladder),
            config or TranscodeConfig(),
            version=version,
            filters=frozenset(filters),
        )

    return make
