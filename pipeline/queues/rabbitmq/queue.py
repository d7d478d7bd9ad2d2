"""Wake-ups on RabbitMQ: the port, on two connections.

One publishes, the other one receives and acknowledges: a broker that runs out of memory or disk
stops reading from whoever publishes, and acknowledgements on the same connection would be stuck
with the rest. Both are opened when they are first needed. When one is lost, what it held goes back
to the queue, each call that needs it raises `QueueUnavailable`, and the next one tries again.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from typing import TypeVar

import trio
from pika.exceptions import ChannelClosedByBroker

from pipeline.errors import QueueUnavailable
from pipeline.ports import Depth
from pipeline.queues.rabbitmq.bell import Bell
from pipeline.queues.rabbitmq.channel import Channel, NotRouted
from pipeline.queues.rabbitmq.complaints import FAILURES, explain
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.declaring import Declaration
from pipeline.queues.rabbitmq.delivery import RabbitDelivery
from pipeline.queues.rabbitmq.lifeline import Lifeline
from pipeline.queues.rabbitmq.line import Line
from pipeline.queues.rabbitmq.management import Management
from pipeline.queues.rabbitmq.receiver import Receiver, Taken
from pipeline.queues.rabbitmq.topology import REDELIVERED, Address, Topology
from pipeline.tasks import Priority

T = TypeVar("T")

CALL_S = 10.0
"""How long any call but `receive` may take, connecting included."""
REASON_AGE_S = 30.0
"""How long the newest dead letter's reason is not looked up again, while their number stays."""


