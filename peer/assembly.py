"""A peer's parts, put together: ports, loops and requests, from a configuration to what can work.

Which adapter stands behind which port is `adapters`' to choose.
"""

from __future__ import annotations

import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import trio

from membership.view import View
from peer import adapters
from peer.adapters import About, NoteWaiting
from peer.conduct_file import ConductFile
from peer.config import Config
from peer.container_memory import ContainerMemory
from peer.duties import Bury
from peer.ended import Ended
from peer.events import decode_event
from peer.intake import SizeOf
from peer.likeness import Likeness
from peer.machine import processors
from peer.metrics.attempts import Attempts, CountingLedger
from peer.requests import Requests
from peer.scale.opening import Scaling, Surroundings, open_scaling
from peer.undertaker import Hears, Undertaker
from pipeline.clearing import Clearer
from pipeline.errors import PipelineError
from pipeline.events import Recorder
from pipeline.hold import MayTake
from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from pipeline.marking import MarkedStore
from pipeline.media.config import ENCODER_THREADS_MAX, TranscodeConfig
from pipeline.media.tools import Tools, find_tools
from pipeline.media.transcoder import FfmpegTranscoder
from pipeline.notifier import Notifier
from pipeline.notify.channel import AppriseChannel
from pipeline.noting import NotingLedger
from pipeline.ports import ClaimLedger, ObjectStore, TaskDesk, TaskQueue
from pipeline.reception import Answers
from pipeline.spool import Spool
from pipeline.spooling import SpoolingLedger
from pipeline.sweeper import Sweeper, expiry
from pipeline.tasks import Holder
from pipeline.worker import Worker, WorkerConfig
from scaling.ports import Peers

log = logging.getLogger(__name__)

TRY_WITHIN_S = 15.0
PAUSE_MIN_S = 1.0
PAUSE_MAX_S = 15.0
"""Between two tries; the last one ends a wait that nobody else may be waiting for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Among:
    """What the peer is among the others, as far as its parts ask.

    Args:
        holder: Under which identity it works now.
        view: What it believes of the cluster.
        may_take: Why it should take no work, as far as the cluster goes.
        answers: Whether the holder of a claim still gives a sign of life.
        peers: The others as the scaler is to see them.
        may_lead: Told whether this peer reaches what a leader has to act on.
        ended: Told of each container that the orchestrator has seen end by itself.
        hears: Whether a life does, whatever it holds.
        own_burial: What is to be told of its former life, where that was a crash.
        likeness: How another peer like this one is started.
    """

    holder: Callable[[], Holder]
    view: Callable[[], View]
    may_take: MayTake
    answers: Answers
    peers: Peers
    may_lead: Callable[[bool], None]
    ended: Callable[[Ended], None]
    hears: Hears
    own_burial: Bury | None = None
    likeness: Likeness = field(default_factory=Likeness)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A peer that is ready to work.

    Args:
        beside: What goes on beside the work, each until it is cancelled.
        about: What people are told of `ledger`, `queue` and `store`.
        channel: How administrators are told; None where none are named.
        attempts: What became of the worker's.
    """

    worker: Worker
    undertaker: Undertaker
    beside: Sequence[Callable[[], Awaitable[None]]]
    requests: Requests
    scaling: Scaling
    desk: TaskDesk
    spooling: SpoolingLedger
    queue: TaskQueue
    store: ObjectStore
    about: Mapping[str, About]
    channel: AppriseChannel | None
    database: Database
    scratch: Path
    encoders: frozenset[str]
    attempts: Attempts


@asynccontextmanager
async def assemble(
    config: Config, recorder: Recorder, among: Among, *, note_waiting: NoteWaiting
) -> AsyncIterator[Parts]:
    """Bring up everything between the configuration and a peer that can work.

    A ledger by URL may be away: it is waited for. So may a queue or a store that is not of this
    machine. Everything else that is missing is an error.

    Args:
        note_waiting: Told why the ledger is still waited for.

    Raises:
        ToolMissing: ffmpeg or a PostgreSQL server is not on this machine.
        PipelineError: Something cannot be used; the message says what to do.
    """
    rng = random.Random()  # noqa: S311 - draws delays, not secrets
    tools = await trio.to_thread.run_sync(
        find_tools, config.transcode.ffmpeg, config.transcode.ffprobe
    )
    async with AsyncExitStack() as stack:
        opened = stack.enter_context(adapters.open_store(config))
        database = await stack.enter_async_context(adapters.open_database(config))
        ledger, about_ledger = await adapters.open_ledger(
            config, database, recorder, expiry(config.retry, rng), note_waiting
        )
        spool = Spool(config.places.peer(config.peer.name).spool)
        spooling = SpoolingLedger(ledger, spool, decode=decode_event, rng=rng)
        # What a former life could not say comes before anything that this one says.
        await spooling.replay()
        store, about_store = adapters.marked(opened, ledger)
        queue, about_queue = await stack.enter_async_context(
            adapters.open_queue(config, database, rng)
        )
        means = _Means(
            rng=rng,
            tools=tools,
            store=store,
            size_of=opened.size_of,
            database=database,
            ledger=ledger,
            spooling=spooling,
            queue=queue,
            scaling=stack.enter_context(
                open_scaling(
                    config,
                    Surroundings(
                        database=database,
                        ledger=ledger,
                        queue=queue,
                        recorder=recorder,
                        peers=among.peers,
                        holder=lambda: among.holder().peer_uid,
                        view=among.view,
                        may_lead=among.may_lead,
                        container=among.holder().container,
                        likeness=among.likeness,
                        ended=among.ended,
                    ),
                )
            ),
            channel=adapters.open_channel(config),
            about={"ledger": about_ledger, "queue": about_queue, "store": about_store},
        )
        yield _put_together(config, recorder, among, means)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Means:
    """What was brought up, for the parts to share."""

    rng: random.Random
    tools: Tools
    store: MarkedStore
    size_of: SizeOf | None
    database: Database
    ledger: PostgresLedger
    spooling: SpoolingLedger
    queue: TaskQueue
    scaling: Scaling
    channel: AppriseChannel | None
    about: Mapping[str, About]


