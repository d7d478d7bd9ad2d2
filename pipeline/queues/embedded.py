"""The embedded queue: a table in the ledger's database that behaves like RabbitMQ.

A message is in a consumer's hands until that consumer says otherwise or is gone, and then it goes
to somebody else. "Gone" is what RabbitMQ takes from the TCP connection: here a consumer has one
session of its own, which holds an advisory lock on the consumer's number, and the number stands on
every message it holds. The server drops the lock with the session, so a killed peer's messages are
free within moments, and a long encode keeps its message without anybody renewing anything. A
visibility timeout (SQS, Celery) has to be longer than the longest work, and is what a crash costs.

The same session listens: `NOTIFY` makes its socket readable and trio waits for that, so an idle
consumer sleeps. Beside it a look every `LOOK_S` finds the messages of consumers that are gone, for
which no notification is sent, and one at the time at which the next delayed message is due.

A consumer that does not know what became of a call gives up its session, and with it everything it
holds: a message whose delivery got lost on the way, or whose end could not be told, would otherwise
stay with a consumer that lives on and never comes back to it. RabbitMQ does the same with a channel
that fails. What is delivered twice then finds its part taken, or settled.

`SKIP LOCKED` keeps consumers from waiting for each other. Work goes through the ledger's pool.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import TypeVar

import psycopg
import trio

from pipeline.errors import LedgerUnavailable, QueueUnavailable
from pipeline.ledger.connections import Connection
from pipeline.ledger.database import Database
from pipeline.ledger.queries import Queries
from pipeline.ledger.rows import text
from pipeline.ports import Depth
from pipeline.priority import Turns
from pipeline.tasks import Priority

T = TypeVar("T")

LOOK_S = 1.0
"""How often a consumer looks without having been told to: how long a dead one's messages wait."""

_QUERIES = Queries.load("pipeline.queues", "embedded.sql")


@dataclass(frozen=True, slots=True)
class _Consumer:
    """A session that listens and, while it lives, owns the messages with its number."""

    number: int
    connection: Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """A message in a consumer's hands."""

    consumer: int
    id: int
    body: bytes
    deliveries: int
    priority: Priority


@dataclass(frozen=True, slots=True, kw_only=True)
class _NoneTaken:
    """Why not: nothing is due yet, or whoever asked owns nothing any more."""

    look_in_s: float
    is_alive: bool


