"""A peer that only talks: it serves the control protocol on a real socket, from a script."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from peer.cli import main
from peer.protocol import ShownTask

Lines = Sequence[Mapping[str, Any]]
"""What is sent back, a JSON document each; the connection is closed after the last one."""

Script = dict[str, Lines | Callable[[dict[str, Any]], Lines]]


class FakePeer:
    """Serves a script, one connection after another, and remembers what was asked."""

    def __init__(self, data_dir: Path, name: str, script: Script) -> None:
        self.data_dir = data_dir
        self.script = script
        self.requests: list[dict[str, Any]] = []
        self.socket_path = data_dir / "peers" / name / "control.sock"
        self.socket_path.parent.mkdir(parents=True, exist_ok=True)
        self._listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(self.socket_path.parent, os.O_RDONLY)
        self._listening.bind(f"/proc/self/fd/{directory}/control.sock")
        os.close(directory)
        self._listening.listen()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as lines:
                if line := lines.readline():
                    with suppress(BrokenPipeError, ConnectionResetError):  # heard enough
                        self._answer(connection, json.loads(line))

    def _answer(self, connection: socket.socket, request: dict[str, Any]) -> None:
        self.requests.append(request)
        answer = self.script[request["command"]]
        for line in answer(request["arguments"]) if callable(answer) else answer:
            connection.sendall(json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Stop, and leave the socket's file as a killed peer would; a second time does nothing."""
        if self._listening.fileno() < 0:
            return
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


StartPeer = Callable[..., FakePeer]


@pytest.fixture
def start_peer(tmp_path: Path) -> Iterator[StartPeer]:
    """Start fake peers in one data directory: `start_peer(script, name="one")`."""
    started: list[FakePeer] = []

    def start(script: Script, name: str = "one") -> FakePeer:
        started.append(FakePeer(tmp_path / "data", name, script))
        return started[-1]

    yield start
    for peer in started:
        peer.close()


TASK_ID = "3f2a1b2c-0000-4000-8000-000000000001"


def task_json(**changes: Any) -> dict[str, Any]:
    """A task as a peer reports it, done unless the changes say otherwise."""
    return {
        "id": TASK_ID,
        "title": "holiday.mp4",
        "source": f"sources/{TASK_ID}/source.mp4",
        "ladder": "web",
        "state": "done",
        "strictness": "strict",
        "priority": "normal",
        "attempt": 1,
        "failures": {},
        "attempts_max": 4,
        "submitted_at": "2026-01-02T03:04:05+00:00",
        "finished_at": "2026-01-02T03:04:35+00:00",
        "retry_at": None,
        "holder": "demo-1",
        "node": "here",
        "progress": None,
        "error": None,
        "warnings": [],
        "outputs": [],
    } | changes


OUTPUT = {
    "kind": "rendition",
    "name": "720p.mp4",
    "rendition": "720p",
    "key": f"tasks/{TASK_ID}/attempt-1/720p.mp4",
    "size": 3_400_000,
    "media": {"width": 1280, "height": 720, "codec": "h264"},
    "url": f"/data/store/tasks/{TASK_ID}/attempt-1/720p.mp4",
}
FAILURE = {
    "stage": "transcode",
    "code": "truncated",
    "message": "The source is cut short.",
    "log_tail": "moov atom not found",
}
ESCALATION = {
    "id": TASK_ID,
    "title": "holiday.mp4",
    "source": f"sources/{TASK_ID}/source.mp4",
    "escalated_at": "2026-01-02T03:04:35+00:00",
    "attempt": 3,
    "stage": "transcode",
    "code": "stalled",
    "message": "ffmpeg made no progress for 60 s.",
    "failures": 2,
    "attempts_max": 2,
    "reason": "failed 2 times, and 2 is the threshold",
    "story": [
        {
            "attempt": attempt,
            "peer": peer,
            "node": "here",
            "stage": stage,
            "code": code,
            "message": message,
            "ended_at": "2026-01-02T03:04:35+00:00",
        }
        for attempt, peer, stage, code, message in (
            (1, "one", "pull", "disk_full", "The disk is full."),
            (2, "two", "transcode", "stalled", "ffmpeg made no progress for 60 s."),
            (3, "two", "transcode", "stalled", "ffmpeg made no progress for 60 s."),
        )
    ],
}
EVENT = {
    "id": 7,
    "at": "2026-01-02T03:04:06+00:00",
    "type": "TaskReceived",
    "task_id": TASK_ID,
    "peer_uid": "00000000000000aa",
    "epoch": 1,
    "sequence": 1,
    "container": "pid:42",
    "node": "here",
    "data": {"attempt": 1},
}
PROGRESS = {
    "step": "transcode",
    "fraction": 0.45,
    "frames": 450,
    "frames_total": 1000,
    "speed": 2.1,
    "eta_s": 12.0,
    "renditions": [
        {"name": "720p", "fraction": 0.45, "step": "transcode"},
        {"name": "480p", "fraction": 0.45, "step": "transcode"},
    ],
}
STATUS = {
    "name": "one",
    "uid": "00000000000000aa",
    "epoch": 1,
    "pid": 42,
    "version": "0.1.0",
    "node": "here",
    "state": "working",
    "slots": 2,
    "running": [
        {"task_id": TASK_ID, "part": 0, "attempt": 1, "title": "holiday.mp4", "progress": 0.45}
    ],
    "started_at": "2026-01-02T03:00:00+00:00",
    "data_dir": "/data",
    "cpu_percent": 180.0,
    "memory_bytes": 73_000_000,
    "dependencies": {"ledger": "ok", "queue": "ok", "store": "ok"},
}


@pytest.fixture
def samples() -> Mapping[str, Any]:
    """Documents as a peer sends them, by name; `task` is a function."""
    return {
        "task_id": TASK_ID,
        "task": task_json,
        "output": OUTPUT,
        "failure": FAILURE,
        "escalation": ESCALATION,
        "event": EVENT,
        "progress": PROGRESS,
        "status": STATUS,
    }


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run `peerctl` with the fake peers' data directory, and with no setting of this machine."""
    config = tmp_path / "grapevine.toml"
    config.touch()
    monkeypatch.setenv("GRAPEVINE_CONFIG", str(config))
    monkeypatch.setenv("GRAPEVINE_PEER_DATA_DIR", str(tmp_path / "data"))

    def run(*arguments: str | Path) -> Result:
        return CliRunner().invoke(main, [str(argument) for argument in arguments])

    return run


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """A file to hand in; nobody here looks into it."""
    path = tmp_path / "holiday.mp4"
    path.write_bytes(b"video")
    return path


@pytest.fixture
def make(samples: Mapping[str, Any]) -> Callable[..., ShownTask]:
    """Make a task report with some changes."""

    def make(**changes: Any) -> ShownTask:
        return msgspec.convert(samples["task"](**changes), ShownTask)

    return make
