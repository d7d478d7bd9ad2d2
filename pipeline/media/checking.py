"""Look at what was made, from outside: probe every file, and decode its first and last second.

The whole of every output could be decoded again; that was measured at 15 % of the encode. Most of
it would find nothing: an encoder writes whole pictures or fails. What goes wrong are the ends of a
file (a missing flush, a cut index), and those are decoded, with `-xerror`, so that the first
complaint counts. The deblocking filter is skipped: it changes pixels, and is not a check.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import trio

from pipeline.errors import TranscodeFailed
from pipeline.media.hls import MediaPlaylist
from pipeline.media.inspector import QUIET
from pipeline.media.limits import SourceLimits, as_arguments, inspecting
from pipeline.media.outputs import Output, OutputReader, output_arguments
from pipeline.media.process import run
from pipeline.media.rejection import explain_stopped, tidy_log
from pipeline.media.tools import Tools

PROBES_AT_ONCE = 2
END_S = 1.0

OUTPUT_GUARD = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,hls"}
PIECE_GUARD = {"protocol_whitelist": "file,concat", "format_whitelist": "mov,mp4"}
"""Our own files, with names that we chose; even so, nothing else needs to be opened."""


async def probe_outputs(
    names: Mapping[str, str], directory: Path, tools: Tools, limits: SourceLimits
) -> tuple[dict[str, Output], float]:
    """Probe files below a directory.

    Args:
        names: Each file's path by the name that it goes by.

    Returns:
        What each holds, in the order of `names`, and the CPU seconds that took.

    Raises:
        TranscodeFailed: One cannot be read at all.
    """
    found: dict[str, Output] = {}
    failures: list[TranscodeFailed] = []
    cpu_seconds = 0.0
    limiter = trio.CapacityLimiter(PROBES_AT_ONCE)

    async def probe(name: str, path: str) -> None:
        nonlocal cpu_seconds
        reader = OutputReader()
        async with limiter:
            finished = await run(
                [
                    str(tools.ffprobe),
                    *(*QUIET, *as_arguments(OUTPUT_GUARD), *output_arguments()),
                    path,
                ],
                cwd=directory,
                limits=inspecting(limits),
                on_stdout=reader.feed,
            )
        cpu_seconds += finished.cpu_seconds
        if stopped := explain_stopped(finished, "checking an output"):
            failures.append(stopped)
        elif finished.returncode != 0:
            failures.append(
                TranscodeFailed(
                    f"The output {path} cannot be read back.",
                    code="output_unverified",
                    log_tail=tidy_log(finished.log),
                )
            )
        else:
            found[name] = reader.finish()

    async with trio.open_nursery() as nursery:
        for name, path in names.items():
            nursery.start_soon(probe, name, path)
    if failures:
        raise failures[0]
    return {name: found[name] for name in names}, cpu_seconds


def file_ends(path: str, end_s: float) -> list[list[str]]:
    """How to read the first and the last second of a file: ffmpeg's options up to its input."""
    if end_s <= 2 * END_S:
        return [["-i", path]]
    return [["-t", f"{END_S:g}", "-i", path], ["-ss", f"{end_s - END_S:.3f}", "-i", path]]


def playlist_ends(directory: str, playlist: MediaPlaylist) -> list[list[str]]:
    """The same of a playlist: its first second and its last segment, each behind the init segment.

    Not through the playlist: ffmpeg loses its place when it seeks in one of fragmented MP4.
    """
    names = [name for name, _ in playlist.segments]
    first, last = (f"concat:{directory}/{playlist.init}|{directory}/{names[at]}" for at in (0, -1))
    head = ["-t", f"{END_S:g}", "-i", first]
    return [head, ["-i", last]] if len(names) > 1 else [["-i", first]]


async def decode_ends(
    ends: Sequence[list[str]], directory: Path, tools: Tools, limits: SourceLimits
) -> float:
    """Decode the ends of files below a directory, all in one process.

    Returns:
        The CPU seconds it took.

    Raises:
        TranscodeFailed: A decoder complained.
    """
    guard = [*as_arguments(PIECE_GUARD), "-threads", "1", "-skip_loop_filter", "all"]
    inputs = [word for end in ends for word in (*guard, *end)]
    mapped = [word for number in range(len(ends)) for word in ("-map", str(number))]
    finished = await run(
        [str(tools.ffmpeg), "-nostdin", *QUIET, "-xerror", *inputs, *mapped, "-f", "null", "-"],
        cwd=directory,
        limits=inspecting(limits),
    )
    if stopped := explain_stopped(finished, "checking the outputs"):
        raise stopped
    if finished.returncode != 0:
        raise TranscodeFailed(
            "The first or the last second of an output cannot be decoded without errors.",
            code="output_unverified",
            log_tail=tidy_log(finished.log),
        )
    return finished.cpu_seconds
