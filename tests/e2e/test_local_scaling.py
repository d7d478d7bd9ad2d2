"""Real peers that scaling starts on this machine: they come, are begun again, outlive their leader,
and end with the last peer that a person has started."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from peer.client import Peer
from peer.errors import PeerError
from peer.paths import Places
from scaling.local.containers import Found, living
from scaling.local.records import Records

pytestmark = pytest.mark.slow

WITHIN_S = 60.0
SETTINGS = (
    "scaling.orchestrator=local",
    "scaling.containers_min=3",
    "scaling.containers_max=4",
    "scaling.containers_per_node=2",
    "scaling.nodes_max=2",
    "scaling.interval_s=1",
    "scaling.down_window_s=300",
    "scaling.cpu_high=1",
    "scaling.cpu_low=0",
    "scaling.memory_high=1",
)


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Theirs; a root's PostgreSQL must get in. Nothing of them is left."""
    directory = Path(tempfile.mkdtemp(prefix="grapevine-local-"))
    directory.chmod(0o755)
    yield directory / "data"
    for process in _left(directory):
        with suppress(psutil.Error):
            process.kill()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def start(data_dir: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """Start a peer as a person would."""
    started: list[subprocess.Popen[bytes]] = []

    def run() -> subprocess.Popen[bytes]:
        words = [word for setting in SETTINGS for word in ("--set", setting)]
        command = [sys.executable, "-P", "-m", "peer", "--config", os.devnull, "--name", "mine"]
        command += ["--data-dir", str(data_dir), "--slots", "1", "--stop-grace-s", "5", *words]
        log = data_dir.with_name("mine.log").open("ab")
        with log:
            started.append(subprocess.Popen(command, stdout=log, stderr=log))
        return started[-1]

    yield run
    for process in started:
        process.kill()
        process.wait()


def _left(directory: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if any(str(directory) in word for word in process.cmdline()):
                found.append(process)
    return found


def _wait(what: str, condition: Callable[[], Any], within_s: float = WITHIN_S) -> Any:
    deadline = time.monotonic() + within_s
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not in {within_s:g} s: {what}"
        time.sleep(0.1)
    return value


def _begun(data_dir: Path) -> dict[str, Found]:
    """The containers that scaling has started and that live, by the names of their peers.

    Those that have not said yet who they are have begun a moment later: a signal to process 0 is
    one to all of us.
    """
    found = living(Records(Places(data_dir).containers).look())
    return {each.record.name: each for each in found.values() if each.pid and not each.record.kept}


def _is_kept(data_dir: Path, pid: int) -> bool:
    """Whether that process is a container, too, as one that a person has started."""
    found = Records(Places(data_dir).containers).look()
    return any(each.record.kept and each.pid == pid and each.alive for each in found)


def _alive(data_dir: Path, asked: str) -> set[str]:
    """Who lives, as one of them sees it."""
    try:
        table = Peer(Places(data_dir).peer(asked).control_socket).ask("table")
    except PeerError:
        return set()
    return {member["name"] for member in table["members"] if member["state"] == "alive"}


def test_they_outlive_their_leader_and_end_with_its_order(
    data_dir: Path, start: Callable[[], subprocess.Popen[bytes]]
) -> None:
    """Two more are started for the minimum of three, on two nodes. A killed one is begun again. The
    leader is killed: another one leads, and begins a third. A peer is started again, and ended by
    SIGTERM: all end."""
    mine = start()
    two = _wait("two containers", lambda: len(there := _begun(data_dir)) == 2 and there)
    assert {each.record.node for each in two.values()} == {"worker-1", "worker-2"}
    _wait("all are in the table", lambda: _alive(data_dir, "mine") == {"mine", *two})

    name, victim = sorted(two.items())[0]
    os.kill(victim.pid, signal.SIGKILL)
    _wait(
        "it was begun again",
        lambda: (now := _begun(data_dir).get(name)) and now.record.id != victim.record.id,
    )
    _wait("it is in the table", lambda: _alive(data_dir, "mine") == {"mine", *two})

    mine.kill()
    mine.wait()
    three = _wait("a third one instead", lambda: len(now := _begun(data_dir)) == 3 and now)
    assert two.keys() < three.keys()
    other = sorted(two)[1]
    assert three[other].record.id == two[other].record.id, "nobody had to begin anew"
    _wait("all are in the table", lambda: _alive(data_dir, other) >= three.keys())

    mine = start()
    _wait("it is back", lambda: _is_kept(data_dir, mine.pid))
    mine.terminate()
    assert mine.wait(30) == 128 + signal.SIGTERM
    _wait("nothing is left", lambda: not _left(data_dir), 30.0)
