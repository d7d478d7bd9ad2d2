"""A plan, spelled out for ffmpeg: one process that decodes once and makes everything.

The decoded picture is split: each rendition has its own scaler and encoder, and the poster and the
thumbnails are taken from the same pictures. One process per rendition would decode again for each,
which costs a sixth more in all, and could disagree about what was decoded. For the MP4 files audio
is encoded once as well and written into each by the tee muxer: measured, one AAC encode saved is
1 to 2 % of the whole ladder.

How time is kept. Pictures keep the times they have in the source (`-fps_mode vfr` with a clock of
90 kHz: exact for every frame rate in use, measured on releases 5.1 and 8.1, where the default
clock of one tick a frame bends variable frame rates). Key frames stand at the first picture of each
interval of a grid in time, so they fall together in all renditions; scene-cut detection would add
some in one rendition and not in another, and is off.

How the picture is scaled: by Lanczos, because a ladder only ever shrinks; it keeps more detail than
bicubic and costs 6 % more of the scaling, which is under 1 % of the encode.

Pure: a plan in, an argument list out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ffmpeg

from pipeline.media.config import TranscodeConfig
from pipeline.media.index import GRID_EPSILON
from pipeline.media.ladder import Packaging, Rendition, fit_inside
from pipeline.media.limits import input_guard
from pipeline.media.plan import Plan, Tone, TrackPlan
from pipeline.media.thumbnails import (
    POSTER_LONG_SIDE,
    POSTER_SHORT_SIDE,
    SHEET_PATTERN,
    Sheets,
)

CLOCK = "1:90000"
MAXRATE_FACTOR, BUFFER_FACTOR = 1.2, 2.0
"""Of the bitrate: what a player must be prepared for over a second, and over two."""
GOP_FRAMES_MAX = 1_000_000
"""Beyond anything the grid leaves; the encoder must not add key frames of its own."""
MUXING_QUEUE_PACKETS = 65_536
"""An output waits for the first packet of every stream; audio may start minutes after the video."""
SDR_PEAK_NITS = 100

SHEETS_DIRECTORY = "thumbnails"
CELL_PREFIX = f"{SHEETS_DIRECTORY}/cell_"
CELLS = f"{SHEETS_DIRECTORY}/cells.mjpeg"
POSTER_PREFIX = "poster_"
PICTURE_CLOCK = "1:1000"
"""Still pictures carry their time in milliseconds in their names."""
HLS_DIRECTORY = "hls"
PLAYLIST = "playlist.m3u8"
INIT_SEGMENT = "init.mp4"
SEGMENT_PATTERN = "segment_%05d.m4s"

QUIET = ("-nostdin", "-hide_banner", "-loglevel", "level+error")
PROGRESS = ("-progress", "pipe:1", "-nostats", "-stats_period", "0.5")

Node = Any  # ffmpeg-python has no types


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """The part of the configuration that the arguments depend on, with `threads` decided."""

    preset: str
    threads: int
    grid_s: float
    segment_s: float


def encoding_of(config: TranscodeConfig, threads: int) -> Encoding:
    """Take what is needed out of the configuration."""
    return Encoding(
        preset=config.preset,
        threads=threads,
        grid_s=config.keyframe_grid_s,
        segment_s=config.segment_s,
    )


def rendition_file(packaging: Packaging, name: str) -> str:
    """Where a rendition (or a track of HLS) is found below the output directory."""
    if packaging is Packaging.HLS:
        return f"{HLS_DIRECTORY}/{name}/{PLAYLIST}"
    return f"{name}.mp4"


def directories(plan: Plan) -> list[str]:
    """What must exist below the output directory before ffmpeg starts."""
    made = [SHEETS_DIRECTORY]
    if plan.packaging is Packaging.HLS:
        names = [rendition.name for rendition in plan.renditions]
        names += [track.name for track in plan.tracks]
        made += [f"{HLS_DIRECTORY}/{name}" for name in names]
    return made


def transcode_arguments(
    program: Path, source: Path, plan: Plan, encoding: Encoding, config: TranscodeConfig
) -> list[str]:
    """Everything in one command; outputs are relative to the directory that it is run in."""
    opened = ffmpeg.input(str(source), threads=encoding.threads, **input_guard(config.limits))
    branches = _split(_prepare(opened[str(plan.video_index)], plan), len(plan.renditions) + 2)
    pictures = [
        _finish_picture(branch, plan, rendition)
        for branch, rendition in zip(branches, plan.renditions, strict=False)
    ]
    tracks = [opened[str(track.source_index)] for track in plan.tracks]
    if plan.packaging is Packaging.HLS:
        outputs = _hls_outputs(pictures, tracks, plan, encoding)
    else:
        outputs = [_mp4_output(pictures, tracks, plan, encoding)]
    outputs += [_cells_output(branches[-2], plan), _poster_output(branches[-1], plan)]
    threads = ("-filter_complex_threads", str(encoding.threads))
    command = [str(program), *QUIET, *PROGRESS, *threads, "-max_error_rate", "1", "-y"]
    arguments: list[str] = ffmpeg.compile(ffmpeg.merge_outputs(*outputs), cmd=command)
    return arguments


def keyframe_expression(grid_s: float) -> str:
    """True for the first picture of every interval, and only for it, whatever gaps there are.

    The usual `gte(t,n_forced*2)` forces one picture after another behind a gap, until it has
    caught up.
    """
    cell = f"floor({{}}/{grid_s:g}+{GRID_EPSILON:g})"
    now, before = cell.format("t"), cell.format("prev_forced_t")
    return f"expr:isnan(prev_forced_t)+gt({now},{before})"


def _split(stream: Node, count: int) -> list[Node]:
    parts = stream.filter_multi_output("split", count)
    return [parts[number] for number in range(count)]


def _prepare(stream: Node, plan: Plan) -> Node:
    """What is done once, before the picture is split."""
    if plan.hold_first_s is not None:
        # A source that changes its picture size midway begins to count again, hence the time.
        stream = stream.filter("setpts", f"if(eq(N,0)*lt(T,{plan.hold_first_s:g}),0,PTS)")
    if plan.deinterlace:
        # One picture for each two fields, and only where the decoder says that it has fields.
        stream = stream.filter("bwdif", mode="send_frame", parity="auto", deint="interlaced")
    size = {"w": plan.width, "h": plan.height}
    if plan.tone is Tone.ZSCALE:
        stream = _tone_map(stream, plan, size)
    elif plan.tone is Tone.SWSCALE:
        stream = stream.filter(
            "scale",
            **size,
            flags="lanczos",
            intent="perceptual",
            **_prefixed("out", "color_matrix", "primaries", "transfer"),
            out_range="tv",
        ).filter("format", "yuv420p")
    elif plan.tone is Tone.WIDE:
        stream = (
            stream.filter("scale", **size, flags="lanczos", out_range="tv")
            .filter("format", "yuv420p10")
            .filter(
                "colorspace",
                all="bt709",
                ispace="bt2020ncl",
                iprimaries="bt2020",
                itrc="bt2020-10",
                irange="tv",
                format="yuv420p",
            )
        )
    return stream


def _tone_map(stream: Node, plan: Plan, size: dict[str, int]) -> Node:
    """Linear light, BT.709's colours, Hable's curve, and back; scaled first, as it is slow."""
    return (
        stream.filter(
            "zscale",
            **size,
            filter="lanczos",
            transferin=plan.colour.transfer,
            primariesin="bt2020",
            matrixin="2020_ncl",
            transfer="linear",
            npl=SDR_PEAK_NITS,
        )
        .filter("format", "gbrpf32le")
        .filter("zscale", primaries="709")
        .filter("tonemap", tonemap="hable", desat=0)
        .filter("zscale", transfer="709", matrix="709", range="limited")
        .filter("format", "yuv420p")
    )


def _prefixed(prefix: str, *names: str) -> dict[str, str]:
    return {f"{prefix}_{name}": "bt709" for name in names}


def _finish_picture(stream: Node, plan: Plan, rendition: Rendition) -> Node:
    matrix = {"out_color_matrix": "bt709"} if plan.from_rgb else {}
    return (
        stream.filter(
            "scale",
            w=rendition.width,
            h=rendition.height,
            flags="lanczos",
            out_range="tv",
            **matrix,
        )
        .filter("setsar", 1)
        .filter("format", "yuv420p")
        .filter(
            "setparams",
            range="tv",
            colorspace=plan.tags.space,
            color_primaries=plan.tags.primaries,
            color_trc=plan.tags.transfer,
        )
    )


def _mp4_output(
    pictures: Sequence[Node], tracks: Sequence[Node], plan: Plan, encoding: Encoding
) -> Node:
    """All MP4 files by one tee: pictures first, then the tracks once for each audio bitrate."""
    bitrates = sorted({rendition.audio_bitrate for rendition in plan.renditions}, reverse=True)
    options = _common_options(encoding, plan)
    for number, rendition in enumerate(plan.renditions):
        options |= _video_options(rendition, number)
    audio: list[Node] = []
    places: dict[int, list[int]] = {}
    for bitrate in bitrates if tracks else ():
        places[bitrate] = []
        for track, stream in zip(plan.tracks, tracks, strict=True):
            options |= _audio_options(track, bitrate, len(audio), len(pictures) + len(audio))
            places[bitrate].append(len(pictures) + len(audio))
            audio.append(stream)
    files = []
    for number, rendition in enumerate(plan.renditions):
        chosen = [number, *places.get(rendition.audio_bitrate, ())]
        select = ",".join(map(str, chosen))
        name = rendition_file(plan.packaging, rendition.name)
        files.append(f"[f=mp4:movflags=+faststart:fflags=+bitexact:select='{select}']{name}")
    return ffmpeg.output(*pictures, *audio, "|".join(files), format="tee", **options)


def _hls_outputs(
    pictures: Sequence[Node], tracks: Sequence[Node], plan: Plan, encoding: Encoding
) -> list[Node]:
    """One output a rendition and one a track; the master playlist is written afterwards."""
    common = _common_options(encoding, plan)
    outputs = []
    for picture, rendition in zip(pictures, plan.renditions, strict=True):
        options = common | _video_options(rendition, 0) | _hls_options(rendition.name, encoding)
        outputs.append(
            ffmpeg.output(picture, rendition_file(plan.packaging, rendition.name), **options)
        )
    bitrate = max(rendition.audio_bitrate for rendition in plan.renditions)
    for stream, track in zip(tracks, plan.tracks, strict=True):
        options = common | _audio_options(track, bitrate, 0, 0) | _hls_options(track.name, encoding)
        outputs.append(ffmpeg.output(stream, rendition_file(plan.packaging, track.name), **options))
    return outputs


def _common_options(encoding: Encoding, plan: Plan) -> dict[str, Any]:
    rate = plan.frame_rate
    return {
        "c:v": "libx264",
        "preset:v": encoding.preset,
        "threads:v": encoding.threads,
        "fps_mode": "vfr",
        "enc_time_base:v": CLOCK,
        "force_key_frames:v": keyframe_expression(encoding.grid_s),
        "sc_threshold:v": 0,
        "g:v": GOP_FRAMES_MAX,
        # The rate that a container guesses for a variable one may be 1000 a second, from which
        # x264 would conclude that only the largest of decoders can play it.
        "x264-params:v": f"fps={rate.numerator}/{rate.denominator}",
        "c:a": "aac",
        "filter:a": "aresample=48000:async=1:first_pts=0",
        # The same input gives the same bytes, and nothing is said about who encoded it where.
        "flags": "+global_header+bitexact",
        "map_metadata": -1,
        "map_chapters": -1,
        "max_muxing_queue_size": MUXING_QUEUE_PACKETS,
    }


def _video_options(rendition: Rendition, number: int) -> dict[str, Any]:
    bitrate = rendition.video_bitrate
    is_small = min(rendition.width, rendition.height) <= 480
    return {
        f"b:v:{number}": bitrate,
        f"maxrate:v:{number}": round(bitrate * MAXRATE_FACTOR),
        f"bufsize:v:{number}": round(bitrate * BUFFER_FACTOR),
        # Small renditions are for small devices, of which some old ones know no High profile.
        f"profile:v:{number}": "main" if is_small else "high",
    }


def _audio_options(track: TrackPlan, bitrate: int, number: int, place: int) -> dict[str, Any]:
    """Options of one track: `number` counts audio streams of the output, `place` all of them."""
    options = {
        f"b:a:{number}": bitrate if track.channels == 2 else bitrate // 2,
        f"ac:a:{number}": track.channels,
        f"disposition:a:{number}": "default" if track.default else "0",
        f"metadata:s:a:{number}": f"language={track.language}",
    }
    if track.title:
        # MP4 has no other place for a track's title that every release reads back. The stream is
        # named in another way than above because ffmpeg-python writes an option only once.
        options[f"metadata:s:{place}"] = f"handler_name={track.title}"
    return options


def _hls_options(name: str, encoding: Encoding) -> dict[str, Any]:
    directory = f"{HLS_DIRECTORY}/{name}"
    return {
        "format": "hls",
        "fflags": "+bitexact",
        # By default every playlist is shifted by its own encoder's delay, and sound runs ahead of
        # the picture by two frames. So nothing is shifted, and an edit list says what to skip.
        "avoid_negative_ts": "disabled",
        "hls_time": f"{encoding.segment_s:g}",
        "hls_playlist_type": "vod",
        "hls_segment_type": "fmp4",
        "hls_flags": "independent_segments",
        "hls_fmp4_init_filename": INIT_SEGMENT,
        "hls_segment_filename": f"{directory}/{SEGMENT_PATTERN}",
    }


def tile_arguments(program: Path, sheets: Sheets) -> list[str]:
    """Lay the thumbnails in `CELLS`, JPEG behind JPEG, on sheets; takes moments.

    The tile filter would do it in the first process, and keep it from reporting any progress:
    ffmpeg reports nothing before every output has begun, and a sheet begins when it is full.
    """
    cells = ffmpeg.input(CELLS, format="mjpeg")
    tiled = cells.filter("tile", f"{sheets.columns}x{sheets.rows}")
    pattern = f"{SHEETS_DIRECTORY}/{SHEET_PATTERN}"
    output = _jpeg_output(tiled, pattern, quality=5)
    arguments: list[str] = ffmpeg.compile(output, cmd=[str(program), *QUIET, "-y"])
    return arguments


def _cells_output(stream: Node, plan: Plan) -> Node:
    sheets = plan.sheets
    size = {"w": sheets.cell_width, "h": sheets.cell_height}
    return _picked_output(stream, plan, float(sheets.interval_s), size, CELL_PREFIX)


def _poster_output(stream: Node, plan: Plan) -> Node:
    """Candidates only: which one becomes the poster is decided when all can be compared."""
    width, height = fit_inside(plan.width, plan.height, POSTER_LONG_SIDE, POSTER_SHORT_SIDE)
    return _picked_output(
        stream, plan, plan.poster_spacing_s, {"w": width, "h": height}, POSTER_PREFIX
    )


def _picked_output(
    stream: Node, plan: Plan, spacing_s: float, size: dict[str, int], prefix: str
) -> Node:
    """The first picture, and the first one behind the middle of each interval, as JPEG files.

    The first one makes the output begin at once (see `tile_arguments`). They are picked by the
    clock alone: filters that count, as `fps` does, begin again where a source changes its picture
    size midway, and ffmpeg then stops over times that go back.
    """
    place = f"floor({{}}/{spacing_s:g}+0.5)"
    now, before = place.format("t"), place.format("prev_selected_t")
    matrix = {"out_color_matrix": "bt601"}  # the colours that JPEG means
    if not plan.from_rgb:
        matrix["in_color_matrix"] = "bt709" if plan.tags.space == "bt709" else "bt601"
    pictures = (
        stream.filter("select", f"isnan(prev_selected_t)+gt({now},{before})")
        .filter("scale", **size, flags="lanczos", out_range="full", **matrix)
        .filter("setsar", 1)
        .filter("format", "yuvj420p")
    )
    return _jpeg_output(pictures, f"{prefix}%d.jpg", quality=3, frame_pts=1)


def _jpeg_output(stream: Node, name: str, *, quality: int, frame_pts: int = 0) -> Node:
    options = {
        "c:v": "mjpeg",
        "q:v": quality,
        "threads:v": 1,
        "fps_mode": "passthrough",
        "enc_time_base": PICTURE_CLOCK,
        "frame_pts": frame_pts,
    }
    return ffmpeg.output(
        stream, name, format="image2", map_metadata=-1, flags="+bitexact", **options
    )
