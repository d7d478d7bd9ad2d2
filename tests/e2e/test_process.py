"""run: real programs within their limits, and their end under every circumstance."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from pipeline.errors import ToolMissing
from pipeline.media.limits import ProcessLimits
from pipeline.media.process import TERMINATE_S, Finished, run
from tests.e2e.small_process import run_from_small_process

LIMITS = ProcessLimits(wall_s=30.0)
MEBIBYTE = 1024 * 1024

# Starts a child in the same group, writes both process ids, ignores SIGTERM.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "60"])
print(os.getpid(), child.pid, flush=True)
while True:
    time.sleep(60)
"""


async def run_python(
    program: str,
    cwd: Path,
    *,
    limits: ProcessLimits = LIMITS,
    on_stdout: Callable[[bytes], None] | None = None,
    on_stderr_line: Callable[[str], None] | None = None,
    stdout_max_bytes: int = MEBIBYTE,
) -> Finished:
    """Run a few lines of Python as the program, which may look at itself."""
    return await run(
        [sys.executable, "-I", "-S", "-c", program],
        cwd=cwd,
        limits=limits,
        reads=[Path("/proc")],
        on_stdout=on_stdout,
        on_stderr_line=on_stderr_line,
        stdout_max_bytes=stdout_max_bytes,
    )


def is_running(pid: int) -> bool:
    """Whether it exists and is no zombie that somebody else has yet to reap."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


async def wait_until(holds: Callable[[], bool], within_s: float = 10.0) -> None:
    with trio.fail_after(within_s):
        while not holds():  # noqa: ASYNC110  # what is waited for happens in another process
            await trio.sleep(0.01)


def open_files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def children() -> list[int]:
    """Process ids of what this process started and has not reaped."""
    threads = Path("/proc/self/task").glob("*/children")
    return [int(pid) for thread in threads for pid in thread.read_text().split()]


def sizes_of(directory: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in directory.iterdir()}


@pytest.mark.parametrize(
    ("program", "returncode", "stdout", "log"),
    [
        ("pass", 0, b"", ""),
        ("print('out')", 0, b"out\n", ""),
        ("import sys; print('err', file=sys.stderr); sys.exit(3)", 3, b"", "err"),
        ("import sys; sys.stderr.write('no newline')", 0, b"", "no newline"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", -9, b"", ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", -11, b"", ""),
        ("import sys; print(sys.stdin.read() == '')", 0, b"True\n", ""),
    ],
)
async def test_how_a_program_ends_is_told(
    tmp_path: Path, program: str, returncode: int, stdout: bytes, log: str
) -> None:
    """Exit code or signal, both outputs, and an empty standard input."""
    finished = await run_python(program, tmp_path)
    assert finished.returncode == returncode
    assert (finished.stdout, finished.log) == (stdout, log)
    assert finished.stopped_for is None


async def test_the_environment_is_minimal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of ours reaches the program, and no file that is open here."""
    monkeypatch.setenv("GRAPEVINE_SECRET", "do not tell")
    with (tmp_path / "inherited").open("w") as inherited:
        os.set_inheritable(inherited.fileno(), True)
        program = (
            "import os; print(sorted(os.environ), os.getcwd(), len(os.listdir('/proc/self/fd')))"
        )
        finished = await run_python(program, tmp_path)
    # Four files: three standard ones, and the directory that is being listed.
    assert finished.stdout.decode() == f"['LANG', 'PATH', 'TMPDIR'] {tmp_path} 4\n"


async def test_priority_and_group(tmp_path: Path) -> None:
    """Nice 19 and SCHED_BATCH from the start, a session of its own, and no new privileges."""
    program = (
        "import os; print(os.getpriority(os.PRIO_PROCESS, 0), os.sched_getscheduler(0),"
        " os.getsid(0) == os.getpgid(0) == os.getpid(),"
        " [line for line in open('/proc/self/status') if 'NoNewPrivs' in line][0].split()[1])"
    )
    finished = await run_python(program, tmp_path)
    assert finished.stdout.decode().split() == ["19", str(os.SCHED_BATCH), "True", "1"]


async def test_the_kernel_ends_it_first(tmp_path: Path) -> None:
    """When memory runs out, the program goes before the peer does."""
    own = int(await trio.Path("/proc/self/oom_score_adj").read_text())
    program = (
        "import time; from pathlib import Path; score = Path('/proc/self/oom_score_adj')\n"
        f"while score.read_text() == '{own}\\n': time.sleep(0.01)\n"
        "print(score.read_text())"
    )
    limits = ProcessLimits(wall_s=10.0)
    finished = await run_python(program, tmp_path, limits=limits)
    assert int(finished.stdout) == min(1000, own + 500)


