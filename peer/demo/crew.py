"""The demo's peers: ordinary `peer` processes whose life is tied to ours.

Ending them on the way out is not enough, because a command can be killed without a way out. So each
peer inherits the reading end of a pipe whose writing end only this process holds: whatever happens
to us, the kernel closes it, the peers read its end, hand back their work and stop
(`peer --lifeline`). A watchdog process would itself have to be watched.

Each peer has a session of its own, so that Ctrl-C in the terminal reaches the demo alone, which
then stops them in order.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from peer.client import Peer
from peer.commands.session import shaped
from peer.config import PREFIX
from peer.errors import DemoFailed, PeerError
from peer.paths import Places
from peer.protocol import GossipTable, LocalEvent, PeerStatus
from peer.screen.tables import PeerRow
from pipeline.ledger.server_locks import FileLock, Kind

START_WITHIN_S = 90.0
"""The first start makes a database, on a machine that may be slow or busy."""

STOP_GRACE_S = 2
STOP_WITHIN_S = 15.0
"""After SIGTERM; the grace is in it, and the embedded server's own stop."""

ANSWER_WITHIN_S = 3.0
LOG_TAIL_LINES = 12


class Crew:
    """Starts the peers on entering, and leaves none behind on leaving.

    Args:
        data_dir: Theirs alone; it exists.
        settings: `section.key=value` texts for each of them.
    """

    def __init__(self, data_dir: Path, names: Sequence[str], settings: Sequence[str] = ()) -> None:
        self.places = Places(data_dir)
        self._names = names
        self._settings = settings
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._killed: set[str] = set()
        self._lifeline: int | None = None
        self._lock: int | None = None

    def __enter__(self) -> Self:
        self._lock = _lock(self.places.data_dir)
        try:
            reading, self._lifeline = os.pipe()
            try:
                for name in self._names:
                    self._processes[name] = self._start(name, reading)
            finally:
                os.close(reading)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _start(self, name: str, lifeline: int) -> subprocess.Popen[bytes]:
        command = [
            sys.executable, "-P", "-m", "peer",
            "--config", os.devnull,
            "--data-dir", str(self.places.data_dir),
            "--name", name,
            "--slots", "1",
            "--stop-grace-s", str(STOP_GRACE_S),
            "--lifeline", str(lifeline),
            *(word for setting in self._settings for word in ("--set", setting)),
        ]  # fmt: skip
        log = self.log(name)
        log.parent.mkdir(exist_ok=True)
        with log.open("wb") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.places.data_dir,
                env=_environment(os.environ),
                pass_fds=[lifeline],
                start_new_session=True,
            )

    def log(self, name: str) -> Path:
        """Where that peer writes its log; each run begins a new one."""
        return self.places.data_dir / "logs" / f"{name}.log"

    def look(self) -> list[PeerRow]:
        """Ask every peer how it is; none of them can hold up the answer for long."""
        return [self._look(name, process) for name, process in self._processes.items()]

    def _look(self, name: str, process: subprocess.Popen[bytes]) -> PeerRow:
        if process.poll() is not None:
            return PeerRow(name, process.pid, "killed" if name in self._killed else "stopped")
        try:
            status = shaped(PeerStatus, self._peer(name).ask("status"))
        except PeerError:
            return PeerRow(name, process.pid, "starting")
        if status.pid != process.pid:
            return PeerRow(name, process.pid, "starting")
        return PeerRow(name, process.pid, status.state, status)

    def table(self) -> GossipTable | None:
        """The gossip table as the first peer sees it that answers; None before one does."""
        for _, peer in self._living():
            with suppress(PeerError):
                return shaped(GossipTable, peer.ask("table"))
        return None

    def noticed(self, type: str) -> tuple[str, list[LocalEvent]]:
        """Which living peer was asked, and what it remembers of one kind of change."""
        for name, peer in self._living():
            with suppress(PeerError):
                *events, _ = peer.follow("local_events", type=type, limit=1000)
                return name, shaped(list[LocalEvent], events)
        return "", []

    def _living(self) -> Iterator[tuple[str, Peer]]:
        for name, process in self._processes.items():
            if process.poll() is None:
                yield name, self._peer(name)

    def _peer(self, name: str) -> Peer:
        return Peer(self.places.peer(name).control_socket, answer_timeout_s=ANSWER_WITHIN_S)

    def kill(self, name: str) -> int:
        """Kill a peer as a machine that loses its power would; return its process id."""
        process = self._processes[name]
        self._killed.add(name)
        process.kill()
        process.wait()
        return process.pid

    def check_started(self, seen: Sequence[PeerRow], since: float) -> bool:
        """Tell whether every peer works.

        Args:
            since: When they were started, on the monotonic clock.

        Raises:
            DemoFailed: One of them has ended, or they take too long; with the log's last lines.
        """
        for peer in seen:
            if peer.state == "stopped":
                raise DemoFailed(f"the peer {peer.name} did not start; {self._log_tail(peer.name)}")
        late = [peer.name for peer in seen if peer.state != "working"]
        if late and time.monotonic() - since > START_WITHIN_S:
            raise DemoFailed(
                f"the peer {late[0]} did not start within {START_WITHIN_S:g} s; "
                f"{self._log_tail(late[0])}"
            )
        return not late

    def check_alive(self, seen: Sequence[PeerRow]) -> None:
        """Make sure that somebody is left to do the work; one is enough.

        Raises:
            DemoFailed: All have ended; with the last lines of the first one's log.
        """
        if all(peer.state in ("stopped", "killed") for peer in seen):
            first = seen[0].name
            raise DemoFailed(f"all peers have stopped; {self._log_tail(first)}")

    def _log_tail(self, name: str) -> str:
        log = self.log(name)
        lines = log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:]
        return f"{log} ends with:\n" + "\n".join(f"  {line}" for line in lines)

    def stop(self) -> None:
        """Tell all to stop, wait, and kill what does not; at once on a second Ctrl-C."""
        deadline = time.monotonic() + STOP_WITHIN_S
        running = [process for process in self._processes.values() if process.poll() is None]
        try:
            for process in running:
                process.send_signal(signal.SIGTERM)
            for process in running:
                process.wait(max(0.0, deadline - time.monotonic()))
            _wait_for_server(self.places.postgres, deadline)
        except (subprocess.TimeoutExpired, KeyboardInterrupt):
            for process in running:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        finally:
            for descriptor in (self._lifeline, self._lock):
                if descriptor is not None:
                    os.close(descriptor)
            self._lifeline = self._lock = None


def _environment(ours: Mapping[str, str]) -> dict[str, str]:
    """Ours without our settings: the demo shows the embedded default, whatever else is set up."""
    return {name: value for name, value in ours.items() if not name.startswith(PREFIX)}


def _lock(data_dir: Path) -> int:
    """Hold the directory, so that two demos do not use each other's peers.

    Raises:
        DemoFailed: Another demo holds it.
    """
    lock = os.open(data_dir / "demo.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(lock)
        raise DemoFailed(
            f"another demo is running in {data_dir}; wait for its end, or choose a --data-dir"
        ) from error
    return lock


def _wait_for_server(directory: Path, deadline: float) -> None:
    """Wait until the embedded PostgreSQL has ended, which it does when its last user has left."""
    if directory.is_dir():
        with FileLock(directory / "server.lock") as server:  # held by every process of the server
            server.acquire(Kind.SHARED, deadline=deadline)
