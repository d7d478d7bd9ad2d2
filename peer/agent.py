"""The peer's process: wires its parts, and starts and stops them in order.

Nested nurseries, named by what lives in them:

    cluster       gossip and membership, the watch over signals, the pages for whoever watches it
      services    the control socket, the sweeper, the undertaker, whatever else goes on beside work
        records   the writer of the counted events
          jobs    the parts being worked on
            intake  the loop that takes new ones, while nobody says that this peer shall not

Stopping is one line: end `intake`, give `jobs` a deadline, cancel `records` and `services`, say
good-bye, cancel `cluster`. So the others see a stopping peer drain, and then leave; they hear of it
for as long as it can still hold work. The control socket answers until the last job has ended, so
that a person can see what a stopping peer waits for.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from math import inf
from typing import Any

import msgspec
import trio

from gossip.messages import Verb
from membership.changes import Change, IdentityLost, MemberChanged, MemberJoined, OrderReceived
from peer import identity, logs, status
from peer.assembly import Among, Parts, assemble
from peer.cluster_news import log_change
from peer.cluster_requests import ClusterRequests
from peer.config import Config
from peer.container_memory import ContainerMemory, KillRecord
from peer.control import Command, ControlServer, SendItem
from peer.disclosure import disclosed
from peer.duties import Bury, former_life
from peer.ended import Ended
from peer.errors import CommandFailed
from peer.events import EventStamper
from peer.examination import examine, examine_gossip
from peer.gossip_log import GossipLog
from peer.likeness import Likeness
from peer.metrics.monitor import Monitor
from peer.metrics.watched import Watched
from peer.neighbours import Neighbours, renamed
from peer.own import own_directory
from peer.protocol import PeerStatus
from peer.requests import COMMANDS
from peer.restraint import Restraint
from peer.scale import requests as scale_requests
from peer.scaling_peers import ScalingPeers
from peer.undertaker import PRESSING
from peer.usage import UsageMeter
from peer.work import Work
from pipeline.errors import LedgerUnavailable, Unavailable
from pipeline.events import Record
from pipeline.ports import Depth
from pipeline.tasks import Holder
from pipeline.worker import Worker

log = logging.getLogger(__name__)

# As a shell would say it: 128 and the number of the signal.
TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT

HAND_BACK_S = 4.0
"""How long the ledger may take to hear that work is handed back, when the grace is over."""

ABOUT_MEMBERS = (*PRESSING, MemberJoined, MemberChanged)
"""The changes after which the scaler looks at once."""

MEMORY_LOOK_S = 1.0
"""How often the kernel's count of those that it has ended is looked at; a small file."""

QUEUE_LOOK_S = 10.0
"""How often the queue is asked how much is waiting. Every peer asks, so not every second."""


@dataclass(slots=True)
class Stop:
    """What was asked of a running peer, and how its process shall end.

    `asked`: finish what is being done, for as long as the grace lasts. `hurried`: hand it back now.
    """

    asked: trio.Event = field(default_factory=trio.Event)
    hurried: trio.Event = field(default_factory=trio.Event)
    exit_status: int = 0

    def ask(self, exit_status: int, *, hurry: bool = False) -> None:
        """Ask once to stop, and a second time to hurry."""
        if self.asked.is_set() or hurry:
            self.hurried.set()
        if not self.asked.is_set():
            self.exit_status = exit_status
            self.asked.set()


