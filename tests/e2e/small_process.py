"""Runs programs from a process that is smaller than they are.

The kernel counts into a program's peak memory what its parent had when it was started, and pytest
grows to hundreds of megabytes. So whoever measures a peak has the program started by a process that
does nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import trio

from pipeline.media.limits import ProcessLimits
from pipeline.media.process import Finished, run


async def run_from_small_process(
    arguments: Sequence[str], *, cwd: Path, limits: ProcessLimits, reads: Sequence[Path] = ()
) -> Finished:
    """As `pipeline.media.process.run` does, in the other process."""
    started = _small_process().submit(_run, arguments, cwd, limits, reads)
    return await trio.to_thread.run_sync(started.result)


def _run(
    arguments: Sequence[str], cwd: Path, limits: ProcessLimits, reads: Sequence[Path]
) -> Finished:
    return trio.run(partial(run, arguments, cwd=cwd, limits=limits, reads=reads))


@cache
def _small_process() -> ProcessPoolExecutor:
    # "spawn": a forked one would be as large as this one. It ends with the test run.
    return ProcessPoolExecutor(max_workers=1, mp_context=get_context("spawn"))
