"""The order in which the service's loop hears, thinks and speaks, seen from the core's side.

The socket is real; the core is one that writes down how it is called.
"""

from __future__ import annotations

import math
import random
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
import trio
import trio.testing

from gossip.load import Load
from gossip.messages import Verb
from gossip.rows import Address, Body, Row, State
from gossip.sealing import PlainEnvelope
from gossip.udp import DRAIN_MAX
from membership import service as service_module
from membership.changes import Change, OrderAnswered
from membership.cluster import Outgoing, Output
from membership.config import MembershipConfig, lan
from membership.service import MembershipService
from membership.view import View

WITHIN_S = 10.0


class RecordingCore:
    """Stands in for `Cluster`: says that it is due when it is told to, and notes every call."""

    def __init__(self, config: object, *, now: float, body: Body, **_: object) -> None:
        self.calls: list[tuple[str, float]] = []
        self.heard: list[tuple[bytes, float]] = []
        self.late_s: list[float] = []
        self.due_at = math.inf
        self.every_s = math.inf
        self.observed = None
        self.output = Output([], [], [])
        self.own = Row(1, 1, 0, State.ALIVE, body)

    def handle(
        self, now: float, datagram: bytes, source: Address, received_at: float, late_s: float
    ) -> None:
        self.calls.append(("handle", now))
        self.heard.append((datagram, received_at))
        self.late_s.append(late_s)
        if datagram == b"?":
            self.output.datagrams.append(Outgoing(source, b"!"))

    def tick(self, now: float) -> None:
        self.calls.append(("tick", now))
        self.due_at = now + self.every_s

    def due(self) -> float:
        return self.due_at

    def poll(self) -> Output:
        self.calls.append(("poll", 0.0))
        output, self.output = self.output, Output([], [], [])
        return output

    def set_load(self, now: float, load: Load) -> None:
        self.due_at = now

    def order(self, now: float, uid: int, verb: Verb) -> int:
        answer: Change = OrderAnswered(nonce=7, heard=True)
        self.output.changes.append(answer)
        return 7

    def view(self, now: float) -> View:
        return View(
            own_uid=1,
            members=(),
            leader=None,
            candidate=None,
            quorate=True,
            deaf=False,
            suspected=False,
            mass_event=False,
        )

    def counters(self) -> dict[str, int]:
        return {}

    def ticks(self) -> int:
        return sum(name == "tick" for name, _ in self.calls)


@pytest.fixture(autouse=True)
def _recording(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_module, "Cluster", RecordingCore)


@asynccontextmanager
async def running(
    config: MembershipConfig | None = None,
) -> AsyncIterator[tuple[MembershipService, RecordingCore]]:
    """A service on loopback, and the core inside of it."""
    service = MembershipService(
        lan() if config is None else config,
        listen=("127.0.0.1", 0),
        uid=1,
        epoch=1,
        body=Body(address=("", 0)),
        envelope=PlainEnvelope(label="", uid=1, epoch=1, salt=1),
        rng=random.Random(1),
    )
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:
            await nursery.start(service.run)
            core: Any = service._core
            yield service, core
            nursery.cancel_scope.cancel()


@contextmanager
def sender(address: Address) -> Iterator[Callable[[bytes], None]]:
    """Send datagrams to an address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sending:
        yield lambda datagram: _send(sending, address, datagram)


def _send(sending: socket.socket, address: Address, datagram: bytes) -> None:
    sending.sendto(datagram, address)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 # the core is called without an event
        await trio.sleep(0.005)


async def until_heard(core: RecordingCore, count: int) -> None:
    await until(lambda: len(core.heard) == count)


def names(core: RecordingCore) -> Sequence[str]:
    return [name for name, _ in core.calls]


async def test_everything_that_waited_is_heard_before_the_clock_is_looked_at() -> None:
    """More than one drain's worth had come while the loop stood still, and a tick was due."""
    async with running() as (service, core):
        await trio.testing.wait_all_tasks_blocked()
        core.calls.clear()
        with sender(service.address) as send:
            count = 2 * DRAIN_MAX + 10
            for number in range(count):
                send(number.to_bytes(4))
        service.set_load(Load())  # makes the core due at once

        await until(lambda: core.ticks() == 1)

        first_tick = names(core).index("tick")
        assert names(core)[:first_tick].count("handle") == count
        assert [datagram for datagram, _ in core.heard] == [
            number.to_bytes(4) for number in range(count)
        ]


