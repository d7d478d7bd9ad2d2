"""A PostgreSQL for tests as people run one: reached by TCP with a password, and with TLS if asked.

The embedded server listens on a socket and trusts who may open it; most of what goes wrong with a
database by URL (passwords, roles, certificates, limits, standbys) cannot go wrong there. Debian's
programs where they are installed, else the wheel's. Without fsync: tests want to know what happens
when a server dies, not when a machine does.

All methods block. Nothing listens outside 127.0.0.1.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from psycopg.conninfo import make_conninfo
from psycopg.pq import PGconn, Ping

from pipeline.ledger.server_programs import choose_account, find_programs, run_as
from tests.servers.certificates import Issued
from tests.servers.guardian import Guardian

DEBIAN = Path("/usr/lib/postgresql")
READY_S = 20.0
STOP_S = 20.0
POLL_S = 0.02

# Whoever comes by TCP needs a password; only the tests themselves come by the socket.
ACCESS = """\
local all         all              trust
local replication all              trust
{host} all         all 127.0.0.1/32 scram-sha-256
"""


class PostgresServer:
    """One server, whose port, password and data stay the same however often it is started.

    Args:
        directory: For its data; made when it is missing. Whoever made it removes it. As root the
            server runs as another user, who must be able to come there: see `public_directory`.
        tls: Refuse who does not use TLS. Clients say `sslmode=verify-full&sslrootcert=…`.
        settings: More of PostgreSQL's: `{"max_connections": "5"}`.
    """

    user = "grapevine"
    """A superuser."""

    def __init__(
        self,
        directory: Path,
        *,
        tls: Issued | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.port = _free_port()
        self.password = secrets.token_hex(8)
        self._directory = directory
        self._data = directory / "data"
        self._tls = tls
        self._settings = dict(settings or {})
        self._account = choose_account(self._data)
        debian = sorted(DEBIAN.glob("[1-9]*/bin"), key=lambda path: float(path.parent.name))
        self._programs = find_programs(debian[0] if debian else None, None)
        self._process: subprocess.Popen[bytes] | None = None
        self._guardian = Guardian()

    @property
    def url(self) -> str:
        """For clients: the superuser's own, to the database `postgres`."""
        return self.url_of("postgres")

    def url_of(self, database: str, user: str | None = None, password: str | None = None) -> str:
        """For clients, as somebody else, or to another database."""
        who = f"{user or self.user}:{password or self.password}"
        host = "localhost" if self._tls else "127.0.0.1"
        return f"postgresql://{who}@{host}:{self.port}/{database}"

    @property
    def conninfo(self) -> str:
        """For the superuser, past passwords and TLS."""
        return make_conninfo(
            host=str(self._directory), port=self.port, user=self.user, dbname="postgres"
        )

    def start(self) -> None:
        """Return when it answers. A server that is running already is left as it is."""
        if self._process is not None:
            return
        if not self._data.exists():
            self._make()
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self._directory),
            "shared_buffers": "16MB",
            "fsync": "off",
            "full_page_writes": "off",
            "client_connection_check_interval": "2s",
            "log_min_messages": "log",
            **self._tls_settings(),
            **self._settings,
        }
        command: list[str | Path] = [self._programs.postgres, "-D", self._data]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                user=self._account.uid if self._account else None,
                group=self._account.gid if self._account else None,
                extra_groups=[] if self._account else None,
                start_new_session=True,  # Ctrl-C is for the tests; they stop it
            )
        self._guardian.guard(self._process.pid)
        self._wait_until_it_answers()

    def stop(self) -> None:
        """As an administrator does: sessions are ended, data are written, then the server ends."""
        if self._process is not None:
            self.thaw()
            self._process.send_signal(signal.SIGINT)
            self._end(STOP_S)

    def kill(self) -> None:
        """As the kernel does when memory runs out: all its processes, with SIGKILL."""
        processes = self._halted()
        for process in processes:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._end(STOP_S)
        # The next start refuses memory that one of them still has.
        deadline = time.monotonic() + STOP_S
        while any(map(is_alive, processes)):
            assert time.monotonic() < deadline, "killed processes do not end"
            time.sleep(POLL_S)

    def restart(self) -> None:
        """Stop and start."""
        self.stop()
        self.start()

    def freeze(self) -> None:
        """As a machine that sleeps: everything is there, and nothing answers."""
        for process in self._halted():
            with suppress(psutil.NoSuchProcess):
                process.suspend()

    def thaw(self) -> None:
        """Go on after `freeze`."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.resume()

    def standby(self, directory: Path) -> PostgresServer:
        """Make a standby that follows this server, which is running; not started yet."""
        standby = PostgresServer(directory, tls=self._tls, settings=self._settings)
        standby.password = self.password  # copied with everything else
        directory.mkdir(parents=True, exist_ok=True)
        standby._own(directory)
        standby._run(
            [
                self._programs.directory / "pg_basebackup",
                *("-d", self.conninfo, "-D", standby._data),
                *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
            ]
        )
        return standby

    def promote(self) -> None:
        """Let a standby be the server from now on; return when it takes writes."""
        control = self._programs.directory / "pg_ctl"
        self._run([control, "promote", "--wait", "-D", self._data])

    def _make(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        self._own(self._directory)
        password = self._directory / "password"
        password.touch(mode=0o600)
        password.write_text(self.password + "\n")
        self._own(password)
        self._run(
            [
                *(self._programs.initdb, "-D", self._data, f"--username={self.user}"),
                *("--auth=trust", f"--pwfile={password}", "--no-locale", "--encoding=UTF8"),
                "--no-sync",
            ]
        )
        host = "hostssl" if self._tls else "host   "
        (self._data / "pg_hba.conf").write_text(ACCESS.format(host=host))

    def _tls_settings(self) -> dict[str, str]:
        if self._tls is None:
            return {}
        # A copy, as the server reads no key that others may read, or that is another user's.
        copies = {"cert": self._tls.certificate, "key": self._tls.key}
        for name, original in copies.items():
            copy = self._data / f"server.{name}"
            shutil.copyfile(original, copy)
            copy.chmod(0o600)
            self._own(copy)
        return {
            "ssl": "on",
            "ssl_cert_file": str(self._data / "server.cert"),
            "ssl_key_file": str(self._data / "server.key"),
        }

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _run(self, command: Sequence[str | Path]) -> None:
        answer = run_as(self._account, command)
        if answer.returncode:
            raise RuntimeError(f"{command[0]} failed: {answer.stdout}")

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + READY_S
        conninfo = make_conninfo(self.conninfo, connect_timeout=2).encode()
        while PGconn.ping(conninfo) != Ping.OK:
            assert self._process is not None
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"PostgreSQL does not start: {self.log_tail()}")
            time.sleep(POLL_S)

    def log_tail(self) -> str:
        """The last of what the server has said."""
        return (self._directory / "log").read_text(errors="replace")[-2000:]

    def _halted(self) -> list[psutil.Process]:
        """All of them, the server standing still: one that it starts meanwhile would get away."""
        with suppress(psutil.NoSuchProcess):
            for server in self._processes()[:1]:
                server.suspend()
        return self._processes()

    def _processes(self) -> list[psutil.Process]:
        """The server, and then those that it has started."""
        if self._process is None:
            return []
        with suppress(psutil.NoSuchProcess):
            server = psutil.Process(self._process.pid)
            return [server, *server.children(recursive=True)]
        return []

    def _end(self, within_s: float) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        self._guardian.dismiss()
        try:
            process.wait(within_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


@contextmanager
def public_directory() -> Iterator[Path]:
    """A temporary directory that the server's user can come to; pytest's own ones are private."""
    directory = Path(tempfile.mkdtemp(prefix="grapevine-"))
    directory.chmod(0o711)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def is_alive(process: psutil.Process) -> bool:
    """Whether it still has anything; one that only nobody has reaped yet has not."""
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
