"""Ladders: what people write, what clients send, and what a source of a given size gives."""

from __future__ import annotations

from typing import Any

import pytest

from pipeline.errors import BadRequest
from pipeline.media.ladder import (
    PRESETS,
    Ladder,
    Packaging,
    Rung,
    fit,
    ladder_from_json,
    ladder_to_json,
    parse_ladder,
)

WEB = PRESETS["web"]
K = 1000


@pytest.mark.parametrize("name", ["web", "hls"])
def test_presets(name: str) -> None:
    """The presets are 1080p, 720p, 480p and 360p, and differ only in how they are wrapped."""
    ladder = parse_ladder(name)
    assert (ladder.name, ladder.packaging) == (name, Packaging.HLS if name == "hls" else "mp4")
    assert [min(rung.width, rung.height) for rung in ladder.rungs] == [1080, 720, 480, 360]
    rates = [rung.video_bitrate for rung in ladder.rungs]
    assert rates == sorted(rates, reverse=True)


@pytest.mark.parametrize(
    ("text", "packaging", "rungs"),
    [
        ("640x360@800k", Packaging.MP4, [(640, 360, 800 * K)]),
        ("mp4:640x360@800000", Packaging.MP4, [(640, 360, 800 * K)]),
        (
            " hls:640x360@0.8M , 1280x720@2500K ",
            Packaging.HLS,
            [(1280, 720, 2500 * K), (640, 360, 800 * K)],
        ),
    ],
)
def test_explicit_lists(text: str, packaging: Packaging, rungs: list[tuple[int, int, int]]) -> None:
    """Suffixes are decimal, the prefix chooses the packaging, and the largest rung comes first."""
    ladder = parse_ladder(text)
    assert ladder.packaging is packaging
    assert [(rung.width, rung.height, rung.video_bitrate) for rung in ladder.rungs] == rungs


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "ladder '' is unknown: use 'web' or 'hls', or a list like '1280x720@2500k"),
        ("wbe", "ladder 'wbe' is unknown: use 'web' or 'hls'"),
        ("dash:1280x720@1M", "packaging 'dash' is unknown: put 'hls:' or 'mp4:'"),
        ("1280x720@2500k,", "rung '' is not WIDTHxHEIGHT@BITRATE"),
        ("1280*720@2500k", "rung '1280*720@2500k' is not WIDTHxHEIGHT@BITRATE"),
        ("1280x720@-1", "is not WIDTHxHEIGHT@BITRATE"),
        ("1280x720@2500", "rung 1280x720: 2500 bits per second of video is not between 10k"),
        ("8x8@100k", "rung 8x8: each side must be 16 to 8192 pixels"),
        ("99999x720@1M", "each side must be 16 to 8192"),
        (",".join(["640x360@800k"] * 13), "a ladder has 1 to 12 rungs, not 13"),
        ("x" * 2000, "longer than 1000 characters"),
        ("٣x360@800k", "is not WIDTHxHEIGHT@BITRATE"),
    ],
)
def test_mistakes_are_explained(text: str, says: str) -> None:
    """A mistake is a BadRequest whose sentence says what would be right."""
    with pytest.raises(BadRequest) as caught:
        parse_ladder(text)
    assert says in str(caught.value)


@pytest.mark.parametrize("text", ["web", "hls", "hls:1280x720@2.5M,640x360@800001"])
def test_json_round_trip(text: str) -> None:
    """What is written as JSON is read back as it was."""
    ladder = parse_ladder(text)
    assert ladder_from_json(ladder_to_json(ladder)) == ladder


RUNG = {"width": 640, "height": 360, "video_bitrate": 800_000}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        (None, "a ladder is a JSON object"),
        ([], "a ladder is a JSON object"),
        ({"rungs": []}, "1 to 12 rungs"),
        ({"rungs": "web"}, 'needs "rungs"'),
        ({"rungs": [RUNG], "packaging": "dash"}, '"mp4" or "hls"'),
        ({"rungs": [RUNG], "packaging": []}, '"mp4" or "hls"'),
        ({"rungs": [RUNG], "name": ""}, '"name" is a short text'),
        ({"rungs": [RUNG], "nmae": "x"}, 'no "nmae"'),
        ({"rungs": [5]}, "a rung is a JSON object"),
        ({"rungs": [{**RUNG, "width": "640"}]}, 'needs "width" as a whole number'),
        ({"rungs": [{**RUNG, "width": True}]}, 'needs "width" as a whole number'),
        ({"rungs": [{**RUNG, "fps": 30}]}, 'a rung has no "fps"'),
        ({"rungs": [{**RUNG, "audio_bitrate": 1}]}, "bits per second of audio"),
    ],
)
def test_json_from_anybody(fields: Any, says: str) -> None:
    """Anything that is not a ladder is a BadRequest, whatever its types."""
    with pytest.raises(BadRequest) as caught:
        ladder_from_json(fields)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("source", "renditions"),
    [
        ((1920, 1080), ["1080p 1920x1080", "720p 1280x720", "480p 854x480", "360p 640x360"]),
        ((3840, 2160), ["1080p 1920x1080", "720p 1280x720", "480p 854x480", "360p 640x360"]),
        ((1080, 1920), ["1080p 1080x1920", "720p 720x1280", "480p 480x854", "360p 360x640"]),
        ((640, 360), ["360p 640x360"]),
        ((639, 361), ["360p 638x360"]),
        ((320, 180), ["180p 320x180"]),
        ((1000, 562), ["562p 1000x562", "480p 854x480", "360p 640x360"]),
        ((1920, 804), ["804p 1920x804", "536p 1280x536", "358p 854x358", "268p 640x268"]),
        ((720, 720), ["720p 720x720", "480p 480x480", "360p 360x360"]),
        ((4000, 16), ["8p 1920x8", "6p 1280x6", "4p 854x4", "2p 640x2"]),
    ],
)
def test_fit_web(source: tuple[int, int], renditions: list[str]) -> None:
    """The picture keeps its shape, is never enlarged, and no two renditions have one size."""
    made = fit(WEB, *source)
    assert [f"{item.name} {item.width}x{item.height}" for item in made] == renditions


def test_clipped_rungs_keep_the_lowest_bitrate() -> None:
    """Three rungs come to 1000x562 or less; the two that are clipped share the smaller bitrate."""
    assert [item.video_bitrate for item in fit(WEB, 1000, 562)] == [2800 * K, 1400 * K, 800 * K]
    assert [item.video_bitrate for item in fit(WEB, 640, 360)] == [800 * K]


def test_equal_names_are_told_apart() -> None:
    """Two renditions whose shorter sides agree have different names all the same."""
    rungs = (
        Rung(width=1280, height=16, video_bitrate=500 * K),
        Rung(width=640, height=16, video_bitrate=400 * K),
        Rung(width=624, height=16, video_bitrate=300 * K),
    )
    made = fit(Ladder(name="thin", packaging=Packaging.MP4, rungs=rungs), 4000, 16)
    assert [item.name for item in made] == ["6p", "2p", "624x2"]
