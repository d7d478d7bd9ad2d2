"""Run one program to its end, or end it: ffmpeg and ffprobe, on input that nobody trusts.

The program gets nothing it could do harm with: a bounded address space and file size, an
environment without our secrets, no standard input, the lowest priority, a process group of its own,
and a fence around it (`confinement`): its own files, no network, no other process. It dies with
this peer, even when the peer is killed with SIGKILL, since an encoder without a holder would work
for hours on what nobody will collect.

All but the fence is set by a chain of small programs that replace one another (`setpriv prlimit
nice chrt ffmpeg`), so it holds from its first instruction. The alternatives were tried: setting
it from here after the start leaves threads that were started in between at the old priority, and
`preexec_fn` may deadlock in a process with threads. The chain costs 1.2 ms.

`trio.run_process` is not used. It starts programs from a worker thread, the kernel counts the
*thread* as the parent, and trio ends a thread that was idle for ten seconds: so ffmpeg, tied to
its parent, died after ten seconds. Here it is started by the thread inside the fence, which stays
until its end; trio's own thread waits 2 ms for the start. The end is awaited through a pidfd.
"""

from __future__ import annotations

import functools
import logging
import os
import resource
import shutil
import signal
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import trio

from pipeline.errors import ToolMissing
from pipeline.media.confinement import Bounds, fenced
from pipeline.media.limits import ProcessLimits
from pipeline.media.log_tail import LogTail

__all__ = ["TERMINATE_S", "Finished", "ProcessLimits", "run"]

TERMINATE_S = 2.0
"""How long a program may take to end after SIGTERM before SIGKILL follows."""
KILL_S = 10.0
"""How long to wait for the kernel to end a killed program; on a dead disk it may never."""
DRAIN_S = 1.0
"""How long its pipes are read after its end; only a descendant that left the group holds them."""
OOM_SCORE_MORE, OOM_SCORE_MAX = 500, 1000
"""In thousandths of the container's memory: as if the program used half of it more."""
STDOUT_BYTES_MAX = 64 * 1024 * 1024
CHUNK_BYTES = 64 * 1024
STALL_CPU_SHARE = 0.001
"""Of one core. A waiting ffmpeg 8 wakes twice a second to report progress, and uses less."""

_CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a run ended.

    Args:
        returncode: The exit code, or minus the signal's number. Zero does not mean that the output
            is complete, and other values differ from release to release.
        stdout: Everything it wrote there; empty when `on_stdout` took it.
        log: The end of standard error, at most 8 KiB, free of control characters.
        cpu_seconds: User and system time of all its threads.
        memory_peak_bytes: Resident. Never less than this peer's own was at the start, which the
            kernel counts in.
        stopped_for: `wall`, `stall` or `output` (more standard output than allowed) when it was
            stopped here; else None. Beyond its file size the kernel ends it with SIGXFSZ, and
            beyond its memory it reports an error of its own.
    """

    returncode: int
    stdout: bytes
    log: str
    cpu_seconds: float
    memory_peak_bytes: int
    stopped_for: str | None


async def run(
    arguments: Sequence[str],
    *,
    cwd: Path,
    limits: ProcessLimits,
    reads: Sequence[Path] = (),
    on_stdout: Callable[[bytes], None] | None = None,
    on_stderr_line: Callable[[str], None] | None = None,
    stdout_max_bytes: int = STDOUT_BYTES_MAX,
) -> Finished:
    """Run a program in `cwd`, a directory of its own, and return how it ended.

    When this call is cancelled, or a callback raises, the program has ended when it returns:
    SIGTERM to its group, SIGKILL after 2 s. It dies with this process.

    Args:
        arguments: The program's absolute path, then its arguments. No shell is involved.
        reads: What it may read besides the system's programs and what is in `cwd`.
        on_stdout: Takes standard output as it comes instead of collecting it; must not block.
        on_stderr_line: Is shown every line of standard error, cut at 4 KiB; must not block.
        stdout_max_bytes: How much standard output is collected before it is stopped for `output`.

    Raises:
        ToolMissing: The program, or one that sets its limits, cannot be started.
        ExceptionGroup: What a callback raised.
    """
    await trio.lowlevel.checkpoint_if_cancelled()
    output = _Output(on_stdout, on_stderr_line, stdout_max_bytes)
    with _spawned(arguments, cwd, limits, reads) as child:
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(output.drain_stdout, child.stdout)
                nursery.start_soon(output.drain_stderr, child.stderr)
                stopped_for = await _supervise(child, limits, output)
                if stopped_for is not None:
                    await child.terminate()
                child.kill_group()
                nursery.cancel_scope.deadline = trio.current_time() + DRAIN_S
        finally:
            if not child.ended:
                with trio.CancelScope(shield=True):
                    await child.terminate()
            child.reap()
    return Finished(
        returncode=child.returncode,
        stdout=bytes(output.stdout),
        log=output.log.text,
        cpu_seconds=child.usage.ru_utime + child.usage.ru_stime,
        memory_peak_bytes=child.usage.ru_maxrss * 1024,
        stopped_for=stopped_for,
    )


class _Output:
    """Takes both pipes as fast as they come, and keeps a bounded part."""

    def __init__(
        self,
        on_stdout: Callable[[bytes], None] | None,
        on_stderr_line: Callable[[str], None] | None,
        stdout_max_bytes: int,
    ) -> None:
        self._on_stdout = on_stdout
        self._on_stderr_line = on_stderr_line
        self._stdout_max_bytes = stdout_max_bytes
        self.stdout = bytearray()
        self.log = LogTail()
        self.overflowed = trio.Event()

    async def drain_stdout(self, pipe: IO[bytes]) -> None:
        while chunk := await _receive(pipe):
            if self._on_stdout is not None:
                self._on_stdout(chunk)
            elif len(self.stdout) + len(chunk) <= self._stdout_max_bytes:
                self.stdout += chunk
            else:
                self.overflowed.set()

    async def drain_stderr(self, pipe: IO[bytes]) -> None:
        while chunk := await _receive(pipe):
            self._show(self.log.feed(chunk))
        self._show(self.log.finish())

    def _show(self, lines: list[str]) -> None:
        if self._on_stderr_line is not None:
            for line in lines:
                self._on_stderr_line(line)


async def _receive(pipe: IO[bytes]) -> bytes:
    """The next bytes, or none at the end. A pipe with a single reader does not block once ready."""
    await trio.lowlevel.wait_readable(pipe)
    return os.read(pipe.fileno(), CHUNK_BYTES)


class _Child:
    """A started program: the leader of a session and a process group of its own."""

    def __init__(self, popen: subprocess.Popen[bytes], pidfd: int) -> None:
        assert popen.stdout is not None
        assert popen.stderr is not None
        self.stdout, self.stderr = popen.stdout, popen.stderr
        self._popen = popen
        self._pidfd = pidfd
        self.ended = False
        self.returncode = -signal.SIGKILL
        self.usage = resource.struct_rusage([0] * 16)

    async def wait(self) -> None:
        """Wait until it has ended. It is not reaped, so its process id stays its own."""
        await trio.lowlevel.wait_readable(self._pidfd)
        self.ended = True

    async def terminate(self) -> None:
        """End it and everything in its group."""
        self._signal_group(signal.SIGTERM)
        with trio.move_on_after(TERMINATE_S):
            await self.wait()
        if not self.ended:
            self.kill_group()
            with trio.move_on_after(KILL_S):
                await self.wait()

    def kill_group(self) -> None:
        """Kill what is left of the group; safe only before the leader is reaped."""
        self._signal_group(signal.SIGKILL)

    def reap(self) -> None:
        """Take its exit status and what it has used. Nobody else waits for our children."""
        if not self.ended:
            # Popen itself keeps a list of the unfinished, and reaps it when the kernel lets go.
            _log.error(
                "a killed program does not end; does a disk hang?",
                extra={"action": "program_stuck", "pid": self._popen.pid},
            )
            return
        self.kill_group()
        _, status, self.usage = os.wait4(self._popen.pid, 0)
        self.returncode = os.waitstatus_to_exitcode(status)
        self._popen.returncode = self.returncode  # tells Popen that nothing is left to wait for

    def cpu_seconds(self) -> float:
        """What it has used until now; 0 when it has just ended."""
        try:
            fields = Path(f"/proc/{self._popen.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS_PER_S

    def _signal_group(self, number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)


async def _supervise(child: _Child, limits: ProcessLimits, output: _Output) -> str | None:
    """Wait for its end, or return why it must be stopped."""
    reasons: list[str | None] = []

    async def give_reason(reason: str | None, wait: Callable[[], Awaitable[None]]) -> None:
        await wait()
        reasons.append(reason)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_reason, None, child.wait)
        nursery.start_soon(give_reason, "output", output.overflowed.wait)
        nursery.start_soon(give_reason, "wall", functools.partial(trio.sleep, limits.wall_s))
        if limits.stall_s is not None:
            stalled = functools.partial(_wait_stalled, child, limits.stall_s)
            nursery.start_soon(give_reason, "stall", stalled)
    return None if child.ended else reasons[0]


async def _wait_stalled(child: _Child, stall_s: float) -> None:
    """Return when the program has used next to no CPU time for `stall_s`.

    The quiet time is counted in looks, not read off the clock: when the whole machine or this peer
    was frozen, many seconds are one look, and the program is not blamed for them.
    """
    period_s = stall_s / 10
    enough_s = max(1 / _CLOCK_TICKS_PER_S, STALL_CPU_SHARE * stall_s)
    quiet_s, used_s = 0.0, child.cpu_seconds()
    while quiet_s < stall_s:
        await trio.sleep(period_s)
        now_used_s = child.cpu_seconds()
        if now_used_s - used_s >= enough_s:
            quiet_s, used_s = 0.0, now_used_s
        else:
            quiet_s += period_s


@contextmanager
def _spawned(
    arguments: Sequence[str], cwd: Path, limits: ProcessLimits, reads: Sequence[Path]
) -> Iterator[_Child]:
    """Start the program, and close its pipes and its pidfd in the end."""
    if not os.access(arguments[0], os.X_OK):
        raise ToolMissing(f"{arguments[0]} is not a program that can be started: install it again")
    start = functools.partial(_start, [*_launcher(limits), *arguments], cwd)
    bounds = Bounds(reads=[*_places_of(Path(arguments[0])), *reads], writes=cwd)
    with fenced(start, bounds) if limits.fenced else nullcontext(start()) as popen:
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
                _offer_to_oom_killer(popen.pid)
                yield _Child(popen, pidfd)
            finally:
                os.close(pidfd)


def _start(command: Sequence[str], cwd: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        cwd=cwd,
        env={"PATH": os.defpath, "LANG": "C.UTF-8", "TMPDIR": str(cwd)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )


def _places_of(program: Path) -> list[Path]:
    """A program that is not the system's, and the libraries that came with it."""
    real = program.resolve()
    return [real, *(real.parent.parent / name for name in ("lib", "lib64"))]


