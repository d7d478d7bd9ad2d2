"""The bench's processes: started, listened to line by line, stopped.

One selector reads them all in the bench's only thread, so what a scenario sees is in the order in
which it came, and the moment of a line is the moment at which it was read: the same clock for both
products. The bench runs before everybody else (nice -10) and gives its children the usual priority.
They get process groups, so that a Ctrl-C reaches only the bench, but no sessions: where the kernel
groups processes by session, each session would get its own share, and niceness would mean nothing.
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from typing import IO, NamedTuple

import psutil

BENCH_NICE = -10
READ_BYTES = 1 << 16
TAIL_LINES = 12


class Crashed(Exception):
    """A process has ended by itself."""


class Line(NamedTuple):
    """One line that a process wrote, and when it was read (monotonic seconds)."""

    at: float
    process: Process
    text: str


class Process:
    """A running child.

    Args:
        nice: How much nicer it is than the bench.
    """

    def __init__(self, name: str, command: Sequence[str], *, nice: int) -> None:
        self.name = name
        self._expected = False
        self._popen = subprocess.Popen(
            ["nice", "-n", str(nice), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            process_group=0,
        )
        assert self._popen.stdout is not None
        self.output: IO[bytes] = self._popen.stdout
        os.set_blocking(self.output.fileno(), False)
        self._partial = b""
        self._tail: list[str] = []

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._popen.pid

    @property
    def cpu_s(self) -> float:
        """Processor time that it has used."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    @property
    def resident_bytes(self) -> int:
        """Memory that is in use by it, what it shares with others included."""
        return int(psutil.Process(self.pid).memory_info().rss)

    @property
    def naps(self) -> int:
        """How often it has waited for something: it had its turn when this has grown."""
        return int(psutil.Process(self.pid).num_ctx_switches().voluntary)

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._popen.send_signal(number)

    def kill(self) -> None:
        """Kill it at once. It may be frozen."""
        self._expected = True
        self._popen.kill()

    def reap(self) -> None:
        """Wait for its end after `kill`."""
        self._popen.wait(timeout=10)
        self.output.close()

    def read(self) -> list[str] | None:
        """Return the lines that have come; None at its end.

        Raises:
            Crashed: Nobody killed it.
        """
        try:
            received = os.read(self.output.fileno(), READ_BYTES)
        except BlockingIOError:
            return []
        if not received:
            if not self._expected:
                last = "\n".join(self._tail)
                raise Crashed(f"{self.name} has ended by itself. It said at last:\n{last}")
            return None
        *lines, self._partial = (self._partial + received).split(b"\n")
        texts = [line.decode(errors="replace") for line in lines]
        self._tail = [*self._tail, *texts][-TAIL_LINES:]
        return texts


class Processes:
    """All children of a bench, from its start to its end.

    Args:
        nice: The bench's own priority meanwhile; a negative one takes root.
    """

    def __init__(self, nice: int = BENCH_NICE) -> None:
        self._nice = nice
        self._nice_before = os.getpriority(os.PRIO_PROCESS, 0)
        self._selector = selectors.DefaultSelector()
        self._running: dict[int, Process] = {}

    def __enter__(self) -> Processes:
        os.setpriority(os.PRIO_PROCESS, 0, self._nice)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(list(self._running.values()))
        self._selector.close()
        os.setpriority(os.PRIO_PROCESS, 0, self._nice_before)

    def start(self, name: str, command: Sequence[str], *, nice: int = 0) -> Process:
        """Start a process at this priority, and listen to it."""
        process = Process(name, command, nice=nice - self._nice)
        self._running[process.pid] = process
        self._selector.register(process.output, selectors.EVENT_READ, process)
        return process

    def stop(self, processes: Sequence[Process]) -> None:
        """Kill those that still run, and wait for their end; their last words are lost."""
        running = [process for process in processes if process.pid in self._running]
        for process in running:
            process.kill()
        for process in running:
            self._selector.unregister(process.output)
            process.reap()
            del self._running[process.pid]

    def listen(self, timeout_s: float) -> list[Line]:
        """Wait for output, at most so long, and return what came, in order.

        Raises:
            Crashed: A process has ended that nobody killed.
        """
        heard: list[Line] = []
        for key, _ in self._selector.select(max(0.0, timeout_s)):
            process: Process = key.data
            heard += [Line(time.monotonic(), process, text) for text in process.read() or []]
        return heard
