"""Takes one message at a time, of the priority whose turn it is.

Whoever has a free slot asks the queues in the order of turns (`basic.get`). When all are empty it
waits for the bell (`bell`), and then asks again. One that rang in vain, because somebody else was
quicker, costs three questions.

Consumers of the three queues themselves would be the usual way, and break promises: each queue
delivers before anybody knows whose turn it is; what comes while all slots are busy lies in the
wrong hands; and where a consumer is cancelled, the broker gives back by itself what is just on its
way, and counts that as a try in vain: tried with eight idle peers, a message among others came back
twice, and twenty times would make it dead. What becomes of a bell does not matter.

Nobody rings when a message comes back because its holder died, nor do strangers; so whoever waits
also looks once a second, by counting, which asks nothing of the disk. That look finds a channel,
too, that is dead without a word.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from uuid import uuid4

import trio

from pipeline.errors import QueueUnavailable
from pipeline.priority import Turns
from pipeline.queues.rabbitmq.answer import Answer
from pipeline.queues.rabbitmq.channel import Message
from pipeline.queues.rabbitmq.complaints import FAILURES, GivenUp
from pipeline.queues.rabbitmq.lifeline import Lifeline
from pipeline.queues.rabbitmq.line import Line
from pipeline.queues.rabbitmq.topology import Topology
from pipeline.tasks import Priority

ANSWER_S = 10.0
"""How long the broker may take to answer."""
SETTLE_S = 5.0
"""How long a cancelled call may take to find out what it must give back."""
LOOK_S = 1.0
"""How often whoever waits looks without having heard the bell."""
LOOK_AGAIN_S = 0.05
"""When he looks after the bell rang in vain: it may have been quicker than the message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """A message in this peer's hands, and the line that holds it."""

    line: Line
    message: Message
    priority: Priority


class Receiver:
    """Any number of calls may wait; one of them asks at a time, in the order of their coming.

    Args:
        publish_again: Publishes a message that was taken for nobody, to wait in line again, after
            so many seconds.
    """

    def __init__(
        self,
        lifeline: Lifeline,
        topology: Topology,
        publish_again: Callable[[Taken, float], Awaitable[None]],
    ) -> None:
        self._lifeline = lifeline
        self._topology = topology
        self._publish_again = publish_again
        self._turns = Turns()
        self._asking = trio.Lock()

    async def receive(self) -> Taken:
        """Wait for a message. A cancelled call takes none.

        Raises:
            Exception: One of `FAILURES`, or what the lifeline raises.
        """
        async with self._asking:
            with trio.fail_after(ANSWER_S):
                line = await self._lifeline.line()
            look_s = LOOK_S
            taken = await self._ask(line)
            while taken is None or taken.message.left_ms:
                if taken is not None:
                    await self._send_on(taken)
                    taken = await self._ask(line)
                else:
                    taken, has_rung = await self._wait_and_ask(line, look_s)
                    look_s = LOOK_AGAIN_S if has_rung else LOOK_S
            # No checkpoint between the result and `return`, so no message is ever forgotten.
            self._turns.took(taken.priority)
            return taken

    async def _ask(self, line: Line) -> Taken | None:
        """Take the first message that waits, in the order of turns."""
        for priority in self._turns.order():
            answer = line.channel.get(self._topology.queue_of(priority))
            try:
                with _bounded(line):
                    message = await answer.wait()
            except trio.Cancelled:
                async with _settling(line):
                    if (message := await answer.wait()) is not None:
                        await self._give_back(Taken(line=line, message=message, priority=priority))
                raise
            if message is not None:
                return Taken(line=line, message=message, priority=priority)
        return None

    async def _wait_and_ask(self, line: Line, look_s: float) -> tuple[Taken | None, bool]:
        """Wait until there may be something to take, and ask for it; tell whether the bell rang.

        Args:
            look_s: When to look for the first time.
        """
        channel, consumer = line.channel, uuid4().hex
        bell: Answer[Message] = channel.expect()
        rung: Message | None = None
        try:
            with _bounded(line):
                await channel.consume(self._topology.bell, consumer, bell.give)
            rung = await self._wait_for_news(line, bell, look_s)
            if rung is not None:
                # At once. Until it gives this bell back, it is given no other one.
                return await self._ask(line), True
        finally:
            channel.forget(bell)
            if rung is not None:
                with suppress(*FAILURES):  # and no checkpoint: there may be a message in hand
                    channel.stop(consumer)
                    channel.ack(rung.tag)
            else:
                async with _settling(line):
                    await channel.cancel(consumer)
                    if bell.is_given:  # for somebody else, then
                        channel.give_back((await bell.wait()).tag)
        return await self._ask(line), False

    async def _wait_for_news(
        self, line: Line, bell: Answer[Message], look_s: float
    ) -> Message | None:
        """Wait for the bell, and return it; or until a look says that something waits."""
        while True:
            with trio.move_on_after(look_s):
                return await bell.wait()
            with _bounded(line):
                if await self._count(line):
                    return None
            look_s = LOOK_S

    async def _count(self, line: Line) -> int:
        counts = [await line.channel.count(self._topology.queue_of(each)) for each in Priority]
        return sum(counts)

    async def _give_back(self, taken: Taken) -> None:
        """Let it wait in line again, as if nobody had taken it.

        It is published again: giving it back as it is would count as a try in vain.
        """
        try:
            await self._publish_again(taken, 0.0)
        except QueueUnavailable:
            taken.line.channel.give_back(taken.message.tag)
        else:
            taken.line.channel.ack(taken.message.tag)

    async def _send_on(self, taken: Taken) -> None:
        """Let it wait for what is left of its delay."""
        try:
            await self._publish_again(taken, taken.message.left_ms / 1000)
        except BaseException:
            if taken.line.lost is None:
                taken.line.channel.give_back(taken.message.tag)
            raise
        taken.line.channel.ack(taken.message.tag)


@contextmanager
def _bounded(line: Line) -> Iterator[None]:
    """Give a line up that does not answer."""
    try:
        with trio.fail_after(ANSWER_S):
            yield
    except trio.TooSlowError as error:
        line.lose(error)
        raise


@asynccontextmanager
async def _settling(line: Line) -> AsyncIterator[None]:
    """For what must be done also when the call is cancelled.

    If it cannot be done, the line is given up, and what it holds goes back.
    """
    with trio.move_on_after(SETTLE_S, shield=True) as scope:
        with suppress(*FAILURES):
            yield
    if scope.cancelled_caught:
        line.lose(GivenUp("it did not answer in time"))
