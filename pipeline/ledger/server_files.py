"""What an embedded PostgreSQL server has on disk, and how each of it is made safely.

    <directory>/            the ledger's own; 0700, or 0711 when another account runs the server
        data/               PostgreSQL's data directory, made whole under another name and renamed
        run/                the socket's directory, 0700
        programs/           copies of the server programs, only where they cannot be run in place
        start.lock  users.lock  server.lock
        server.log  server.log.1

The server listens on one UNIX socket and nothing else, and the permissions of the socket's
directory are its access control (an abstract socket would have none). The kernel takes at most
107 bytes for a socket's path, and data directories can be longer. So the server, whose working
directory is `data`, is told `../run`, and its users name the directory by a descriptor where they
must (`socket_host`): a socket in some short directory below /tmp would have to be found by all, and
defended against its neighbours.

Everything that changes something here must be called by the holder of `start.lock` and
`server.lock`: then no server runs and nobody else starts one.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from pipeline.errors import LedgerUnavailable
from pipeline.ledger.server_programs import Account, Programs, run_as

USER = "grapevine"
DATABASE = "grapevine"
PORT = 5432
"""Only a part of the socket's name."""

SOCKET_PATH_BYTES_MAX = 107
"""The kernel's `sun_path` has 108 bytes, the last one for a NUL."""

OWN_NAMES = frozenset(
    {"data", "data.new", "run", "programs"}
    | {"start.lock", "users.lock", "server.lock", "server.log", "server.log.1"}
)


def server_settings(*, major: int, fsync: bool) -> dict[str, str]:
    """PostgreSQL's settings for a small server that shares its machine with ffmpeg.

    Given on the command line, so that a newer Grapevine changes those of an older data directory.

    Args:
        fsync: False only where the data may be lost with the machine: in tests.
    """
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": "../run",
        "unix_socket_permissions": "0700",
        "port": str(PORT),
        "max_connections": "100",
        "shared_buffers": "32MB",
        "min_wal_size": "32MB",
        "max_wal_size": "256MB",
        # No replicas, no parallel queries, no just-in-time compiler: fewer processes, less to wake.
        "wal_level": "minimal",
        "max_wal_senders": "0",
        "max_worker_processes": "0",
        "max_parallel_workers": "0",
        "max_parallel_workers_per_gather": "0",
        "max_parallel_maintenance_workers": "0",
        "max_logical_replication_workers": "0",
        "autovacuum_max_workers": "1",
        "jit": "off",
        # A killed peer's query must not hold its locks until the query is done.
        "client_connection_check_interval": "2s",
        "timezone": "UTC",
        "log_timezone": "UTC",
        # Life and death only: clients are told their errors, and the file stays small for ever.
        "log_min_messages": "log",
        "log_checkpoints": "off",
    }
    if major >= 18:
        settings["io_method"] = "sync"
        settings["autovacuum_worker_slots"] = "1"
    if not fsync:
        # Commits are still written before they are confirmed, so a killed server loses none.
        settings |= {"fsync": "off", "full_page_writes": "off"}
    return settings


def socket_host(directory: Path, descriptor: int) -> str:
    """What this process tells libpq to find the socket.

    Args:
        directory: Absolute.
        descriptor: An open descriptor of it. Its number stands in for a path that is too long, or
            that libpq would not read as one path (it takes commas for a list).
    """
    run = directory / "run"
    path = os.fsencode(run / f".s.PGSQL.{PORT}")
    if len(path) <= SOCKET_PATH_BYTES_MAX and re.fullmatch(rb"/[\w./+~=-]*", path):
        return str(run)
    return f"/proc/self/fd/{descriptor}/run"


