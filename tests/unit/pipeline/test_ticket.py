"""The ticket: whatever happens to a delivery, exactly one message stays, or none."""

from __future__ import annotations

import random
from itertools import count

import pytest
import trio

from pipeline.errors import QueueUnavailable
from pipeline.patience import QUEUE, Patience
from pipeline.ports import Delivery, TaskQueue
from pipeline.tasks import Priority
from pipeline.ticket import AFTER_RELEASE_S, Ticket


class Broker:
    """Messages in somebody's hands, and those that wait; may not hear what it is told at first."""

    def __init__(self) -> None:
        self.held: set[int] = set()
        self.waiting: list[float] = []  # each message's delay
        self.dead: list[str] = []
        self.deaf = 0
        self._numbers = count()

    def deliver(self) -> Delivered:
        self.held.add(number := next(self._numbers))
        return Delivered(self, number)

    def void(self, delivered: Delivered) -> Delivered:
        """Lose the line: the message is delivered again, and the old delivery means nothing."""
        self.held.discard(delivered.number)
        again = self.deliver()
        again.redelivered = True
        return again

    async def hear(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.deaf:
            self.deaf -= 1
            raise QueueUnavailable("it is away", definite=True)

    @property
    def messages(self) -> int:
        return len(self.held) + len(self.waiting)

    async def publish(
        self, body: bytes, *, delay_s: float = 0.0, priority: Priority = Priority.NORMAL
    ) -> None:
        await self.hear()
        assert (body, priority) == (b"a task", Priority.HIGH)
        self.waiting.append(delay_s)

    async def receive(self) -> Delivery:
        raise NotImplementedError

    async def depth(self) -> None:
        """Answer the probe."""


class Delivered:
    """A message in somebody's hands."""

    def __init__(self, broker: Broker, number: int) -> None:
        self._broker = broker
        self.number = number
        self.body = b"a task"
        self.redelivered = False
        self.priority = Priority.HIGH

    async def _end(self) -> bool:
        await self._broker.hear()
        held = self.number in self._broker.held
        self._broker.held.discard(self.number)
        return held

    async def ack(self) -> None:
        await self._end()

    async def put_back(self, delay_s: float) -> None:
        if await self._end():
            self._broker.waiting.append(delay_s)

    async def dead_letter(self, reason: str) -> None:
        if await self._end():
            self._broker.dead.append(reason)


def ticket_for(broker: Broker, delivered: Delivered) -> Ticket:
    patience = Patience({QUEUE: broker.depth}, random.Random(1), pause_max_s=0.01)
    queue: TaskQueue = broker  # type: ignore[assignment] # its depth has nothing to count
    return Ticket(delivered, queue, patience)


@pytest.fixture(params=[0, 1, 3])
def broker(request: pytest.FixtureRequest) -> Broker:
    """A broker that hears at once, or only what it is told repeatedly."""
    broker = Broker()
    broker.deaf = request.param
    return broker


async def test_the_short_way(broker: Broker) -> None:
    """Work that ends before the hand-over ends its message."""
    ticket = ticket_for(broker, broker.deliver())
    await ticket.done()
    assert (ticket.ended, broker.messages) == (True, 0)


async def test_again(broker: Broker) -> None:
    """A retry is the same message, put back; nothing is published beside it."""
    ticket = ticket_for(broker, broker.deliver())
    await ticket.secure(7.0)
    assert broker.waiting == []
    await ticket.put_back(7.0)
    assert (ticket.ended, broker.held, broker.waiting) == (True, set(), [7.0])


async def test_set_aside(broker: Broker) -> None:
    """A person gets it, with the reason."""
    ticket = ticket_for(broker, broker.deliver())
    await ticket.dead_letter("not JSON")
    assert (ticket.ended, broker.messages, broker.dead) == (True, 0, ["not JSON"])


async def test_the_long_way(broker: Broker) -> None:
    """After the hand-over there is no message, and none is left when the work is done."""
    ticket = ticket_for(broker, broker.deliver())
    await ticket.hand_over()
    assert (ticket.ended, broker.messages) == (False, 0)
    await ticket.done()
    assert (ticket.ended, broker.messages) == (True, 0)


@pytest.mark.parametrize(("delay_s", "expected_s"), [(7.0, 7.0), (0.0, AFTER_RELEASE_S)])
async def test_again_after_the_hand_over(broker: Broker, delay_s: float, expected_s: float) -> None:
    """A new message is there before the claim is given up, and is the only one."""
    ticket = ticket_for(broker, broker.deliver())
    await ticket.hand_over()
    await ticket.secure(delay_s)
    assert broker.waiting == [expected_s]
    await ticket.put_back(delay_s)
    assert (ticket.ended, broker.waiting) == (True, [expected_s])


async def test_a_hand_over_nobody_knows_the_end_of() -> None:
    """It was cancelled before the queue answered: the message is not relied upon, nor left over."""
    broker = Broker()
    broker.deaf = 1000
    ticket = ticket_for(broker, broker.deliver())
    with trio.move_on_after(0.05):
        await ticket.hand_over()
    broker.deaf = 0
    await ticket.put_back(7.0)
    assert (ticket.ended, broker.held, broker.waiting) == (True, set(), [7.0])


@pytest.mark.parametrize("handed_over", [False, True])
@pytest.mark.parametrize("is_void", [False, True])
async def test_a_second_delivery(broker: Broker, handed_over: bool, is_void: bool) -> None:
    """Repeated or redelivered, it leaves one message; after the hand-over none. The work's end
    then ends that one."""
    first = broker.deliver()
    ticket = ticket_for(broker, first)
    if handed_over:
        await ticket.hand_over()
    second = ticket_for(broker, broker.void(first) if is_void else broker.deliver())

    assert await ticket.adopt(second)
    assert (second.ended, broker.messages) == (True, 0 if handed_over else 1)
    await ticket.done()
    assert broker.messages == 0


async def test_no_second_delivery_at_the_end(broker: Broker) -> None:
    """The part waits for its next attempt by then, and the second message waits as well."""
    ticket = ticket_for(broker, broker.deliver())
    await ticket.secure(0.0)
    second = ticket_for(broker, broker.deliver())

    assert not await ticket.adopt(second)
    assert not second.ended


async def test_no_hand_over_at_the_end(broker: Broker) -> None:
    """The message is needed again."""
    ticket = ticket_for(broker, broker.deliver())
    await ticket.secure(0.0)
    await ticket.hand_over()
    await ticket.put_back(1.0)
    assert broker.waiting == [1.0]
