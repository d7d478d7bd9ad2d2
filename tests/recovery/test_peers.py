"""Real peers on one machine, killed, frozen and stopped in the middle of an encode.

Everything is real: the peers are processes, the ledger is the embedded PostgreSQL, ffmpeg encodes.
What must hold is always the same: each task ends once, its outputs come from one attempt, and
nothing is left running or half visible.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from peer.client import Peer, find_peer
from peer.errors import PeerError
from peer.paths import Places
from pipeline.media.tools import Tools, find_tools

pytestmark = pytest.mark.slow

LEASE_S = 4
START_WITHIN_S = 60
DONE_WITHIN_S = 120
LADDER = "640x360@800k,320x180@300k"

OpenDirectory = Callable[[], Path]


class Machine:
    """Peers that share one data directory, and what people do with them."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.frozen: set[str] = set()

    def start(self, name: str, *settings: str, grace_s: float = 60) -> None:
        """Start a peer with one slot, and wait until it works."""
        command = [sys.executable, "-m", "peer", "--data-dir", str(self.data_dir), "--name", name]
        command += ["--slots", "1", "--stop-grace-s", str(grace_s)]
        command += ["--set", f"ledger.lease_s={LEASE_S}"]
        command += [word for setting in settings for word in ("--set", setting)]
        with (self.data_dir / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self.wait(lambda: self.status(name).get("state") == "working", START_WITHIN_S)

    def wait(self, condition: Callable[[], Any], within_s: float = DONE_WITHIN_S) -> Any:
        """Wait until a condition holds and return it; on failure, show what the peers logged."""
        deadline = time.monotonic() + within_s
        while not (value := condition()):
            if time.monotonic() > deadline:
                logs = "".join(log.read_text() for log in self.data_dir.glob("*.log"))
                pytest.fail(f"not within {within_s} s; the peers said:\n{logs[-6000:]}")
            time.sleep(0.05)
        return value

    def peer(self, name: str | None = None) -> Peer:
        """The one of that name, or somebody who is not frozen."""
        awake = [name for name in self.processes if name not in self.frozen]
        name = name or next(name for name in awake if self.processes[name].poll() is None)
        return find_peer(Places(self.data_dir), socket_path=None, name=name)

    def status(self, name: str) -> dict[str, Any]:
        """How a peer is; empty when it does not answer."""
        try:
            answer: dict[str, Any] = self.peer(name).ask("status")
        except PeerError:
            return {}
        return answer

    def submit(self, clip: Path) -> str:
        """Submit a clip and return the task's id."""
        answers = list(self.peer().follow("submit", path=str(clip), ladder=LADDER))
        return str(answers[-1]["task_id"])

    def task(self, task_id: str) -> dict[str, Any]:
        """A task with its outputs and events, once somebody can say."""

        def ask() -> dict[str, Any] | None:
            try:
                answer: dict[str, Any] = self.peer().ask("task", id=task_id)
            except (PeerError, StopIteration):
                return None  # nobody is there to be asked
            return answer

        found: dict[str, Any] = self.wait(ask)
        return found

    def encoding(self, task_id: str, *, attempt: int = 1) -> dict[str, Any]:
        """Wait until the ladder of a task is being made, and return the task."""

        def look() -> dict[str, Any] | None:
            task = self.task(task_id)
            progress = task["progress"] or {}
            assert task["state"] in ("queued", "running"), f"{task['state']} before it was seen"
            busy = progress.get("step") == "transcode" and progress.get("frames")
            return task if busy and task["attempt"] == attempt else None

        found: dict[str, Any] = self.wait(look)
        return found

    def done(self, task_id: str) -> dict[str, Any]:
        """Wait until a task is done and return it."""

        def look() -> dict[str, Any] | None:
            task = self.task(task_id)
            assert task["state"] in ("queued", "running", "done"), task["error"]
            return task if task["state"] == "done" else None

        found: dict[str, Any] = self.wait(look)
        return found

    def freeze(self, name: str) -> None:
        """Stop a peer's threads, as a starved or paused machine would."""
        self.frozen.add(name)
        self.processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name: str) -> None:
        """Let it go on."""
        self.processes[name].send_signal(signal.SIGCONT)
        self.frozen.discard(name)

    def stop_all(self) -> None:
        """Stop whoever still runs, hurriedly: by a second signal to who has heard the first. Sent
        together, the kernel makes one of them."""
        for name in list(self.frozen):
            self.thaw(name)
        for process in self.processes.values():
            process.terminate()
        for process in self.processes.values():
            try:
                process.wait(timeout=1.5)
            except subprocess.TimeoutExpired:
                process.terminate()
        for process in self.processes.values():
            process.wait(timeout=30)

    def left_running(self) -> list[str]:
        """Programs that still work in the data directory."""
        found = []
        for process in psutil.process_iter():
            try:
                line = " ".join(process.cmdline())
            except psutil.Error:
                continue
            if str(self.data_dir) in line and process.pid != os.getpid():
                found.append(line)
        return found


