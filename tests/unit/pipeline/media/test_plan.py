"""What is decided for each shape of source."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest

from pipeline.media.config import TranscodeConfig
from pipeline.media.index import PacketIndex, StreamSpan
from pipeline.media.plan import BT709, NTSC, PAL, Plan, Tags, Tone, choose_tags, choose_tone
from pipeline.media.probe import AudioTrack, Colour, SourceInfo

MakeSource = Callable[..., SourceInfo]
MakeIndex = Callable[..., PacketIndex]
MakePlan = Callable[..., Plan]

PQ = Colour(transfer="smpte2084", primaries="bt2020", space="bt2020nc")
HLG = Colour(transfer="arib-std-b67")
WIDE = Colour(primaries="bt2020")
FULL = ("zscale", "tonemap", "colorspace")
WHEEL = ("tonemap", "colorspace")


@pytest.mark.parametrize(
    ("colour", "version", "filters", "tone"),
    [
        (Colour(), "5.1.9", FULL, Tone.KEEP),
        (Colour(transfer="bt709"), "n8.1.2", WHEEL, Tone.KEEP),
        (PQ, "5.1.9-0+deb12u1", FULL, Tone.ZSCALE),
        (HLG, "n8.1.2", FULL, Tone.ZSCALE),
        (PQ, "n8.1.2", WHEEL, Tone.SWSCALE),
        (HLG, "10.0", WHEEL, Tone.SWSCALE),
        (PQ, "7.1", WHEEL, Tone.UNTREATED),
        (PQ, "N-12345-gabcdef", WHEEL, Tone.UNTREATED),
        (WIDE, "5.1.9", FULL, Tone.WIDE),
        (WIDE, "5.1.9", (), Tone.KEEP),
    ],
)
def test_tone(colour: Colour, version: str, filters: tuple[str, ...], tone: Tone) -> None:
    """HDR is mapped by the best means of the build; ordinary colours are left alone."""
    assert choose_tone(colour, version=version, filters=frozenset(filters)) is tone


def test_hdr_that_cannot_be_mapped_is_said(make_source: MakeSource, plan_of: MakePlan) -> None:
    """A build that can do nothing about HDR goes on, with a warning on the task."""
    plan = plan_of(make_source(colour=PQ), version="6.0", filters=())
    assert plan.tone is Tone.UNTREATED
    assert "the renditions look flat" in plan.warnings[0]
    assert "Dolby Vision" in plan_of(make_source(dolby_vision_profile=5)).warnings[0]


@pytest.mark.parametrize(
    ("video", "tags"),
    [
        ({"width": 1920, "height": 1080}, BT709),
        ({"width": 1280, "height": 534}, BT709),
        ({"width": 720, "height": 480}, NTSC),
        ({"width": 720, "height": 576}, PAL),
        ({"colour": Colour(space="bt709")}, BT709),
        ({"width": 1920, "height": 1080, "colour": Colour(space="smpte170m")}, NTSC),
        ({"colour": Colour(space="bt709", primaries="nonsense", transfer="nonsense")}, BT709),
        (
            {"colour": Colour(space="bt709", primaries="smpte432", transfer="iec61966-2-1")},
            Tags(space="bt709", primaries="smpte432", transfer="iec61966-2-1"),
        ),
        ({"pixel_format": "gbrp", "colour": Colour(space="gbr")}, BT709),
    ],
)
def test_tags(video: dict[str, Any], tags: Tags, make_source: MakeSource) -> None:
    """Every rendition is tagged in full; what the source leaves open follows from its size."""
    assert choose_tags(make_source(**video)) == tags


def test_tracks(make_source: MakeSource, plan_of: MakePlan) -> None:
    """Channels above two are mixed down, one stays one, and exactly one track is the default."""
    tracks = [
        AudioTrack(index=3, codec="ac3", channels=6, sample_rate=48_000, language="eng"),
        AudioTrack(index=1, codec="aac", channels=1, sample_rate=8000, title="T" * 100),
        AudioTrack(index=2, codec="aac", channels=2, sample_rate=48_000, default=True),
    ]
    plan = plan_of(make_source(tracks=tracks))
    assert [track.source_index for track in plan.tracks] == [3, 1, 2]
    assert [track.name for track in plan.tracks] == ["audio_1", "audio_2", "audio_3"]
    assert [track.channels for track in plan.tracks] == [2, 1, 2]
    assert [track.default for track in plan.tracks] == [False, False, True]
    assert len(plan.tracks[1].title) == 80
    assert plan.warnings == ()


def test_tracks_that_are_left_out(
    make_source: MakeSource, make_index: MakeIndex, plan_of: MakePlan
) -> None:
    """What cannot be decoded, holds nothing, or is one too many, is named in a warning."""
    tracks = [
        AudioTrack(index=number, codec="aac", channels=2, sample_rate=48_000)
        for number in range(1, 6)
    ]
    tracks[0] = AudioTrack(index=1, codec="unknown", channels=2, sample_rate=48_000)
    index = make_index()
    spans = {**index.spans, 2: StreamSpan(packets=0, first_s=None, end_s=None)}
    plan = plan_of(
        make_source(tracks=tracks),
        index=make_index(spans=spans),
        config=TranscodeConfig(audio_tracks_max=2),
    )
    assert [track.source_index for track in plan.tracks] == [3, 4]
    assert [track.default for track in plan.tracks] == [True, False]
    assert plan.warnings == (
        "Audio track 1 (unknown) cannot be decoded: left out.",
        "Audio track 2 (aac) is empty: left out.",
        "Of 3 audio tracks only the first 2 are kept.",
    )


@pytest.mark.parametrize(
    ("claimed", "times", "rate"),
    [
        (Fraction(25), [at / 25 for at in range(50)], Fraction(25)),
        (Fraction(30000, 1001), [at * 1001 / 30000 for at in range(60)], Fraction(30000, 1001)),
        (Fraction(1000), [at / 25 for at in range(50)], Fraction(25)),
        (None, [0.0, 1.0, 2.0, 3.0], Fraction(4) / Fraction("3.04").limit_denominator(1001)),
        (Fraction(50), [0.0], Fraction(50)),
        (None, [0.0], Fraction(25)),
    ],
)
def test_frame_rate(
    *,
    claimed: Fraction | None,
    times: list[float],
    rate: Fraction,
    make_source: MakeSource,
    make_index: MakeIndex,
    plan_of: MakePlan,
) -> None:
    """The container is believed where the packets bear it out; else the packets are."""
    plan = plan_of(make_source(frame_rate=claimed), index=make_index(times=times))
    assert float(plan.frame_rate) == pytest.approx(float(rate), rel=0.01)


@pytest.mark.parametrize(
    ("ladder", "first_s", "held_s"), [("hls", 0.0, None), ("hls", 0.4, 0.9), ("web", 0.4, None)]
)
def test_hls_holds_the_first_picture(
    *,
    ladder: str,
    first_s: float,
    held_s: float | None,
    make_index: MakeIndex,
    plan_of: MakePlan,
) -> None:
    """Only where it comes late, and only in HLS, whose players do not honour the gap."""
    plan = plan_of(ladder=ladder, index=make_index(times=[first_s, first_s + 0.04]))
    assert plan.hold_first_s == pytest.approx(held_s)