class EmbeddedQueue:
    """Implements `TaskQueue` on the ledger's database.

    Connects at the first `receive`. When the session is lost, what this consumer holds goes back to
    the queue, and the next `receive` opens another one.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._consumer: _Consumer | None = None
        # One receiver looks and waits at a time. The others stand behind it, so a notification
        # never wakes more of them than there are messages.
        self._receiving = trio.Lock()
        self._turns = Turns()
        self._wait = trio.CancelScope()
        self._look_at = inf  # in trio's time

    async def publish(
        self, body: bytes, *, delay_s: float = 0.0, priority: Priority = Priority.NORMAL
    ) -> None:
        """See `TaskQueue`."""
        values = {"body": body, "delay_s": delay_s, "priority": priority.value}

        def work(connection: Connection) -> None:
            connection.execute(_QUERIES["publish"], values)
            if delay_s <= 0:
                connection.execute(_QUERIES["notify"])

        await self._run(work)
        self._look_in(delay_s)

    async def receive(self) -> EmbeddedDelivery:
        """See `TaskQueue`. Any number of calls may wait at once."""
        async with self._receiving:
            while True:
                consumer = self._consumer or await self._open()
                self._look_at = trio.current_time() + LOOK_S
                taken = await self._take(consumer)
                # No checkpoint between the result and `return`, so no message is ever forgotten.
                if isinstance(taken, _Taken):
                    self._turns.took(taken.priority)
                    return EmbeddedDelivery(self, taken)
                if taken.is_alive:
                    self._look_in(taken.look_in_s)
                    await self._wait_for_news(consumer)
                else:
                    self._resign(consumer.number)

    async def depth(self) -> Depth:
        """See `TaskQueue`."""

        def work(connection: Connection) -> Depth:
            row = connection.execute(_QUERIES["depth"]).fetchone()
            assert row is not None
            return Depth(**row)

        return await self._run(work)

    async def waiting(self) -> Collection[Priority]:
        """See `TaskQueue`."""

        def work(connection: Connection) -> Collection[Priority]:
            values = {"priorities": list(Priority)}
            rows = connection.execute(_QUERIES["waiting"], values).fetchall()
            return [Priority(row["priority"]) for row in rows]

        return await self._run(work)

    async def aclose(self) -> None:
        """Give back what this consumer holds. Nobody may be receiving."""
        if self._consumer is not None:
            self._resign(self._consumer.number)

    async def _open(self) -> _Consumer:
        with _translated():
            connection, number = await self._database.connect(_become_consumer)
        # No checkpoint between the result and here, so no connection is ever forgotten.
        self._consumer = _Consumer(number, connection)
        return self._consumer

    async def _take(self, consumer: _Consumer) -> _Taken | _NoneTaken:
        try:
            turns = self._turns.order()
            return await self._run(partial(_take, consumer=consumer.number, turns=turns))
        except QueueUnavailable as error:
            if not error.definite:  # a message may bear our number, and we do not know which
                self._resign(consumer.number)
            raise

    def _resign(self, number: int) -> None:
        """End a consumer's session, and thereby give back what it holds."""
        if self._consumer is None or self._consumer.number != number:
            return
        connection, self._consumer = self._consumer.connection, None
        if not connection.closed:
            trio.lowlevel.notify_closing(connection.fileno())
        connection.close()

    async def _wait_for_news(self, consumer: _Consumer) -> None:
        """Sleep until something was published, the session broke, or it is time to look."""
        with trio.CancelScope(deadline=self._look_at) as self._wait:
            try:
                await trio.lowlevel.wait_readable(consumer.connection.fileno())
                # What was told does not matter, only that the socket is silent again.
                for _ in consumer.connection.notifies(timeout=0):
                    pass
            except (psycopg.OperationalError, trio.ClosedResourceError):
                self._resign(consumer.number)

    def _look_in(self, delay_s: float) -> None:
        """Look when a message is due; also one that was delayed after the last look."""
        self._look_at = min(self._look_at, trio.current_time() + max(0.0, delay_s))
        self._wait.deadline = min(self._wait.deadline, self._look_at)

    async def _run(self, work: Callable[[Connection], T]) -> T:
        with _translated():
            return await self._database.run(work)

    async def _end(self, name: str, taken: _Taken, *, notify: bool = False, **more: object) -> None:
        def work(connection: Connection) -> None:
            values = {"id": taken.id, "consumer": taken.consumer, **more}
            connection.execute(_QUERIES[name], values)
            if notify:
                connection.execute(_QUERIES["notify"])

        try:
            await self._run(work)
        except QueueUnavailable:
            self._resign(taken.consumer)
            raise


class EmbeddedDelivery:
    """Implements `Delivery`."""

    def __init__(self, queue: EmbeddedQueue, taken: _Taken) -> None:
        self._queue = queue
        self._taken = taken
        self._ended = False

    @property
    def body(self) -> bytes:
        """See `Delivery`."""
        return self._taken.body

    @property
    def redelivered(self) -> bool:
        """See `Delivery`."""
        return self._taken.deliveries > 1

    @property
    def priority(self) -> Priority:
        """See `Delivery`."""
        return self._taken.priority

    async def ack(self) -> None:
        """See `Delivery`."""
        await self._end("ack")

    async def put_back(self, delay_s: float) -> None:
        """See `Delivery`."""
        await self._end("put_back", notify=delay_s <= 0, delay_s=delay_s)
        self._queue._look_in(delay_s)

    async def dead_letter(self, reason: str) -> None:
        """See `Delivery`."""
        await self._end("dead_letter", reason=text(reason))

    async def _end(self, name: str, *, notify: bool = False, **more: object) -> None:
        """Once: this consumer may have the message again by now, and that is another delivery."""
        if self._ended:
            await trio.lowlevel.checkpoint()
            return
        await self._queue._end(name, self._taken, notify=notify, **more)
        # No checkpoint between the call's effect and here.
        self._ended = True


def _become_consumer(connection: Connection) -> int:
    row = connection.execute(_QUERIES["open_consumer"]).fetchone()
    connection.execute(_QUERIES["listen"])
    assert row is not None
    return int(row["number"])


def _take(connection: Connection, consumer: int, turns: Sequence[Priority]) -> _Taken | _NoneTaken:
    """Take a message, or find out why there is none."""
    values = {"consumer": consumer, "turns": [priority.value for priority in turns]}
    row = connection.execute(_QUERIES["take"], values).fetchone()
    if row is not None:
        priority = Priority(row.pop("priority"))
        return _Taken(consumer=consumer, priority=priority, **row)
    due = connection.execute(_QUERIES["next_due"], values).fetchone()
    assert due is not None
    look_in_s = inf if due["due_in_s"] is None else float(due["due_in_s"])
    return _NoneTaken(look_in_s=look_in_s, is_alive=due["is_alive"])


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except LedgerUnavailable as error:
        raise QueueUnavailable(error.message, definite=error.definite) from error
