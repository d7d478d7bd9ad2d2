"""A broker that is restarted, killed, or stands still while messages are published and received.

Peers as in a cluster: each publishes, receives, works, and ends what it has, repeating what fails
as a worker's patience does. In the end each message whose publication was confirmed has been
received and ended by somebody, nothing is left, and nobody is stuck. Twice is allowed, never not at
all.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import pytest
import trio

from pipeline.errors import QueueUnavailable
from pipeline.ports import Depth
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.queue import RabbitQueue
from pipeline.tasks import Priority
from tests.servers.rabbitmq import RabbitServer

T = TypeVar("T")

# Recovery takes as long as the broker's start, on a machine that runs other tests too.
RECOVERED_S = 90.0

SETTLED_S = 2.0
"""RabbitMQ 3.10 writes down half a second later under which name a new queue's log lies. Killed
before, it starts again with a queue that has no leader, ever, until somebody deletes it."""


@dataclass(slots=True)
class Patience:
    """Repeats what fails, as a worker's does."""

    failures: int = 0
    last: QueueUnavailable | None = None

    async def insist(self, call: Callable[[], Awaitable[T]]) -> T:
        while True:
            try:
                return await call()
            except QueueUnavailable as error:
                self.failures += 1
                self.last = error
                await trio.sleep(0.02)

    @contextmanager
    def bounded(self, rabbit: RabbitServer) -> Iterator[None]:
        """Give up what takes longer than a recovery may, and say what was the matter."""
        try:
            with trio.fail_after(RECOVERED_S):
                yield
        except Exception as error:
            error.add_note(f"{self.failures} calls failed; the last one: {self.last!r}")
            error.add_note(f"The broker said:\n{rabbit.output}")
            raise


@dataclass(slots=True)
class Traffic:
    """What a few peers do, and what came of it."""

    config: RabbitConfig
    confirmed: set[bytes] = field(default_factory=set)
    ended: Counter[bytes] = field(default_factory=Counter)
    patience: Patience = field(default_factory=Patience)

    @asynccontextmanager
    async def peer(self, number: int) -> AsyncIterator[RabbitQueue]:
        queue = RabbitQueue(self.config, name=f"peer {number}", rng=random.Random(number))
        try:
            yield queue
        finally:
            with trio.CancelScope(shield=True):
                await queue.aclose()

    async def publish(self, queue: RabbitQueue, name: str, count: int, pause_s: float) -> None:
        rng = random.Random(name)
        for number in range(count):
            body = f"{name} {number}".encode()
            delay_s, priority = rng.choice([0.0, 0.0, 0.0, 0.3]), rng.choice(list(Priority))
            insist = self.patience.insist
            await insist(partial(queue.publish, body, delay_s=delay_s, priority=priority))
            self.confirmed.add(body)
            await trio.sleep(pause_s)

    async def work(self, queue: RabbitQueue, rng: random.Random) -> None:
        while True:
            delivery = await self.patience.insist(queue.receive)
            if rng.random() < 0.2:
                await self.patience.insist(partial(delivery.put_back, rng.choice([0.0, 0.2])))
                continue
            await self.patience.insist(delivery.ack)
            self.ended[delivery.body] += 1


async def restart(server: RabbitServer) -> None:
    await trio.to_thread.run_sync(server.stop)
    await trio.to_thread.run_sync(server.start)


async def kill(server: RabbitServer) -> None:
    server.kill()
    await trio.to_thread.run_sync(server.start)


async def freeze(server: RabbitServer) -> None:
    server.freeze()
    try:
        await trio.sleep(6)  # three times the heartbeat: all lines are given up
    finally:
        server.thaw()


async def stutter(server: RabbitServer) -> None:
    """So short that no line is lost."""
    for _ in range(5):
        server.freeze()
        try:
            await trio.sleep(0.3)
        finally:
            server.thaw()
        await trio.sleep(0.3)


async def hang_up(server: RabbitServer) -> None:
    """End all connections, again and again, at any moment."""
    for _ in range(4):
        await trio.to_thread.run_sync(server.control, "close_all_connections", "a test")


@pytest.mark.slow
@pytest.mark.parametrize("fault", [restart, kill, freeze, stutter, hang_up])
async def test_nothing_is_lost_or_stuck(
    rabbit: RabbitServer,
    rabbit_config: RabbitConfig,
    fault: Callable[[RabbitServer], Awaitable[None]],
) -> None:
    """Through each of these faults, in the middle of the traffic."""
    traffic = Traffic(replace(rabbit_config, heartbeat_s=2))
    async with traffic.peer(0) as queue:
        await queue.prepare()
    await trio.sleep(SETTLED_S)
    async with trio.open_nursery() as peers:
        for number in range(3):
            peers.start_soon(_be_peer, traffic, number)
        await trio.sleep(1)
        await fault(rabbit)
        with traffic.patience.bounded(rabbit):
            await _wait_until(lambda: len(traffic.confirmed) == 3 * 150)
            await _wait_until(lambda: traffic.confirmed <= set(traffic.ended))
            async with traffic.peer(9) as observer:
                await _wait_until_empty(observer, traffic.patience)
        peers.cancel_scope.cancel()
    assert set(traffic.ended) == traffic.confirmed
    if fault in (restart, kill, freeze):
        assert traffic.patience.failures > 0  # it was noticed