@pytest.fixture
def machine() -> Iterator[Machine]:
    """A data directory that the database's own user can reach, too."""
    data_dir = Path(tempfile.mkdtemp(prefix="grapevine-"))
    data_dir.chmod(0o711)
    machine = Machine(data_dir)
    try:
        yield machine
        machine.stop_all()
        machine.wait(lambda: not machine.left_running(), 30)
    finally:
        machine.stop_all()
        shutil.rmtree(data_dir, ignore_errors=True)


@pytest.fixture(scope="module")
def clip(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that takes some seconds to encode, so that there is a middle to be killed in."""
    clip = tmp_path_factory.mktemp("clips") / "clip.mp4"
    video = "testsrc2=size=960x540:rate=30:duration=40,noise=alls=20:allf=t"
    sound = "sine=frequency=440:duration=40"
    arguments = ["-f", "lavfi", "-i", video, "-f", "lavfi", "-i", sound]
    encoding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    command = [str(tools.ffmpeg), "-v", "error", "-nostdin", "-y", *arguments, *encoding]
    subprocess.run([*command, str(clip)], check=True)
    return clip


def outputs_are_whole(machine: Machine, task: dict[str, Any]) -> None:
    """What is committed is what is visible, and every rendition plays to its end."""
    visible = {
        str(path) for path in (machine.data_dir / "store/tasks").rglob("*") if path.is_file()
    }
    assert visible == {output["url"] for output in task["outputs"]}
    renditions = [output for output in task["outputs"] if output["kind"] == "rendition"]
    assert len(renditions) == 2
    for rendition in renditions:
        counted = subprocess.run(
            [
                str(find_tools().ffprobe),
                "-v",
                "error",
                "-select_streams",
                "v",
                "-count_packets",
                "-of",
                "csv=p=0",
                "-show_entries",
                "stream=nb_read_packets",
                rendition["url"],
            ],
            check=True,
            capture_output=True,
            text=True,
        )
        assert counted.stdout.strip() == "1200"


def story(task: dict[str, Any]) -> list[str]:
    return [event["type"] for event in task["events"]]


def test_a_killed_peers_task_is_finished_by_another(machine: Machine, clip: Path) -> None:
    """kill -9 in the middle of an encode: its ffmpeg dies with it, and after the lease another
    peer makes the outputs, once.
    """
    machine.start("one")
    machine.start("two")
    task_id = machine.submit(clip)
    victim = machine.processes[machine.encoding(task_id)["holder"]]
    [encoder] = psutil.Process(victim.pid).children()

    victim.kill()
    killed_at = time.monotonic()
    psutil.wait_procs([encoder], timeout=5)
    machine.wait(lambda: machine.task(task_id)["attempt"] == 2)
    taken_over_s = time.monotonic() - killed_at
    task = machine.done(task_id)

    assert not encoder.is_running()
    assert taken_over_s < LEASE_S + 10
    assert task["attempt"] == 2
    assert task["failures"] == {"crash": 1}
    assert story(task).count("WorkloadProcessingFinished") == 1
    assert story(task).count("ContainerErrorRetry") == 1
    outputs_are_whole(machine, task)


def test_a_frozen_peer_that_wakes_up_changes_nothing(machine: Machine, clip: Path) -> None:
    """SIGSTOP for longer than the lease: another peer finishes; the sleeper's outputs vanish."""
    machine.start("one")
    machine.start("two")
    task_id = machine.submit(clip)
    sleeper = machine.encoding(task_id)["holder"]

    machine.freeze(sleeper)
    machine.encoding(task_id, attempt=2)
    machine.thaw(sleeper)
    task = machine.done(task_id)
    machine.wait(lambda: machine.status(sleeper).get("running") == [])

    assert task["attempt"] == 2
    assert story(task).count("WorkloadProcessingFinished") == 1
    outputs_are_whole(machine, task)


def test_a_killed_database_is_started_again(machine: Machine, clip: Path) -> None:
    """kill -9 of the embedded PostgreSQL: the encode goes on, and its outputs are committed."""
    machine.start("one")
    task_id = machine.submit(clip)
    machine.encoding(task_id)
    postmaster = int((machine.data_dir / "postgres/data/postmaster.pid").read_text().split()[0])

    os.kill(postmaster, signal.SIGKILL)
    task = machine.done(task_id)

    assert task["attempt"] == 1
    assert story(task).count("TaskReceived") == 1
    outputs_are_whole(machine, task)


def test_sigterm_lets_the_current_work_finish(machine: Machine, clip: Path) -> None:
    """Within the grace: the peer that was told to stop finishes the task, and exits with 143."""
    machine.start("one")
    task_id = machine.submit(clip)
    machine.encoding(task_id)

    machine.processes["one"].terminate()
    status = machine.processes["one"].wait(timeout=DONE_WITHIN_S)
    machine.start("two")
    task = machine.done(task_id)

    assert status == 143
    assert task["attempt"] == 1
    outputs_are_whole(machine, task)


def test_a_second_sigterm_hands_the_work_back(machine: Machine, clip: Path) -> None:
    """At once, free of charge, and another peer takes it without waiting for a lease."""
    machine.start("one")
    task_id = machine.submit(clip)
    machine.encoding(task_id)

    machine.processes["one"].terminate()
    machine.wait(lambda: machine.status("one").get("state") == "draining")
    machine.processes["one"].terminate()
    status = machine.processes["one"].wait(timeout=DONE_WITHIN_S)
    machine.start("two")
    task = machine.done(task_id)

    assert status == 143
    assert (task["attempt"], task["failures"]) == (2, {})
    outputs_are_whole(machine, task)


def test_a_cancelled_task_stops_within_seconds(machine: Machine, clip: Path) -> None:
    """Anywhere: the ffmpeg of another peer is gone within five seconds of `peerctl cancel`."""
    machine.start("one")
    machine.start("two")
    task_id = machine.submit(clip)
    holder = machine.encoding(task_id)["holder"]
    [other] = {"one", "two"} - {holder}
    [encoder] = psutil.Process(machine.processes[holder].pid).children()

    machine.peer(other).ask("cancel", id=task_id, reason="wrong film")
    psutil.wait_procs([encoder], timeout=5)

    assert not encoder.is_running()
    machine.wait(lambda: machine.status(holder).get("running") == [])
    assert machine.task(task_id)["state"] == "cancelled"
    assert not any(path.is_file() for path in (machine.data_dir / "store/tasks").rglob("*")), (
        "nothing of a cancelled task is visible"
    )


def test_the_last_peer_stops_the_database(machine: Machine) -> None:
    """And the first one of the next day finds everything as it was."""
    machine.start("one")
    machine.start("two")
    for name in ("one", "two"):
        machine.processes[name].terminate()
        assert machine.processes[name].wait(timeout=30) == 143

    machine.wait(lambda: not machine.left_running(), 20)
    machine.start("one")

    assert machine.peer().ask("tasks") == []
