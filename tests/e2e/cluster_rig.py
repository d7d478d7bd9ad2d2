"""Peers that are processes and share a data directory, and what people do with `peerctl`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import psutil
import pytest

from peer.client import find_peer
from peer.errors import PeerError
from peer.paths import Places
from pipeline.media.tools import Tools
from tests.paced import paced

T = TypeVar("T")

START_WITHIN_S = 60
WITHIN_S = 90
LADDER = "640x360@800k,320x180@300k"
LEASE_S = 60
"""Far longer than any test waits for a death: what comes back does not come back by the lease."""
HURRY_S = 8.0
"""How long a peer may take at most once it hands its work back; the host's ten are not reached."""


class Machine:
    """The processes, by the names of their peers.

    Args:
        config: The peers' configuration file; None: the defaults, and nothing of this machine.
    """

    def __init__(self, data_dir: Path, config: Path | None = None) -> None:
        self.data_dir = data_dir
        self.config = config or Path(os.devnull)
        self.lease_s = LEASE_S
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    def launch(
        self,
        name: str,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        within: Sequence[str] = (),
    ) -> None:
        """Start a peer with one slot, and do not wait for it.

        Args:
            within: The beginning of a command that becomes the one that follows.
        """
        command = [
            *within,
            *(sys.executable, "-m", "peer", "--config", str(self.config), "--name", name),
            *("--data-dir", str(self.data_dir), "--slots", "1", "--stop-grace-s", "60"),
            *("--set", f"ledger.lease_s={self.lease_s}", *arguments),
        ]
        with (self.data_dir / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )

    def start(self, *names: str) -> None:
        """Start peers at once, and wait until each works and all see all."""
        for name in names:
            self.launch(name)
        for name in names:
            self.wait(partial(self._works, name), START_WITHIN_S)
        running = {name for name in self.processes if self.processes[name].poll() is None}
        for name in running:
            self.wait(partial(self._sees, name, running))

    def _works(self, name: str) -> bool:
        return bool(self.ask(name, "status", {}).get("state") == "working")

    def _sees(self, name: str, others: set[str]) -> bool:
        return self.living(name) >= others

    def ask(self, name: str, command: str, otherwise: Any, **arguments: Any) -> Any:
        """What a peer answers; `otherwise` while it does not."""
        try:
            peer = find_peer(Places(self.data_dir), socket_path=None, name=name)
            return peer.ask(command, **arguments)
        except PeerError:
            return otherwise

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Every recorded event of that kind, asked of anybody."""
        peer = find_peer(Places(self.data_dir), socket_path=None, name=self.somebody())
        *events, _ = peer.follow("events", type=kind)
        return events

    def somebody(self) -> str:
        """A peer that runs."""
        return next(name for name, process in self.processes.items() if process.poll() is None)

    def peerctl(self, *arguments: str, code: int = 0) -> str:
        """Run a command, and return what it printed; errors are at the end."""
        command = [sys.executable, "-m", "peer.cli", *arguments]
        environment = os.environ | {
            "GRAPEVINE_PEER_DATA_DIR": str(self.data_dir),
            "GRAPEVINE_CONFIG": str(self.config),
        }
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr + self.logs()
        return done.stdout + done.stderr

    def table(self, seen_by: str) -> dict[str, dict[str, Any]]:
        """The members by name as `peerctl table --json` has them; empty while nobody answers."""
        answer: dict[str, Any] = self.ask(seen_by, "table", {"members": []})
        return {member["name"]: member for member in answer["members"]}

    def row(self, seen_by: str, name: str) -> dict[str, Any]:
        """One member's row; empty while nobody answers, or knows it."""
        return self.table(seen_by).get(name, {})

    def wait_for_state(self, seen_by: str, name: str, state: str) -> None:
        """Wait until a peer takes another one for that."""
        self.wait(lambda: self.row(seen_by, name).get("state") == state)

    def wait_for_flag(self, seen_by: str, name: str, flag: str, within_s: float = WITHIN_S) -> None:
        """Wait until a member's flag is seen."""
        self.wait(lambda: flag in self.row(seen_by, name).get("flags", []), within_s)

    def living(self, seen_by: str) -> set[str]:
        """Whom a peer takes for alive."""
        return {name for name, row in self.table(seen_by).items() if row["state"] == "alive"}

    def wait(self, condition: Callable[[], T], within_s: float = WITHIN_S) -> T:
        """Wait until a condition holds and return it; on failure, show what the peers logged."""
        deadline = time.monotonic() + within_s
        while not (value := condition()):
            if time.monotonic() > deadline:
                pytest.fail(f"not within {within_s} s; the peers said:\n{self.logs()}")
            time.sleep(0.05)
        return value

    def logs(self) -> str:
        """The ends of all logs."""
        return "".join(
            f"\n--- {log.name}\n{log.read_text()[-3000:]}"
            for log in sorted(self.data_dir.glob("*.log"))
        )

    def submit(self, clip: Path | str, *options: str) -> str:
        """Hand a clip in; return the task's id."""
        return self.peerctl("submit", str(clip), "--ladder", LADDER, *options).splitlines()[0]

    def task(self, task_id: str) -> dict[str, Any]:
        """A task as the ledger has it, asked of anybody; empty while nobody answers."""
        answer: dict[str, Any] = self.ask(self.somebody(), "task", {}, id=task_id)
        return answer

    def wait_for_task(self, task_id: str, state: str, within_s: float = WITHIN_S) -> dict[str, Any]:
        """Wait until a task is in that state, and return it."""
        self.wait(lambda: self.task(task_id).get("state") == state, within_s)
        return self.task(task_id)

    def encoding(self, task_id: str) -> str:
        """Wait until somebody encodes it, and return who."""

        def look() -> str | None:
            task = self.task(task_id)
            assert task.get("state") != "done", "done before it was seen"
            busy = (task.get("progress") or {}).get("step") == "transcode"
            return task["holder"] if busy and task["progress"]["frames"] else None

        return self.wait(look) or ""

    def end(self, name: str, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; return the exit status."""
        process = self.processes[name]
        process.send_signal(number)
        return process.wait(START_WITHIN_S)

    def stop_all(self) -> None:
        """Stop whoever still runs, hurriedly: by a second signal to who has heard the first."""
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


@contextmanager
def machine_in_no_haste(tools: Tools) -> Iterator[Machine]:
    """One whose encodes take as long as their clips, however fast it is: there is a middle to be
    seen, and to be killed in, and no work for the processors that delays anything else."""
    with TemporaryDirectory(prefix="paced-") as directory:
        ffmpeg = Path(directory) / "ffmpeg"
        ffmpeg.write_text(paced(str(tools.ffmpeg)))
        ffmpeg.chmod(0o755)
        settings = {"ffmpeg": str(ffmpeg), "ffprobe": str(tools.ffprobe)}
        # A JSON text is one of TOML's, too.
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in settings.items()]
        with machine_of_peers("".join(["[transcode]\n", *lines])) as machine:
            yield machine


@contextmanager
def machine_of_peers(settings: str = "") -> Iterator[Machine]:
    """A data directory that the database's own user can reach, too; in the end nothing runs.

    Args:
        settings: TOML, for all of its peers.
    """
    data_dir = Path(tempfile.mkdtemp(prefix="grapevine-"))
    data_dir.chmod(0o711)
    config = data_dir / "grapevine.toml"
    config.write_text(settings)
    machine = Machine(data_dir, config if settings else None)
    try:
        yield machine
        machine.stop_all()
        machine.wait(lambda: not machine.left_running(), 30)
    finally:
        machine.stop_all()
        shutil.rmtree(data_dir, ignore_errors=True)


def make_clip(tools: Tools, clip: Path, source: str) -> Path:
    """Encode what a source of lavfi shows, quickly."""
    encoding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    command = [str(tools.ffmpeg), "-v", "error", "-nostdin", "-f", "lavfi", "-i", source, *encoding]
    subprocess.run([*command, str(clip)], check=True)
    return clip
