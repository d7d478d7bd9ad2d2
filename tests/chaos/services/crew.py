"""Peers in processes of their own, each behind relays: to be killed, frozen, and cut off.

All lines of a peer go through relays of its own, those to the services and the one by which others
ask whether it still answers. Cutting them is what pulling its cable would be.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import trio

from tests.chaos.services.gates import Gate
from tests.chaos.services.peer import Settings, settings
from tests.chaos.services.peer_process import Orders, write_orders
from tests.chaos.services.relay import Relay
from tests.chaos.services.services import Ports, Site

ROOT = Path(__file__).parents[3]
STOP_S = 60.0
"""A guard: how soon a peer stops is for other tests."""
START_S = 30.0
LOG_TAIL_CHARACTERS = 5000
PROPER_ENDS = (0, -signal.SIGKILL)
"""By our SIGTERM, or by our SIGKILL."""


class Member:
    """One peer, whose name, relays and directory stay the same however often it is started."""

    def __init__(self, site: Site, number: int, directory: Path) -> None:
        self.name = f"peer-{number}"
        self._site = site
        self._number = number
        self._directory = directory
        ports = site.ports
        self._ledger, self._queue, self._store = map(
            Relay, (ports.ledger, ports.queue, ports.store)
        )
        self._pings = Relay(0)
        self._epoch = 0
        self._process: trio.Process | None = None
        self._changed = trio.Condition()
        self._started = False
        self.held: set[UUID] = set()
        """The tasks that stand at their gates in its present life."""

    @property
    def relays(self) -> Sequence[Relay]:
        """All its lines."""
        return (self._ledger, self._queue, self._store, self._pings)

    @property
    def uid(self) -> str:
        """As the ledger knows it."""
        return self._settings().holder.peer_uid

    @property
    def ping_port(self) -> int:
        """Where others ask whether it answers."""
        return self._pings.port

    def _settings(self) -> Settings:
        ports = Ports(ledger=self._ledger.port, queue=self._queue.port, store=self._store.port)
        of_site = settings(self._site, self.name, self._number, self._directory, ports)
        return replace(of_site, epoch=self._epoch)

    async def live(
        self,
        orders: Orders,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Start its process and listen to it until it ends; started when it works."""
        self.held.clear()
        self._started = False
        command = [sys.executable, "-m", "tests.chaos.services.peer_process", write_orders(orders)]
        with (self._directory / f"{self.name}.log").open("ab") as log:
            process = self._process = await trio.lowlevel.open_process(
                command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log
            )
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._listen, process)
                with trio.fail_after(START_S):
                    await self._wait(lambda: self._started)
                task_status.started()
                await process.wait()
        finally:
            with trio.CancelScope(shield=True):
                with suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode not in PROPER_ENDS:
            raise AssertionError(f"{self.name} ended by itself:\n{self.log_tail()}")

    def log_tail(self) -> str:
        """The last that its lives have logged."""
        log = self._directory / f"{self.name}.log"
        return log.read_text()[-LOG_TAIL_CHARACTERS:] if log.exists() else ""

    def orders(self, *, slots: int, lease_s: float, **orders: object) -> Orders:
        """Those of its next life."""
        self._epoch += 1
        own = replace(self._settings(), slots=slots, lease_s=lease_s)
        return Orders(settings=own, **orders)  # type: ignore[arg-type]  # they are Orders' own

    async def _listen(self, process: trio.Process) -> None:
        assert process.stdout is not None
        rest = b""
        async for data in process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                word, _, value = line.decode().partition(" ")
                async with self._changed:
                    if word == "port":
                        self._pings.upstream = int(value)
                        self._started = True
                    elif word == "held":
                        self.held.add(UUID(value))
                    self._changed.notify_all()

    async def wait_held(self, count: int) -> None:
        """Wait until so many tasks stand at their gates."""
        await self._wait(lambda: len(self.held) >= count)

    async def _wait(self, condition: Callable[[], bool]) -> None:
        async with self._changed:
            while not condition():
                await self._changed.wait()

    async def open(self) -> None:
        """Open its gates."""
        assert self._process is not None
        assert self._process.stdin is not None
        await self._process.stdin.send_all(b"open\n")

    async def has_spooled(self, task_id: UUID, kind: str) -> bool:
        """Whether that event of a task lies on its disk and waits for the ledger."""
        spool = self._settings().directory / "spool"

        def read() -> bool:
            lines = [line for file in spool.glob("*") for line in file.read_text().splitlines()]
            return any(str(task_id) in line and kind in line for line in lines)

        return await trio.to_thread.run_sync(read)

    @property
    def is_running(self) -> bool:
        """Its process has not ended."""
        return self._process is not None and self._process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal: SIGKILL, SIGSTOP, SIGCONT, or SIGTERM for it to stop."""
        assert self._process is not None
        self._process.send_signal(number)

    async def gone(self) -> None:
        """Wait until its process has ended."""
        assert self._process is not None
        with trio.fail_after(STOP_S):
            await self._process.wait()

    async def stop(self) -> int:
        """Let it end as an administrator would; returns its exit status."""
        self.signal(signal.SIGTERM)
        await self.gone()
        assert self._process is not None
        assert self._process.returncode is not None
        return self._process.returncode

    def cut(self) -> None:
        """Let nothing through to it and from it."""
        for relay in self.relays:
            relay.cut()

    def mend(self) -> None:
        """Let everything through again."""
        for relay in self.relays:
            relay.mend()


class Crew:
    """All peers of a test, and the nursery in which their processes are looked after."""

    def __init__(self, members: Sequence[Member], nursery: trio.Nursery, *, lease_s: float) -> None:
        self.members = members
        self._nursery = nursery
        self._lease_s = lease_s

    async def start(
        self,
        member: Member,
        *,
        slots: int = 4,
        plan: Mapping[UUID, Gate] | None = None,
        takes_s: float = 0.0,
    ) -> None:
        """Start a life of a peer; return when it works."""
        pings = {other.uid: other.ping_port for other in self.members}
        orders = member.orders(
            slots=slots,
            lease_s=self._lease_s,
            plan=dict(plan or {}),
            pings=pings,
            takes_s=takes_s,
        )
        await self._nursery.start(member.live, orders)

    async def stop(self) -> None:
        """Stop whoever runs, in good order."""
        for member in self.members:
            if member.is_running:
                assert await member.stop() == 0, member.name


@asynccontextmanager
async def crew_of(
    site: Site, count: int, directory: Path, *, lease_s: float
) -> AsyncIterator[Crew]:
    """Make peers, none of which runs yet; whoever runs at the end is killed."""
    members = [Member(site, number, directory) for number in range(1, count + 1)]
    async with trio.open_nursery() as nursery:
        for member in members:
            for relay in member.relays:
                await nursery.start(relay.run)
        yield Crew(members, nursery, lease_s=lease_s)
        nursery.cancel_scope.cancel()
