"""Run one of the user's commands to its end, or end it: with all that it has started.

It gets a process group of its own, no standard input, and an environment that was put together for
it. Its output is bounded, and read as it comes, so that it never blocks on a full pipe.

`trio.run_process` is not used: when it is cancelled it kills the program, and not what the program
has started, which would go on ordering machines; and once it has returned, the process id is free,
so that killing the group afterwards could hit a stranger. Here the leader is not reaped before its
group is gone.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import IO

import trio

from scaling.ports import ProviderFailed
from scaling.providers.errors import ProviderRefused
from scaling.providers.join import redacted

STDOUT_BYTES_MAX = 1024 * 1024
STDERR_BYTES_MAX = 4096
"""Of standard error, the end is kept: what went wrong is said last."""
TERMINATE_S = 5.0
"""How long a command may take to end after SIGTERM before SIGKILL follows."""
KILL_S = 10.0
"""How long to wait for the kernel to end what was killed; on a dead disk it may never."""
DRAIN_S = 1.0
"""How long pipes are read after its end; only a descendant that left the group holds them."""
CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended by itself.

    Args:
        returncode: The exit code, or minus the signal's number.
        stderr: The end of standard error as text, at most 4 KiB, without control characters.
    """

    returncode: int
    stdout: bytes
    stderr: str


async def run_command(
    arguments: Sequence[str],
    *,
    environment: Mapping[str, str],
    timeout_s: float,
    hidden: str = "",
) -> Ended:
    """Run it, in the root directory.

    When this returns, raises or is cancelled, nothing of its process group is left.

    Args:
        hidden: A secret that it is given, and that is never in what is told of it.

    Raises:
        ProviderRefused: It cannot be started.
        ProviderFailed: It took too long or printed too much, and was ended.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    program, output = arguments[0], _Output(hidden)
    with _started(arguments, environment) as child:
        try:
            with trio.move_on_after(timeout_s):
                await _watch(child, output)
            if output.overflowed:
                raise ProviderFailed(
                    f"{program} was ended: it printed more than {STDOUT_BYTES_MAX} bytes"
                )
            if not child.ended:
                raise ProviderFailed(
                    f"{program} was ended: it took longer than {timeout_s:g} s"
                    + _said(output.stderr_text())
                )
        finally:
            if not child.ended:
                with trio.CancelScope(shield=True):
                    await child.terminate()
            returncode = child.reap()
    return Ended(returncode=returncode, stdout=bytes(output.stdout), stderr=output.stderr_text())


def failure(ended: Ended, program: str) -> str:
    """Say how a command failed: its exit code, and the end of what it complained about."""
    if ended.returncode < 0:
        how = f"was killed by {signal.Signals(-ended.returncode).name}"
    else:
        how = f"failed with exit code {ended.returncode}"
    return f"{program} {how}{_said(ended.stderr)}"


def _said(stderr: str) -> str:
    return f": {stderr}" if stderr else " and said nothing"


class _Output:
    """What it prints: the beginning of one stream, the end of the other."""

    def __init__(self, hidden: str) -> None:
        self.stdout = bytearray()
        self.overflowed = False
        self._hidden = hidden
        self._stderr = bytearray()
        self._whole = True

    async def read_stdout(self, pipe: IO[bytes], overflow: trio.Event) -> None:
        while chunk := await _receive(pipe):
            self.stdout += chunk
            if len(self.stdout) > STDOUT_BYTES_MAX:
                self.overflowed = True
                overflow.set()
                return

    async def read_stderr(self, pipe: IO[bytes]) -> None:
        while chunk := await _receive(pipe):
            self._stderr += chunk
            self._whole = self._whole and len(self._stderr) <= STDERR_BYTES_MAX
            del self._stderr[:-STDERR_BYTES_MAX]

    def stderr_text(self) -> str:
        text = self._stderr.decode("utf-8", errors="replace")
        if not self._whole:  # the first word may be the rest of a secret
            text = text.partition(" ")[2] if " " in text else ""
        text = redacted(text, self._hidden)
        return "".join(c if c.isprintable() or c == "\n" else " " for c in text).strip()


async def _receive(pipe: IO[bytes]) -> bytes:
    await trio.lowlevel.wait_readable(pipe)
    return os.read(pipe.fileno(), CHUNK_BYTES)


async def _watch(child: _Child, output: _Output) -> None:
    """Read until it has ended, and a moment longer; or until it has printed too much."""
    overflow = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(output.read_stdout, child.stdout, overflow)
        nursery.start_soon(output.read_stderr, child.stderr)
        async with trio.open_nursery() as waiting:

            async def stop_waiting() -> None:
                await overflow.wait()
                waiting.cancel_scope.cancel()

            waiting.start_soon(stop_waiting)
            await child.wait()
            waiting.cancel_scope.cancel()
        child.kill_group()  # so that nobody is left who holds the pipes
        nursery.cancel_scope.deadline = trio.current_time() + DRAIN_S


class _Child:
    """A started command: the leader of a session and a process group of its own."""

    def __init__(self, popen: subprocess.Popen[bytes], pidfd: int) -> None:
        assert popen.stdout is not None
        assert popen.stderr is not None
        self.stdout, self.stderr = popen.stdout, popen.stderr
        self.ended = False
        self._popen, self._pidfd = popen, pidfd

    async def wait(self) -> None:
        """Wait until it has ended. It is not reaped, so its process id stays its own."""
        await trio.lowlevel.wait_readable(self._pidfd)
        self.ended = True

    async def terminate(self) -> None:
        """Ask it to end, then end it, and everything in its group."""
        for number, patience_s in ((signal.SIGTERM, TERMINATE_S), (signal.SIGKILL, KILL_S)):
            self._signal_group(number)
            with trio.move_on_after(patience_s):
                await self.wait()
            if self.ended:
                return

    def kill_group(self) -> None:
        """Kill what is left; safe only before the leader is reaped."""
        self._signal_group(signal.SIGKILL)

    def reap(self) -> int:
        """Take its exit status; that of one which does not end even when killed is SIGKILL's."""
        self.kill_group()
        return self._popen.wait() if self.ended else -signal.SIGKILL

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)


@contextmanager
def _started(arguments: Sequence[str], environment: Mapping[str, str]) -> Iterator[_Child]:
    """Start it, and close its pipes and its pidfd in the end."""
    try:
        popen = subprocess.Popen(
            list(arguments),
            cwd="/",
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
    except OSError as error:
        raise ProviderRefused(
            f"{arguments[0]} cannot be started: {error.strerror}; install it, or correct "
            "scaling.provider.exec"
        ) from error
    assert popen.stdout is not None
    assert popen.stderr is not None
    with popen.stdout, popen.stderr:
        try:
            pidfd = os.pidfd_open(popen.pid)
        except OSError:  # no file descriptor is left
            popen.kill()
            popen.wait()
            raise
        try:
            yield _Child(popen, pidfd)
        finally:
            os.close(pidfd)
