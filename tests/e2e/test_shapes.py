"""Every shape that videos come in, through the transcoder with both builds of ffmpeg.

Outputs are judged by a probe of the tests' own, which decodes every picture and counts them.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import trio

from pipeline.errors import SourceRejected, TranscodeFailed
from pipeline.media.config import TranscodeConfig
from pipeline.media.inspector import Inspected
from pipeline.media.ladder import parse_ladder
from pipeline.media.limits import SourceLimits
from pipeline.media.tools import Tools
from pipeline.media.transcoder import FfmpegTranscoder
from pipeline.ports import Order, Transcoded
from pipeline.tasks import ProductKind, Progress, Strictness

Clips = Callable[[str], Path]

LADDER = "320x180@300k,160x90@150k"
CONFIG = TranscodeConfig(preset="ultrafast", encoder_threads=1)


@dataclass(frozen=True, kw_only=True)
class Shape:
    """What must come of a clip.

    Args:
        sizes: Of the renditions, largest first.
        languages: Of the audio tracks.
        tags: The colour tags: space, transfer, primaries.
        ends_s: When sound and pictures end, whichever is later; None where builds may differ.
    """

    clip: str
    frames: int
    sizes: tuple[tuple[int, int], ...] = ((320, 180), (160, 90))
    languages: tuple[str, ...] = ()
    tags: tuple[str, str, str] = ("smpte170m", "smpte170m", "smpte170m")
    ends_s: float | None = 2.0
    video: dict[str, Any] = field(default_factory=dict)
    warnings: int = 0


BT709 = ("bt709", "bt709", "bt709")
ONE = ("und",)
SHAPES = (
    Shape(clip="plain.mp4", frames=50, languages=ONE, video={"codec": "h264"}),
    Shape(
        clip="rotated.mp4",
        frames=50,
        sizes=((180, 320), (90, 160)),
        languages=ONE,
        video={"width": 180, "height": 320},
    ),
    Shape(clip="odd.mkv", frames=50, sizes=((318, 180), (160, 90))),
    Shape(clip="anamorphic.mp4", frames=50, video={"width": 320, "height": 180}),
    Shape(clip="variable.mkv", frames=43, ends_s=4.0),
    Shape(clip="silent.mp4", frames=50),
    Shape(clip="tracks.mkv", frames=50, languages=("eng", "deu", "fra")),
    Shape(clip="cover.mp4", frames=50, languages=ONE, video={"left_out": {"cover art": 1}}),
    Shape(clip="subtitled.mkv", frames=50, languages=ONE, video={"left_out": {"subtitle": 1}}),
    Shape(clip="interlaced.mp4", frames=50, video={"interlaced": True}),
    Shape(clip="interlaced.ts", frames=50, languages=ONE, video={"interlaced": True}),
    Shape(clip="ten_bit.mkv", frames=50),
    Shape(clip="pq.mp4", frames=25, tags=BT709, ends_s=1.0, video={"hdr": True}),
    Shape(clip="hlg.mkv", frames=25, tags=BT709, ends_s=1.0, video={"hdr": True}),
    Shape(clip="wide.mkv", frames=25, tags=BT709, ends_s=1.0),
    Shape(clip="open_gop.mp4", frames=50),
    Shape(clip="open_gop_h264.mkv", frames=50),
    Shape(clip="offset.ts", frames=50, languages=ONE),
    Shape(clip="edited.mp4", frames=37, languages=ONE, ends_s=1.5),
    Shape(clip="shortened.mp4", frames=25, ends_s=1.0),
    Shape(clip="fragmented.mp4", frames=50, languages=ONE),
    Shape(clip="old.avi", frames=50, languages=ONE),
    Shape(clip="flash.flv", frames=50, languages=ONE),
    Shape(clip="ntsc.mp4", frames=60, languages=ONE),
    Shape(clip="slow.mp4", frames=5, ends_s=5.0),
    Shape(clip="single.mp4", frames=1, ends_s=0.04),
    Shape(clip="portrait.mp4", frames=50, sizes=((180, 320), (90, 160)), languages=ONE),
    Shape(clip="web.webm", frames=50, languages=ONE),
    Shape(clip="hidden.webm", frames=50),
    Shape(clip="full_range.mp4", frames=50),
    Shape(clip="rgb.mkv", frames=50, tags=BT709),
    Shape(clip="live.mkv", frames=50, languages=ONE),
    Shape(clip="short_audio.mp4", frames=50, languages=ONE),
    Shape(clip="long_audio.mkv", frames=50, languages=ONE, ends_s=3.5),
    Shape(clip="late_picture.mp4", frames=50, languages=ONE, ends_s=2.5),
    Shape(clip="late_sound.mp4", frames=50, languages=ONE, ends_s=2.7),
    Shape(clip="captured.ts", frames=75, sizes=((160, 90),), ends_s=None, warnings=1),
    Shape(clip="repeated_times.mkv", frames=50),
    Shape(clip="resized.ts", frames=50),
    # The end of the first and the beginning of the second overlap in time.
    Shape(clip="resized_reordered.ts", frames=49, warnings=1),
)


def order(
    source: Path,
    place: Path,
    ladder: str = LADDER,
    strictness: Strictness = Strictness.STRICT,
) -> Order:
    output = place / "output"
    output.mkdir()
    return Order(source=source, output=output, ladder=parse_ladder(ladder), strictness=strictness)


async def transcode(tools: Tools, asked: Order) -> tuple[Inspected, Transcoded, list[Progress]]:
    transcoder = FfmpegTranscoder(tools, CONFIG)
    inspected = await transcoder.inspect(asked)
    reports: list[Progress] = []
    return inspected, await transcoder.transcode(asked, inspected, reports.append), reports


def probe(tools: Tools, path: Path) -> dict[str, Any]:
    """Decode everything, count the pictures, and fail when ffprobe has anything to say."""
    answer = subprocess.run(
        [
            *(tools.ffprobe, "-v", "error", "-count_frames", "-of", "json"),
            *("-show_streams", "-show_format", path),
        ],
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert answer.stderr == b""
    fields: dict[str, Any] = json.loads(answer.stdout)
    return fields


def judge_rendition(tools: Tools, path: Path, size: tuple[int, int], shape: Shape) -> None:
    fields = probe(tools, path)
    video, *sounds = fields["streams"]
    assert (video["codec_name"], video["pix_fmt"]) == ("h264", "yuv420p")
    assert (video["width"], video["height"]) == size
    assert video["sample_aspect_ratio"] == "1:1"
    assert "side_data_list" not in video
    assert video["field_order"] == "progressive"
    assert int(video["nb_read_frames"]) == shape.frames
    tags = (video["color_space"], video["color_transfer"], video["color_primaries"])
    assert (video["color_range"], tags) == ("tv", shape.tags)
    assert tuple(sound["tags"]["language"] for sound in sounds) == shape.languages
    for sound in sounds:
        assert (sound["codec_name"], sound["sample_rate"]) == ("aac", "48000")
        assert sound["channels"] in (1, 2)
    if shape.ends_s is not None:
        assert float(fields["format"]["duration"]) == pytest.approx(shape.ends_s, abs=0.1)
    assert {name.lower() for name in fields["format"].get("tags", {})} <= {
        *("major_brand", "minor_version", "compatible_brands")
    }


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.clip)
async def test_shape(shape: Shape, build: Tools, clips: Clips, tmp_path: Path) -> None:
    """A healthy source of any shape gives whole, correct renditions and no false alarm."""
    asked = order(clips(shape.clip), tmp_path)
    inspected, transcoded, reports = await transcode(build, asked)
    assert len(inspected.warnings + transcoded.warnings) == shape.warnings
    assert shape.video.items() <= inspected.video.items()
    renditions = [item for item in transcoded.products if item.kind is ProductKind.RENDITION]
    assert tuple(item.rendition for item in renditions) == inspected.renditions
    for item, size in zip(renditions, shape.sizes, strict=True):
        judge_rendition(build, asked.output / item.name, size, shape)
    fractions = [report.fraction for report in reports]
    assert fractions == sorted(fractions)
    assert reports[-1].step == "verify"
    made = sorted(path for path in asked.output.rglob("*") if path.is_file())
    assert made == sorted(asked.output / item.name for item in transcoded.products)
    assert all(
        item.size == (asked.output / item.name).stat().st_size for item in transcoded.products
    )
    assert transcoded.cpu_seconds > 0


def packets(tools: Tools, path: Path, stream: str = "v:0") -> list[tuple[float, bool]]:
    """When each picture is shown, in order, and whether it is a key frame."""
    answer = subprocess.run(
        [
            *(tools.ffprobe, "-v", "error", "-select_streams", stream),
            *("-show_entries", "packet=pts_time,flags", "-of", "json", path),
        ],
        capture_output=True,
        check=True,
        timeout=60,
    )
    listed = json.loads(answer.stdout)["packets"]
    shown = [(float(item["pts_time"]), item["flags"]) for item in listed]
    return sorted((time, flags[0] == "K") for time, flags in shown if "D" not in flags)


def colour_of(tools: Tools, path: Path, at: tuple[int, int]) -> tuple[int, ...]:
    """The mean RGB of a small square of the first picture."""
    crop = f"crop=8:8:{at[0]}:{at[1]},scale=1:1"
    answer = subprocess.run(
        [
            *(tools.ffmpeg, "-nostdin", "-v", "error", "-i", path, "-frames:v", "1"),
            *("-vf", crop, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"),
        ],
        capture_output=True,
        check=True,
        timeout=60,
    )
    return tuple(answer.stdout)


def play(tools: Tools, path: Path) -> str:
    """Decode everything of a playlist and return what ffmpeg said about the decoding.

    Its reader of playlists runs a parser on the first segment before it knows the stream, which
    complains under the name NULL; every fragmented MP4 in a playlist has that.
    """
    answer = subprocess.run(
        [tools.ffmpeg, "-nostdin", "-v", "error", "-i", path, "-f", "null", "-"],
        capture_output=True,
        check=True,
        timeout=60,
    )
    lines = answer.stderr.decode().splitlines()
    return "\n".join(line for line in lines if not line.startswith("[NULL @"))


def children() -> list[str]:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()


async def test_timing_is_kept(build: Tools, clips: Clips, tmp_path: Path) -> None:
    """A variable frame rate comes out as it went in, in every rendition, picture by picture."""
    asked = order(clips("variable.mkv"), tmp_path)
    await transcode(build, asked)
    source = [time for time, _ in packets(build, asked.source)]
    for name in ("180p.mp4", "90p.mp4"):
        made = packets(build, asked.output / name)
        assert [time for time, _ in made] == pytest.approx(source, abs=0.001)
        keys = [time for time, is_key in made if is_key]
        assert keys == pytest.approx([0.0, next(time for time in source if time >= 2)], abs=0.001)


async def test_a_turned_picture_is_upright(build: Tools, clips: Clips, tmp_path: Path) -> None:
    """What was the left edge is the top edge after a quarter turn to the right."""
    asked = order(clips("rotated.mp4"), tmp_path)
    await transcode(build, asked)
    before = colour_of(build, clips("plain.mp4"), (4, 160))
    after = colour_of(build, asked.output / "180p.mp4", (12, 4))
    assert after == pytest.approx(before, abs=40)


async def test_tracks_keep_their_names(build: Tools, clips: Clips, tmp_path: Path) -> None:
    """Language, title and default survive; six channels become two, and one stays one."""
    asked = order(clips("tracks.mkv"), tmp_path)
    await transcode(build, asked)
    for name in ("180p.mp4", "90p.mp4"):
        _, *sounds = probe(build, asked.output / name)["streams"]
        assert [sound["channels"] for sound in sounds] == [1, 2, 2]
        assert [sound["disposition"]["default"] for sound in sounds] == [0, 1, 0]
        assert sounds[1]["tags"]["handler_name"] == 'Regie: "laut", 1'


async def test_nothing_private_leaks(build: Tools, clips: Clips, tmp_path: Path) -> None:
    """Where a video was taken, and what its owner wrote into it, is in no product."""
    asked = order(clips("private.mp4"), tmp_path)
    _, transcoded, _ = await transcode(build, asked)
    assert b"+47.3769" in asked.source.read_bytes()
    for item in transcoded.products:
        data = (asked.output / item.name).read_bytes()
        assert not re.search(rb"47\.3769|Holiday|made at home", data)


async def test_progress_comes_while_it_works(build: Tools, clips: Clips, tmp_path: Path) -> None:
    """ffmpeg reports nothing before every output has begun; so all of them begin at once."""
    asked = order(clips("busy.mp4"), tmp_path, "480x270@300k")
    transcoder = FfmpegTranscoder(build, replace(CONFIG, preset="slower"))
    inspected = await transcoder.inspect(asked)
    reports: list[Progress] = []
    await transcoder.transcode(asked, inspected, reports.append)
    early = [report for report in reports if 0 < report.fraction < 0.7]
    assert early
    for report in early:
        assert report.frames_total == 200
        assert report.speed is not None
        assert report.eta_s is not None
        assert [part.name for part in report.renditions] == ["270p"]


async def test_the_same_again(build: Tools, clips: Clips, tmp_path: Path) -> None:
    """The same source gives the same bytes, so that a repeated attempt changes nothing."""
    made = []
    for number in ("one", "two"):
        (tmp_path / number).mkdir()
        asked = order(clips("plain.mp4"), tmp_path / number)
        _, transcoded, _ = await transcode(build, asked)
        made.append(
            {item.name: (asked.output / item.name).read_bytes() for item in transcoded.products}
        )
    assert made[0] == made[1]


async def test_poster_and_thumbnails(build: Tools, clips: Clips, tmp_path: Path) -> None:
    """The poster has the picture's shape; the index points into a sheet as large as it says."""
    asked = order(clips("long.mp4"), tmp_path)
    _, transcoded, _ = await transcode(build, asked)
    kinds = {item.name: item.kind for item in transcoded.products}
    assert kinds["poster.jpg"] is ProductKind.POSTER
    assert kinds["thumbnails/thumbnails.vtt"] is ProductKind.THUMBNAILS
    (poster,) = probe(build, asked.output / "poster.jpg")["streams"]
    assert (poster["width"], poster["height"]) == (160, 90)
    (sheet,) = probe(build, asked.output / "thumbnails/sheet_001.jpg")["streams"]
    assert (sheet["width"], sheet["height"]) == (10 * 160, 2 * 90)
    cues = (asked.output / "thumbnails/thumbnails.vtt").read_text().split("\n\n")[1:]
    assert cues[0] == "00:00:00.000 --> 00:00:01.000\nsheet_001.jpg#xywh=0,0,160,90"
    assert cues[11].strip() == "00:00:11.000 --> 00:00:12.000\nsheet_001.jpg#xywh=160,90,160,90"


