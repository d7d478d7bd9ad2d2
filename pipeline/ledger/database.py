"""Transactions on PostgreSQL from trio: one function, run in a thread, on a connection of a pool.

The pool is a list of idle connections. psycopg_pool was tried and left out, for what it does while
the server is away: a call waits for its whole timeout and then says nothing about the cause, and
because new connections are made in the background with an exponential pause, it goes on waiting
after the server is back (measured: 1 s after an outage of 13 s, and growing with it). Here a call
connects for itself when no connection is idle, so it fails at once, with the reason, and works
again with the first call after the server does. trio's limiter already is the queue in front of the
pool. psycopg's `AsyncConnection` needs asyncio; driving it from trio needs its private parts.

What is known after an error: until COMMIT is sent, a failed transaction has certainly not happened,
and is repeated at once on another connection (the server was restarted since this one was made).
After that nobody knows, and the caller's error says so (`definite`).

A thread cannot be cancelled. So a call that has begun runs to its end and returns its result even
when it is cancelled meanwhile, and what bounds it is the server's `statement_timeout` and, should
the server be frozen or unreachable, the socket, which is shut at `transaction_timeout_s`. A thread
that only connects, or starts the server again, has no socket to shut. A peer that must end leaves
such threads behind (`stop_within`); what they come to have, they throw away.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import psycopg
import trio
from psycopg import errors

from pipeline.errors import LedgerUnavailable, PipelineError
from pipeline.ledger.connections import Connection, connect, sentence, shut

log = logging.getLogger(__name__)

T = TypeVar("T")

# What the world does to us: no server, no memory, no disk, a timeout, a shutdown, a broken page; or
# rights that were taken away, and may be given back. The other errors (of syntax, of types, of
# constraints) are our own mistakes and go through.
_AWAY = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.InternalError,
    errors.InsufficientPrivilege,
)

REPEATS_MAX = 3
"""How often a transaction is repeated that lost against another one, or its connection."""

PAUSE_S = 0.005
"""Before the first repeat; doubled each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseConfig:
    """How to reach the database.

    Args:
        conninfo: libpq's connection string or URL.
        connections_max: How many transactions may run at once. Each takes a thread while it runs.
        connect_timeout_s: For one attempt to connect. libpq takes whole seconds, at least 2.
        statement_timeout_s: The server ends a statement that takes longer, and a session that
            holds a transaction open for longer without doing anything: a frozen peer locks nobody.
        transaction_timeout_s: The client ends a transaction that takes longer.
    """

    conninfo: str
    connections_max: int = 4
    connect_timeout_s: int = 5
    statement_timeout_s: float = 10.0
    transaction_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        if self.connections_max < 1:
            raise ValueError("ledger: connections_max must be at least 1")
        if self.connect_timeout_s < 2:
            raise ValueError("ledger: connect_timeout_s must be at least 2")
        if not 0 < self.statement_timeout_s <= self.transaction_timeout_s:
            raise ValueError(
                "ledger: statement_timeout_s must be above 0 and at most transaction_timeout_s"
            )


