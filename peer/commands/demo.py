"""`peerctl demo`: the whole thing on this machine, without setting anything up."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import FrameType

import click

from peer.commands.session import EXIT_FAILED, Session, TakesVideo, console, example
from peer.errors import CommandFailed, DemoFailed
from peer.flags import CONFIG


@click.command(
    cls=TakesVideo,
    epilog=example("peerctl demo holiday.mp4 --ladder hls"),
    short_help="Show the whole thing on this machine.",
)
@click.argument(
    "video", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--ladder",
    help="web, hls, or a list such as 1280x720@2500k,640x360@800k. By default web; with --scale "
    "one small rendition.",
)
@click.option(
    "--data-dir",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where the demo keeps everything; by default, demo in the usual data directory.",
)
@click.option(
    "--kill", is_flag=True, help="Kill the peer that works on it, and show how others take over."
)
@click.option(
    "--scale",
    is_flag=True,
    help="Hand in many small clips at once, and show how containers and nodes come and go.",
)
@CONFIG
def demo(
    *,
    video: Path | None,
    ladder: str | None,
    data_dir: Path | None,
    kill: bool,
    scale: bool,
    config_file: Path | None,
) -> None:
    """Start three peers, let them turn VIDEO into a ladder of renditions, and stop them.

    Without VIDEO it makes a short clip of its own. Ctrl-C stops everything. The outputs stay.

    With --kill, the one that works on it gets a SIGKILL in the middle of the encode; the exit code
    is 0 only if the others found it dead, took its work over, and finished it.

    With --scale, one peer is started and many small clips are handed in at once. Scaling starts
    further containers, which are processes here, takes a second node into service, which is a
    group of them, and when the work is done ends what is not needed any more. The exit code is 0
    only if all of that was seen, and every task was done at its first attempt.
    """
    from peer.demo import burst, run
    from pipeline.errors import BadRequest, ToolMissing
    from pipeline.media.ladder import parse_ladder
    from pipeline.media.tools import find_tools

    if video is not None and not video.is_file():
        raise CommandFailed(f"{video} is not a regular file", kind="usage")
    if kill and scale:
        raise CommandFailed("--kill and --scale are two demos; choose one", kind="usage")
    settings = Session(config_file=config_file).settings()
    ladder = ladder or (burst.LADDER if scale else "web")
    try:
        parse_ladder(ladder)
    except BadRequest as error:
        raise CommandFailed(str(error), kind="usage") from error
    wanted = settings.transcode.ffmpeg, settings.transcode.ffprobe
    try:
        tools = find_tools(*wanted)
    except ToolMissing as error:
        raise DemoFailed(str(error)) from error
    named = zip(("transcode.ffmpeg", "transcode.ffprobe"), wanted, strict=True)
    plan = run.Plan(
        video=video,
        ladder=ladder,
        data_dir=(data_dir or settings.peer.data_dir / "demo").absolute(),
        ffmpeg=tools.ffmpeg,
        settings=tuple(f"{path}={value}" for path, value in named if value),
        kill=kill,
    )
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, _leave)
    perform = burst.run if scale else run.run
    if not perform(plan, console()):
        sys.exit(EXIT_FAILED)


def _leave(number: int, _frame: FrameType | None) -> None:
    """Leave as Ctrl-C does: through every `finally`, so that nothing is left running."""
    sys.exit(128 + number)
