"""Clips of every shape, made once per test session, the two builds of ffmpeg that must agree, and
what the tests of the worker share.

Clips are tiny (most 2 s of 320x180): what is tested is their shape, not their content.
"""

from __future__ import annotations

import struct
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from pipeline.media.tools import Tools, find_tools, wheel_binaries
from tests.e2e.cluster_rig import Machine, machine_of_peers
from tests.e2e.worker_rig import Rig
from tests.missing import do_without

Clips = Callable[[str], Path]

PICTURE = ["-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2"]
TONE = ["-f", "lavfi", "-i", "sine=440:r=48000:d=2"]
X264 = ["-c:v", "libx264", "-preset", "ultrafast", "-g", "25"]
X264_B = ["-c:v", "libx264", "-preset", "superfast", "-bf", "2", "-g", "25"]
AAC = ["-c:a", "aac"]
SPEED = ["-cpu-used", "8", "-deadline", "realtime"]
X265 = ["-c:v", "libx265", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le", "-x265-params"]
BT2020 = "log-level=error:colorprim=bt2020:colormatrix=bt2020nc"


def picture(size: str = "320x180", rate: str = "25", duration: str = "2") -> list[str]:
    return ["-f", "lavfi", "-i", f"testsrc2=s={size}:r={rate}:d={duration}"]


# The name's suffix is the container's. What needs more than one command is in `_MADE`.
RECIPES: dict[str, list[str]] = {
    "plain.mp4": [*PICTURE, *TONE, *X264_B, *AAC],
    # testsrc2 would round the size down; this one is RGB, and so is any size.
    "odd.mkv": [
        *("-f", "lavfi", "-i", "testsrc=s=639x361:r=25:d=2"),
        *(*X264, "-pix_fmt", "yuv444p"),
    ],
    "anamorphic.mp4": [*picture("240x180"), *X264, "-vf", "setsar=4/3"],
    "variable.mkv": [
        *picture(duration="4"),
        *("-vf", "select='not(mod(n\\,3))+between(n\\,40\\,52)'", "-fps_mode", "vfr"),
        *X264_B,
    ],
    "silent.mp4": [*PICTURE, *X264],
    "tracks.mkv": [
        *PICTURE,
        *TONE,
        *("-f", "lavfi", "-i", "sine=660:r=44100:d=2"),
        *("-f", "lavfi", "-i", "anoisesrc=d=2:a=0.1"),
        *("-map", "0", "-map", "1", "-map", "2", "-map", "3", *X264, *AAC),
        *("-ac:a:1", "2", "-ac:a:2", "6", "-metadata:s:a:0", "language=eng"),
        *("-metadata:s:a:1", "language=deu", "-metadata:s:a:1", 'title=Regie: "laut", 1'),
        *("-metadata:s:a:2", "language=fra"),
        *("-disposition:a:0", "0", "-disposition:a:1", "default", "-disposition:a:2", "0"),
    ],
    "audio_only.mp3": [*TONE],
    "interlaced.mp4": [*PICTURE, *X264, "-flags", "+ildct+ilme", "-x264-params", "tff=1"],
    "interlaced.ts": [
        *PICTURE,
        *TONE,
        *("-vf", "setfield=tff", "-c:v", "mpeg2video", "-flags", "+ildct+ilme", "-b:v", "1M"),
        *("-c:a", "mp2"),
    ],
    "ten_bit.mkv": [*PICTURE, "-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p10le"],
    "pq.mp4": [*picture(duration="1"), *X265, f"{BT2020}:transfer=smpte2084", "-tag:v", "hvc1"],
    "hlg.mkv": [*picture(duration="1"), *X265, f"{BT2020}:transfer=arib-std-b67"],
    "wide.mkv": [*picture(duration="1"), *X265, f"{BT2020}:transfer=bt2020-10"],
    "open_gop.mp4": [*PICTURE, *X265, "log-level=error:open-gop=1:keyint=10:bframes=3"],
    "open_gop_h264.mkv": [*PICTURE, *X264_B, "-x264-params", "open-gop=1:keyint=10"],
    "offset.ts": [*PICTURE, *TONE, *X264_B, *AAC, "-output_ts_offset", "100"],
    "fragmented.mp4": [
        *PICTURE,
        *TONE,
        *X264_B,
        *AAC,
        *("-movflags", "frag_keyframe+empty_moov+default_base_moof"),
    ],
    "old.avi": [*PICTURE, *TONE, "-c:v", "mpeg4", "-bf", "2", "-b:v", "500k", "-c:a", "mp3"],
    "flash.flv": [*PICTURE, *TONE, "-c:v", "flv", "-b:v", "500k", "-c:a", "mp3", "-ar", "44100"],
    "ntsc.mp4": [*picture(rate="30000/1001"), *TONE, *X264_B, *AAC],
    "slow.mp4": [*picture(rate="1", duration="5"), *X264],
    "single.mp4": [*PICTURE, *X264, "-frames:v", "1"],
    "portrait.mp4": [*picture("180x320"), *TONE, *X264, *AAC],
    "web.webm": [*PICTURE, *TONE, "-c:v", "libvpx-vp9", "-b:v", "300k", *SPEED, "-c:a", "libopus"],
    "hidden.webm": [
        *PICTURE,
        *("-c:v", "libvpx", "-b:v", "300k", "-auto-alt-ref", "1", "-lag-in-frames", "16", *SPEED),
    ],
    "av1.mp4": [*picture(duration="1"), "-c:v", "libsvtav1", "-preset", "12"],
    "full_range.mp4": [*PICTURE, *X264, "-vf", "scale=out_range=full", "-pix_fmt", "yuvj420p"],
    "rgb.mkv": [*PICTURE, "-c:v", "ffv1", "-pix_fmt", "gbrp"],
    "live.mkv": [*PICTURE, *TONE, *X264_B, *AAC, "-live", "1"],
    "short_audio.mp4": [
        *PICTURE,
        *("-f", "lavfi", "-i", "sine=440:r=48000:d=1"),
        *X264_B,
        *AAC,
    ],
    "long_audio.mkv": [
        *PICTURE,
        *("-f", "lavfi", "-i", "sine=440:r=44100:d=3.5"),
        *X264_B,
        *AAC,
    ],
    "late_picture.mp4": [
        *("-itsoffset", "0.5", *PICTURE),
        *TONE,
        *("-map", "0:v", "-map", "1:a", "-fps_mode", "passthrough", *X264_B, *AAC),
    ],
    "late_sound.mp4": [
        *PICTURE,
        *("-itsoffset", "0.7", *TONE),
        *("-map", "0:v", "-map", "1:a", *X264_B, *AAC),
    ],
    "private.mp4": [
        *PICTURE,
        *X264,
        *("-metadata", "location=+47.3769+008.5417/", "-metadata", "comment=made at home"),
        *("-metadata:s:v:0", "handler_name=Holiday camera", "-movflags", "use_metadata_tags"),
        *("-metadata", "title=Holiday"),
    ],
    "busy.mp4": ["-f", "lavfi", "-i", "mandelbrot=s=480x270:r=25", "-t", "8", *X264],
    "long.mp4": [*picture("160x90", "25", "12"), *X264_B, "-movflags", "+faststart"],
    "long.mkv": [*picture("160x90", "25", "12"), *X264_B],
}


@pytest.fixture(scope="session")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Clips:
    """`clips("plain.mp4")` makes that clip when it is first asked for."""
    directory = tmp_path_factory.mktemp("clips")
    maker = str(find_tools().ffmpeg)

    def run(arguments: list[str], target: Path) -> None:
        command = [maker, "-nostdin", "-v", "error", "-y", *arguments, str(target)]
        subprocess.run(command, check=True, timeout=60, stdin=subprocess.DEVNULL)

    def clip(name: str) -> Path:
        path = directory / name
        if not path.exists():
            if name in RECIPES:
                run(RECIPES[name], path)
            else:
                _MADE[name](clip, run, path)
        return path

    return clip


Run = Callable[[list[str], Path], None]


def _rotated(clip: Clips, run: Run, path: Path) -> None:
    """A quarter turn in the track header, as telephones write it."""
    data = bytearray(clip("plain.mp4").read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    one, sign = 1 << 16, (-1) << 16
    data[matrix : matrix + 36] = struct.pack(">9i", 0, one, 0, sign, 0, 0, 180 << 16, 0, 1 << 30)
    path.write_bytes(data)


def _cover(clip: Clips, run: Run, path: Path) -> None:
    still = path.with_suffix(".jpg")
    run(["-f", "lavfi", "-i", "color=red:s=600x600", "-frames:v", "1"], still)
    source = clip("plain.mp4") if path.suffix == ".mp4" else clip("audio_only.mp3")
    both = ["-i", str(source), "-i", str(still), "-map", "0", "-map", "1", "-c", "copy"]
    which = "1" if path.suffix == ".mp4" else "0"
    run([*both, f"-disposition:v:{which}", "attached_pic"], path)


def _edited(clip: Clips, run: Run, path: Path) -> None:
    """Cut without encoding: the pictures before the cut stay, and an edit list hides them."""
    run(["-ss", "0.5", "-i", str(clip("plain.mp4")), "-c", "copy"], path)


def _shortened(clip: Clips, run: Run, path: Path) -> None:
    """An edit list that hides the second half, as a telephone's trimming does; nothing is cut."""
    data = bytearray(clip("silent.mp4").read_bytes())
    entry = data.index(b"elst") + 4 + 8
    (duration,) = struct.unpack_from(">I", data, entry)
    struct.pack_into(">I", data, entry, duration // 2)
    path.write_bytes(data)


def _captured(clip: Clips, run: Run, path: Path) -> None:
    """A recording that starts in the middle of a group of pictures: its first key frame is cut."""
    whole = path.with_name("whole.ts")
    run([*picture("160x90", duration="4"), *X264_B, "-bsf:v", "noise=drop='lt(n,5)'"], whole)
    path.write_bytes(whole.read_bytes())


def _resized(clip: Clips, run: Run, path: Path) -> None:
    """Two recordings in one file: the picture's size changes from one second to the next."""
    coder = X264_B if path.stem.endswith("reordered") else X264
    parts = []
    for size, start in (("640x360", "0"), ("320x180", "1")):
        part = path.with_name(f"{size}.ts")
        run([*picture(size, duration="1"), *coder, "-output_ts_offset", start], part)
        parts.append(part.read_bytes())
    path.write_bytes(b"".join(parts))


def _subtitled(clip: Clips, run: Run, path: Path) -> None:
    text = path.with_suffix(".srt")
    text.write_text("1\n00:00:00,000 --> 00:00:01,000\nHello\n")
    run(["-i", str(clip("plain.mp4")), "-i", str(text), "-c", "copy", "-c:s", "srt"], path)


def _repeated_times(clip: Clips, run: Run, path: Path) -> None:
    """Two pictures in a row with the same time, as broken cameras write them."""
    shift = "setts=ts='if(eq(N\\,10)\\,TS-512\\,TS)'"
    run(["-i", str(clip("silent.mp4")), "-c", "copy", "-bsf:v", shift], path)


def _cut(name: str, share: float) -> Callable[[Clips, Run, Path], None]:
    def make(clip: Clips, run: Run, path: Path) -> None:
        data = clip(name).read_bytes()
        path.write_bytes(data[: int(len(data) * share)])

    return make


def _flipped(name: str) -> Callable[[Clips, Run, Path], None]:
    """400 bytes inverted, all between the second third of the file and its tenth tenth."""

    def make(clip: Clips, run: Run, path: Path) -> None:
        data = bytearray(clip(name).read_bytes())
        start, end = len(data) // 3, len(data) * 9 // 10
        for at in range(start, end, max(1, (end - start) // 400)):
            data[at] ^= 0xFF
        path.write_bytes(data)

    return make


_MADE: dict[str, Callable[[Clips, Run, Path], None]] = {
    "rotated.mp4": _rotated,
    "cover.mp4": _cover,
    "cover.mp3": _cover,
    "edited.mp4": _edited,
    "shortened.mp4": _shortened,
    "captured.ts": _captured,
    "resized.ts": _resized,
    "resized_reordered.ts": _resized,
    "subtitled.mkv": _subtitled,
    "repeated_times.mkv": _repeated_times,
    "cut.mp4": _cut("long.mp4", 0.55),
    "cut.mkv": _cut("long.mkv", 0.55),
    "no_index.mp4": _cut("plain.mp4", 0.5),
    "flipped.mp4": _flipped("long.mp4"),
    "flipped.mkv": _flipped("long.mkv"),
}


@pytest.fixture(scope="session", params=["path", "wheel"])
def build(request: pytest.FixtureRequest) -> Tools:
    """The machine's own ffmpeg, and the wheel's: every shape goes through both."""
    pair = wheel_binaries() if request.param == "wheel" else None
    tools = find_tools(*map(str, pair)) if pair is not None else find_tools()
    if pair is None and (request.param == "wheel" or tools.origin != "PATH"):
        missing = f"there is no ffmpeg from {request.param}"
        do_without(missing)
    return tools


@pytest.fixture
async def rig(
    tmp_path: Path, ledger_url: str, database: Database, ledger: PostgresLedger
) -> AsyncIterator[Rig]:
    """A ledger, a queue and a store of this test's own, for workers to share."""
    rig = Rig(tmp_path, ledger_url, database, ledger)
    yield rig
    await rig.queue.aclose()


@pytest.fixture
def machine() -> Iterator[Machine]:
    """Where peers live that are processes; in the end nothing of it runs."""
    with machine_of_peers() as machine:
        yield machine