class Agent:
    """One peer.

    Args:
        likeness: How it was started. Its `lifeline` is a file descriptor that reaches its end when
            whoever started this peer is gone; the peer then hands its work back and stops.
    """

    def __init__(self, config: Config, likeness: Likeness | None = None) -> None:
        self._config = config
        self._likeness = likeness or Likeness()
        self._places = config.places.peer(config.peer.name)
        self._stop = Stop()
        self._restraint = Restraint(config.peer.park_s)
        self._turned = trio.Event()
        self._started_at = datetime.now(UTC)
        self._meter = UsageMeter()
        self._queue_ready = 0
        self._depth: Depth | None = None
        self._parts: Parts | None = None
        self._awaited: str | None = None
        self._own_burial: Bury | None = None

    async def run(self) -> int:
        """Run until told to stop; return the process's exit status.

        Raises:
            PeerError, PipelineError: The peer cannot start; the message says what to do.
        """
        with own_directory(self._places):
            memory = ContainerMemory()
            self._kills = KillRecord(self._places.memory_kills, memory)
            crashed = identity.crashed(self._places.identity)
            saved = identity.renew(self._places.identity)
            self._holder = Holder(
                peer_uid=saved.uid,
                peer_name=self._config.peer.name,
                epoch=saved.epoch,
                container=self._config.peer.container or f"pid:{os.getpid()}",
                node=self._config.peer.node,
                memory_bytes=memory.limit_bytes,
            )
            self._stamper = EventStamper(
                saved, container=self._holder.container, node=self._holder.node
            )
            self._identify()
            self._log = GossipLog(write=self._write_records, recorder=self._stamper)
            self._neighbours = Neighbours(
                self._config,
                self._holder,
                work=self._work_now,
                on_change=self._hear,
                on_event=self._log.note_event,
            )
            self._monitor = Monitor(self._watched())
            if crashed is not None:
                out_of_memory = self._kills.ran_out()
                self._own_burial = former_life(
                    crashed.uid,
                    crashed.epoch,
                    name=self._holder.peer_name,
                    node=self._holder.node,
                    out_of_memory=out_of_memory,
                    memory_bytes=memory.limit_bytes if out_of_memory else None,
                )
            self._kills.keep()
            try:
                await self._take_part()
            finally:
                self._mark_left()
        log.info("stopped", extra={"action": "stopped"})
        return self._stop.exit_status

    def _identify(self) -> None:
        """Let every line of the log say which life of which peer writes it."""
        holder = self._holder
        logs.identify(
            peer_uid=holder.peer_uid,
            peer_epoch=holder.epoch,
            node=holder.node,
            container=holder.container,
        )

    async def _take_part(self) -> None:
        """Be a member of the cluster for as long as there is something to do."""
        async with trio.open_nursery() as cluster:
            cluster.start_soon(self._watch_signals)
            cluster.start_soon(self._watch_park)
            if self._likeness.lifeline is not None:
                cluster.start_soon(self._watch_lifeline, self._likeness.lifeline)
            await cluster.start(self._neighbours.run)
            cluster.start_soon(self._monitor.run)
            await self._serve()
            await self._neighbours.leave()
            cluster.cancel_scope.cancel()

    def _mark_left(self) -> None:
        """Let the next start know that this life left nothing to clear up, if that is so.

        Not so: it fails in the middle of its work, or has not come to tell of an earlier crash.
        """
        if self._parts is not None or self._own_burial is not None:
            return
        own = identity.Identity(uid=self._holder.peer_uid, epoch=self._holder.epoch)
        try:
            identity.mark_left(self._places.identity, own)
        except identity.IdentityUnusable as error:
            log.warning(
                "the next start will take this one for crashed",
                extra={"action": "stopped", "error": str(error)},
            )

    async def _serve(self) -> None:
        """Answer people and work, until told to stop and done with it."""
        async with trio.open_nursery() as services:
            control = ControlServer(self._places.control_socket, self._commands())
            await services.start(control.run)
            async with AsyncExitStack() as stack:
                if await self._assemble(stack):
                    await self._work(services)
                # Nobody may ask any more when the parts are taken down.
                self._parts = None
                services.cancel_scope.cancel()

    async def _assemble(self, stack: AsyncExitStack) -> bool:
        """Bring the parts up, however long the ledger takes; False when told to stop before."""
        async with trio.open_nursery() as starting:

            async def give_up() -> None:
                await self._stop.asked.wait()
                starting.cancel_scope.cancel()

            starting.start_soon(give_up)
            among = Among(
                holder=lambda: self._holder,
                view=self._neighbours.view,
                may_take=self._neighbours.may_take,
                answers=self._neighbours.answers,
                peers=ScalingPeers(self._neighbours, self._obey, remaining=_unknown),
                may_lead=self._neighbours.set_reaching,
                ended=self._hear_ended,
                hears=self._neighbours.hears,
                own_burial=self._own_burial,
                likeness=self._likeness,
            )
            parts = assemble(self._config, self._stamper, among, note_waiting=self._note_waiting)
            self._parts = await stack.enter_async_context(parts)
            starting.cancel_scope.cancel()
        return self._parts is not None

    def _note_waiting(self, why: str | None) -> None:
        """Know why the ledger is still waited for; the others see it in the table."""
        self._awaited = why
        self._neighbours.tell()

    async def _work(self, services: trio.Nursery) -> None:
        """Take work until told to stop, then finish it, or hand it back when the grace is over."""
        parts = self._parts
        assert parts is not None
        parts.worker.holder = self._holder  # it may have changed while the ledger was waited for
        self._neighbours.set_encoders(parts.encoders)
        self._neighbours.tell()
        services.start_soon(self._watch_queue, parts)
        services.start_soon(self._watch_memory)
        # They end before what they use is taken down: a leader still has its lease to give back.
        async with trio.open_nursery() as beside:
            for run in parts.beside:
                beside.start_soon(run)
            log.info("working", extra={"action": "started", "slots": self._config.peer.slots})
            async with trio.open_nursery() as records:
                records.start_soon(self._log.run)
                async with trio.open_nursery() as jobs:
                    services.start_soon(self._end_jobs, parts, jobs.cancel_scope)
                    await self._take_work(parts, jobs)
                # A sweep may hang in a server that does not answer.
                parts.database.stop_within(HAND_BACK_S)
                records.cancel_scope.cancel()
            beside.cancel_scope.cancel()
        self._own_burial = parts.undertaker.own_burial

    async def _take_work(self, parts: Parts, jobs: trio.Nursery) -> None:
        """Take work whenever nobody has said that it shall not, until it is told to stop."""
        while not self._stop.asked.is_set():
            turned = self._turned
            if self._restraint.holds:
                await turned.wait()
                continue
            async with trio.open_nursery() as intake:
                intake.start_soon(parts.worker.take_work, jobs)
                await turned.wait()
                intake.cancel_scope.cancel()

    async def _end_jobs(self, parts: Parts, jobs: trio.CancelScope) -> None:
        """Let jobs go on for the grace, counted from the signal, and then have them handed back."""
        await self._stop.asked.wait()
        log.info("stopping", extra={"action": "stopping", "running": len(parts.worker.jobs)})
        with trio.move_on_after(self._config.peer.stop_grace_s):
            await self._stop.hurried.wait()
        jobs.cancel()
        parts.database.stop_within(HAND_BACK_S)

    async def _watch_queue(self, parts: Parts) -> None:
        """Know about how much is waiting: the others see it in the table."""
        while True:
            depth = None
            with trio.move_on_after(QUEUE_LOOK_S), suppress(Unavailable):
                depth = await parts.queue.depth()
            self._depth = depth
            if depth is not None:
                self._queue_ready = depth.ready
            await trio.sleep(QUEUE_LOOK_S)

    async def _watch_memory(self) -> None:
        """Keep in mind what the kernel has ended by now, should this peer be the next."""
        while True:
            await trio.sleep(MEMORY_LOOK_S)
            if await trio.to_thread.run_sync(self._kills.keep):
                log.warning(
                    "the kernel has ended a process of this container for lack of memory",
                    extra={"action": "out_of_memory"},
                )

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                self._ask_to_stop(TERMINATED if number == signal.SIGTERM else INTERRUPTED)

    async def _watch_park(self) -> None:
        """End a park that nobody says again."""
        while True:
            turned, until = self._turned, self._restraint.parked_until
            with trio.move_on_at(until if until > -inf else inf):
                await turned.wait()
            if self._restraint.expire(trio.current_time()):
                log.warning(
                    "no longer parked: nobody has said it again",
                    extra={"action": "unparked", "park_s": self._config.peer.park_s},
                )
                self._turn()

    async def _watch_lifeline(self, lifeline: int) -> None:
        """Wait for the other end of a pipe to be closed, which the kernel does for the dead too."""
        async with trio.lowlevel.FdStream(lifeline) as stream:
            while await stream.receive_some(512):
                pass
        self._ask_to_stop(0, hurry=True)

    def _ask_to_stop(self, exit_status: int, *, hurry: bool = False) -> None:
        self._stop.ask(exit_status, hurry=hurry)
        self._note(self._restraint.stop(), "draining")
        self._turn()  # also where it was draining already
        if self._parts is not None:
            self._parts.scaling.resign()

    def _note(self, changed: bool, action: str) -> None:
        """Act on it when somebody's word has changed whether work is taken, or why not."""
        if not changed:
            return
        said = "no more work is taken" if self._restraint.holds else "taking work again"
        log.info(said, extra={"action": action})
        self._turn()

    def _turn(self) -> None:
        self._turned.set()
        self._turned = trio.Event()
        self._neighbours.tell()

    # -- what the cluster says and asks ------------------------------------------------------------

    def _hear(self, change: Change) -> None:
        """Pass a change on to those who act on it; it comes in the middle of the gossip loop."""
        log_change(change)
        self._log.note_change(change)
        if self._parts is not None:
            self._parts.undertaker.notice(change)
            if isinstance(change, ABOUT_MEMBERS):
                self._parts.scaling.notice()
        match change:
            case OrderReceived():
                self._obey(change.verb)
            case IdentityLost():
                self._holder = renamed(self._holder, change)
                self._identify()
                self._stamper.go_on_as(
                    identity.Identity(uid=self._holder.peer_uid, epoch=self._holder.epoch)
                )
                if self._parts is not None:
                    self._parts.worker.holder = self._holder

    def _hear_ended(self, ended: Ended) -> None:
        """Hear from the orchestrator of a container that has ended by itself."""
        about = {"action": "ended", "container": ended.container, "node": ended.node}
        log.warning("a container has ended", extra={**about, "why": ended.reason})
        if self._parts is not None:
            self._parts.undertaker.note_ended(ended)

    def _obey(self, verb: Verb) -> None:
        match verb:
            case Verb.DRAIN:
                self._note(self._restraint.drain(), "draining")
            case Verb.PARK:
                self._note(self._restraint.park(trio.current_time()), "parked")
            case Verb.UNPARK:
                self._note(self._restraint.unpark(), "unparked")
            case Verb.RESUME:
                self._note(self._restraint.resume(), "resumed")
                if self._parts is not None:
                    self._parts.worker.release()
                    self._neighbours.tell()
            case Verb.LEAVE:
                # Asked twice is still asked: only a second signal hurries, and hands work back.
                if not self._stop.asked.is_set():
                    self._ask_to_stop(0)

    @property
    def _worker(self) -> Worker | None:
        return self._parts.worker if self._parts is not None else None

    @property
    def _slots(self) -> int:
        return self._worker.slots if self._worker is not None else self._config.peer.slots

    def _work_now(self) -> Work:
        """What the others are told once a second."""
        return status.work(
            self._worker,
            self._awaited,
            slots=self._slots,
            queue=self._queue_ready,
            draining=self._restraint.draining,
            parked=self._restraint.parked,
        )

    async def _write_records(self, records: Sequence[Record]) -> None:
        if self._parts is None:
            raise LedgerUnavailable("the ledger is not connected yet", definite=True)
        await self._parts.spooling.record(records)

    # -- what the control socket serves ------------------------------------------------------------

    def _commands(self) -> Mapping[str, Command]:
        own = {
            "status": self._status,
            "doctor": self._doctor,
            "metrics": self._monitor.command,
            "settings": self._settings,
        }
        about_cluster = ClusterRequests(
            self._neighbours, self._log, self._obey, name=self._config.peer.name
        ).commands()
        later = {name: self._when_ready(name) for name in (*COMMANDS, *scale_requests.COMMANDS)}
        return {**own, **about_cluster, **later}

    def _when_ready(self, name: str) -> Command:
        async def command(arguments: Mapping[str, Any], send_item: SendItem) -> Any:
            if self._parts is None:
                state = "stopping" if self._stop.asked.is_set() else "starting"
                raise CommandFailed(f"this peer is still {state}; try again in a moment")
            parts = self._parts
            commands = {**parts.requests.commands(), **parts.scaling.commands}
            return await commands[name](arguments, send_item)

        return command

    async def _doctor(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        asked = msgspec.convert(dict(arguments), _Doctor)
        found = await examine(
            self._parts, self._awaited, notify=asked.notify, name=self._holder.peer_name
        )
        return [*found, *examine_gossip(self._neighbours, self._config.gossip.join)]

    async def _settings(self, _arguments: Mapping[str, Any], _: SendItem) -> Any:
        """With what this peer runs, without secrets."""
        await trio.lowlevel.checkpoint()
        return disclosed(self._config)

    async def _status(self, _arguments: Mapping[str, Any], _: SendItem) -> Any:
        cpu_percent, memory_bytes = await trio.to_thread.run_sync(self._meter.measure)
        worker = self._worker
        return PeerStatus(
            name=self._holder.peer_name,
            uid=self._holder.peer_uid,
            epoch=self._holder.epoch,
            pid=os.getpid(),
            version=version("grapevine"),
            node=self._holder.node,
            state=status.state(
                worker, draining=self._restraint.draining, parked=self._restraint.parked
            ),
            slots=self._slots,
            running=status.running(worker),
            started_at=self._started_at,
            data_dir=str(self._config.peer.data_dir),
            cpu_percent=cpu_percent,
            memory_bytes=memory_bytes,
            dependencies=status.dependencies(worker, self._awaited),
            breakers=dict(worker.breakers) if worker is not None else {},
            quarantined=worker.quarantined if worker is not None else None,
            spooled=self._parts.spooling.spooled if self._parts is not None else 0,
            metrics=self._monitor.address,
        )

    def _watched(self) -> Watched:
        return Watched(
            config=self._config,
            neighbours=self._neighbours,
            log=self._log,
            stamper=self._stamper,
            restraint=self._restraint,
            holder=lambda: self._holder,
            parts=lambda: self._parts,
            awaited=lambda: self._awaited,
            depth=lambda: self._depth,
        )


class _Doctor(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    notify: bool = False


def _unknown(_uid: str) -> None:
    """How long a peer will work: gossip does not say. The scaler has it from the ledger."""