@pytest.mark.parametrize("clip", ["tracks.mkv", "silent.mp4", "late_picture.mp4", "offset.ts"])
async def test_hls(clip: str, build: Tools, clips: Clips, tmp_path: Path) -> None:
    """The master playlist plays: every rendition whole, sound and picture together from zero."""
    asked = order(clips(clip), tmp_path, f"hls:{LADDER}")
    inspected, transcoded, _ = await transcode(build, asked)
    root = asked.output / "hls"
    master = (root / "master.m3u8").read_text()
    tracks = len(inspected.plan.tracks)
    assert master.count("#EXT-X-STREAM-INF") == 2
    assert master.count("TYPE=AUDIO") == tracks
    assert master.count("DEFAULT=YES") == min(1, tracks)
    assert re.findall(r"RESOLUTION=(\w+)", master) == ["320x180", "160x90"]
    for line in re.findall(r"#EXT-X-STREAM-INF:.*", master):
        values = dict(re.findall(r'([A-Z-]+)=("[^"]*"|[^,]*)', line))
        assert int(values["BANDWIDTH"]) >= int(values["AVERAGE-BANDWIDTH"]) > 1000
        assert re.fullmatch(r'"avc1\.[0-9a-f]{6}(,mp4a\.40\.2)?"', values["CODECS"])
        assert values["FRAME-RATE"] == "25.000"
        assert ("AUDIO" in values) is bool(tracks)
    names = {item.name for item in transcoded.products}
    for uri in re.findall(r'^[^#].*m3u8$|URI="([^"]+)"', master, re.MULTILINE):
        assert not uri or f"hls/{uri}" in names
    for name in ("180p", "90p"):
        path = root / name / "playlist.m3u8"
        whole = tmp_path / f"{name}.mp4"
        segments = sorted((root / name).glob("*.m4s"))
        pieces = [root / name / "init.mp4", *segments]
        whole.write_bytes(b"".join(piece.read_bytes() for piece in pieces))
        assert int(probe(build, whole)["streams"][0]["nb_read_frames"]) == 50
        made = packets(build, path)
        assert made[0][1]
        assert made[0][0] == pytest.approx(0.0, abs=0.001)
        text = path.read_text()
        assert "#EXT-X-PLAYLIST-TYPE:VOD" in text
        assert text.endswith("#EXT-X-ENDLIST\n")
    for number in range(tracks):
        sound = packets(build, root / f"audio_{number + 1}" / "playlist.m3u8", "a:0")
        assert sound[0][0] == pytest.approx(0.0, abs=0.03)
    assert play(build, root / "master.m3u8") == ""


