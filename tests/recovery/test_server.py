"""The embedded PostgreSQL server under real processes that come, go, and are killed.

A user is a process of its own, told over its standard input what to do. What is left of a server
is looked up in the process table, not asked of the code under test.
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
from dataclasses import dataclass
from pathlib import Path

import psutil
import psycopg
import pytest

from pipeline.errors import LedgerUnavailable, ToolMissing
from pipeline.ledger.server import EmbeddedServer, ServerConfig
from pipeline.ledger.server_programs import Account, find_programs, make_reachable

ROOT = os.geteuid() == 0
as_root = pytest.mark.skipif(not ROOT, reason="only root runs the server as somebody else")

USER = """
import sys
from pathlib import Path
from pipeline.ledger.server import EmbeddedServer, ServerConfig

server = EmbeddedServer(ServerConfig(directory=Path(sys.argv[1]), fsync=False))
for line in sys.stdin:
    print(getattr(server, line.strip())(), flush=True)
"""

CHURN = """
import sys
from pathlib import Path
import psycopg
from pipeline.ledger.server import EmbeddedServer, ServerConfig

for _ in range(int(sys.argv[2])):
    with EmbeddedServer(ServerConfig(directory=Path(sys.argv[1]), fsync=False)) as conninfo:
        with psycopg.connect(conninfo, autocommit=True) as connection:
            connection.execute("INSERT INTO visits VALUES (1)")
"""


class User:
    """A process that uses the server."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def begin(self, method: str) -> None:
        """Tell it to call `join`, `ensure` or `leave`."""
        assert self.process.stdin
        self.process.stdin.write(f"{method}\n")
        self.process.stdin.flush()

    def end(self) -> str:
        """Wait until that is done, and return what the method returned."""
        assert self.process.stdout
        assert self.process.stderr
        answer = self.process.stdout.readline().strip()
        assert answer, self.process.stderr.read()
        return answer

    def call(self, method: str) -> str:
        """Tell it, and wait."""
        self.begin(method)
        return self.end()

    def kill(self) -> None:
        """End it as hard as possible."""
        self.process.kill()
        self.process.communicate()


@dataclass(frozen=True, slots=True)
class Running:
    """The processes of the server in a directory; each list holds process ids."""

    keepers: list[int]
    servers: list[int]
    others: list[int]

    @property
    def nothing(self) -> bool:
        """Whether not one process is left."""
        return not (self.keepers or self.servers or self.others)


def look(directory: Path) -> Running:
    """Find them: keepers by their arguments, PostgreSQL's processes by their working directory."""
    found = Running([], [], [])
    for process in psutil.process_iter():
        try:
            arguments = process.cmdline()
            if str(directory / "users.lock") in arguments and process.status() != "zombie":
                found.keepers.append(process.pid)
            elif process.cwd() == str(directory / "data"):
                group = found.servers if "-D" in arguments else found.others
                # A child has its parent's arguments until it writes its own over them.
                if process.ppid() in found.servers:
                    group = found.others
                group.append(process.pid)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    return found


def wait_until(condition: Callable[[], bool], within_s: float = 15.0) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        time.sleep(0.01)


def config(directory: Path) -> ServerConfig:
    return ServerConfig(directory=directory, fsync=False)


@pytest.fixture
def directory() -> Iterator[Path]:
    """A place that PostgreSQL's account may enter, which pytest's own directories are not."""
    top = Path(tempfile.mkdtemp(prefix="grapevine-test-"))
    top.chmod(0o711)
    yield top / "postgres"
    left = look(top / "postgres")
    for pid in [*left.keepers, *left.servers, *left.others]:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: look(top / "postgres").nothing)
    shutil.rmtree(top)
    assert left.nothing, "the test left a server behind"


@pytest.fixture
def start_user(directory: Path) -> Iterator[Callable[[], User]]:
    """Start users, and see to it that they end."""
    users: list[User] = []

    def start() -> User:
        users.append(User(directory))
        return users[-1]

    yield start
    for user in users:
        user.kill()
    wait_until(lambda: look(directory).nothing)


def value(conninfo: str, query: str) -> object:
    """The one value that a query returns."""
    with psycopg.connect(conninfo, autocommit=True) as connection:
        row = connection.execute(query.encode()).fetchone()
    assert row
    return row[0]