async def _be_peer(traffic: Traffic, number: int) -> None:
    async with traffic.peer(number) as queue, trio.open_nursery() as tasks:
        for slot in range(3):
            tasks.start_soon(traffic.work, queue, random.Random(f"{number} {slot}"))
        tasks.start_soon(traffic.publish, queue, str(number), 150, 0.02)


async def _wait_until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - it is told by nobody
        await trio.sleep(0.05)


async def _wait_until_empty(queue: RabbitQueue, patience: Patience) -> None:
    """Delayed ones that were delivered twice come late."""
    while True:
        with trio.move_on_after(5):
            depth = await patience.insist(queue.depth)
            if replace(depth, unacknowledged=None) == Depth(
                ready=0, unacknowledged=None, delayed=0, dead=0
            ):
                return
        await trio.sleep(0.1)


@pytest.mark.slow
async def test_a_thousand_messages_with_duplicates(
    rabbit: RabbitServer, rabbit_config: RabbitConfig
) -> None:
    """Published by many, each twice, taken by many who die on some of them: every one is ended."""
    traffic = Traffic(rabbit_config)
    async with trio.open_nursery() as everybody:

        async def publish(number: int) -> None:
            async with traffic.peer(number) as queue:
                for twice in range(2):
                    await traffic.publish(queue, f"{number}", 100, 0.0)
                    assert twice < 2

        async def die_now_and_then(number: int) -> None:
            rng = random.Random(number)
            while True:
                async with traffic.peer(100 + number) as queue:
                    await traffic.patience.insist(queue.prepare)  # a short life is to take some
                    with trio.move_on_after(rng.uniform(0.2, 0.6)):
                        await traffic.work(queue, rng)

        with traffic.patience.bounded(rabbit):
            async with trio.open_nursery() as publishing:
                for number in range(5):
                    everybody.start_soon(die_now_and_then, number)
                    publishing.start_soon(publish, number)
        with traffic.patience.bounded(rabbit):
            async with traffic.peer(9) as observer:
                await _wait_until(lambda: traffic.confirmed <= set(traffic.ended))
                await _wait_until_empty(observer, traffic.patience)
        everybody.cancel_scope.cancel()
    assert len(traffic.confirmed) == 500
    assert set(traffic.ended) == traffic.confirmed


async def test_a_frozen_broker_is_noticed(
    rabbit: RabbitServer, rabbit_config: RabbitConfig
) -> None:
    """Whoever waits for a message is told within some heartbeats, though the connection is open;
    as it is when a network drops every packet."""
    queue = RabbitQueue(replace(rabbit_config, heartbeat_s=1))
    await queue.prepare()
    await queue._receiving.line()
    rabbit.freeze()
    try:
        with trio.fail_after(5), pytest.raises(QueueUnavailable, match=r"silent|does not answer"):
            await queue.receive()
    finally:
        rabbit.thaw()
    patience = Patience()
    with patience.bounded(rabbit):
        await patience.insist(partial(queue.publish, b"x"))
        assert (await patience.insist(queue.receive)).body == b"x"
    await queue.aclose()


async def test_a_held_message_of_a_killed_broker(
    rabbit: RabbitServer, rabbit_config: RabbitConfig
) -> None:
    """Its holder comes back after the broker has given it up: it belongs to somebody else then, and
    what the late one does to it is void."""
    config = replace(rabbit_config, heartbeat_s=1)
    holder, other = RabbitQueue(config), RabbitQueue(config)
    await holder.publish(b"x")
    held = await holder.receive()
    await trio.sleep(SETTLED_S)
    rabbit.kill()
    await trio.to_thread.run_sync(rabbit.start)
    patience = Patience()
    with patience.bounded(rabbit):
        again = await patience.insist(other.receive)
    assert (again.body, again.redelivered) == (b"x", True)
    await held.ack()
    await held.put_back(0.0)
    await held.dead_letter("late")
    with patience.bounded(rabbit):
        depth = await patience.insist(other.depth)
    assert (depth.ready, depth.delayed, depth.dead) == (0, 0, 0)
    await again.ack()
    await holder.aclose()
    await other.aclose()


def test_a_broker_that_ends_by_itself(rabbit: RabbitServer) -> None:
    """Is not taken for a running one: whoever wants one is told how it ended, and gets another."""
    assert rabbit.pid is not None
    os.killpg(rabbit.pid, signal.SIGKILL)
    os.waitid(os.P_PID, rabbit.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(AssertionError, match=r"ended by itself \(-9\). It said:\noutput.log:"):
        rabbit.start()
    assert rabbit.pid is None
    rabbit.start()
    assert rabbit.names_of("queues") is not None