class RabbitQueue:
    """Implements `TaskQueue`.

    Args:
        config: With a URL.
        name: Whose it is, as the broker's own tools show it.
        rng: Spreads the tries to reconnect, and the peers over the hosts.
    """

    def __init__(
        self, config: RabbitConfig, *, name: str = "peer", rng: random.Random | None = None
    ) -> None:
        rng = rng or random.Random()  # noqa: S311 - draws delays, not secrets
        self._topology = Topology(config.prefix)
        self._declaration = Declaration(self._topology)
        self._publishing = Lifeline(
            config, self._declaration, rng, purpose=f"{name}: publishing", confirm=True
        )
        self._receiving = Lifeline(
            config, self._declaration, rng, purpose=f"{name}: receiving", prefetch=1
        )
        self._receiver = Receiver(self._receiving, self._topology, self._publish_again)
        self._bell: Bell | None = None
        self._management = Management(config)
        self._dead = 0
        self._dead_reason = ""
        self._reason_until = -1.0

    async def prepare(self) -> None:
        """Connect, and make the queues that are missing.

        Raises:
            QueueIncompatible: What is there cannot be used.
            QueueUnavailable: No host could be reached.
        """
        await self._reach()

    async def describe(self) -> str:
        """Say which broker it is, in a few words; raises as `prepare` does."""
        line = await self._reach()
        return f"RabbitMQ {line.version} at {line.endpoint}"

    async def publish(
        self, body: bytes, *, delay_s: float = 0.0, priority: Priority = Priority.NORMAL
    ) -> None:
        """See `TaskQueue`."""
        await self._send(self._topology.address(priority, delay_s), body)

    async def receive(self) -> RabbitDelivery:
        """See `TaskQueue`. Any number of calls may wait at once."""
        try:
            taken = await self._receiver.receive()
        except FAILURES as error:
            raise QueueUnavailable(
                f"RabbitMQ was lost while waiting for a message: {explain(error)}", definite=True
            ) from error
        return RabbitDelivery(taken, self._topology, self._send)

    async def depth(self) -> Depth:
        """See `TaskQueue`. What is in somebody's hands is known where the management API is."""
        line, counts, reason = await self._look(self._measure)
        work = [self._topology.queue_of(priority) for priority in Priority]
        return Depth(
            ready=sum(counts[name] for name in work),
            unacknowledged=await self._management.unacknowledged(line.endpoint, work),
            delayed=sum(counts[name] for name in self._topology.delayed),
            dead=counts[self._topology.dead],
            dead_reason=reason,
        )

    async def waiting(self) -> Collection[Priority]:
        """See `TaskQueue`."""
        return await self._look(self._find_waiting)

    async def aclose(self) -> None:
        """Give back what this peer holds, and say goodbye. Nobody may be receiving."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publishing.aclose)
            nursery.start_soon(self._receiving.aclose)

    async def _reach(self) -> Line:
        try:
            with trio.fail_after(CALL_S):
                return await self._publishing.line()
        except FAILURES as error:
            raise QueueUnavailable(
                f"RabbitMQ cannot be reached: {explain(error)}", definite=True
            ) from error

    async def _send(self, address: Address, body: bytes) -> None:
        """Publish, and again after making the queues anew where there was none."""
        line: Line | None = None
        try:
            with trio.fail_after(CALL_S):
                line = await self._publishing.line()
                if line.blocked is not None:
                    raise QueueUnavailable(f"RabbitMQ is well, but {line.blocked}", definite=True)
                try:
                    await self._publish_on(line.channel, address, body)
                except NotRouted:
                    await self._declaration.declare(line)
                    await self._publish_on(line.channel, address, body)
            if self._bell is None or self._bell.line is not line:
                self._bell = Bell(line, self._topology.bell)
            self._bell.ring(address.due_in_s)
        except NotRouted as error:
            raise QueueUnavailable(
                f"RabbitMQ has no queue for a message: {error}", definite=True
            ) from error
        except FAILURES as error:
            _give_up_if_silent(line, error)
            raise QueueUnavailable(
                f"RabbitMQ has not confirmed a message: {explain(error)}", definite=line is None
            ) from error

    async def _publish_on(self, channel: Channel, address: Address, body: bytes) -> None:
        await channel.publish(address.exchange, address.key, body, address.headers)

    async def _publish_again(self, taken: Taken, delay_s: float) -> None:
        address = self._topology.address(taken.priority, delay_s)
        if taken.message.redelivered:
            address = replace(address, headers={**address.headers, REDELIVERED: True})
        await self._send(address, taken.message.body)

    async def _look(self, look: Callable[[Line], Awaitable[T]]) -> T:
        """Look at the queues, and again after making those anew that were deleted."""
        line: Line | None = None
        try:
            with trio.fail_after(CALL_S):
                line = await self._receiving.line()
                try:
                    return await look(line)
                except ChannelClosedByBroker:
                    await self._declaration.declare(line)
                    return await look(line)
        except FAILURES as error:
            _give_up_if_silent(line, error)
            raise QueueUnavailable(
                f"RabbitMQ does not tell how many messages it has: {explain(error)}", definite=True
            ) from error

    async def _measure(self, line: Line) -> tuple[Line, dict[str, int], str]:
        counts = await self._count(line)
        return line, counts, await self._newest_reason(line, counts[self._topology.dead])

    async def _find_waiting(self, line: Line) -> Collection[Priority]:
        async with line.throw_away_channel() as channel:
            names = {each: self._topology.queue_of(each) for each in Priority}
            return [each for each, name in names.items() if await channel.count(name)]

    async def _count(self, line: Line) -> dict[str, int]:
        async with line.throw_away_channel() as channel:
            for exchange in self._topology.unseen:
                await channel.find_exchange(exchange)
            return {queue.name: await channel.count(queue.name) for queue in self._topology.queues}

    async def _newest_reason(self, line: Line, dead: int) -> str:
        """Look at the newest dead letter and give it back: nobody else counts its deliveries."""
        now = trio.current_time()
        if dead == 0:
            return ""
        if dead == self._dead and now < self._reason_until:
            return self._dead_reason
        async with line.throw_away_channel() as channel:
            newest = await channel.wait(channel.get(self._topology.newest_dead))
            if newest is not None:  # else somebody is just looking at it
                channel.give_back(newest.tag)
                unroutable = self._topology.unroutable(newest.exchange, newest.key)
                self._dead, self._dead_reason = dead, newest.reason or unroutable
                self._reason_until = now + REASON_AGE_S
        return self._dead_reason


def _give_up_if_silent(line: Line | None, error: Exception) -> None:
    """A line that does not answer is of use to nobody; one that is blocked will be."""
    if isinstance(error, trio.TooSlowError) and line is not None and line.blocked is None:
        line.lose(error)