async def test_segments_begin_on_the_grid(build: Tools, clips: Clips, tmp_path: Path) -> None:
    """Twelve seconds are three segments of four; each begins with a key frame."""
    asked = order(clips("long.mkv"), tmp_path, "hls:160x90@150k")
    await transcode(build, asked)
    playlist = (asked.output / "hls/90p/playlist.m3u8").read_text()
    assert re.findall(r"#EXTINF:([\d.]+)", playlist) == ["4.000000"] * 3
    keys = [
        time for time, is_key in packets(build, asked.output / "hls/90p/playlist.m3u8") if is_key
    ]
    assert keys == pytest.approx([0, 2, 4, 6, 8, 10], abs=0.001)


REJECTED = {
    "audio_only.mp3": ("no_video", "The source has no video; it holds audio (mp3)."),
    "cover.mp3": (
        "no_video",
        "The source has no video; it holds audio (mp3) and cover art or a still picture.",
    ),
    "no_index.mp4": (
        "truncated",
        "The source is cut short: it begins as an MP4 file, but its index (the moov box) "
        "is missing, without which nothing of it can be read.",
    ),
}


@pytest.mark.parametrize("clip", REJECTED)
async def test_rejected(clip: str, build: Tools, clips: Clips, tmp_path: Path) -> None:
    """What cannot be transcoded is said in one sentence, for good, and before any work."""
    asked = order(clips(clip), tmp_path)
    with pytest.raises(SourceRejected) as caught:
        await FfmpegTranscoder(build, CONFIG).inspect(asked)
    assert (caught.value.code, caught.value.message) == REJECTED[clip]
    assert caught.value.permanent


