"""What stands behind the pipeline's ports, chosen by the configuration: the only place that names
the adapters.

Each is brought up by an async context manager, so that whatever was brought up is taken down in the
opposite order. Only the ledger is waited for: a peer without one can do nothing. A queue or a store
that is away, or was configured wrongly, does not keep a peer from starting; it would come back
while the peer runs as well, and a peer that runs can tell people what is wrong.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import trio

from peer.config import Config
from peer.errors import ConfigError
from peer.intake import SizeOf
from pipeline.errors import LedgerUnavailable
from pipeline.events import Recorder
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ledger.server import EmbeddedServer, ServerConfig
from pipeline.mark import Register
from pipeline.marking import Markable, MarkedStore
from pipeline.notify.channel import AppriseChannel
from pipeline.ports import Expiry, TaskQueue
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.stores.directory import DirectoryStore

if TYPE_CHECKING:
    from pipeline.queues.rabbitmq.queue import RabbitQueue

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 2.0
"""How often a database that is not ours to start is tried while the peer comes up."""

CLOSE_WITHIN_S = 10.0
"""For saying good-bye to a broker that may not answer."""

NoteWaiting = Callable[[str | None], None]
"""Told why the ledger is still waited for; None once it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What people are told of a dependency.

    Args:
        describe: Try it, and say in a few words what it is; raises what is wrong with it.
        advice: Where to look when something is.
    """

    describe: Callable[[], Awaitable[str]]
    advice: str


@asynccontextmanager
async def open_database(config: Config) -> AsyncIterator[Database]:
    """Connect to the configured server, or share the embedded one while this peer lives."""
    settings = config.ledger
    server = None
    if settings.url is None:
        server = EmbeddedServer(
            ServerConfig(directory=config.places.postgres, binaries=settings.postgres)
        )
    try:
        conninfo = settings.url
        if server is not None:
            conninfo = await trio.to_thread.run_sync(server.join)
        assert conninfo is not None
        database = Database(
            DatabaseConfig(
                conninfo=conninfo,
                connections_max=settings.connections,
                connect_timeout_s=settings.connect_timeout_s,
                statement_timeout_s=settings.statement_timeout_s,
                transaction_timeout_s=settings.transaction_timeout_s,
            ),
            on_unavailable=server.ensure if server is not None else None,
        )
        try:
            yield database
        finally:
            with trio.CancelScope(shield=True):
                await database.aclose()
    finally:
        if server is not None:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(server.leave)


async def open_ledger(
    config: Config,
    database: Database,
    recorder: Recorder,
    expiry: Expiry,
    note_waiting: NoteWaiting,
) -> tuple[PostgresLedger, About]:
    """Wait until the ledger answers, however long that takes, and bring it up to date."""
    ledger = PostgresLedger(
        database, lease_s=config.ledger.lease_s, expiry=expiry, recorder=recorder
    )
    while True:
        try:
            await ledger.prepare()
        except LedgerUnavailable as error:
            log.warning("waiting for the ledger", extra={"action": "wait", "error": str(error)})
            note_waiting(error.message)
            await trio.sleep(LOOK_AGAIN_S)
        else:
            note_waiting(None)
            return ledger, About(describe=ledger.describe, advice=POSTGRESQL_LOG)


POSTGRESQL_LOG = "look at the PostgreSQL server's log"


@asynccontextmanager
async def open_queue(
    config: Config, database: Database, rng: random.Random
) -> AsyncIterator[tuple[TaskQueue, About]]:
    """RabbitMQ where a URL names it, else the queue in the ledger's own database.

    The clients of services are loaded only where they are used: the embedded default does without
    them, and starts sooner.
    """
    queue: EmbeddedQueue | RabbitQueue
    if config.queue.url is None:
        queue = EmbeddedQueue(database)
        about = About(describe=_in_the_database, advice=POSTGRESQL_LOG)
    else:
        from pipeline.queues.rabbitmq.queue import RabbitQueue  # noqa: PLC0415 - see above

        queue = rabbit = RabbitQueue(config.queue, name=config.peer.name, rng=rng)
        user, _ = config.queue.credentials
        tls = " with TLS" if config.queue.broker.secure else ""

        async def describe() -> str:
            return f"{await rabbit.describe()}{tls} as {user}"

        advice = "look at the section [queue], and at the RabbitMQ server's log"
        about = About(describe=describe, advice=advice)
    try:
        yield queue, about
    finally:
        with trio.move_on_after(CLOSE_WITHIN_S, shield=True):
            await queue.aclose()


async def _in_the_database() -> str:
    return "in the ledger's database"


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenedStore:
    """The object store, whosever that is.

    Args:
        size_of: Looks an `s3://` source up; None where the store does not speak S3.
    """

    store: Markable
    about: About
    size_of: SizeOf | None = None


@contextmanager
def open_store(config: Config) -> Iterator[OpenedStore]:
    """S3 where an endpoint is given, else a directory.

    A directory that somebody named must be there: an unmounted disk is not an empty store.

    Raises:
        ConfigError: There is no such file of credentials or certificates.
        StoreUnavailable: There is no such directory.
    """
    if config.store.s3.endpoint is None:
        directory = config.store_directory

        async def name() -> str:
            return f"at {directory}"

        yield OpenedStore(
            store=DirectoryStore(directory, create=config.store.directory is None),
            about=About(describe=name, advice="look whether its disk is full or not mounted"),
        )
        return
    from pipeline.stores.s3.store import S3Store  # noqa: PLC0415 - as above

    try:
        store = S3Store(config.store.s3)
    except ValueError as error:
        raise ConfigError(str(error)) from error

    async def prepare() -> str:
        await store.prepare()
        return f"at {store.url('')} of {config.store.s3.endpoint}"

    advice = "look at the section [store.s3], and at the store's own log"
    try:
        yield OpenedStore(
            store=store,
            about=About(describe=prepare, advice=advice),
            size_of=store.size_of,
        )
    finally:
        store.close()


def marked(opened: OpenedStore, register: Register) -> tuple[MarkedStore, About]:
    """The same store, to be used only while it is the cluster's."""
    store = MarkedStore(opened.store, register)

    async def describe() -> str:
        said = await opened.about.describe()
        await store.check()
        return said

    return store, About(describe=describe, advice=opened.about.advice)


def open_channel(config: Config) -> AppriseChannel | None:
    """How administrators are told, where any are named."""
    return AppriseChannel(config.notify.urls) if config.notify.urls else None