async def test_what_is_due_is_sent_in_the_same_turn() -> None:
    """Between hearing, thinking and speaking nothing else runs: the three follow each other."""
    async with running() as (service, core), _listening() as (address, received):
        core.output.datagrams.append(Outgoing(address, b"spoken"))
        with sender(service.address) as send:
            send(b"heard")
            service.set_load(Load())

            await until(lambda: bool(core.heard) and core.ticks() > 0)

        turn = names(core)[names(core).index("handle") :]
        assert turn[:4] == ["handle", "poll", "tick", "poll"]
        assert await received() == b"spoken"


@asynccontextmanager
async def _listening() -> AsyncIterator[tuple[Address, Callable[[], Any]]]:
    with trio.socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listening:
        await listening.bind(("127.0.0.1", 0))

        async def receive() -> bytes:
            return await listening.recv(100)

        yield listening.getsockname(), receive


async def test_a_flood_does_not_stop_the_clock() -> None:
    """However much comes in, ticks go on: only what waited at the beginning is waited for."""
    async with running() as (service, core):
        core.every_s = 0.02
        stop = threading.Event()

        def flood() -> None:
            with sender(service.address) as send:
                while not stop.is_set():
                    send(b"flood")

        thread = threading.Thread(target=flood)
        thread.start()
        try:
            await until(lambda: len(core.heard) > 1000)
            service.set_load(Load())
            before = core.ticks()
            await until(lambda: core.ticks() >= before + 10)
        finally:
            stop.set()
            thread.join()

        assert core.ticks() >= 10


async def test_a_late_reader_passes_on_when_datagrams_came() -> None:
    """The core is told the kernel's time, and the lag shows in the service's own numbers."""
    async with running() as (service, core):
        with sender(service.address) as send:
            # The kernel begins to stamp a moment after the first socket has asked for it.
            while not core.heard or core.calls[-2][1] - core.heard[-1][1] < 0.15:
                send(b"x")
                sent_at = time.monotonic()
                hold_up(0.2)
                await trio.sleep(0.01)

        assert core.heard[-1][1] == pytest.approx(sent_at, abs=0.05)
        assert 0.15 < service.loop_lag_s < WITHIN_S
        assert service.lag.quantile_s(1.0) >= 0.15


def hold_up(seconds: float) -> None:
    """Keep the whole loop from running, as a busy machine does."""
    time.sleep(seconds)


async def test_a_tick_comes_when_it_is_due_and_not_otherwise() -> None:
    """A loop that nobody speaks to and that has nothing to do does not wake."""
    async with running() as (service, core):
        await trio.testing.wait_all_tasks_blocked()
        core.calls.clear()
        core.every_s = 0.05
        began = time.monotonic()
        service.set_load(Load())

        await until(lambda: core.ticks() == 4)

        assert time.monotonic() - began >= 3 * 0.05
        # One poll for the load, and two for each turn.
        assert names(core).count("poll") <= 2 * core.ticks() + 3


SLOW = lan().scaled(16)
"""A listening interval of 1.6 s: half of it is more than a busy machine stands still."""


async def test_what_nobody_waits_for_is_read_together() -> None:
    """After a datagram that wants no answer, the next ones gather for the listening interval; they
    are heard with their own times, and none of them counts as late."""
    async with running(SLOW) as (service, core):
        with sender(service.address) as send:
            send(b"first")
            await until_heard(core, 1)
            send(b"second")
            await trio.sleep(SLOW.listen_interval_s / 4)
            send(b"third")

            await until_heard(core, 3)

        handled_at = [now for name, now in core.calls if name == "handle"]
        received_at = [at for _, at in core.heard]
        assert handled_at[1] == handled_at[2] >= handled_at[0] + SLOW.listen_interval_s
        assert received_at[1] < received_at[2] - SLOW.listen_interval_s / 8
        assert handled_at[1] - received_at[1] > SLOW.listen_interval_s / 2
        assert max(core.late_s) < SLOW.listen_interval_s / 2
        assert service.loop_lag_s < SLOW.listen_interval_s / 2


async def test_while_words_are_exchanged_everything_is_heard_at_once() -> None:
    """Whoever was answered, or asked by somebody of this process, is not left to wait."""
    async with running(SLOW) as (service, core):
        with sender(service.address) as send:
            for number, datagram in enumerate([b"?", b"second", b"third"], start=1):
                send(datagram)
                await until_heard(core, number)
            await until(lambda: service.counters()["udp_sent"] == 1)

        for (_, now), (_, received_at) in zip(
            [call for call in core.calls if call[0] == "handle"], core.heard, strict=True
        ):
            assert now - received_at < SLOW.listen_interval_s / 2


async def test_an_answer_that_comes_at_once_is_not_missed() -> None:
    """The order of a peer that nobody knows is answered in the very call."""
    async with running() as (service, _):
        assert await service.order(2, Verb.LEAVE) is True
