"""Where queues are for tests: one of each kind, to which consumers connect as peers of their own.

Another queue is one more such place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Protocol

import psycopg
import trio

from pipeline.errors import QueueUnavailable
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ports import Delivery, Depth, TaskQueue
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.queue import RabbitQueue
from tests.servers.rabbitmq import RabbitServer


class Consumer(TaskQueue, Protocol):
    """A queue, and how a peer that stops leaves it."""

    async def aclose(self) -> None: ...


@dataclass(slots=True)
class Place:
    """One queue somewhere, to which consumers connect."""

    connect: Callable[[], Consumer]
    consumer_program: str
    cut: Callable[[], None]
    """End the connections of all consumers, as a restart of the server does."""
    tick_s: float
    """Delays are rounded up to a multiple of it."""


EMBEDDED_CONSUMER = """
import trio
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.queues.embedded import EmbeddedQueue

async def main():
    queue = EmbeddedQueue(Database(DatabaseConfig(conninfo={conninfo!r})))
    delivery = await queue.receive()
    print("have", delivery.body.decode(), flush=True)
    await trio.sleep_forever()

trio.run(main)
"""


RABBIT_CONSUMER = """
import trio
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.queue import RabbitQueue

async def main():
    queue = RabbitQueue(RabbitConfig(url={url!r}, prefix={prefix!r}))
    delivery = await queue.receive()
    print("have", delivery.body.decode(), flush=True)
    await trio.sleep_forever()

trio.run(main)
"""


@asynccontextmanager
async def embedded_place(ledger_url: str) -> AsyncIterator[Place]:
    """The embedded queue, in that ledger."""
    consumers: list[EmbeddedQueue] = []
    databases: list[Database] = []

    def connect() -> EmbeddedQueue:
        databases.append(Database(DatabaseConfig(conninfo=ledger_url)))
        consumers.append(EmbeddedQueue(databases[-1]))
        return consumers[-1]

    def cut() -> None:
        with psycopg.connect(ledger_url) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )

    yield Place(connect, EMBEDDED_CONSUMER.format(conninfo=ledger_url), cut, tick_s=0.0)
    for consumer in consumers:
        await consumer.aclose()
    for database in databases:
        await database.aclose()


@asynccontextmanager
async def rabbit_place(rabbit: RabbitServer, config: RabbitConfig) -> AsyncIterator[Place]:
    """The queues that are configured, on that broker."""
    consumers: list[RabbitQueue] = []

    def connect() -> RabbitQueue:
        consumers.append(RabbitQueue(config))
        return consumers[-1]

    def cut() -> None:
        rabbit.control("close_all_connections", "a test")

    program = RABBIT_CONSUMER.format(url=config.url, prefix=config.prefix)
    yield Place(connect, program, cut, tick_s=0.25)
    for consumer in consumers:
        await consumer.aclose()


async def within(seconds: float, call: Callable[[], Awaitable[Delivery]]) -> Delivery:
    """Wait for a delivery, and not longer."""
    with trio.fail_after(seconds):
        return await call()


async def insist(queue: Consumer) -> Delivery:
    """Receive as a worker does, whose patience repeats what failed."""
    while True:
        try:
            return await queue.receive()
        except QueueUnavailable:
            await trio.sleep(0.01)


async def end(delivery: Delivery, ending: str) -> None:
    """End a delivery by `ack`, `put_back` or `dead_letter`."""
    match ending:
        case "ack":
            await delivery.ack()
        case "put_back":
            await delivery.put_back(0.0)
        case _:
            await delivery.dead_letter("a test")


async def use(queue: Consumer) -> None:
    """Let it connect, where a test measures what comes after that."""
    await queue.publish(b"first")
    await (await within(5, queue.receive)).ack()


async def nothing_comes(queue: Consumer, for_s: float = 0.15) -> None:
    """Wait in vain."""
    with trio.move_on_after(for_s) as scope:
        await queue.receive()
    assert scope.cancelled_caught


async def holds(
    queue: Consumer, *, ready: int = 0, unacknowledged: int = 0, delayed: int = 0, dead: int = 0
) -> None:
    """Wait until the queue holds just that, and nothing besides.

    RabbitMQ does not answer to an acknowledgement, and is not asked here for what somebody holds.
    """
    expected = Depth(ready=ready, unacknowledged=unacknowledged, delayed=delayed, dead=dead)
    give_up_at = trio.current_time() + 10.0
    while True:
        depth = replace(await queue.depth(), dead_reason="")
        if depth in (expected, replace(expected, unacknowledged=None)):
            return
        assert trio.current_time() < give_up_at, f"{depth} and not {expected}"
        await trio.sleep(0.01)
