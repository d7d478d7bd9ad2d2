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
from pipeline.media.inspector import QUIET
from pipeline.media.limits import SourceLimits, as_arguments, inspecting
from pipeline.media.outputs import Output, OutputReader, output_arguments
from pipeline.media.process import run
from pipeline.media.rejection import explain_stopped, tidy_log
from pipeline.media.tools import Tools

PROBES_AT_ONCE = 2
END_S = 1.0

OUTPUT_GUARD = {"protocol_whitelist": "file", "format_whitelist": "mov,mp4,hls"}


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


async def decode_ends(
    outputs: Sequence[tuple[str, Output]], directory: Path, tools: Tools, limits: SourceLimits
) -> float:
    """Decode the first and the last second of files below a directory, in one process.

    Returns:
        The CPU seconds it took.

    Raises:
        TranscodeFailed: A decoder complained.
    """
    inputs: list[str] = []
    count = 0
    for path, output in outputs:
        guard = [*as_arguments(OUTPUT_GUARD), "-threads", "1", "-skip_loop_filter", "all"]
        end_s = output.packets.end_s
        ranges = [("-t", f"{END_S:g}"), ("-ss", f"{max(0.0, end_s - END_S):.3f}")]
        for bounds in ranges if end_s > 2 * END_S else [()]:
            inputs += [*guard, *bounds, "-i", path]
            count += 1
    mapped = [word for number in range(count) for word in ("-map", str(number))]
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
