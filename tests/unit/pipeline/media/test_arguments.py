"""ffmpeg's arguments: that each decision of a plan is in them, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.media.arguments import (
    directories,
    encoding_of,
    keyframe_expression,
    tile_arguments,
    transcode_arguments,
)
from pipeline.media.config import TranscodeConfig
from pipeline.media.index import PacketIndex
from pipeline.media.plan import Plan
from pipeline.media.probe import AudioTrack, Colour, SourceInfo

MakeSource = Callable[..., SourceInfo]
MakePlan = Callable[..., Plan]
CONFIG = TranscodeConfig()
PQ = Colour(transfer="smpte2084", primaries="bt2020", space="bt2020nc")


def spell(plan: Plan, config: TranscodeConfig = CONFIG) -> list[str]:
    source = Path("/in/source with spaces.mp4")
    return transcode_arguments(Path("/bin/ffmpeg"), source, plan, encoding_of(config, 2), config)


def value(words: list[str], option: str) -> str:
    assert words.count(option) == 1, option
    return words[words.index(option) + 1]


def graph(words: list[str]) -> list[str]:
    return value(words, "-filter_complex").split(";")


def test_one_decode_for_everything(plan_of: MakePlan) -> None:
    """One input, one split: a branch for each rendition, one for the sheets, one for the poster."""
    words = spell(plan_of())
    assert words[0] == "/bin/ffmpeg"
    assert words.count("-i") == 1
    assert value(words, "-i") == "/in/source with spaces.mp4"
    assert graph(words)[0] == "[0:0]split=4[s0][s1][s2][s3]"
    assert sum("select=" in part for part in graph(words)) == 2


def test_the_input_is_guarded(plan_of: MakePlan) -> None:
    """The white lists and limits stand before the input, where they count."""
    words = spell(plan_of())
    before = words[: words.index("-i")]
    assert value(before, "-protocol_whitelist") == "file"
    for option in ("-format_whitelist", "-codec_whitelist", "-max_pixels", "-max_streams"):
        assert option in before
    assert {"-nostdin", "-nostats", "-y"} <= set(words)
    assert value(words, "-progress") == "pipe:1"


def test_mp4_files_share_their_sound(make_source: MakeSource, plan_of: MakePlan) -> None:
    """Each track is encoded once, and the tee writes it behind each rendition's pictures."""
    words = spell(plan_of(make_source(tracks=2)))
    assert words.count("0:1") == 1
    assert words.count("0:2") == 1
    tee = words[words.index("tee") + 1 :]
    files = next(word for word in tee if word.startswith("[f=mp4")).split("|")
    assert [file.partition("select=")[2] for file in files] == [
        "'0,2,3']360p.mp4",
        "'1,2,3']180p.mp4",
    ]
    assert all("movflags=+faststart" in file for file in files)


def test_video_options(plan_of: MakePlan) -> None:
    """Bitrate, its bounds, profile and grid, for each rendition."""
    config = TranscodeConfig(preset="fast", keyframe_grid_s=1, segment_s=4)
    words = spell(plan_of(ladder="640x360@800k,320x180@300k"), config)
    assert value(words, "-preset:v") == "fast"
    assert (value(words, "-b:v:0"), value(words, "-b:v:1")) == ("800000", "300000")
    assert (value(words, "-maxrate:v:0"), value(words, "-bufsize:v:0")) == ("960000", "1600000")
    assert value(words, "-profile:v:0") == "main"
    assert value(words, "-sc_threshold:v") == "0"
    assert value(words, "-force_key_frames:v") == keyframe_expression(1)
    assert value(words, "-enc_time_base:v") == "1:90000"
    assert value(words, "-x264-params:v") == "fps=25/1"


def test_large_renditions_are_high_profile(make_source: MakeSource, plan_of: MakePlan) -> None:
    """From 720p on; what is smaller is for small devices too."""
    words = spell(plan_of(make_source(width=1920, height=1080), "web"))
    profiles = [value(words, f"-profile:v:{number}") for number in range(4)]
    assert profiles == ["high", "high", "main", "main"]


def test_audio_options(make_source: MakeSource, plan_of: MakePlan) -> None:
    """Channels, bitrate, language, title and default of each track, and nothing else of it."""
    tracks = [
        AudioTrack(index=4, codec="ac3", channels=6, sample_rate=48_000, language="eng"),
        AudioTrack(index=5, codec="aac", channels=1, sample_rate=48_000, title="a=b 'c'"),
    ]
    words = spell(plan_of(make_source(tracks=tracks)))
    assert (value(words, "-ac:a:0"), value(words, "-ac:a:1")) == ("2", "1")
    assert (value(words, "-b:a:0"), value(words, "-b:a:1")) == ("128000", "64000")
    assert value(words, "-metadata:s:a:0") == "language=eng"
    assert value(words, "-metadata:s:3") == "handler_name=a=b 'c'"
    assert (value(words, "-disposition:a:0"), value(words, "-disposition:a:1")) == ("default", "0")
    assert value(words, "-filter:a").startswith("aresample=48000")
    assert value(words[words.index("tee") : words.index("image2")], "-map_metadata") == "-1"
    assert words.count("-map_chapters") == 1


