"""A peer as these tests need it: the real adapters around the real worker, as `peer.assembly` puts
them together, but with gates and a small transcoder in the place of ffmpeg. Gossip is beside it
(`neighbourhood`).

It works in this process, where a test can look at it, or in one of its own (`peer_process`), where
it can be killed.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import trio

from peer.events import decode_event
from pipeline.clearing import Clearer
from pipeline.events import Record, Recordable, Stamp
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import ObjectStore, TaskQueue, Transcoder
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.queue import RabbitQueue
from pipeline.reception import Answers, always_answers
from pipeline.retry import RetryPolicy
from pipeline.spool import Spool
from pipeline.spooling import SpoolingLedger
from pipeline.stores.s3.config import S3Config
from pipeline.stores.s3.store import S3Store
from pipeline.sweeper import Sweeper, expiry
from pipeline.tasks import Holder
from pipeline.worker import Worker, WorkerConfig
from tests.chaos.services.gates import (
    GatedLedger,
    GatedNoting,
    GatedQueue,
    GatedStore,
    GatedTranscoder,
    Gates,
)
from tests.chaos.services.services import Ports, Site

SOON = RetryPolicy(base_s=0.1, max_s=0.5)
NEVER_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a peer is given; many times are shorter than in production, so that tests are.

    Args:
        queue: None for the one that is embedded in the ledger's database.
        forgotten_s: When the sweeper makes up for a message that the queue has lost; `NEVER_S`
            where none may be.
    """

    name: str
    number: int
    directory: Path
    ledger: DatabaseConfig
    queue: RabbitConfig | None
    store: S3Config
    epoch: int = 1
    slots: int = 4
    lease_s: float = 15.0
    attempts_max: int = 4
    store_patience_s: float = 120.0
    cleanup_s: float = 5.0
    handover_s: float = 900.0
    forgotten_s: float = 10.0
    retry: RetryPolicy = SOON

    @property
    def holder(self) -> Holder:
        """Who it is."""
        return Holder(
            peer_uid=f"{self.number:016x}",
            peer_name=self.name,
            epoch=self.epoch,
            container=f"pid:{self.name}",
            node="here",
        )


def settings(
    site: Site, name: str, number: int, directory: Path, ports: Ports | None = None
) -> Settings:
    """Those of a peer at a site, which it reaches by its servers' own ports or by others."""
    ports = ports or site.ports
    store = site.services.store
    return Settings(
        name=name,
        number=number,
        directory=directory / name,
        ledger=DatabaseConfig(
            conninfo=site.ledger_url(ports.ledger),
            connect_timeout_s=2,
            statement_timeout_s=5.0,
            transaction_timeout_s=10.0,  # well before whatever is frozen for 30 s goes on
        ),
        queue=RabbitConfig(
            url=site.queue_url(ports.queue),
            heartbeat_s=3,
            management_url=site.services.queue.management_url,
        ),
        store=S3Config(
            endpoint=f"http://127.0.0.1:{ports.store}",
            bucket=site.name,
            region=store.region,
            access_key=store.access_key,
            secret_key=store.secret_key,
            part_bytes=5 * 1024 * 1024,
            connect_timeout_s=2.0,
            read_timeout_s=4.0,
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A peer at work, and what it is made of."""

    worker: Worker
    ledger: PostgresLedger
    queue: TaskQueue
    store: ObjectStore
    spooling: SpoolingLedger
    intake: trio.CancelScope
    """To be cancelled when it shall take no more work."""


class Stamps:
    """Stamps events in a peer's name."""

    def __init__(self, holder: Holder) -> None:
        self._holder = holder
        self._sequences = itertools.count(1)

    def record(self, event: Recordable) -> Record:
        """Put an event into its envelope."""
        stamp = Stamp(
            peer_uid=self._holder.peer_uid,
            epoch=self._holder.epoch,
            sequence=next(self._sequences),
            container=self._holder.container,
            node=self._holder.node,
            at=datetime.now(UTC),
        )
        return Record(stamp=stamp, event=event)


@asynccontextmanager
async def ledger_of(settings: Settings, stamps: Stamps) -> AsyncIterator[PostgresLedger]:
    """Connect, without asking anything of the database yet."""
    database = Database(settings.ledger)
    rules = expiry(settings.retry, random.Random(settings.number))
    try:
        yield PostgresLedger(
            database, lease_s=settings.lease_s, expiry=rules, recorder=stamps.record
        )
    finally:
        with trio.CancelScope(shield=True):
            await database.aclose()


@asynccontextmanager
async def queue_of(settings: Settings) -> AsyncIterator[RabbitQueue | EmbeddedQueue]:
    """Connect when it is needed first."""
    database = Database(settings.ledger)
    queue = (
        EmbeddedQueue(database)
        if settings.queue is None
        else RabbitQueue(settings.queue, name=settings.name)
    )
    try:
        yield queue
    finally:
        with trio.CancelScope(shield=True):
            await queue.aclose()
            await database.aclose()


@asynccontextmanager
async def working(
    settings: Settings,
    transcoder: Transcoder,
    *,
    gates: Gates | None = None,
    answers: Answers = always_answers,
) -> AsyncIterator[Running]:
    """Let a peer work until the context ends; what it has in hand then is handed back."""
    if gates is not None:
        transcoder = GatedTranscoder(transcoder, gates)
    gates = gates or Gates()
    rng = random.Random(settings.number * 1000 + settings.epoch)
    scratch = settings.directory / "scratch"
    scratch.mkdir(parents=True, exist_ok=True)
    stamps = Stamps(settings.holder)
    async with ledger_of(settings, stamps) as ledger, queue_of(settings) as queue:
        store = S3Store(settings.store, environment={})
        spool = Spool(settings.directory / "spool")
        gated = GatedLedger(ledger, gates)
        spooling = SpoolingLedger(gated, spool, decode=decode_event, rng=rng)
        await spooling.replay()
        noting = GatedNoting(spooling, gates)
        worker = Worker(
            WorkerConfig(
                slots=settings.slots,
                scratch=scratch,
                store_patience_s=settings.store_patience_s,
                progress_interval_s=0.2,
                patience_s=0.5,
                cleanup_s=settings.cleanup_s,
                handover_s=settings.handover_s,
                attempts_max=settings.attempts_max,
                retry=settings.retry,
            ),
            ledger=noting,
            queue=GatedQueue(queue, gates),
            store=GatedStore(store, gates),
            transcoder=transcoder,
            holder=settings.holder,
            recorder=stamps.record,
            rng=rng,
            answers=answers,
            witnesses=ledger,
        )
        sweeper = Sweeper(sweep=ledger, queue=queue, rng=rng, forgotten_s=settings.forgotten_s)
        clearer = Clearer(clearing=ledger, store=store, rng=rng)
        async with trio.open_nursery() as beside:
            for run in (sweeper.run, clearer.run, spooling.run, noting.run):
                beside.start_soon(run)
            async with trio.open_nursery() as jobs:
                async with trio.open_nursery() as intake:
                    intake.start_soon(worker.take_work, jobs)
                    yield Running(
                        worker=worker,
                        ledger=ledger,
                        queue=queue,
                        store=store,
                        spooling=spooling,
                        intake=intake.cancel_scope,
                    )
                    intake.cancel_scope.cancel()
                jobs.cancel_scope.cancel()
            beside.cancel_scope.cancel()
        store.close()
