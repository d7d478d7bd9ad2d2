"""The peer's process: wires its parts, and starts and stops them in order.

Three nested nurseries, named by what lives in them:

    services    the control socket, the sweeper, the watch over signals
      jobs      the parts being worked on
        intake  the loop that takes new ones

There is no fourth one for an event writer around them: every event so far is written by the ledger,
in the transaction of the change it tells of.

Stopping is one line: cancel `intake`, give `jobs` a deadline, cancel `services`. The control socket
answers until the last job has ended, so that a person can see what a stopping peer waits for.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import trio

from peer import identity
from peer.assembly import Parts, assemble
from peer.config import Config
from peer.control import Command, ControlServer, SendItem
from peer.errors import CommandFailed
from peer.events import EventStamper
from peer.examination import examine
from peer.machine import default_name
from peer.own import own_directory
from peer.protocol import PeerStatus, Running
from peer.requests import COMMANDS
from peer.usage import UsageMeter
from pipeline.tasks import Holder

log = logging.getLogger(__name__)

# As a shell would say it: 128 and the number of the signal.
TERMINATED = 128 + signal.SIGTERM
INTERRUPTED = 128 + signal.SIGINT

HAND_BACK_S = 5.0
"""How long the ledger may take to hear that work is handed back, when the grace is over."""


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
        lifeline: A file descriptor that reaches its end when whoever started this peer is gone;
            the peer then hands its work back and stops.
    """

    def __init__(self, config: Config, *, lifeline: int | None = None) -> None:
        self._config = config
        self._lifeline = lifeline
        self._places = config.places.peer(config.peer.name)
        self._stop = Stop()
        self._drained = trio.Event()
        self._started_at = datetime.now(UTC)
        self._meter = UsageMeter()
        self._holder: Holder | None = None
        self._parts: Parts | None = None

    async def run(self) -> int:
        """Run until told to stop; return the process's exit status.

        Raises:
            PeerError, PipelineError: The peer cannot start; the message says what to do.
        """
        with own_directory(self._places):
            saved = identity.renew(self._places.identity)
            holder = self._holder = Holder(
                peer_uid=saved.uid,
                peer_name=self._config.peer.name,
                epoch=saved.epoch,
                container=f"pid:{os.getpid()}",
                node=default_name(),
            )
            stamper = EventStamper(saved, container=holder.container, node=holder.node)
            async with trio.open_nursery() as services:
                services.start_soon(self._watch_signals)
                if self._lifeline is not None:
                    services.start_soon(self._watch_lifeline, self._lifeline)
                control = ControlServer(self._places.control_socket, self._commands())
                await services.start(control.run)
                async with AsyncExitStack() as stack:
                    if await self._assemble(stack, holder, stamper):
                        await self._work(services)
                    # Nobody may ask any more when the parts are taken down.
                    self._parts = None
                    services.cancel_scope.cancel()
        log.info("stopped", extra={"action": "stopped"})
        return self._stop.exit_status

    async def _assemble(self, stack: AsyncExitStack, holder: Holder, stamper: EventStamper) -> bool:
        """Bring the parts up, however long the ledger takes; False when told to stop before."""
        async with trio.open_nursery() as starting:

            async def give_up() -> None:
                await self._stop.asked.wait()
                starting.cancel_scope.cancel()

            starting.start_soon(give_up)
            self._parts = await stack.enter_async_context(assemble(self._config, holder, stamper))
            starting.cancel_scope.cancel()
        return self._parts is not None

    async def _work(self, services: trio.Nursery) -> None:
        """Take work until told to stop, then finish it, or hand it back when the grace is over."""
        parts = self._parts
        assert parts is not None
        services.start_soon(parts.sweeper.run)
        log.info("working", extra={"action": "started", "slots": self._config.peer.slots})
        async with trio.open_nursery() as jobs:
            services.start_soon(self._end_jobs, parts, jobs.cancel_scope)
            async with trio.open_nursery() as intake:
                intake.start_soon(self._drain, intake.cancel_scope)
                intake.start_soon(parts.worker.take_work, jobs)
            await self._stop.asked.wait()
        # A sweep may hang in a server that does not answer.
        parts.database.stop_within(HAND_BACK_S)

    async def _drain(self, intake: trio.CancelScope) -> None:
        await self._drained.wait()
        log.info("draining: no more work is taken", extra={"action": "draining"})
        intake.cancel()

    async def _end_jobs(self, parts: Parts, jobs: trio.CancelScope) -> None:
        """Let jobs go on for the grace, counted from the signal, and then have them handed back."""
        await self._stop.asked.wait()
        log.info("stopping", extra={"action": "stopping", "running": len(parts.worker.jobs)})
        with trio.move_on_after(self._config.peer.stop_grace_s):
            await self._stop.hurried.wait()
        jobs.cancel()
        parts.database.stop_within(HAND_BACK_S)

    async def _watch_signals(self) -> None:
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async for number in signals:
                self._ask_to_stop(TERMINATED if number == signal.SIGTERM else INTERRUPTED)

    async def _watch_lifeline(self, lifeline: int) -> None:
        """Wait for the other end of a pipe to be closed, which the kernel does for the dead too."""
        async with trio.lowlevel.FdStream(lifeline) as stream:
            while await stream.receive_some(512):
                pass
        self._ask_to_stop(0, hurry=True)

    def _ask_to_stop(self, exit_status: int, *, hurry: bool = False) -> None:
        self._drained.set()
        self._stop.ask(exit_status, hurry=hurry)

    # -- what the control socket serves ------------------------------------------------------------

    def _commands(self) -> Mapping[str, Command]:
        own = {"status": self._status, "drain": self._drain_command, "doctor": self._doctor}
        return own | {name: self._when_ready(name) for name in COMMANDS}

    def _when_ready(self, name: str) -> Command:
        async def command(arguments: Mapping[str, Any], send_item: SendItem) -> Any:
            if self._parts is None:
                state = "stopping" if self._stop.asked.is_set() else "starting"
                raise CommandFailed(f"this peer is still {state}; try again in a moment")
            return await self._parts.requests.commands()[name](arguments, send_item)

        return command

    async def _drain_command(self, _arguments: Mapping[str, Any], _: SendItem) -> Any:
        self._drained.set()
        return {}

    async def _doctor(self, _arguments: Mapping[str, Any], _: SendItem) -> Any:
        return await examine(self._parts)

    async def _status(self, _arguments: Mapping[str, Any], _: SendItem) -> Any:
        assert self._holder is not None
        cpu_percent, memory_bytes = await trio.to_thread.run_sync(self._meter.measure)
        trouble = self._parts.worker.trouble if self._parts else {}
        return PeerStatus(
            name=self._holder.peer_name,
            uid=self._holder.peer_uid,
            epoch=self._holder.epoch,
            pid=os.getpid(),
            version=version("grapevine"),
            node=self._holder.node,
            state=self._state(),
            slots=self._config.peer.slots,
            running=self._running(),
            started_at=self._started_at,
            data_dir=str(self._config.peer.data_dir),
            cpu_percent=cpu_percent,
            memory_bytes=memory_bytes,
            dependencies={
                name: trouble.get(name, "ok" if self._parts else "starting")
                for name in ("ledger", "queue", "store")
            },
        )

    def _state(self) -> Any:
        if self._drained.is_set():
            return "draining"
        if self._parts is None:
            return "starting"
        return "waiting" if self._parts.worker.trouble else "working"

    def _running(self) -> tuple[Running, ...]:
        if self._parts is None:
            return ()
        return tuple(
            Running(
                task_id=str(job.claim.task_id),
                part=job.claim.part,
                attempt=job.claim.attempt,
                title=job.title,
                progress=job.progress.fraction if job.progress else None,
            )
            for job in self._parts.worker.jobs
        )