def test_no_sound(make_source: MakeSource, plan_of: MakePlan) -> None:
    """A silent source maps no audio at all."""
    words = spell(plan_of(make_source(tracks=0)))
    assert not [word for word in words if word.startswith(("-ac:", "-b:a", "0:1"))]


@pytest.mark.parametrize(
    ("video", "has", "has_not"),
    [
        ({}, "scale=flags=lanczos:h=360:out_range=tv:w=640", "bwdif"),
        ({"interlaced": True}, "bwdif=deint=interlaced:mode=send_frame:parity=auto", "zscale"),
        ({"colour": PQ}, "tonemap=desat=0:tonemap=hable", "colorspace=all"),
        ({"colour": PQ}, "transferin=smpte2084", "intent"),
        ({"colour": Colour(primaries="bt2020")}, "colorspace=all=bt709", "tonemap"),
        ({"pixel_format": "gbrp"}, "h=360:out_color_matrix=bt709:out_range=tv", "tonemap"),
        (
            {"width": 720, "height": 576},
            "setparams=color_primaries=bt470bg:color_trc=bt709:colorspace=bt470bg:range=tv",
            "tonemap",
        ),
    ],
)
def test_the_picture_is_treated(
    video: dict[str, Any], has: str, has_not: str, make_source: MakeSource, plan_of: MakePlan
) -> None:
    """Each shape gets its filters, and no shape those of another."""
    text = ";".join(graph(spell(plan_of(make_source(**video)))))
    assert has in text
    assert has_not not in text


def test_hdr_without_zscale(make_source: MakeSource, plan_of: MakePlan) -> None:
    """Release 8 maps it in its scaler, once, at the size of the largest rendition."""
    text = ";".join(graph(spell(plan_of(make_source(colour=PQ), version="n8.1", filters=()))))
    assert text.count("intent=perceptual") == 1
    assert "zscale" not in text


def test_hls(make_source: MakeSource, plan_of: MakePlan) -> None:
    """One playlist for each rendition and each track, in directories that are made before."""
    plan = plan_of(make_source(tracks=2), "hls:640x360@800k,320x180@300k")
    words = spell(plan)
    playlists = [word for word in words if word.endswith("playlist.m3u8")]
    assert playlists == [
        f"hls/{name}/playlist.m3u8" for name in ("360p", "180p", "audio_1", "audio_2")
    ]
    made = {"thumbnails", *(name.rpartition("/")[0] for name in playlists)}
    assert set(directories(plan)) == made
    assert words.count("-hls_time") == 4
    assert {words[at + 1] for at, word in enumerate(words) if word == "-avoid_negative_ts"} == {
        "disabled"
    }


def test_different_sound_for_different_renditions(plan_of: MakePlan) -> None:
    """Renditions of one audio bitrate share an encode; another bitrate has its own."""
    plan = plan_of()
    first, second = plan.renditions
    bent = replace(plan, renditions=(first, replace(second, audio_bitrate=64_000)))
    words = spell(bent)
    assert words.count("0:1") == 2
    assert (value(words, "-b:a:0"), value(words, "-b:a:1")) == ("128000", "64000")
    files = next(word for word in words if word.startswith("[f=mp4")).split("|")
    assert [file.partition("select=")[2] for file in files] == ["'0,2']360p.mp4", "'1,3']180p.mp4"]


def test_a_late_first_picture_is_held(
    make_index: Callable[..., PacketIndex], plan_of: MakePlan
) -> None:
    """The filter stands first, and knows the time: some filters count anew in mid-stream."""
    index = make_index(times=[0.4, 0.44])
    words = spell(plan_of(ladder="hls:640x360@800k", index=index))
    assert graph(words)[0] == r"[0:0]setpts=if(eq(N\,0)*lt(T\,0.9)\,0\,PTS)[s0]"


def test_still_pictures(plan_of: MakePlan) -> None:
    """They carry their times in their names, and nothing that counts pictures picks them."""
    words = spell(plan_of())
    assert [words[at + 1] for at, word in enumerate(words) if word == "-frame_pts"] == ["1", "1"]
    assert [word for word in words if word.endswith("%d.jpg")] == [
        "thumbnails/cell_%d.jpg",
        "poster_%d.jpg",
    ]
    assert not [part for part in graph(words) if "fps=" in part or "tile" in part]


def test_sheets(plan_of: MakePlan) -> None:
    """A second, tiny run lays the thumbnails on sheets."""
    words = tile_arguments(Path("/bin/ffmpeg"), plan_of().sheets)
    assert value(words, "-i") == "thumbnails/cells.mjpeg"
    assert value(words, "-filter_complex") == "[0]tile=10x1[s0]"
    assert words[-1] == "thumbnails/sheet_%03d.jpg"