async def test_av1(build: Tools, clips: Clips, tmp_path: Path) -> None:
    """Transcoded where the build can decode it; where only a graphics card could, that is said."""
    asked = order(clips("av1.mp4"), tmp_path)
    if build.decoders.isdisjoint({"libdav1d", "libaom-av1"}):
        with pytest.raises(SourceRejected) as caught:
            await FfmpegTranscoder(build, CONFIG).inspect(asked)
        assert caught.value.code == "unsupported_codec"
        assert "built without a decoder for it" in caught.value.message
    else:
        await transcode(build, asked)
        assert len(packets(build, asked.output / "180p.mp4")) == 25


CUT = (
    ("cut.mp4", r"its index promises 300 frames \(12\.0 s\), but only 1\d\d frames \(\d\.\d s\)"),
    ("cut.mkv", r"its header promises 12\.0 s, but only 1\d\d frames \(\d\.\d s\)"),
)


@pytest.mark.parametrize(("clip", "promise"), CUT, ids=lambda value: value.partition(" ")[0])
async def test_cut_short(
    clip: str, promise: str, build: Tools, clips: Clips, tmp_path: Path
) -> None:
    """Strict: refused before the encode. Lenient: what is there is made, and the loss is named."""
    sentence = rf"The source is cut short: {promise} can be read\."
    (tmp_path / "strict").mkdir()
    with pytest.raises(SourceRejected) as caught:
        await FfmpegTranscoder(build, CONFIG).inspect(order(clips(clip), tmp_path / "strict"))
    assert caught.value.code == "truncated"
    assert re.fullmatch(sentence, caught.value.message)
    asked = order(clips(clip), tmp_path, strictness=Strictness.LENIENT)
    inspected, transcoded, _ = await transcode(build, asked)
    assert re.fullmatch(sentence, inspected.warnings[0])
    (rendition,) = (item for item in transcoded.products if item.kind is ProductKind.RENDITION)
    frames = int(probe(build, asked.output / rendition.name)["streams"][0]["nb_read_frames"])
    assert inspected.index.frames - 2 <= frames <= inspected.index.frames


