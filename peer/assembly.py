"""Which adapters a peer is built from, chosen by its configuration: the only place that names them.

Bringing them up is an async context manager, so that whatever was brought up is taken down in the
opposite order, also when something in the middle could not be.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import trio

from peer.config import Config
from peer.machine import processors
from peer.requests import Requests
from pipeline.errors import LedgerUnavailable
from pipeline.events import Recorder
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ledger.server import EmbeddedServer, ServerConfig
from pipeline.media.config import ENCODER_THREADS_MAX, TranscodeConfig
from pipeline.media.tools import find_tools
from pipeline.media.transcoder import FfmpegTranscoder
from pipeline.ports import ObjectStore, TaskDesk, TaskQueue
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
    requests: Requests
    desk: TaskDesk
    queue: TaskQueue
    store: ObjectStore
    database: Database
    scratch: Path


@asynccontextmanager
async def assemble(config: Config, holder: Holder, recorder: Recorder) -> AsyncIterator[Parts]:
    """Bring up everything between the configuration and a peer that can work.

    A ledger by URL may be away: it is waited for. Everything else that is missing is an error.

    Raises:
        ToolMissing: ffmpeg or a PostgreSQL server is not on this machine.
        PipelineError: Something cannot be used; the message says what to do.
    """
    rng = random.Random()  # noqa: S311 - draws delays, not secrets
    retry = config.retry
    scratch = config.places.peer(config.peer.name).scratch
    tools = await trio.to_thread.run_sync(
        find_tools, config.transcode.ffmpeg, config.transcode.ffprobe
    )
    transcoder = FfmpegTranscoder(tools, _shared_threads(config))
    # A store that somebody named must be there: an unmounted disk is not an empty store.
    store = DirectoryStore(config.store_directory, create=config.store.directory is None)
    await store.sweep()
    async with _database(config) as database:
        ledger = PostgresLedger(
            database,
            lease_s=config.ledger.lease_s,
            expiry=expiry(retry, rng),
            recorder=recorder,
        )
        await _prepare_patiently(ledger)
        queue = EmbeddedQueue(database)
        try:
            yield Parts(
                worker=Worker(
                    WorkerConfig(slots=config.peer.slots, scratch=scratch, retry=retry),
                    ledger=ledger,
                    queue=queue,
                    store=store,
                    transcoder=transcoder,
                    holder=holder,
                    recorder=recorder,
                    rng=rng,
                ),
                sweeper=Sweeper(sweep=ledger, queue=queue, rng=rng),
                requests=Requests(
                    desk=ledger,
                    sweep=ledger,
                    queue=queue,
                    store=store,
                    attempts_max=retry.attempts_max,
                ),
                desk=ledger,
                queue=queue,
                store=store,
                database=database,
                scratch=scratch,
            )
        finally:
            with trio.CancelScope(shield=True):
                await queue.aclose()


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


async def _prepare_patiently(ledger: PostgresLedger) -> None:
    while True:
        try:
            await ledger.prepare()
        except LedgerUnavailable as error:
            log.warning("waiting for the ledger", extra={"action": "wait", "error": str(error)})
            await trio.sleep(LOOK_AGAIN_S)
        else:
            return
