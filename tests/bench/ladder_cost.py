"""The `web` ladder by one decode, against one ffmpeg for each rendition: CPU time.

The first arm is the command that a peer runs, with poster and thumbnails. The second is what people
write by hand: four commands, each with a decoder of its own, and nothing but its rendition. Their
encoder options are taken out of the first command word by word, so that both arms encode the same.
The arms take turns, and every second pair starts with the other one.

What is saved is decoding, so the source decides. This one is like footage from a camera: 20 Mbit/s
at 1080p, with detail everywhere, motion and grain (a zoom into the Mandelbrot set under noise).
Film material that was scaled to the same size and rate gave the same ratio to within 0.02, and took
within 15 % of the time to decode; a plain test pattern decodes far too easily.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import trio

from pipeline.media.arguments import directories, encoding_of, transcode_arguments
from pipeline.media.config import TranscodeConfig
from pipeline.media.inspector import inspect
from pipeline.media.ladder import Rendition, parse_ladder
from pipeline.media.limits import ProcessLimits
from pipeline.media.process import run
from pipeline.media.tools import Tools, find_tools
from pipeline.ports import Order
from pipeline.tasks import Strictness
from tests.bench.rows import Row, print_rows

PAIRS = 5
SECONDS = 4
THREADS = 2
GOAL = 0.88
LIMITS = ProcessLimits(wall_s=600.0, stall_s=60.0)

INDEXED = re.compile(r"(-[a-z]+:v):(\d+)")


def measure() -> list[Row]:
    """Run both arms in turns and compare their CPU seconds."""
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as name:
        ratio = trio.run(_compare, find_tools(), Path(name))
    return [
        Row(
            metric="CPU time of `web`: one decode / one ffmpeg per rendition",
            measured=ratio,
            goal=GOAL,
            at_most=True,
        )
    ]


async def _compare(tools: Tools, directory: Path) -> float:
    """The median over all pairs of the ratio of their CPU seconds."""
    config = TranscodeConfig(encoder_threads=THREADS)
    source = _make_footage(tools, directory / "source.mp4")
    order = Order(
        source=source,
        output=directory,
        ladder=parse_ladder("web"),
        strictness=Strictness.STRICT,
    )
    plan = (await inspect(order, tools, config)).plan
    for needed in directories(plan):
        await trio.Path(directory / needed).mkdir(parents=True)
    encoding = encoding_of(config, THREADS)
    together = transcode_arguments(tools.ffmpeg, source, plan, encoding, config)
    arms = [[together], [_alone(together, source, made) for made in plan.renditions]]
    ratios = []
    for number in range(PAIRS):
        seconds = [0.0, 0.0]
        for arm in (0, 1) if number % 2 == 0 else (1, 0):
            seconds[arm] = await _cpu_seconds(arms[arm], directory)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)


async def _cpu_seconds(commands: Sequence[Sequence[str]], cwd: Path) -> float:
    total = 0.0
    for command in commands:
        finished = await run(command, cwd=cwd, limits=LIMITS)
        if finished.returncode != 0:
            raise SystemExit(f"the bench's ffmpeg failed:\n{finished.log}")
        total += finished.cpu_seconds
    return total


def _alone(together: Sequence[str], source: Path, rendition: Rendition) -> list[str]:
    """One rendition's command, with the options that it has in the command for all."""
    start, tee = together.index("-filter_complex"), together.index("tee")
    number = re.findall(r"\](\w+)\.mp4", " ".join(together)).index(rendition.name)
    options: list[str] = []
    for option, value in list(pairwise(together[tee + 1 :]))[::2]:
        if not option.startswith("-"):
            break  # the files of the tee: the options end here
        indexed = INDEXED.fullmatch(option)
        if indexed is None:
            options += [option, value]
        elif int(indexed[2]) == number:
            options += [indexed[1], value]
    scale = f"scale={rendition.width}:{rendition.height}:flags=lanczos,setsar=1,format=yuv420p"
    maps = ["-map", "0:v:0", "-map", "0:a:0", "-filter:v", scale]
    output = ["-movflags", "+faststart", "-f", "mp4", f"alone_{rendition.name}.mp4"]
    assert together[start - 2 : start] == ["-i", str(source)]
    return [*together[:start], *maps, *options, *output]


def _make_footage(tools: Tools, path: Path) -> Path:
    picture = "mandelbrot=size=1920x1080:rate=30:maxiter=200:inner=mincol"
    grain = "noise=alls=4:allf=t,format=yuv420p"
    video = ["-c:v", "libx264", "-preset", "medium", "-b:v", "20M", "-bf", "3"]
    inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=frequency=440"]
    outputs = ["-t", str(SECONDS), "-vf", grain, *video, "-c:a", "aac", str(path)]
    command = [str(tools.ffmpeg), "-v", "error", "-nostdin", "-y", *inputs, *outputs]
    subprocess.run(command, check=True)
    return path


if __name__ == "__main__":
    print_rows(measure())