@pytest.mark.parametrize("clip", ["flipped.mp4", "flipped.mkv"])
async def test_damaged_inside(clip: str, build: Tools, clips: Clips, tmp_path: Path) -> None:
    """ffmpeg exits with 0 on it; the damage is counted and located all the same."""
    sentence = r"The source is damaged: .* gave \d+ errors, the first around [3-7]\.\d s .*"
    (tmp_path / "strict").mkdir()
    with pytest.raises(SourceRejected) as caught:
        await transcode(build, order(clips(clip), tmp_path / "strict"))
    assert caught.value.code == "damaged"
    assert re.fullmatch(sentence, caught.value.message)
    assert caught.value.log_tail
    asked = order(clips(clip), tmp_path, strictness=Strictness.LENIENT)
    inspected, transcoded, _ = await transcode(build, asked)
    warnings = inspected.warnings + transcoded.warnings
    assert any(re.fullmatch(sentence, warning) for warning in warnings)
    probe(build, asked.output / "90p.mp4")


SABOTAGES = {
    "half_a_file": ("", "", "size = os.path.getsize('90p.mp4'); os.truncate('90p.mp4', size // 2)"),
    "no_grid": ("isnan(prev_forced_t)", "eq(n,7)+isnan(prev_forced_t)", ""),
    "no_timing": ("setparams=", "fps=12,setparams=", ""),
    "wrong_size": ("h=90:out_range=tv", "h=92:out_range=tv", ""),
    "half_the_sound": ("first_pts=0", "first_pts=0,atrim=0:1", ""),
    "no_sound": ("select='1,2'", "select='1'", ""),
    "half_the_pictures": ("setparams=", "select=lt(n\\,20),setparams=", ""),
}


