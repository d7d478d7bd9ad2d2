"""A message in this peer's hands.

AMQP ends a delivery by acknowledging it, and knows nothing of delays. So a message that is put
back or set aside is first published again, where it now belongs, and acknowledged once that is
confirmed: a crash between the two leaves two of them, never none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import trio

from pipeline.queues.rabbitmq.receiver import Taken
from pipeline.queues.rabbitmq.topology import REASON, Address, Topology
from pipeline.tasks import Priority

STRANDED_S = 10.0
"""How long after a failed end the message is left to whoever may repeat it. At once would let it
go round and round, while the broker takes no messages and gives them all the same."""

REASON_BYTES_MAX = 2000

Send = Callable[[Address, bytes], Awaitable[None]]


class RabbitDelivery:
    """Implements `Delivery`. With its line it goes back to the queue, and ending it is void."""

    def __init__(self, taken: Taken, topology: Topology, send: Send) -> None:
        self._taken = taken
        self._topology = topology
        self._send = send
        self._ended = False
        self._stranded: trio.CancelScope | None = None

    @property
    def body(self) -> bytes:
        """See `Delivery`."""
        return self._taken.message.body

    @property
    def redelivered(self) -> bool:
        """See `Delivery`."""
        return self._taken.message.redelivered

    @property
    def priority(self) -> Priority:
        """See `Delivery`."""
        return self._taken.priority

    async def ack(self) -> None:
        """See `Delivery`. The broker does not answer to it."""
        await trio.lowlevel.checkpoint()
        if self._is_held:
            self._end()

    async def put_back(self, delay_s: float) -> None:
        """See `Delivery`."""
        await self._move(self._topology.address(self.priority, delay_s))

    async def dead_letter(self, reason: str) -> None:
        """See `Delivery`."""
        shown = reason.encode(errors="replace")[:REASON_BYTES_MAX].decode(errors="ignore")
        await self._move(Address(self._topology.dead, "", {REASON: shown}))

    @property
    def _is_held(self) -> bool:
        return not self._ended and self._taken.line.lost is None

    async def _move(self, address: Address) -> None:
        if not self._is_held:
            await trio.lowlevel.checkpoint()
            return
        with self._not_stranded():
            await self._send(address, self.body)
        if self._is_held:
            self._end()

    @contextmanager
    def _not_stranded(self) -> Iterator[None]:
        """Give it back some time after a failure, unless it is ended by then."""
        if self._stranded is not None:
            self._stranded.cancel()
        try:
            yield
        except BaseException:
            if self._is_held:
                self._stranded = self._taken.line.call_later(STRANDED_S, self._give_back)
            raise

    def _end(self) -> None:
        self._ended = True
        self._taken.line.channel.ack(self._taken.message.tag)

    def _give_back(self) -> None:
        if self._is_held:
            self._ended = True
            self._taken.line.channel.give_back(self._taken.message.tag)
