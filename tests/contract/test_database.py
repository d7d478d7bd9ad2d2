"""What a transaction of `Database` promises when connections, servers and callers go away."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable

import psycopg
import pytest
import trio

from pipeline.errors import LedgerIncompatible, LedgerUnavailable, ToolMissing
from pipeline.ledger import connections
from pipeline.ledger.connections import Connection
from pipeline.ledger.database import REPEATS_MAX, Database, DatabaseConfig


@pytest.fixture
async def make_database(empty_url: str) -> AsyncIterator[Callable[..., Database]]:
    """Make pools on an empty database with a table `t` of numbers."""
    with psycopg.connect(empty_url) as connection:
        connection.execute("CREATE TABLE t (n integer PRIMARY KEY)")
    made: list[Database] = []

    def make(*, hook: Callable[[], None] | None = None, **options: float) -> Database:
        config = DatabaseConfig(conninfo=empty_url, **options)  # type: ignore[arg-type]  # numbers
        made.append(Database(config, on_unavailable=hook))
        return made[-1]

    yield make
    for database in made:
        await database.aclose()


def pid_of(connection: Connection) -> int:
    return connection.info.backend_pid


def insert(number: int) -> Callable[[Connection], None]:
    def work(connection: Connection) -> None:
        connection.execute("INSERT INTO t VALUES (%s)", (number,))

    return work


def numbers(connection: Connection) -> list[int]:
    return [row["n"] for row in connection.execute("SELECT n FROM t ORDER BY n")]


async def test_an_error_rolls_back(make_database: Callable[..., Database]) -> None:
    """Whatever the work raises comes out as it is, and nothing of the transaction stays."""
    database = make_database()

    def work(connection: Connection) -> None:
        insert(1)(connection)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await database.run(work)
    assert await database.run(numbers) == []


async def test_connections_are_used_again(make_database: Callable[..., Database]) -> None:
    """Calls one after the other share a connection; many at once have as many as are allowed."""
    database = make_database(connections_max=2)
    assert await database.run(pid_of) == await database.run(pid_of)
    running = threading.Semaphore(2)
    pids = set()

    def work(connection: Connection) -> None:
        assert running.acquire(blocking=False)
        connection.execute("SELECT pg_sleep(0.01)")
        pids.add(pid_of(connection))
        running.release()

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(database.run, work)
    assert len(pids) == 2


async def test_a_cancelled_call_keeps_its_result(make_database: Callable[..., Database]) -> None:
    """A transaction that has begun runs to its end, and a cancellation does not lose its result."""
    database = make_database()
    begun = threading.Event()

    def work(connection: Connection) -> str:
        begun.set()
        connection.execute("SELECT pg_sleep(0.1)")
        insert(1)(connection)
        return "result"

    async def cancel_when_begun(scope: trio.CancelScope) -> None:
        await trio.to_thread.run_sync(begun.wait)
        scope.cancel()

    result = None
    async with trio.open_nursery() as nursery:
        with trio.CancelScope() as scope:
            nursery.start_soon(cancel_when_begun, scope)
            result = await database.run(work)

    assert result == "result"
    assert scope.cancel_called
    assert await database.run(numbers) == [1]


async def test_waiting_for_a_place_can_be_cancelled(
    make_database: Callable[..., Database],
) -> None:
    """A call that has not begun is cancelled at once and does nothing."""
    database = make_database(connections_max=1)
    begun, end = threading.Event(), threading.Event()

    def block(_: Connection) -> None:
        begun.set()
        end.wait(10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.run, block)
        await trio.to_thread.run_sync(begun.wait)
        with trio.move_on_after(0.01) as scope:
            await database.run(insert(1))
        assert scope.cancelled_caught
        end.set()
    assert await database.run(numbers) == []


async def test_a_dead_connection_is_replaced(make_database: Callable[..., Database]) -> None:
    """When the server has ended idle connections, the next call does not notice."""
    database = make_database(connections_max=4)
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(database.run, lambda on: on.execute("SELECT pg_sleep(0.02)"))
    with psycopg.connect(database.config.conninfo) as admin:
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    await database.run(insert(1))
    assert await database.run(numbers) == [1]


async def test_a_connection_that_dies_at_work(make_database: Callable[..., Database]) -> None:
    """Before the commit it has not happened: it is tried again, then the error says so."""
    database = make_database()
    runs = []

    def work(connection: Connection) -> None:
        runs.append(1)
        insert(1)(connection)
        connections.shut(connection)
        numbers(connection)

    with pytest.raises(LedgerUnavailable, match="cannot be used") as caught:
        await database.run(work)
    assert caught.value.definite
    assert len(runs) == 1 + REPEATS_MAX
    assert await database.run(numbers) == []


async def test_a_connection_that_dies_at_the_commit(
    make_database: Callable[..., Database],
) -> None:
    """During the commit: nobody knows, and the error says so; it is not repeated."""
    database = make_database()
    runs = []

    def work(connection: Connection) -> None:
        runs.append(1)
        connection.execute("CREATE TEMPORARY TABLE u (n integer) ON COMMIT DROP")
        connections.shut(connection)

    with pytest.raises(LedgerUnavailable) as caught:
        await database.run(work)
    assert not caught.value.definite
    assert runs == [1]


async def test_a_deadlock_is_repeated(make_database: Callable[..., Database]) -> None:
    """Of two transactions that lock in opposite orders both succeed in the end."""
    database = make_database()
    await database.run(insert(1))
    await database.run(insert(2))
    met = threading.Barrier(2)
    runs: list[int] = []

    def lock(connection: Connection, first: int, second: int) -> None:
        runs.append(first)
        connection.execute("SET LOCAL deadlock_timeout = '10ms'")
        connection.execute("SELECT 1 FROM t WHERE n = %s FOR UPDATE", (first,))
        if len(runs) <= 2:
            met.wait(10)
        connection.execute("SELECT 1 FROM t WHERE n = %s FOR UPDATE", (second,))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(database.run, lambda on: lock(on, 1, 2))
        nursery.start_soon(database.run, lambda on: lock(on, 2, 1))
    assert len(runs) >= 3


@pytest.mark.parametrize(
    ("code", "runs_expected"),
    [
        pytest.param("25006", 1, id="read-only"),
        pytest.param("40001", 4, id="serialization-failure"),
        pytest.param("53100", 1, id="disk-full"),
        pytest.param("53300", 1, id="too-many-connections"),
        pytest.param("57P03", 1, id="starting-up"),
        pytest.param("58030", 1, id="io-error"),
        pytest.param("XX001", 1, id="data-corrupted"),
    ],
)
async def test_the_worlds_errors_are_translated(
    make_database: Callable[..., Database], code: str, runs_expected: int
) -> None:
    """Whatever the server suffers from, it is `LedgerUnavailable`, and has not happened."""
    database = make_database()
    runs = []

    def work(connection: Connection) -> None:
        runs.append(1)
        insert(1)(connection)
        connection.execute(f"DO $$ BEGIN RAISE 'oh dear' USING ERRCODE = '{code}'; END $$".encode())

    with pytest.raises(LedgerUnavailable, match=r"cannot be used: oh dear$") as caught:
        await database.run(work)
    assert caught.value.definite
    assert len(runs) == runs_expected
    assert await database.run(numbers) == []


async def test_our_own_mistakes_are_not_hidden(make_database: Callable[..., Database]) -> None:
    """A broken constraint is no outage: to repeat it would go on for ever."""
    database = make_database()
    await database.run(insert(1))
    with pytest.raises(psycopg.errors.UniqueViolation):
        await database.run(insert(1))


async def test_a_slow_statement_is_ended(make_database: Callable[..., Database]) -> None:
    """By the server; the connection can be used again."""
    database = make_database(statement_timeout_s=0.05)
    pid = await database.run(pid_of)
    with pytest.raises(LedgerUnavailable, match="statement timeout") as caught:
        await database.run(lambda on: on.execute("SELECT pg_sleep(10)"))
    assert caught.value.definite
    assert await database.run(pid_of) == pid


async def test_a_frozen_peer_locks_nobody(make_database: Callable[..., Database]) -> None:
    """A session that holds a transaction open without doing anything is ended by the server."""
    database = make_database(statement_timeout_s=0.5)

    def work(connection: Connection) -> None:
        insert(1)(connection)
        time.sleep(0.8)
        numbers(connection)

    with pytest.raises(LedgerUnavailable, match="idle-in-transaction timeout"):
        await database.run(work)
    assert await database.run(numbers) == []


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs a way to freeze a process")
async def test_a_frozen_server_does_not_hold_the_caller(
    make_database: Callable[..., Database],
) -> None:
    """When the server answers nothing at all, the socket is shut and the call comes back."""
    database = make_database(statement_timeout_s=1.0, transaction_timeout_s=1.0)
    pid = await database.run(pid_of)
    with psycopg.connect(database.config.conninfo, autocommit=True) as admin:
        row = admin.execute("SELECT pg_backend_pid()").fetchone()
        assert row is not None
        assert row[0] != pid
        os.kill(pid, signal.SIGSTOP)
        try:
            with pytest.raises(LedgerUnavailable, match=r"did not answer in 1 s"):
                await database.run(numbers)
        finally:
            os.kill(pid, signal.SIGCONT)
    assert await database.run(numbers) == []


async def test_the_reason_is_said(empty_url: str) -> None:
    """Nobody there: an error at once, on one line, with the cause."""
    nowhere = psycopg.conninfo.make_conninfo(empty_url, host="/nonexistent")
    database = Database(DatabaseConfig(conninfo=nowhere))
    with pytest.raises(LedgerUnavailable) as caught, trio.fail_after(2):
        await database.run(numbers)
    assert caught.value.definite
    assert "No such file or directory" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_the_hook_may_start_the_server_again(empty_url: str) -> None:
    """It is called once for all that wait, before one more try; its own failure is told."""
    called = []

    def missing() -> None:
        called.append(1)
        raise ToolMissing("PostgreSQL is not installed: install it")

    nowhere = psycopg.conninfo.make_conninfo(empty_url, host="/nonexistent")
    database = Database(DatabaseConfig(conninfo=nowhere), on_unavailable=missing)
    with pytest.raises(LedgerUnavailable, match="install it") as caught:
        await database.run(numbers)
    assert caught.value.definite
    assert called == [1]


async def test_a_stopping_peer_starts_no_server(empty_url: str) -> None:
    """A server that is away stays away; and a start that is under way is not waited for."""
    called = []
    begun, end = threading.Event(), threading.Event()

    def start() -> None:
        called.append(1)
        begun.set()
        end.wait(10)

    nowhere = psycopg.conninfo.make_conninfo(empty_url, host="/nonexistent")
    database = Database(DatabaseConfig(conninfo=nowhere), on_unavailable=start)

    async def stop_when_begun() -> None:
        await trio.to_thread.run_sync(begun.wait)
        database.stop_within(0.1)

    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_when_begun)
            with (
                pytest.raises(LedgerUnavailable, match="is stopping") as caught,
                trio.fail_after(2),
            ):
                await database.run(numbers)
        assert caught.value.definite
    finally:
        end.set()

    stopping = Database(DatabaseConfig(conninfo=nowhere), on_unavailable=start)
    stopping.stop_within(10)
    with pytest.raises(LedgerUnavailable, match="No such file"):
        await stopping.run(numbers)
    assert called == [1]


async def test_a_stopping_peer_works_until_its_time_is_over(
    make_database: Callable[..., Database],
) -> None:
    """Calls are as good as ever meanwhile; what was committed when it is over is not denied."""
    database = make_database()
    database.stop_within(60)
    await database.run(insert(1))
    committed = threading.Event()
    give_back = database._give_back

    def slowly(connection: Connection) -> None:
        committed.set()
        time.sleep(0.2)
        give_back(connection)

    async def stop_when_committed() -> None:
        await trio.to_thread.run_sync(committed.wait)
        database.stop_within(0.05)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(database, "_give_back", slowly)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop_when_committed)
            await database.run(insert(2))
    with psycopg.connect(database.config.conninfo) as connection:
        assert connection.execute("SELECT n FROM t ORDER BY n").fetchall() == [(1,), (2,)]


async def test_an_old_server_is_refused(
    make_database: Callable[..., Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server of a version that the queries do not work with is named, not tried."""
    monkeypatch.setattr(connections, "SERVER_VERSION_MIN", 990000)
    with pytest.raises(LedgerIncompatible, match=r"is PostgreSQL \d+; Grapevine needs 99"):
        await make_database().run(numbers)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"connections_max": 0}, "connections_max"),
        ({"connect_timeout_s": 1}, "connect_timeout_s"),
        ({"statement_timeout_s": 31.0}, "transaction_timeout_s"),
        ({"statement_timeout_s": 0.0}, "statement_timeout_s"),
    ],
)
def test_options_that_contradict(options: dict[str, float], complaint: str) -> None:
    """A configuration that cannot work is refused with the name of the option."""
    with pytest.raises(ValueError, match=complaint):
        DatabaseConfig(conninfo="", **options)  # type: ignore[arg-type]  # numbers, all of them
