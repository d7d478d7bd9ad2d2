"""How a real peer ends that an orchestrator stops: in good order, in time, and with status 143.

An orchestrator sends SIGTERM, waits for as long as it was told to, and then kills; a host that is
shut down waits for ten seconds, whatever it was told. It sends the second SIGTERM never, people do.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipeline.media.tools import Tools
from tests.e2e.cluster_rig import HURRY_S, Machine, machine_in_no_haste, make_clip
from tests.missing import do_without

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def clip(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip whose encode takes some seconds here, so that there is a middle to be stopped in."""
    clip = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(tools, clip, "testsrc2=size=640x360:rate=25:duration=8")


@pytest.fixture
def machine(tools: Tools) -> Iterator[Machine]:
    """Where peers live that are processes; in the end nothing of it runs."""
    with machine_in_no_haste(tools) as machine:
        yield machine


def attempts(task: dict[str, Any]) -> list[tuple[str, str]]:
    """By whom, and how each ended."""
    return [(attempt["peer_name"], attempt["outcome"]) for attempt in task["attempts"]]


def resume(machine: Machine, name: str) -> None:
    """Let a peer that was drained work."""
    machine.peerctl("drain", name, "--undo", "--peer", name)


def with_a_second(machine: Machine, clip: Path, *settings: str) -> str:
    """Let `one` encode, with `two` beside it that takes nothing; return the task."""
    machine.start("two")
    machine.peerctl("drain", "two", "--peer", "two")
    machine.launch("one", *settings)
    machine.wait(lambda: machine.ask("one", "status", {}).get("state") == "working")
    task_id = machine.submit(clip)
    assert machine.encoding(task_id) == "one"
    return task_id


def test_a_stopping_peer_takes_nothing_and_finishes_what_it_has(
    machine: Machine, clip: Path
) -> None:
    """What comes after SIGTERM is left to others, and nothing of it fails."""
    task_id = with_a_second(machine, clip)
    machine.processes["one"].terminate()
    machine.wait_for_flag("two", "one", "draining")
    later = machine.submit(clip)
    assert machine.processes["one"].wait(60) == 143
    resume(machine, "two")
    assert attempts(machine.wait_for_task(task_id, "done")) == [("one", "done")]
    assert attempts(machine.wait_for_task(later, "done")) == [("two", "done")]


def test_the_grace_is_kept(machine: Machine, clip: Path) -> None:
    """Work that takes longer is handed back, free of charge, and the peer ends with 143."""
    task_id = with_a_second(machine, clip, "--stop-grace-s", "1")
    began = time.monotonic()
    assert machine.end("one") == 143
    assert 1.0 <= time.monotonic() - began < 1.0 + HURRY_S
    resume(machine, "two")
    task = machine.wait_for_task(task_id, "done")
    assert attempts(task) == [("one", "handed_back"), ("two", "done")]
    assert task["failures"] == {}


def test_a_hurried_peer_waits_for_no_ledger(machine: Machine, clip: Path) -> None:
    """The second SIGTERM, while the database hangs: the peer is gone in eight seconds all the same,
    with its encoder, and the task is done by another once the ledger is back."""
    task_id = with_a_second(machine, clip)
    (encoder,) = psutil.Process(machine.processes["one"].pid).children()
    machine.processes["one"].terminate()
    machine.wait_for_flag("two", "one", "draining")
    with frozen_database(machine):
        began = time.monotonic()
        assert machine.end("one") == 143
        assert time.monotonic() - began < HURRY_S
        assert not encoder.is_running()
    resume(machine, "two")
    task = machine.wait_for_task(task_id, "done")
    assert attempts(task)[-1] == ("two", "done")


def test_a_host_that_goes_down_loses_nothing(machine: Machine, clip: Path) -> None:
    """SIGTERM, and SIGKILL before the work is finished: another peer does it, at once."""
    task_id = with_a_second(machine, clip)
    machine.processes["one"].terminate()
    machine.wait_for_flag("two", "one", "draining")
    assert machine.end("one", signal.SIGKILL) == -signal.SIGKILL
    resume(machine, "two")
    task = machine.wait_for_task(task_id, "done")
    assert attempts(task) == [("one", "expired"), ("two", "done")]
    assert task["failures"] == {"crash": 1}
    # Whoever took the task over had asked and heard nothing; the cluster agrees a little later.
    machine.wait(lambda: machine.events("ContainerFailureDetected"))
    (failure,) = machine.events("ContainerFailureDetected")
    assert (failure["data"]["failed_name"], failure["data"]["reason"]) == ("one", "silent")


def test_a_peer_that_is_process_1(machine: Machine, clip: Path) -> None:
    """In a container without an init: SIGTERM lets the work finish, and the container ends with
    143, with nothing left in it."""
    if os.geteuid() != 0:
        do_without("only root may make a process namespace here")
    machine.start("two")
    machine.peerctl("drain", "two", "--peer", "two")
    within = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "--")
    machine.launch("one", "--set", "peer.container=task-1", within=within)
    machine.wait(lambda: machine.ask("one", "status", {}).get("state") == "working")
    task_id = machine.submit(clip)
    assert machine.encoding(task_id) == "one"
    (first,) = psutil.Process(machine.processes["one"].pid).children()
    first.terminate()
    assert machine.processes["one"].wait(60) == 143
    task = machine.wait_for_task(task_id, "done")
    assert attempts(task) == [("one", "done")]
    assert task["attempts"][0]["container"] == "task-1"
    assert machine.row("two", "one")["container"] == "task-1"


@contextmanager
def frozen_database(machine: Machine) -> Iterator[None]:
    """Let the embedded server do nothing, and keep its connections."""
    (file,) = machine.data_dir.glob("postgres/**/postmaster.pid")
    server = psutil.Process(int(file.read_text().split()[0]))
    processes = [server, *server.children(recursive=True)]
    for process in processes:
        process.suspend()
    try:
        yield
    finally:
        for process in processes:
            process.resume()
