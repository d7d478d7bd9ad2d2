"""The embedded PostgreSQL server: one per data directory, shared by all peers of a machine.

Whoever comes first starts it, and the last to leave has it stopped; in between any process may die
in any way. That is decided by three locks, which the kernel gives back whatever happens (see
`server_locks`), and never by process ids in files:

- `users.lock` is held, shared, by everybody who uses the server. The keeper (see `keeper`) stops
  the server when it gets the lock alone; who comes meanwhile waits for that to be over.
- `start.lock` is held by the one process that looks whether the server runs, and starts it.
- `server.lock` is inherited by every process of the server, so it is free when none is left.

The rejected alternative is the wheel's own lifecycle, which counts users in a file: a user who is
killed stays in it for ever, and so does the server.

Nothing here knows trio; every method blocks and belongs in a thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from pipeline.errors import LedgerUnavailable
from pipeline.ledger import keeper, server_files, server_programs
from pipeline.ledger.server_locks import FileLock, Kind


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConfig:
    """Which server.

    Args:
        directory: The ledger's own directory, made when it is missing; see `server_files`.
        binaries: A directory with `postgres` and `initdb`; None to find one.
        fsync: False makes everything faster, and loses the data when the machine crashes.
        start_within_s: How long a start, or the stop before it, may take.
        stop_within_s: How long the last user waits for the server's end when leaving.
    """

    directory: Path
    binaries: Path | None = None
    fsync: bool = True
    start_within_s: float = 30.0
    stop_within_s: float = 10.0

    def __post_init__(self) -> None:
        if self.start_within_s <= 0 or self.stop_within_s < 0:
            raise ValueError("server: start_within_s must be above 0, stop_within_s not below")


class EmbeddedServer:
    """One user's share in the server. A context manager: `with EmbeddedServer(config) as conninfo`.

    `join` and `leave` are for one thread at a time; `ensure` may be called by several at once.
    """

    _POLL_S = 0.02
    # More than one, because what ends a server may also hit a new one (a kill by the kernel for
    # want of memory, or by a person); few, because what is wrong with the data stays wrong.
    _STARTS_MAX = 3

    def __init__(self, config: ServerConfig) -> None:
        self._config = config
        self._directory = config.directory
        self._descriptor = -1
        self._users: FileLock | None = None

    def join(self) -> str:
        """Become a user of the server, and start it if need be.

        Returns:
            A libpq connection string, good in this process until it leaves, over every restart of
            the server.

        Raises:
            ToolMissing: There are no server programs, or none of the version that made the data.
            LedgerUnavailable: The server does not start; the message says why and what to do.
        """
        if self._users is None:
            self._directory = server_files.open_directory(self._config.directory)
            self._users = self._open_lock("users.lock")
            stopping = "is being stopped, and that does not come to an end"
            try:
                self._descriptor = os.open(self._directory, os.O_PATH | os.O_CLOEXEC)
                self._acquire(self._users, Kind.SHARED, self._start_deadline(), stopping)
                self.ensure()
            except BaseException:
                self.leave()
                raise
        else:
            self.ensure()
        return self._conninfo()

    def ensure(self) -> None:
        """Start the server again if it does not answer; call this when connections fail.

        Any number of users may do so at once: one of them starts it and the others wait.

        Raises:
            ToolMissing, LedgerUnavailable: As `join`.
        """
        if self._users is None:
            raise LedgerUnavailable("this peer has left the ledger's PostgreSQL", definite=True)
        if self._answers():
            return
        deadline = self._start_deadline()
        with self._open_lock("start.lock") as turn:
            starting = "is being started by another process, which does not finish"
            self._acquire(turn, Kind.EXCLUSIVE, deadline, starting)
            self._start_when_free(deadline)

    def leave(self) -> None:
        """Stop being a user. The last one's leaving stops the server, and waits for it a while.

        Connections must be closed before. A second call does nothing.
        """
        users, self._users = self._users, None
        if users is None:
            return
        users.close()
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)
        deadline = time.monotonic() + self._config.stop_within_s
        while self._is_stopping() and time.monotonic() < deadline:
            time.sleep(self._POLL_S)

    def __enter__(self) -> str:
        return self.join()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.leave()

    def _start_when_free(self, deadline: float) -> None:
        """Wait until the server answers or is entirely gone, and in that case start one."""
        starts = 0
        while not self._answers():
            with self._open_lock("server.lock") as server:
                # While anything of an old server is alive it is left alone: it is starting,
                # recovering, or on its way out.
                if server.acquire_nowait(Kind.EXCLUSIVE):
                    if starts == self._STARTS_MAX:
                        raise self._silent("ends as soon as it is started")
                    self._start(server)
                    starts += 1
            if time.monotonic() >= deadline:
                raise self._silent(f"does not answer after {self._config.start_within_s:g} s")
            time.sleep(self._POLL_S)

    def _start(self, lock: FileLock) -> None:
        """Start a keeper, and by it the server; it holds the lock when this returns."""
        directory = self._directory
        account = server_programs.choose_account(directory / "data")
        try:
            server_files.adopt_directory(directory, account)
            major = server_files.data_major(directory)
            programs = server_programs.make_reachable(
                server_programs.find_programs(self._config.binaries, major),
                account,
                directory / "programs",
            )
            fsync = self._config.fsync
            if major is None:
                server_files.create_data(
                    directory, programs, account, fsync=fsync, lock=lock.fileno()
                )
            server_files.make_run(directory, account)
            server_files.clear_stale(directory)
            settings = server_files.server_settings(major=programs.major, fsync=fsync)
            command: list[str | Path] = [programs.postgres, "-D", directory / "data"]
            for name, value in settings.items():
                command += ["-c", f"{name}={value}"]
            self._launch_keeper(lock, account, command)
        except OSError as error:
            raise self._silent(f"cannot be started: {error}") from error
        except subprocess.TimeoutExpired as error:
            program = Path(error.cmd[0]).name
            raise self._silent(
                f"cannot be started: {program} does not end after {error.timeout:g} s"
            ) from error

    def _launch_keeper(
        self,
        lock: FileLock,
        account: server_programs.Account | None,
        command: list[str | Path],
    ) -> None:
        uid, gid = (account.uid, account.gid) if account else (-1, -1)
        # Isolated and without site-packages: it needs none, and starts ten times as fast.
        script: list[str | Path] = [sys.executable, "-I", "-S", keeper.__file__]
        script += [self._directory / "users.lock", *map(str, (lock.fileno(), uid, gid))]
        log = server_files.open_log(self._directory)
        try:
            subprocess.run(
                [*script, *command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[lock.fileno()],
                cwd="/",
                # Out of reach of Ctrl-C, which the terminal sends to the peers.
                start_new_session=True,
                timeout=self._config.start_within_s,
                # However it ended: whether there is a server is seen by its lock.
                check=False,
            )
        finally:
            os.close(log)

    def _is_stopping(self) -> bool:
        """Whether a server is alive that nobody uses.

        Who asks holds the locks for a moment, and so may mislead another who asks; then that one
        leaves without having waited, and no harm is done.
        """
        try:
            with self._open_lock("server.lock") as server, self._open_lock("users.lock") as users:
                if server.acquire_nowait(Kind.SHARED):
                    return False
                # Alone: the keeper is about to take it. Not even shared: the keeper has it.
                return users.acquire_nowait(Kind.EXCLUSIVE) or not users.acquire_nowait(Kind.SHARED)
        except LedgerUnavailable:
            return False  # the directory is gone, and the server has nothing to write to

    def _acquire(self, lock: FileLock, kind: Kind, deadline: float, otherwise: str) -> None:
        if not lock.acquire(kind, deadline=deadline):
            raise self._silent(otherwise)

    def _answers(self) -> bool:
        """Whether the server accepts connections; it does also when it has none left to give."""
        conninfo = make_conninfo(self._conninfo(), connect_timeout=2)
        return PGconn.ping(conninfo.encode()) == Ping.OK

    def _conninfo(self) -> str:
        return make_conninfo(
            host=server_files.socket_host(self._directory, self._descriptor),
            port=server_files.PORT,
            user=server_files.USER,
            dbname=server_files.DATABASE,
        )

    def _open_lock(self, name: str) -> FileLock:
        try:
            return FileLock(self._directory / name)
        except OSError as error:
            raise LedgerUnavailable(
                f"the ledger's lock {self._directory / name} cannot be opened: {error.strerror}; "
                "choose another data directory if this one is not yours",
                definite=True,
            ) from error

    def _start_deadline(self) -> float:
        return time.monotonic() + self._config.start_within_s

    def _silent(self, what: str) -> LedgerUnavailable:
        tail = server_files.log_tail(self._directory)
        said = f"; its log {self._directory / 'server.log'} ends:\n{tail}" if tail else ""
        return LedgerUnavailable(
            f"the ledger's PostgreSQL in {self._directory} {what}{said}", definite=True
        )