def _put_together(config: Config, recorder: Recorder, among: Among, means: _Means) -> Parts:
    ledger, queue, store, rng = means.ledger, means.queue, means.store, means.rng
    noting = NotingLedger(means.spooling)
    counting = CountingLedger(noting)
    worker = _worker(config, recorder, among, means, counting)
    sweeper = Sweeper(sweep=ledger, queue=queue, rng=rng)
    undertaker = Undertaker(
        ledger=ledger,
        wake=sweeper.wake,
        view=among.view,
        own=among.holder,
        recorder=recorder,
        hears=among.hears,
        own_burial=among.own_burial,
    )
    beside: list[Callable[[], Awaitable[None]]] = [
        partial(settle, means.about, worker.heard),
        worker.watch,
        sweeper.run,
        undertaker.run,
        noting.run,
        means.spooling.run,
        Clearer(clearing=ledger, store=store, rng=rng).run,
    ]
    beside.extend(means.scaling.beside)
    if (channel := means.channel) is not None:
        beside.append(Notifier(notices=ledger, channel=channel, config=config.notify, rng=rng).run)
    return Parts(
        worker=worker,
        undertaker=undertaker,
        beside=beside,
        requests=Requests(
            desk=ledger,
            sweep=ledger,
            queue=queue,
            store=store,
            size_of=means.size_of,
            attempts_max=config.retry.attempts_max,
            scratch=config.places.peer(config.peer.name).scratch,
        ),
        scaling=means.scaling,
        desk=ledger,
        spooling=means.spooling,
        queue=queue,
        store=store,
        about=means.about,
        channel=channel,
        database=means.database,
        scratch=config.places.peer(config.peer.name).scratch,
        encoders=means.tools.encoders,
        attempts=counting.attempts,
    )


def _worker(
    config: Config, recorder: Recorder, among: Among, means: _Means, ledger: ClaimLedger
) -> Worker:
    return Worker(
        WorkerConfig(
            slots=config.peer.slots,
            scratch=config.places.peer(config.peer.name).scratch,
            retry=config.retry,
            handover_s=config.peer.handover_s,
            store_patience_s=config.peer.store_patience_s,
            attempts_max=config.retry.attempts_max,
        ),
        ledger=ledger,
        queue=means.queue,
        store=means.store,
        transcoder=FfmpegTranscoder(means.tools, _shared_threads(config)),
        holder=among.holder(),
        recorder=recorder,
        rng=means.rng,
        may_take=among.may_take,
        answers=among.answers,
        witnesses=means.ledger,
        memory=ContainerMemory(),
        diary=ConductFile(config.places.peer(config.peer.name).conduct),
    )


Heard = Callable[[str], AbstractContextManager[None]]
"""Counts the outcome of the call to that dependency in its block: `Worker.heard`."""


async def settle(about: Mapping[str, About], heard: Heard) -> None:
    """Try each dependency until it is as it should be, and log what is wrong with it.

    So a wrong password is read and shown when the peer is started, and not when the first task
    waits; and what must be made first (queues, a bucket) is made as soon as that can be.
    """
    async with trio.open_nursery() as nursery:
        for name, dependency in about.items():
            nursery.start_soon(_settle, name, dependency, heard)


async def _settle(name: str, dependency: About, heard: Heard) -> None:
    told, pause_s = "", PAUSE_MIN_S
    while True:
        try:
            with trio.fail_after(TRY_WITHIN_S), heard(name):
                said = await dependency.describe()
        except trio.TooSlowError:
            why = f"no answer within {TRY_WITHIN_S:g} s"
        except PipelineError as error:
            why = str(error)
        else:
            log.info("it answers", extra={"action": "check", "dependency": name, "what": said})
            return
        if why != told:
            advice = {"dependency": name, "error": why, "advice": dependency.advice}
            log.error("a dependency cannot be used", extra={"action": "check", **advice})
        told = why
        await trio.sleep(pause_s)
        pause_s = min(PAUSE_MAX_S, pause_s * 2)


def _shared_threads(config: Config) -> TranscodeConfig:
    """Share the processors out among the slots, where nobody chose the encoders' threads.

    A saturated machine does most with one thread an encoder (notes: 10 to 15 % less CPU time), and
    a machine with one slot would leave its other processors idle.
    """
    if config.transcode.encoder_threads:
        return config.transcode
    threads = max(1, min(ENCODER_THREADS_MAX, processors() // max(1, config.peer.slots)))
    return replace(config.transcode, encoder_threads=threads)
