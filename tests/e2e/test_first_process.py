"""The peer as the first process of a container: of a process namespace, which is what counts."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from peer.first_process import LINGER_S
from tests.missing import do_without

Wait = Callable[[Callable[[], bool], float], None]

STAND_IN = """
import os, signal, sys, time
from peer import first_process
first_process.become()
{}
"""
"""A program below a first process, in place of a peer that would take longer to start."""


@pytest.fixture(autouse=True)
def namespaces() -> None:
    """Only where this process may make some."""
    command = ["unshare", "--pid", "--fork", "--mount-proc", "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)
    if tried.returncode != 0:
        why = f"no process namespace can be made here: {tried.stderr.strip()}"
        do_without(why)


@contextmanager
def container(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a command as process 1 of a namespace; whatever runs in it ends with it."""
    unshare = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--"]
    with subprocess.Popen([*unshare, *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def stand_in(program: str) -> list[str]:
    return [sys.executable, "-I", "-c", STAND_IN.format(program)]


def first(process: subprocess.Popen[str]) -> psutil.Process:
    """The first process of the container, as this machine numbers it."""
    deadline = time.monotonic() + 10
    while not (found := psutil.Process(process.pid).children()):
        assert time.monotonic() < deadline, "the container has not begun"
        time.sleep(0.01)
    return found[0]


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.mark.parametrize(
    ("program", "status"),
    [
        ("sys.exit(0)", 0),
        ("sys.exit(143)", 143),
        ("os.kill(os.getpid(), signal.SIGKILL)", 128 + 9),
        ("os.kill(os.getpid(), signal.SIGTERM)", 128 + 15),
    ],
)
def test_the_container_ends_as_the_peer_does(program: str, status: int) -> None:
    """With its exit status, or 128 and the signal."""
    with container(*stand_in(program)) as process:
        assert process.wait(10) == status


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1]
)
def test_signals_are_passed_on(number: signal.Signals) -> None:
    """What is sent to the container arrives at the peer, which is not process 1 itself."""
    program = (
        f"signal.signal({number.value}, lambda number, _: sys.exit(100 + number))\n"
        "print(os.getpid(), flush=True)\n"
        # Python runs a handler before it begins to sleep or when it has slept; what comes in
        # between, it would run a minute late.
        "while True: time.sleep(0.05)"
    )
    with container(*stand_in(program)) as process:
        assert int(line(process)) > 1
        first(process).send_signal(number)
        assert process.wait(10) == 100 + number


def test_a_signal_cannot_come_too_early(wait_until: Wait) -> None:
    """A peer that is told to end before it has loaded ends: the kernel would drop the signal to a
    process 1 that has no handler yet."""
    with container(sys.executable, "-m", "peer", "--name", "early") as process:
        found = first(process)
        wait_until(lambda: bool(found.children()), 10)
        began = time.monotonic()
        found.terminate()
        assert process.wait(10) == 143
        assert time.monotonic() - began < 5


def test_orphans_are_waited_for(wait_until: Wait) -> None:
    """Whoever loses its parent in the container leaves no zombie."""
    program = (
        "for _ in range(20):\n"
        "    if not os.fork():\n"
        "        if os.fork():\n"
        "            os._exit(0)\n"
        "        time.sleep(0.1)\n"
        "        os._exit(0)\n"
        "    os.wait()\n"
        "print('left', flush=True)\n"
        "time.sleep(60)"
    )
    with container(*stand_in(program)) as process:
        assert line(process) == "left"
        found = first(process)
        wait_until(lambda: len(found.children(recursive=True)) == 1, 10)


@pytest.mark.parametrize(("lasts_s", "is_finished"), [(0.3, True), (60.0, False)])
def test_what_the_peer_leaves_may_end(tmp_path: Path, lasts_s: float, is_finished: bool) -> None:
    """Such as the keeper of the embedded database: it gets a moment, and no more."""
    mark = tmp_path / "mark"
    program = (
        "if not os.fork():\n"
        f"    time.sleep({lasts_s})\n"
        f"    open({str(mark)!r}, 'w').close()\n"
        "    os._exit(0)\n"
        "sys.exit(143)"
    )
    began = time.monotonic()
    with container(*stand_in(program)) as process:
        assert process.wait(LINGER_S + 10) == 143
    assert mark.exists() == is_finished
    assert time.monotonic() - began < LINGER_S + 5