def open_directory(directory: Path) -> Path:
    """Make the ledger's directory when it is missing, and return it absolute, without links.

    Raises:
        LedgerUnavailable: It cannot be made, or belongs to somebody else.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = directory.resolve()
        owner = directory.stat().st_uid
    except OSError as error:
        raise LedgerUnavailable(
            f"the ledger's directory {directory} cannot be made: {error.strerror}; "
            "choose another data directory",
            definite=True,
        ) from error
    if owner != os.geteuid():
        raise LedgerUnavailable(
            f"the ledger in {directory} belongs to user {owner}, and this is user {os.geteuid()}: "
            "run the peer as that user, or choose another data directory",
            definite=True,
        )
    return directory


def adopt_directory(directory: Path, account: Account | None) -> None:
    """Make sure that the directory is ours to fill and that the account can enter it.

    Raises:
        LedgerUnavailable: Something else lives there, or a directory above is private.
    """
    if not (directory / "data").exists():
        strangers = sorted(set(os.listdir(directory)) - OWN_NAMES)  # noqa: PTH208  # names only
        if strangers:
            raise LedgerUnavailable(
                f"{directory} is not empty (there is {strangers[0]!r}) and holds no ledger: "
                "choose another data directory",
                definite=True,
            )
        directory.chmod(0o711 if account else 0o700)
    if account is None or _can_enter(directory, account):
        return
    parents = [directory, *directory.parents][::-1]
    closed = next((parent for parent in parents if not _can_enter(parent, account)), directory)
    raise LedgerUnavailable(
        f"as root, the ledger's PostgreSQL runs as {account.name}, who cannot enter {closed}: "
        "choose a data directory that is not below a private one, such as /var/lib/grapevine, "
        "or run the peer as another user",
        definite=True,
    )


def data_major(directory: Path) -> int | None:
    """The version of PostgreSQL that made the data; None when there are none yet.

    Raises:
        LedgerUnavailable: There is a data directory that PostgreSQL did not make.
    """
    data = directory / "data"
    if not data.exists():
        return None
    try:
        return int((data / "PG_VERSION").read_text())
    except (OSError, ValueError) as error:
        raise LedgerUnavailable(
            f"{data} is damaged (its PG_VERSION cannot be read): restore it, or move it away to "
            "begin with an empty ledger",
            definite=True,
        ) from error


def create_data(
    directory: Path, programs: Programs, account: Account | None, *, fsync: bool, lock: int
) -> None:
    """Make the data directory with its database: whole, or not at all.

    Args:
        lock: The descriptor of `server.lock`. The programs keep it, so that nobody tries again
            while those of a killed peer are still at work.
    """
    unfinished = directory / "data.new"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(mode=0o700)
    if account:
        os.chown(unfinished, account.uid, account.gid)
    make: list[str | Path] = [programs.initdb, "-D", unfinished, f"--username={USER}"]
    make += ["--auth=trust", "--no-locale", "--encoding=UTF8"]
    if not fsync:
        make.append("--no-sync")
    # In single-user mode, before the renaming: no data directory without its database is ever seen.
    single: list[str | Path] = [programs.postgres, "--single", "-D", unfinished]
    single += ["-c", "exit_on_error=on", "-c", f"fsync={'on' if fsync else 'off'}", "postgres"]
    steps = ((make, ""), (single, f"CREATE DATABASE {DATABASE}\n"))
    for command, stdin in steps:
        answer = run_as(account, command, stdin=stdin, inherit=[lock])
        if answer.returncode:
            raise LedgerUnavailable(
                f"the ledger's data directory cannot be made in {directory}: "
                f"{last_lines(answer.stdout)}",
                definite=True,
            )
    unfinished.rename(directory / "data")
    _sync_directory(directory)


def make_run(directory: Path, account: Account | None) -> None:
    """Make the socket's directory, which only the server's account may enter."""
    run = directory / "run"
    run.mkdir(mode=0o700, exist_ok=True)
    if account:
        os.chown(run, account.uid, account.gid)


def clear_stale(directory: Path) -> None:
    """Remove what a killed server or a crashed machine left behind.

    PostgreSQL trusts process ids: when the one in an old file now belongs to another process, it
    refuses to start. We hold `server.lock`, so we know better; except about a server that
    somebody started by hand, which is recognised by its working directory.

    Raises:
        LedgerUnavailable: There is such a server.
    """
    data = directory / "data"
    pid_file = data / "postmaster.pid"
    try:
        pid = int(pid_file.read_text().partition("\n")[0])
    except (FileNotFoundError, ValueError):
        pid = 0
    if pid and _working_directory(pid) == data:
        raise LedgerUnavailable(
            f"another PostgreSQL server, process {pid}, uses {data}: stop it first", definite=True
        )
    # PostgreSQL reads its old shared memory's number from the file, to free it; so the file goes
    # only where it would be misread.
    if pid and Path(f"/proc/{pid}").exists():
        pid_file.unlink()
    for leftover in (directory / "run").glob(".s.PGSQL.*"):
        leftover.unlink()


def open_log(directory: Path) -> int:
    """Begin a new log, keep the one before it, and return a descriptor to append to."""
    log = directory / "server.log"
    if log.exists():
        log.rename(directory / "server.log.1")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(log, flags, 0o600)


def log_tail(directory: Path) -> str:
    """The end of the server's log, for an error's message."""
    try:
        with (directory / "server.log").open("rb") as log:
            log.seek(max(0, os.fstat(log.fileno()).st_size - 4096))
            return last_lines(log.read().decode(errors="replace"))
    except OSError:
        return ""


def last_lines(text: str, count: int = 8) -> str:
    """The last lines that are not empty, at most a screenful."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-count:])


def _can_enter(directory: Path, account: Account) -> bool:
    # By a program that runs as the account: the mode bits are not the whole truth.
    return run_as(account, ["/bin/sh", "-c", 'cd -- "$1"', "sh", directory]).returncode == 0


def _working_directory(pid: int) -> Path | None:
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None  # gone, or another user's: and another user's cannot be serving our data


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
