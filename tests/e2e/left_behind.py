"""What programs leave behind that start others: found by the directory that all of them know."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


@contextmanager
def nothing_left_in(prefix: str, within_s: float) -> Iterator[Path]:
    """A directory in /tmp that a root's PostgreSQL can enter; in the end nobody works in it."""
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o755)
    yield directory
    try:
        assert wait(lambda: not left(directory), within_s), left(directory)
    finally:
        for process in left(directory):
            process.kill()
        shutil.rmtree(directory, ignore_errors=True)


def left(directory: Path) -> list[psutil.Process]:
    """Every process that was started with, or works in, that directory, but not this one."""
    found = []
    for process in psutil.process_iter():
        try:
            known = [*process.cmdline(), process.cwd()]
        except psutil.Error:
            continue
        if process.pid != os.getpid() and any(str(directory) in word for word in known):
            found.append(process)
    return found


def words(process: psutil.Process) -> list[str]:
    """Its command line; none when it has ended."""
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []


def wait(condition: Callable[[], object], within_s: float) -> bool:
    """Whether it became true in time."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