async def test_cpu_time_and_memory_are_measured(tmp_path: Path) -> None:
    """Both are the program's own, from the kernel's account of it."""
    program = "import time\nkept = bytearray(200 << 20)\nwhile time.process_time() < 0.3: pass\n"
    arguments = [sys.executable, "-I", "-S", "-c", program]
    finished = await run_from_small_process(arguments, cwd=tmp_path, limits=LIMITS)
    assert 0.3 <= finished.cpu_seconds < 1.0
    assert 200 * MEBIBYTE <= finished.memory_peak_bytes < 300 * MEBIBYTE


async def test_memory_is_limited(tmp_path: Path) -> None:
    """Allocation beyond the limit fails inside the program, which says so."""
    limits = ProcessLimits(wall_s=30.0, memory_bytes=300 * MEBIBYTE)
    finished = await run_python("bytearray(400 << 20)", tmp_path, limits=limits)
    assert finished.returncode == 1
    assert finished.log.endswith("MemoryError")
    assert (await run_python("bytearray(100 << 20)", tmp_path, limits=limits)).returncode == 0


async def test_file_size_is_limited(tmp_path: Path) -> None:
    """A file cannot grow beyond the limit; the kernel ends who tries, and leaves no core file."""
    limits = ProcessLimits(wall_s=30.0, file_bytes=MEBIBYTE)
    program = (
        "import signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\n"
        "with open('big', 'wb', buffering=0) as big:\n    while big.write(b'x' * 65536): pass\n"
    )
    finished = await run_python(program, tmp_path, limits=limits)
    assert (finished.returncode, finished.stopped_for) == (-signal.SIGXFSZ, None)
    assert sizes_of(tmp_path) == {"big": MEBIBYTE}


async def test_a_program_that_takes_too_long_is_stopped(tmp_path: Path) -> None:
    """It gets SIGTERM, and what it says then is still heard."""
    program = (
        "trap 'echo stopping >&2; exit 255' TERM\n"  # a shell has begun long before its time is up
        "while :; do :; done\n"
    )
    limits = ProcessLimits(wall_s=3.0, stall_s=30.0)
    finished = await run(["/bin/sh", "-c", program], cwd=tmp_path, limits=limits)
    assert (finished.stopped_for, finished.returncode) == ("wall", 255)
    assert finished.log == "stopping"


async def test_a_program_that_stalls_is_stopped(tmp_path: Path) -> None:
    """One that waits without using the processor is stopped, long before its time is up."""
    limits = ProcessLimits(wall_s=30.0, stall_s=0.5)
    started = time.monotonic()
    finished = await run_python("import time; time.sleep(60)", tmp_path, limits=limits)
    assert (finished.stopped_for, finished.returncode) == ("stall", -signal.SIGTERM)
    assert time.monotonic() - started < 10.0


async def test_a_program_that_works_does_not_stall(tmp_path: Path) -> None:
    """One that computes in silence for several times the limit is left alone."""
    limits = ProcessLimits(wall_s=60.0, stall_s=0.5)
    program = "import time\nend = time.monotonic() + 1.5\nwhile time.monotonic() < end: pass"
    finished = await run_python(program, tmp_path, limits=limits)
    assert (finished.stopped_for, finished.returncode) == (None, 0)


async def test_too_much_output_is_stopped(tmp_path: Path) -> None:
    """Standard output is collected up to its limit; a callback may take any amount."""
    program = "import sys\nfor _ in range(64): sys.stdout.write('x' * 65536)"
    finished = await run_python(program + "\nimport time; time.sleep(60)", tmp_path)
    assert finished.stopped_for == "output"
    assert len(finished.stdout) <= MEBIBYTE
    sizes: list[int] = []
    finished = await run_python(program, tmp_path, on_stdout=lambda data: sizes.append(len(data)))
    assert (finished.stopped_for, finished.stdout, sum(sizes)) == (None, b"", 4 * MEBIBYTE)


async def test_a_flood_of_errors_costs_no_memory(tmp_path: Path) -> None:
    """100 MB of standard error pass through, in lines and without; the end of it is kept."""
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    program = (
        "import os\nchunk = (b'error ' * 100 + b'\\n') * 100\nendless = b'x' * 65536\n"
        "for _ in range(830): os.write(2, chunk)\n"
        "for _ in range(830): os.write(2, endless)\n"
        "os.write(2, b'\\nthe end')\n"
    )
    lengths: list[int] = []
    finished = await run_python(
        program, tmp_path, on_stderr_line=lambda line: lengths.append(len(line))
    )
    assert finished.returncode == 0
    assert finished.log == "the end"
    assert (len(lengths), max(lengths)) == (83_002, 4096)
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert grown_kib < 20 * 1024