class Database:
    """A pool of connections; opens them when they are needed, and needs no opening itself.

    Args:
        on_unavailable: Called in a thread when no connection can be made, before one more try:
            the embedded server is started again here. It may block, and raise `PipelineError`.
    """

    def __init__(
        self, config: DatabaseConfig, *, on_unavailable: Callable[[], None] | None = None
    ) -> None:
        self.config = config
        self._on_unavailable = on_unavailable
        self._limiter = trio.CapacityLimiter(config.connections_max)
        self._idle: list[Connection] = []  # used from threads: append, pop and clear are atomic
        self._reviving = threading.Lock()
        self._calls: set[_Call] = set()
        self._ends_at = math.inf  # by time.monotonic
        self._closed = False

    async def run(self, work: Callable[[Connection], T], *, timeout_s: float | None = None) -> T:
        """Run `work` as one transaction, in a thread.

        It is rolled back when `work` raises, and run again from the start when it lost against
        another transaction or found its connection dead; so `work` must do nothing but use the
        connection.

        Args:
            timeout_s: In place of the configuration's `transaction_timeout_s`.

        Raises:
            LedgerUnavailable: The database cannot be reached, ended the connection, or took too
                long; `definite` tells whether the transaction may have happened all the same.
        """
        lost = 0
        while True:
            try:
                return await self._in_thread(lambda call: self._transact(call, work), timeout_s)
            except _LostAgainstAnother:
                lost += 1
                if lost > REPEATS_MAX:
                    raise
            # Let the winner have its locks: a waiter may be overtaken by who comes just then.
            await trio.sleep(PAUSE_S * 2**lost)

    async def connect(self, prepare: Callable[[Connection], T]) -> tuple[Connection, T]:
        """Make a connection of its own, in autocommit mode, that the caller closes.

        Args:
            prepare: Run on it in the same thread; its result is returned with the connection.

        Raises:
            LedgerUnavailable: The database cannot be reached.
        """

        def work(call: _Call) -> tuple[Connection, T]:
            connection = self._connect()
            try:
                with call.using(connection):
                    return connection, prepare(connection)
            except LedgerUnavailable:
                connection.close()
                raise
            except psycopg.Error as error:
                connection.close()
                raise LedgerUnavailable(sentence(error), definite=True) from error

        return await self._in_thread(work)

    def stop_within(self, within_s: float) -> None:
        """Let no call, of those under way and of later ones, go on for longer than that from now.

        For a peer that must end whatever the server does: a server that is away is not started
        again any more, and when the time is over each call raises `LedgerUnavailable`, at once.
        A second call may shorten the time. Returns at once; call it from trio's thread.
        """
        self._ends_at = min(self._ends_at, time.monotonic() + within_s)
        for call in self._calls:
            call.end_at(self._ends_at)

    async def aclose(self) -> None:
        """Close the idle connections now, and those at work when their transactions end."""
        self._closed = True
        with trio.CancelScope(shield=True):  # a connection that is forgotten warns when it is found
            await trio.to_thread.run_sync(self._drop_idle)

    async def _in_thread(self, work: Callable[[_Call], T], timeout_s: float | None = None) -> T:
        """Run `work` in a thread, with a task beside it that ends the call when it is late.

        Only waiting for a free place can be cancelled. Afterwards there is no checkpoint at which a
        result could get lost: the nursery's end is none as long as no task in it is cancelled from
        outside, and the shields keep that from happening.
        """
        call = _Call(timeout_s or self.config.transaction_timeout_s)
        late = trio.CancelScope(shield=True)
        failure: Exception | None = None
        async with self._limiter:
            if time.monotonic() >= self._ends_at:
                raise _stopped()
            self._calls.add(call)
            call.end_at(self._ends_at)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(call.end_when_late, late)
                try:
                    with call.thread:
                        result = await trio.to_thread.run_sync(
                            # The place is ours already; a thread left behind does not keep it.
                            work,
                            call,
                            limiter=trio.CapacityLimiter(1),
                            abandon_on_cancel=True,
                        )
                except Exception as error:  # carried out of the nursery, which would wrap it
                    failure = error
                finally:
                    self._calls.remove(call)
                    late.cancel()
        if failure is not None:
            raise failure
        if call.thread.cancelled_caught:
            raise _stopped()
        return result

    def _transact(self, call: _Call, work: Callable[[Connection], T]) -> T:
        died = 0
        while True:
            connection = self._take()
            committing = False
            try:
                with call.using(connection), connection.transaction():
                    result = work(connection)
                    committing = True
                return result
            except (errors.SerializationFailure, errors.DeadlockDetected) as error:
                raise _LostAgainstAnother(sentence(error), definite=True) from error
            except _AWAY as error:
                is_dead = connection.closed  # psycopg finds out by itself
                if call.is_late:
                    self._drop_idle()  # it may be the network, and then they are as dead
                    raise LedgerUnavailable(call.complaint, definite=not committing) from error
                if isinstance(error, errors.ReadOnlySqlTransaction):
                    connection.close()  # the server became a standby: find the one that is none
                if is_dead and not committing and died < REPEATS_MAX:
                    died += 1
                    self._drop_idle()  # as old as this one, and as dead
                    continue
                raise LedgerUnavailable(sentence(error), definite=not committing) from error
            finally:
                self._give_back(connection)

    def _take(self) -> Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _give_back(self, connection: Connection) -> None:
        if connection.closed or self._closed:
            connection.close()
        else:
            self._idle.append(connection)

    def _drop_idle(self) -> None:
        with suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _connect(self) -> Connection:
        try:
            return connect(self.config)
        except LedgerUnavailable:
            if self._on_unavailable is None or self._ends_at < math.inf:
                raise
        with self._reviving:  # one thread starts the server again, the others find it there
            try:
                return connect(self.config)
            except LedgerUnavailable as error:
                if self._ends_at < math.inf:
                    raise
                log.warning("database away", extra={"action": "revive", "error": str(error)})
            try:
                self._on_unavailable()
            except LedgerUnavailable:
                raise
            except PipelineError as error:
                raise LedgerUnavailable(str(error), definite=True) from error
            return connect(self.config)


class _LostAgainstAnother(LedgerUnavailable):
    """The server ended this transaction so that another one could go on."""


class _Call:
    """One use of the database by a thread, as seen from trio: how long it may still take.

    Args:
        timeout_s: For the transaction, once there is a connection; `end_at` bounds all of the call.
    """

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.is_late = False
        self.thread = trio.CancelScope(shield=True)
        self._pause = trio.CancelScope()
        # Who has the lock finds a thread with a connection or without one, and nothing between.
        # A descriptor must not be shut after somebody else has got it.
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._since = 0.0
        self._ends_at = math.inf
        self._is_done = False
        self._is_given_up = False

    def using(self, connection: Connection) -> _Call:
        with self._lock:
            if self._is_given_up:
                raise _stopped()
            self._connection = connection
            self._since = time.monotonic()
        return self

    def __enter__(self) -> None: ...

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        with self._lock:
            self._connection = None
            self._is_done = error is None

    def end_at(self, at: float) -> None:
        """Bound all of the call, by time.monotonic."""
        self._ends_at = at
        self._pause.cancel()

    @property
    def complaint(self) -> str:
        """Why it was cut."""
        in_time = (
            f"in {self.timeout_s:g} s" if self._ends_at == math.inf else "before this peer's end"
        )
        return f"the ledger's database did not answer {in_time}"

    async def end_when_late(self, scope: trio.CancelScope) -> None:
        """Watch over the call from beside it."""
        with scope:
            while (left_s := self._end_or_left_s()) > 0:
                with trio.move_on_after(left_s) as self._pause:
                    await trio.sleep_forever()

    def _end_or_left_s(self) -> float:
        """How long it may still take; when that is nothing, it was ended."""
        with self._lock:
            now = time.monotonic()
            began = now if self._connection is None else self._since
            left_s = min(began + self.timeout_s, self._ends_at) - now
            if left_s <= 0 and self._connection is not None:
                self.is_late = True
                shut(self._connection)
            elif left_s <= 0 and not self._is_done:
                self._is_given_up = True
                self.thread.cancel()
            return left_s


def _stopped() -> LedgerUnavailable:
    return LedgerUnavailable("this peer is stopping and waits no longer", definite=True)