def _offer_to_oom_killer(pid: int) -> None:
    """When memory is used up the kernel shall end an encoder, and leave the peer to tell of it.

    Anybody may make a program of his own more likely to be ended. Set from here, as a system that
    does not let us is no reason not to encode; it matters only once the program has grown.
    """
    file = Path(f"/proc/{pid}/oom_score_adj")
    with suppress(OSError, ValueError):
        file.write_text(str(min(OOM_SCORE_MAX, int(file.read_text()) + OOM_SCORE_MORE)))


def _launcher(limits: ProcessLimits) -> list[str]:
    """The chain of programs that replace one another and leave their settings to the last."""
    setpriv, prlimit, nice, chrt = _launch_programs()
    bounds = ["--core=0"]
    if limits.memory_bytes is not None:
        bounds.append(f"--as={_attainable(resource.RLIMIT_AS, limits.memory_bytes)}")
    if limits.file_bytes is not None:
        bounds.append(f"--fsize={_attainable(resource.RLIMIT_FSIZE, limits.file_bytes)}")
    return [
        *(setpriv, "--no-new-privs", "--pdeathsig", "KILL", "--"),
        *(prlimit, *bounds, "--"),
        *(nice, "-n", "19", "--"),
        *(chrt, "--batch", "0"),
    ]


@functools.cache
def _launch_programs() -> tuple[str, ...]:
    """All four are in every Debian (util-linux and coreutils are essential packages)."""
    found = {name: shutil.which(name) for name in ("setpriv", "prlimit", "nice", "chrt")}
    missing = [name for name, path in found.items() if path is None]
    if missing:
        raise ToolMissing(
            f"programs that bound ffmpeg are missing ({', '.join(missing)}): install util-linux"
        )
    return tuple(path for path in found.values() if path is not None)


def _attainable(kind: int, value: int) -> int:
    """A limit may be lowered by anybody and raised by root: a stricter one of ours stays."""
    _, hard = resource.getrlimit(kind)
    return value if hard == resource.RLIM_INFINITY else min(value, hard)