def test_the_first_user_starts_it_and_the_last_one_stops_it(directory: Path) -> None:
    """A fresh directory becomes a working ledger; leaving ends every process; the data stay."""
    with EmbeddedServer(config(directory)) as conninfo:
        with psycopg.connect(conninfo) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        assert value(conninfo, "SELECT current_database()") == "grapevine"
    stopped = look(directory)
    with EmbeddedServer(config(directory)) as conninfo:
        answer = value(conninfo, "SELECT answer FROM kept")

    assert stopped.nothing
    assert answer == 42


def test_it_listens_on_a_private_socket_only(directory: Path) -> None:
    """No port is open, and nobody but the server's account may enter the socket's directory."""
    with EmbeddedServer(config(directory)) as conninfo:
        [server] = look(directory).servers
        kinds = {connection.type for connection in psutil.Process(server).net_connections("inet")}
        addresses = value(conninfo, "SHOW listen_addresses")
        mode = (directory / "run").stat().st_mode & 0o777

    assert not kinds
    assert addresses == ""
    assert mode == 0o700


@pytest.mark.parametrize("name", ["x" * 120, "a,b 'c' %d", "été"], ids=["long", "odd", "accents"])
def test_the_directory_may_have_any_name(directory: Path, name: str) -> None:
    """A path too long for a socket, or with characters that libpq reads otherwise, works too."""
    with EmbeddedServer(config(directory.parent / name)) as conninfo:
        answer = value(conninfo, "SHOW data_directory")

    assert answer == str(directory.parent / name / "data")


def test_the_starter_may_be_killed(directory: Path, start_user: Callable[[], User]) -> None:
    """Everybody uses one server, and it outlives the user who started it."""
    first, second = start_user(), start_user()
    conninfo = first.call("join")
    before = look(directory)
    assert second.call("join") == conninfo
    first.kill()

    assert value(conninfo, "SELECT 1") == 1
    assert look(directory).servers == before.servers
    second.call("leave")
    assert look(directory).nothing


def test_killing_all_users_stops_it(directory: Path, start_user: Callable[[], User]) -> None:
    """Nobody has to say goodbye."""
    users = [start_user() for _ in range(3)]
    for user in users:
        user.call("join")
    assert len(look(directory).servers) == 1

    for user in users:
        user.kill()

    wait_until(lambda: look(directory).nothing)


@pytest.mark.parametrize("victims", ["keeper", "server", "both"])
def test_ensure_starts_it_again(
    directory: Path, start_user: Callable[[], User], victims: str
) -> None:
    """Whatever is killed takes the rest along; users who ask at once get one new server.

    A session that was busy meanwhile is not in the way, and nothing that was committed is lost.
    """
    users = [start_user() for _ in range(3)]
    [conninfo] = {user.call("join") for user in users}
    with psycopg.connect(conninfo) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    busy = psycopg.connect(conninfo)
    busy.pgconn.send_query(b"SELECT pg_sleep(60)")
    before = look(directory)
    killed = {"keeper": before.keepers, "server": before.servers}
    for pid in killed.get(victims, before.keepers + before.servers):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not set(before.servers + before.keepers) & set(psutil.pids()))

    for user in users:
        user.begin("ensure")
    for user in users:
        user.end()
    after = look(directory)
    busy.close()

    assert len(after.servers) == len(after.keepers) == 1
    assert after.servers != before.servers
    assert value(conninfo, "SELECT answer FROM kept") == 42


def test_ensure_leaves_a_busy_server_alone(directory: Path) -> None:
    """A server without a free connection is alive."""
    server = EmbeddedServer(config(directory))
    conninfo = server.join()
    before = look(directory).servers
    connections = [psycopg.connect(conninfo) for _ in range(100)]
    with pytest.raises(psycopg.OperationalError, match="too many clients"):
        psycopg.connect(conninfo)
    server.ensure()
    after = look(directory).servers
    for connection in connections:
        connection.close()
    server.leave()

    assert after == before


def test_many_may_come_at_once(directory: Path, start_user: Callable[[], User]) -> None:
    """One of them makes the data and starts the server; all are answered by it."""
    users = [start_user() for _ in range(6)]
    for user in users:
        user.begin("join")
    conninfos = {user.end() for user in users}
    running = look(directory)

    assert len(conninfos) == 1
    assert len(running.servers) == len(running.keepers) == 1
    for user in users:
        user.begin("leave")
    for user in users:
        user.end()
    wait_until(lambda: look(directory).nothing)


