"""A real peer in a directory of its own, and what it made ffmpeg do, for the benches.

The ffmpeg that it runs can be a recorder: a script that notes when it was called, with what and
for how long, and calls the real one. So nothing in the product has to know of benches.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from peer.client import Peer, find_peer
from peer.errors import PeerError
from peer.paths import Places

START_TIMEOUT_S = 60
STOP_TIMEOUT_S = 40

# All goes through pipes, because the product allows some calls to write no file at all.
RECORDER = """#!/bin/bash
began=$EPOCHREALTIME
[ {name} = ffprobe ] || echo "$(printf '%q ' "$PWD" "$@")" >"{calls}"
{program} "$@"
status=$?
echo "$began $EPOCHREALTIME" >"{directory}/times"
exit $status
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """When a program ran; in seconds of wall time since 1970."""

    began: float
    ended: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call of ffmpeg for a task: where, and with which arguments, quoted for a shell."""

    cwd: Path
    arguments: str


class Recorder:
    """An ffmpeg and an ffprobe that note when they ran, and what ffmpeg was called with.

    Args:
        keep_calls: Note the calls, too; they fill their pipe after some four tasks.
    """

    def __init__(self, directory: Path, *, keep_calls: bool = False) -> None:
        directory.mkdir()
        self._directory = directory
        for name in ("ffmpeg", "ffprobe"):
            program = shutil.which(name)
            if program is None:
                raise SystemExit(f"{name} is not on PATH: apt-get install ffmpeg")
            script = directory / name
            calls = directory / "calls" if keep_calls else "/dev/null"
            script.write_text(
                RECORDER.format(name=name, program=program, directory=directory, calls=calls)
            )
            script.chmod(0o755)
        self._pipes = {name: self._make_pipe(name) for name in ("times", "calls")}
        self._received = dict.fromkeys(self._pipes, b"")

    def _make_pipe(self, name: str) -> int:
        os.mkfifo(self._directory / name)
        # Open for both, so that no writer ever waits for a reader; it holds 64 KiB.
        return os.open(self._directory / name, os.O_RDWR | os.O_NONBLOCK)

    @property
    def settings(self) -> Mapping[str, str]:
        """What makes a peer use them."""
        programs = {name: str(self._directory / name) for name in ("ffmpeg", "ffprobe")}
        return {
            **{f"transcode.{name}": program for name, program in programs.items()},
            "transcode.limits.fenced": "false",  # they write to pipes that are none of a task's
        }

    def spans(self) -> Sequence[Span]:
        """Every run that has ended until now."""
        pairs = [line.split() for line in self._lines("times")]
        return [Span(began=float(began), ended=float(ended)) for began, ended in pairs]

    def calls(self) -> Sequence[Call]:
        """Every call of ffmpeg in a task's workspace until now, in order."""
        calls = [line.split(" ", 1) for line in self._lines("calls")]
        of_tasks = [(cwd, words) for cwd, words in calls if "/scratch/" in cwd]
        return [Call(cwd=Path(cwd), arguments=words) for cwd, words in of_tasks]

    def _lines(self, name: str) -> Sequence[str]:
        with suppress(BlockingIOError):
            while chunk := os.read(self._pipes[name], 65536):
                self._received[name] += chunk
        return self._received[name].decode().splitlines()


class BenchPeer:
    """A running peer, as a bench talks to it."""

    def __init__(self, peer: Peer, pid: int) -> None:
        self._peer = peer
        self.pid = pid

    def submit(self, video: Path, ladder: str) -> str:
        """Submit a video and return the task's id."""
        for answer in self._peer.follow("submit", path=str(video), ladder=ladder):
            data = answer
        return str(data["task_id"])

    def wait_until_done(self, task_id: str) -> Mapping[str, Any]:
        """Wait for the end of a task and return it with its events."""
        for report in self._peer.follow("watch", id=task_id):
            last = report
        if last["state"] != "done":
            raise SystemExit(f"the bench's task is {last['state']}: {last['error']}")
        shown: Mapping[str, Any] = self._peer.ask("task", id=task_id)
        return shown


@contextmanager
def bench_directory() -> Iterator[Path]:
    """A new directory that is removed at the end.

    Others may pass through it: as root, the peer's database server runs as another user.
    """
    with tempfile.TemporaryDirectory(prefix="grapevine-bench-") as name:
        directory = Path(name)
        directory.chmod(0o711)
        yield directory


def event_time(task: Mapping[str, Any], type: str) -> float:
    """When a task's event was said to have happened, in seconds since 1970."""
    (at,) = [event["at"] for event in task["events"] if event["type"] == type]
    return datetime.fromisoformat(at).timestamp()


@contextmanager
def running_peer(
    directory: Path, *, slots: int, settings: Mapping[str, str] | None = None
) -> Iterator[BenchPeer]:
    """Start a peer with its own embedded server, and stop it at the end."""
    chosen = [f"--set={name}={value}" for name, value in (settings or {}).items()]
    command = [sys.executable, "-m", "peer", "--name", "bench", "--log-level", "warning"]
    with (directory / "peer.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--data-dir", str(directory), "--slots", str(slots), *chosen],
            stdin=subprocess.DEVNULL,
            stderr=log,
        )
        try:
            yield _wait_until_working(process, directory)
        finally:
            process.terminate()
            process.wait(timeout=STOP_TIMEOUT_S)


def _wait_until_working(process: subprocess.Popen[bytes], directory: Path) -> BenchPeer:
    deadline = time.monotonic() + START_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            peer = find_peer(Places(directory), socket_path=None, name="bench")
            if peer.ask("status")["state"] == "working":
                return BenchPeer(peer, process.pid)
        except PeerError:
            pass
        time.sleep(0.05)
    raise SystemExit(f"the peer does not start:\n{(directory / 'peer.log').read_text()}")


def make_clip(path: Path, *, size: str, seconds: float) -> Path:
    """Make a clip whose every picture differs, with sound."""
    video = f"testsrc2=size={size}:rate=30:duration={seconds},noise=alls=8:allf=t"
    sound = f"sine=frequency=440:duration={seconds}"
    arguments = ["-f", "lavfi", "-i", video, "-f", "lavfi", "-i", sound]
    encoding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p", "-c:a", "aac"]
    subprocess.run(
        ["ffmpeg", "-v", "error", "-nostdin", "-y", *arguments, *encoding, str(path)], check=True
    )
    return path
