"""Which adapters a peer is built from, chosen by its configuration: the only place that names them.

Bringing them up is an async context manager, so that whatever was brought up is taken down in the
opposite order, also when something in the middle could not be.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from membership.view import View
from peer.config import Config
from peer.duties import Bury
from peer.machine import processors
from peer.requests import Requests
from peer.undertaker import Undertaker
from pipeline.errors import LedgerUnavailable
from pipeline.events import Recorder
from pipeline.hold import MayTake
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ledger.server import EmbeddedServer, ServerConfig
from pipeline.media.config import ENCODER_THREADS_MAX, TranscodeConfig
from pipeline.media.tools import find_tools
from pipeline.media.transcoder import FfmpegTranscoder
from pipeline.ports import ObjectStore, Sweep, TaskDesk, TaskQueue
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.stores.directory import DirectoryStore
from pipeline.sweeper import Sweeper, expiry
from pipeline.tasks import Holder
from pipeline.worker import Worker, WorkerConfig

log = logging.getLogger(__name__)

LOOK_AGAIN_S = 2.0
"""How often a database that is not ours to start is tried while the peer comes up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A peer that is ready to work."""

    worker: Worker
    sweeper: Sweeper
    undertaker: Undertaker
    requests: Requests
    desk: TaskDesk
    records: Sweep
    queue: TaskQueue
    store: ObjectStore
    database: Database
    scratch: Path
    encoders: frozenset[str]


@asynccontextmanager
async def assemble(
    config: Config,
    recorder: Recorder,
    *,
    holder: Callable[[], Holder],
    view: Callable[[], View],
    may_take: MayTake,
    own_burial: Bury | None = None,
) -> AsyncIterator[Parts]:
    """Bring up everything between the configuration and a peer that can work.

    A ledger by URL may be away: it is waited for. Everything else that is missing is an error.

    Args:
        holder: Under which identity this peer works now.
        view: What it believes of the cluster.
        may_take: Why it should take no work, as far as the cluster goes.
        own_burial: What is to be told of its former life, where that was a crash.

    Raises:
        ToolMissing: ffmpeg or a PostgreSQL server is not on this machine.
        PipelineError: Something cannot be used; the message says what to do.
    """
    rng = random.Random()  # noqa: S311 - draws delays, not secrets
    scratch = config.places.peer(config.peer.name).scratch
    tools = await trio.to_thread.run_sync(
        find_tools, config.transcode.ffmpeg, config.transcode.ffprobe
    )
    store = await _store(config)
    async with _database(config) as database:
        ledger = await _ledger(config, database, recorder, rng)
        queue = EmbeddedQueue(database)
        sweeper = Sweeper(sweep=ledger, queue=queue, rng=rng)
        try:
            yield Parts(
                worker=Worker(
                    WorkerConfig(slots=config.peer.slots, scratch=scratch, retry=config.retry),
                    ledger=ledger,
                    queue=queue,
                    store=store,
                    transcoder=FfmpegTranscoder(tools, _shared_threads(config)),
                    holder=holder(),
                    recorder=recorder,
                    rng=rng,
                    may_take=may_take,
                ),
                sweeper=sweeper,
                undertaker=Undertaker(
                    ledger=ledger,
                    wake=sweeper.wake,
                    view=view,
                    own=holder,
                    recorder=recorder,
                    own_burial=own_burial,
                ),
                requests=Requests(
                    desk=ledger,
                    sweep=ledger,
                    queue=queue,
                    store=store,
                    attempts_max=config.retry.attempts_max,
                ),
                desk=ledger,
                records=ledger,
                queue=queue,
                store=store,
                database=database,
                scratch=scratch,
                encoders=tools.encoders,
            )
        finally:
            with trio.CancelScope(shield=True):
                await queue.aclose()


async def _store(config: Config) -> DirectoryStore:
    """A store that somebody named must be there: an unmounted disk is not an empty store."""
    store = DirectoryStore(config.store_directory, create=config.store.directory is None)
    await store.sweep()
    return store


def _shared_threads(config: Config) -> TranscodeConfig:
    """Share the processors out among the slots, where nobody chose the encoders' threads.

    A saturated machine does most with one thread an encoder (notes: 10 to 15 % less CPU time), and
    a machine with one slot would leave its other processors idle.
    """
    if config.transcode.encoder_threads:
        return config.transcode
    threads = max(1, min(ENCODER_THREADS_MAX, processors() // config.peer.slots))
    return replace(config.transcode, encoder_threads=threads)


@asynccontextmanager
async def _database(config: Config) -> AsyncIterator[Database]:
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


async def _ledger(
    config: Config, database: Database, recorder: Recorder, rng: random.Random
) -> PostgresLedger:
    """Wait until the ledger answers, however long that takes, and bring it up to date."""
    ledger = PostgresLedger(
        database,
        lease_s=config.ledger.lease_s,
        expiry=expiry(config.retry, rng),
        recorder=recorder,
    )
    while True:
        try:
            await ledger.prepare()
        except LedgerUnavailable as error:
            log.warning("waiting for the ledger", extra={"action": "wait", "error": str(error)})
            await trio.sleep(LOOK_AGAIN_S)
        else:
            return ledger