def test_coming_while_it_is_being_stopped(directory: Path) -> None:
    """However joins and leaves fall together, everybody who has joined can work."""
    with EmbeddedServer(config(directory)) as conninfo:
        with psycopg.connect(conninfo) as connection:
            connection.execute("CREATE TABLE visits (one integer)")
    visitors = [subprocess.Popen([sys.executable, "-c", CHURN, directory, "10"]) for _ in range(3)]
    statuses = [visitor.wait(120) for visitor in visitors]
    with EmbeddedServer(config(directory)) as conninfo:
        visits = value(conninfo, "SELECT count(*) FROM visits")

    assert statuses == [0, 0, 0]
    assert visits == 30


def test_a_starter_killed_half_way_is_harmless(
    directory: Path, start_user: Callable[[], User]
) -> None:
    """Data are made whole or not at all, and the next user makes them."""
    first = start_user()
    first.begin("join")
    wait_until((directory / "data.new").exists)
    first.kill()

    with EmbeddedServer(config(directory)) as conninfo:
        database = value(conninfo, "SELECT current_database()")

    assert database == "grapevine"
    assert not (directory / "data.new").exists()


def test_a_start_that_is_killed_is_tried_again(directory: Path) -> None:
    """What ended the old server may hit the new one too; that alone is no reason to give up."""
    with EmbeddedServer(config(directory)):
        pass
    binaries, killed = directory.parent / "bin", directory / "data/killed"
    binaries.mkdir(mode=0o755)
    (binaries / "initdb").touch()
    (binaries / "postgres").write_text(
        f"""#!/bin/sh
        if [ "$1" = -D ] && [ ! -e '{killed}' ]; then touch '{killed}'; kill -9 $$; fi
        exec {find_programs(None, None).postgres} "$@"
        """
    )
    (binaries / "postgres").chmod(0o755)
    with EmbeddedServer(
        ServerConfig(directory=directory, fsync=False, binaries=binaries)
    ) as conninfo:
        answer = value(conninfo, "SELECT 1")

    assert killed.exists()
    assert answer == 1


def test_numbers_of_dead_processes_are_not_believed(directory: Path) -> None:
    """After a crash of the machine the old process ids belong to others; it starts all the same."""
    with EmbeddedServer(config(directory)):
        pid_file = (directory / "data/postmaster.pid").read_text()
        lock_file = (directory / "run/.s.PGSQL.5432.lock").read_text()
    old = pid_file.partition("\n")[0]
    # A process of the same account, which PostgreSQL would take for its own kind.
    owner = (directory / "data").stat()
    stranger = subprocess.Popen(["sleep", "60"], user=owner.st_uid if ROOT else None)
    try:
        for name, text in (
            ("data/postmaster.pid", pid_file),
            ("run/.s.PGSQL.5432.lock", lock_file),
            ("run/.s.PGSQL.5432", ""),
        ):
            (directory / name).write_text(text.replace(old, str(stranger.pid)))
            os.chown(directory / name, owner.st_uid, owner.st_gid)
        with EmbeddedServer(config(directory)) as conninfo:
            answer = value(conninfo, "SELECT 1")
    finally:
        stranger.kill()
        stranger.wait()

    assert answer == 1


def test_a_server_started_by_hand_is_respected(directory: Path) -> None:
    """Somebody else's server on the same data is named, and nothing is removed under it."""
    with EmbeddedServer(config(directory)):
        command = psutil.Process(look(directory).servers[0]).cmdline()
    owner = (directory / "data").stat()
    by_hand = subprocess.Popen(
        [*command[:3], "-c", "listen_addresses=", "-c", "unix_socket_directories=."],
        stderr=subprocess.DEVNULL,
        user=owner.st_uid if ROOT else None,
        group=owner.st_gid if ROOT else None,
        extra_groups=[] if ROOT else None,
        cwd="/",
    )
    try:
        pid_file = directory / "data/postmaster.pid"
        wait_until(lambda: pid_file.exists() and "ready" in pid_file.read_text())
        with pytest.raises(LedgerUnavailable, match=f"process {by_hand.pid}, uses .* stop it"):
            EmbeddedServer(config(directory)).join()
        kept = pid_file.exists()
    finally:
        by_hand.send_signal(signal.SIGINT)
        by_hand.wait()

    assert kept


def test_an_interrupt_of_the_terminal_does_not_reach_it(directory: Path) -> None:
    """Ctrl-C goes to the terminal's session, and the keeper and the server are in none."""
    with EmbeddedServer(config(directory)):
        running = look(directory)
        sessions = {os.getsid(pid) for pid in running.keepers + running.servers}

    assert os.getsid(0) not in sessions


