"""The arms of the no-op bench: each a worker that runs all along, and a sender that is called.

Who sends and who works are processes of their own for everybody. A rival's task is done when its
body runs; ours when the ledger has committed it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import psycopg

from peer.client import find_peer
from peer.errors import PeerError
from peer.paths import Places
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitServer

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
DONE_WITHIN_S = 120.0
READY_WITHIN_S = 60.0
STOP_S = 40.0
POLL_S = 0.02
SOURCE = "sources/no-op/source.mp4"
SLOTS = 4
"""As many as a rival takes ahead: each task of ours waits for the disk most of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One task: when it was begun to be handed in, and when it was done; in seconds since 1970."""

    sent: float
    done: float


class Arm(Protocol):
    """**Protocol**: one of those that are compared."""

    @property
    def name(self) -> str: ...

    def run(self, count: int, pause_s: float) -> Sequence[Ran]:
        """Hand so many tasks in and wait until all are done."""
        ...

    def working(self) -> AbstractContextManager[Arm]:
        """Start its worker, and stop it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """Celery or dramatiq.

    Args:
        python: The interpreter of the rivals' environment.
        script: Beside this file.
        environment: What the script asks for.
    """

    name: str
    python: Path
    script: str
    environment: Mapping[str, str]

    def run(self, count: int, pause_s: float) -> Sequence[Ran]:
        """See `Arm`."""
        done_file = Path(self.environment["DONE"])
        done_file.write_bytes(b"")
        command = [str(self.python), self.script, "send", str(count), str(pause_s)]
        sent: list[float] = json.loads(_run(command, self.environment, HERE))
        _wait(lambda: done_file.read_bytes().count(b"\n") >= count, DONE_WITHIN_S, self.name)
        pairs = [line.split() for line in done_file.read_text().splitlines()]
        return [Ran(sent=sent[int(number)], done=float(at)) for number, at in pairs]

    @contextmanager
    def working(self) -> Iterator[Rival]:
        """Start its worker, and stop it."""
        Path(self.environment["DONE"]).touch()
        log = Path(self.environment["DONE"]).with_suffix(".log")
        with _process([str(self.python), self.script, "work"], self.environment, HERE, log):
            yield self


@dataclass(frozen=True, slots=True, kw_only=True)
class Ours:
    """A peer on the same broker.

    Args:
        directory: Its data directory.
    """

    name: str
    directory: Path
    broker: RabbitServer
    database: PostgresServer

    def run(self, count: int, pause_s: float) -> Sequence[Ran]:
        """See `Arm`."""
        command = [sys.executable, "-m", __name__.replace("arms", "grapevine_tasks")]
        environment = {"BROKER": self.broker.url, "SOURCE": SOURCE}
        sent: dict[str, float] = json.loads(
            _run([*command, "send", str(count), str(pause_s)], environment, ROOT)
        )
        with psycopg.connect(self.database.conninfo, autocommit=True) as connection:

            def done() -> dict[str, float]:
                rows = connection.execute(
                    "SELECT task_id::text, extract(epoch FROM ended_at)::float8 FROM claims"
                    " WHERE outcome = 'done' AND task_id = ANY(%s::uuid[])",
                    [list(sent)],
                )
                return {str(task_id): float(at) for task_id, at in rows}

            _wait(lambda: len(done()) == count, DONE_WITHIN_S, self.name, poll_s=0.1)
            return [Ran(sent=sent[task_id], done=at) for task_id, at in done().items()]

    @contextmanager
    def working(self) -> Iterator[Ours]:
        """Start the peer, and stop it."""
        source = self.directory / "store" / SOURCE
        source.parent.mkdir(parents=True)
        source.write_bytes(b"a video")
        command = [sys.executable, "-m", __name__.replace("arms", "grapevine_tasks"), "work"]
        flags = ["--name", "bench", "--data-dir", str(self.directory), "--slots", str(SLOTS)]
        urls = {"ledger.url": self.database.url, "queue.url": self.broker.url}
        chosen = [f"--set={name}={value}" for name, value in urls.items()]
        log = self.directory / "peer.log"
        quiet = ["--config", os.devnull, "--log-level", "warning"]
        with _process([*command, *quiet, *flags, *chosen], {}, ROOT, log):

            def works() -> bool:
                try:
                    peer = find_peer(Places(self.directory), socket_path=None, name="bench")
                    return bool(peer.ask("status")["state"] == "working")
                except PeerError:
                    return False

            _wait(works, READY_WITHIN_S, "the peer")
            yield self


@contextmanager
def _process(
    command: Sequence[str], environment: Mapping[str, str], cwd: Path, log: Path
) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _run(command: Sequence[str], environment: Mapping[str, str], cwd: Path) -> str:
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        check=True,
        timeout=DONE_WITHIN_S,
    ).stdout


def _wait(condition: object, within_s: float, who: str, *, poll_s: float = POLL_S) -> None:
    assert callable(condition)
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{who} is not ready within {within_s:g} s")
        time.sleep(poll_s)