@pytest.mark.parametrize("sabotage", SABOTAGES)
async def test_a_wrong_output_is_no_output(
    sabotage: str, build: Tools, clips: Clips, tmp_path: Path
) -> None:
    """An ffmpeg that exits with 0 and made something else is found out, whatever it did wrong."""
    clip = "variable.mkv" if sabotage == "no_timing" else "plain.mp4"
    asked = order(clips(clip), tmp_path)
    old, new, after = SABOTAGES[sabotage]
    fake = tmp_path / "ffmpeg"
    fake.write_text(
        f"#!{sys.executable} -IS\n"
        "import os, subprocess, sys\n"
        f"old, new = {old!r}, {new!r}\n"
        "words = [word.replace(old, new) if old else word for word in sys.argv[1:]]\n"
        f"done = subprocess.run([{str(build.ffmpeg)!r}, *words]).returncode\n"
        "if '-xerror' not in words:\n"
        f"    {after or 'pass'}\n"
        "sys.exit(done)\n"
    )
    fake.chmod(0o700)
    with pytest.raises(TranscodeFailed) as caught:
        await transcode(replace(build, ffmpeg=fake), asked)
    assert caught.value.code == "output_unverified", caught.value
    assert not caught.value.permanent


async def test_an_untouched_stand_in_passes(build: Tools, clips: Clips, tmp_path: Path) -> None:
    """The sabotages are found for what they do, not for being run through another program."""
    fake = tmp_path / "ffmpeg"
    fake.write_text(f'#!/bin/sh\nexec {build.ffmpeg} "$@"\n')
    fake.chmod(0o700)
    _, transcoded, _ = await transcode(
        replace(build, ffmpeg=fake), order(clips("plain.mp4"), tmp_path)
    )
    assert transcoded.products


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        ({"pixels_max": 320 * 180 - 1}, "too_many_pixels"),
        ({"duration_max_s": 1.0}, "too_long"),
        ({"streams_max": 1}, "too_many_streams"),
        ({"size_max_bytes": 1000}, "too_large"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_limits_of_the_source(
    limits: dict[str, Any], code: str, build: Tools, clips: Clips, tmp_path: Path
) -> None:
    """A source above a limit is refused for good, whatever ffmpeg would make of it."""
    config = TranscodeConfig(limits=SourceLimits(**limits))
    with pytest.raises(SourceRejected) as caught:
        await FfmpegTranscoder(build, config).inspect(order(clips("plain.mp4"), tmp_path))
    assert caught.value.code == code
    assert caught.value.message.endswith(".")


async def test_limit_of_an_output(build: Tools, clips: Clips, tmp_path: Path) -> None:
    """A file that grows beyond its limit ends the attempt, and says so."""
    limits = SourceLimits(output_max_bytes=20_000)
    transcoder = FfmpegTranscoder(build, replace(CONFIG, limits=limits))
    asked = order(clips("plain.mp4"), tmp_path)
    with pytest.raises(TranscodeFailed) as caught:
        await transcoder.transcode(asked, await transcoder.inspect(asked), lambda _: None)
    assert caught.value.code == "output_limit"


async def test_cancelled(build: Tools, clips: Clips, tmp_path: Path) -> None:
    """A cancelled transcode has ended its process when the call returns."""
    asked = order(clips("long.mp4"), tmp_path)
    transcoder = FfmpegTranscoder(build, CONFIG)
    inspected = await transcoder.inspect(asked)
    before = children()
    with trio.CancelScope() as scope:
        await transcoder.transcode(asked, inspected, lambda _: scope.cancel())
    assert scope.cancelled_caught
    assert children() == before