def test_the_keeper_is_small(directory: Path) -> None:
    """It loads nothing of what the peers load, and takes no time while it waits."""
    with EmbeddedServer(config(directory)):
        keeper = psutil.Process(look(directory).keepers[0])
        times, resident = keeper.cpu_times(), keeper.memory_info().rss

    assert resident < 20 * 2**20
    assert times.user + times.system < 0.2


def test_a_failed_start_shows_the_servers_log(directory: Path) -> None:
    """The error's sentence says where the log is, and quotes its end."""
    with EmbeddedServer(config(directory)):
        pass
    (directory / "data/global/pg_control").unlink()

    with pytest.raises(LedgerUnavailable, match=r"(?s)server\.log ends:.*pg_control") as failure:
        EmbeddedServer(config(directory)).join()
    assert failure.value.definite


def test_other_peoples_files_are_left_alone(directory: Path) -> None:
    """A directory that holds something else is refused, and stays as it is."""
    directory.mkdir()
    (directory / "thesis.txt").write_text("mine")

    with pytest.raises(LedgerUnavailable, match=r"not empty .*'thesis\.txt'.* choose another"):
        EmbeddedServer(config(directory)).join()
    assert not (directory / "data").exists()


def test_data_of_another_version_are_left_alone(directory: Path) -> None:
    """The error says which version made the data, what is here, and what to do."""
    with EmbeddedServer(config(directory)):
        pass
    (directory / "data/PG_VERSION").write_text("9\n")

    with pytest.raises(ToolMissing, match=r"made by PostgreSQL 9, and here is only .* install"):
        EmbeddedServer(config(directory)).join()


def test_data_decide_the_version(directory: Path) -> None:
    """Data made by an older PostgreSQL are served by that one, not by the newest."""
    older = find_programs(None, 16)
    with EmbeddedServer(
        ServerConfig(directory=directory, fsync=False, binaries=older.directory)
    ) as conninfo:
        made_by = value(conninfo, "SHOW server_version_num")
    with EmbeddedServer(config(directory)) as conninfo:
        served_by = value(conninfo, "SHOW server_version_num")

    assert made_by == served_by
    assert str(made_by).startswith("16")


def test_a_named_server_must_be_one(directory: Path) -> None:
    """A configured directory without a server in it is an error, and no other one is taken."""
    wrong = ServerConfig(directory=directory, binaries=directory.parent)

    with pytest.raises(ToolMissing, match="does not hold a PostgreSQL server"):
        EmbeddedServer(wrong).join()


def test_who_has_left_starts_nothing(directory: Path) -> None:
    """`ensure` after `leave` is an error, and `leave` may be called twice."""
    server = EmbeddedServer(config(directory))
    server.join()
    server.leave()
    server.leave()

    with pytest.raises(LedgerUnavailable, match="has left"):
        server.ensure()
    assert look(directory).nothing


@as_root
def test_a_private_directory_above_is_named_and_not_opened(directory: Path) -> None:
    """Root's server runs as another account; what that one cannot enter stays closed."""
    private = directory.parent / "private"
    private.mkdir(mode=0o700)

    with pytest.raises(
        LedgerUnavailable, match=rf"cannot enter {private}: choose a data directory"
    ):
        EmbeddedServer(config(private / "postgres")).join()
    assert private.stat().st_mode & 0o777 == 0o700


@as_root
def test_programs_in_a_private_place_are_copied(directory: Path) -> None:
    """A virtual environment that only root may enter still has a server for the other account."""
    wheel = find_programs(None, None).directory.parents[1]
    private = directory.parent / "private"
    shutil.copytree(wheel, private / wheel.name, symlinks=True)
    shutil.copytree(wheel.with_name(f"{wheel.name}.libs"), private / f"{wheel.name}.libs")
    private.chmod(0o700)
    with EmbeddedServer(config(directory)):
        pass
    owner = (directory / "data").stat()
    account = Account(name="it", uid=owner.st_uid, gid=owner.st_gid)
    hidden = find_programs(private / wheel.name / "pginstall18/bin", None)

    copied = make_reachable(hidden, account, directory / "programs")
    again = make_reachable(hidden, account, directory / "programs")
    shutil.rmtree(private)
    with EmbeddedServer(
        ServerConfig(directory=directory, fsync=False, binaries=copied.directory)
    ) as conninfo:
        answer = value(conninfo, "SELECT 1")

    assert copied == again
    assert copied.directory.is_relative_to(directory / "programs")
    assert answer == 1
