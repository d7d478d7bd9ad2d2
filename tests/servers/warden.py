"""The warden: nothing that a test session has started outlives it, also when the session is killed.

A session that is killed tears nothing down. Its peers would go on for ever, with the containers
that they have started; its control groups would stay, and so would a half-made lab. The warden is a
process at the other end of a pipe. When that is closed without a farewell, it ends every process
with the session's mark in its environment, which children have from their parents however detached
they are, and then runs what it was asked to run in that case.

A guardian (see `guardian`) for each process would have to know it: not so those that a peer starts
and that are meant to outlive it. Process groups and sessions are what a daemon leaves first.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from uuid import uuid4

MARK = "TEST_SESSION_OF_GRAPEVINE"
PATIENCE_S = 3.0
"""For those that end by themselves, or by a guardian, in a better way than ours."""
END_S = 30.0
COMMAND_S = 180.0
POLL_S = 0.1

_on_duty: list[Warden] = []


class Warden:
    """On duty while its context lasts; one at a time."""

    def __enter__(self) -> Warden:
        os.environ[MARK] = uuid4().hex
        self._process = subprocess.Popen(
            [sys.executable, __file__, f"{MARK}={os.environ[MARK]}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=unmarked(),
            text=True,
            start_new_session=True,
        )
        _on_duty.append(self)
        return self

    def __exit__(
        self,
        type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _on_duty.remove(self)
        del os.environ[MARK]
        self._process.communicate("farewell\n")

    def say(self, what: str, command: Sequence[str]) -> None:
        """Ask for a command, or call it off."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([what, command]) + "\n")
        self._process.stdin.flush()


def unmarked() -> dict[str, str]:
    """The environment for a process that sees to its own end better than the warden could."""
    return {name: value for name, value in os.environ.items() if name != MARK}


@contextmanager
def if_killed(*command: str) -> Iterator[None]:
    """While the context lasts: should the session be killed, this is run after its processes' end.

    It is run again until it succeeds. Nothing happens where no warden is on duty.
    """
    wardens = list(_on_duty)
    for warden in wardens:
        warden.say("run", command)
    try:
        yield
    finally:
        for warden in wardens:
            warden.say("forget", command)


def remove_if_killed(*directories: Path) -> AbstractContextManager[None]:
    """While the context lasts: should the session be killed, these empty directories are removed.

    Those that are not there are fine, and two names of one directory, too.
    """
    each = 'for path; do [ ! -e "$path" ] || rmdir "$path" || exit 1; done'
    return if_killed("sh", "-c", each, "sh", *map(str, directories))


def watch(mark: bytes) -> None:
    """Be the warden: listen until the pipe is closed, and act if nobody has said farewell."""
    commands: list[list[str]] = []
    for line in sys.stdin:
        if line == "farewell\n":
            return
        what, command = json.loads(line)
        if what == "run":
            commands.append(command)
        else:
            commands.remove(command)
    end_all(mark)
    for command in reversed(commands):
        _run(command)


def end_all(mark: bytes) -> None:
    """End everybody who has the mark, and whom they start meanwhile."""
    began = time.monotonic()
    while (left := find(mark)) and time.monotonic() < began + END_S:
        if time.monotonic() > began + PATIENCE_S:
            for process in left:
                with suppress(OSError):
                    os.kill(process, signal.SIGKILL)
        time.sleep(POLL_S)


def find(mark: bytes) -> list[int]:
    """Find who has the mark; those of other users are not ours to read."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _run(command: Sequence[str]) -> None:
    deadline = time.monotonic() + COMMAND_S
    while time.monotonic() < deadline:
        with suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, timeout=COMMAND_S)
            if done.returncode == 0:
                return
        time.sleep(POLL_S)


if __name__ == "__main__":
    watch(sys.argv[1].encode())