async def test_cancelling_ends_the_whole_group(tmp_path: Path) -> None:
    """A program that ignores SIGTERM is gone with its children when the cancelled call returns."""
    pids: list[int] = []
    files = open_files()
    with trio.CancelScope() as scope:

        def note(data: bytes) -> None:
            pids.extend(map(int, data.split()))
            scope.cancel()

        started = time.monotonic()
        await run_python(STUBBORN, tmp_path, on_stdout=note)
    assert scope.cancelled_caught
    assert time.monotonic() - started < TERMINATE_S + 3.0
    assert len(pids) == 2
    await wait_until(lambda: not any(map(is_running, pids)))
    assert pids[0] not in children(), "the program was not reaped"
    assert open_files() == files


async def test_cancelling_is_quick_for_who_listens(tmp_path: Path) -> None:
    """A program that obeys SIGTERM ends the call at once."""
    program = "import time; print(1, flush=True); time.sleep(60)"
    started = time.monotonic()
    with trio.CancelScope() as scope:
        await run_python(program, tmp_path, on_stdout=lambda _: scope.cancel())
    assert scope.cancelled_caught
    assert time.monotonic() - started < TERMINATE_S


async def test_a_cancelled_call_starts_nothing(tmp_path: Path) -> None:
    """Who has been cancelled already gets no program."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await run_python("open('started', 'w')", tmp_path)
    assert scope.cancelled_caught
    assert sizes_of(tmp_path) == {}


async def test_a_callback_that_raises_ends_the_program(tmp_path: Path) -> None:
    """The error comes out, and the program does not go on without a listener."""
    pids: list[int] = []

    def fail(data: bytes) -> None:
        pids.append(int(data))
        raise LookupError("the listener failed")

    program = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
    with pytest.RaisesGroup(LookupError):
        await run_python(program, tmp_path, on_stdout=fail)
    assert not is_running(pids[0])


async def test_a_child_left_behind_does_not_hold_the_call(tmp_path: Path) -> None:
    """When the program ends, what it left in its group ends too; a daemon's pipe is let go."""
    program = (
        "import subprocess\n"
        "left = subprocess.Popen(['sleep', '60'])\n"
        "daemon = subprocess.Popen(['sleep', '60'], start_new_session=True)\n"
        "print(left.pid, daemon.pid, flush=True)\n"
        "left.returncode = daemon.returncode = 0\n"
    )
    started = time.monotonic()
    finished = await run_python(program, tmp_path)
    left, daemon = map(int, finished.stdout.split())
    os.kill(daemon, signal.SIGKILL)
    assert finished.returncode == 0
    assert time.monotonic() - started < 10.0
    await wait_until(lambda: not is_running(left))


PARENT = """
import sys, trio
from pathlib import Path
from pipeline.media.limits import ProcessLimits
from pipeline.media.process import run

async def main():
    await run(
        [sys.executable, "-c", "import os, time; print(os.getpid(), flush=True); time.sleep(60)"],
        cwd=Path(sys.argv[1]),
        limits=ProcessLimits(wall_s=60),
        on_stdout=lambda data: print(data.decode(), end="", flush=True),
    )

trio.run(main)
"""


async def test_the_program_dies_with_its_parent(tmp_path: Path) -> None:
    """kill -9 of the peer takes the program with it."""
    with subprocess.Popen(  # noqa: ASYNC220  # it starts in 1 ms
        [sys.executable, "-c", PARENT, str(tmp_path)], stdout=subprocess.PIPE
    ) as parent:
        assert parent.stdout is not None
        pid = int(await trio.to_thread.run_sync(parent.stdout.readline))
        assert is_running(pid)
        parent.kill()
    try:
        await wait_until(lambda: not is_running(pid))
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def test_the_program_outlives_idle_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is tied to the thread of trio, and no thread that trio retires takes it along."""
    monkeypatch.setattr("trio._core._thread_cache.IDLE_TIMEOUT", 0.1)
    await trio.to_thread.run_sync(lambda: None)
    finished = await run_python("import time; time.sleep(0.5); print('alive')", tmp_path)
    assert (finished.returncode, finished.stdout) == (0, b"alive\n")


async def test_nothing_is_left_open(tmp_path: Path) -> None:
    """Many runs, side by side, leave no open file and no zombie."""
    await run_python("pass", tmp_path)
    files = open_files()
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(run_python, "print(1)", tmp_path)
    assert open_files() == files
    assert all(is_running(pid) for pid in children())


async def test_a_missing_program_is_said(tmp_path: Path) -> None:
    """The error names what cannot be started, before anything is."""
    with pytest.raises(ToolMissing, match="/no/such/ffmpeg is not a program"):
        await run(["/no/such/ffmpeg"], cwd=tmp_path, limits=LIMITS)


@pytest.mark.parametrize("name", ["wall_s", "memory_bytes", "file_bytes", "stall_s"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    """Zero is never meant as a limit."""
    with pytest.raises(ValueError, match=name):
        ProcessLimits(**{"wall_s": 1.0, name: 0})  # type: ignore[arg-type]  # 0 stands for all kinds
