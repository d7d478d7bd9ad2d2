"""The ticket: the one message under which a part is worked on, from delivery to its end.

While work is short the message stays unacknowledged, so the queue gives it to somebody else within
moments when this peer dies. RabbitMQ closes the channel on whoever keeps one for 30 minutes, and
an encode may take hours. So after a while the message is *handed over*: acknowledged, and from
then on the lease alone carries the task; if this peer dies now, the sweeper finds it. Raising the
broker's limit instead would ask every operator to, and would hide the stuck consumers it is for.

A part that will be tried again must have a message. Before the hand-over that is this one, put
back; after it a new one, which is published *before* the claim is given up (`secure`): if this
peer dies between the two, the message finds a lease that runs out, and not the other way round,
a part that waits with nobody to be woken for it.

Two deliveries may be of the same part: a wake-up was repeated, or the line to the queue was lost
and what this peer held was delivered again, to this very peer. Nobody can tell which of the two
the queue still counts. The newer one becomes the ticket, the older one is acknowledged, which
removes a repeated message and means nothing for a void delivery (`adopt`): one message stays.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from pipeline.patience import QUEUE, Patience
from pipeline.ports import Delivery, TaskQueue
from pipeline.tasks import Priority

AFTER_RELEASE_S = 0.25
"""How long a message that is published before the claim is given up is kept back at least; else
it would find the part still taken, and come again only seconds later."""


class Ticket:
    """A message in this worker's hands. Each end may be called again after it was cancelled."""

    def __init__(self, delivery: Delivery, queue: TaskQueue, patience: Patience) -> None:
        self._delivery = delivery
        self._queue = queue
        self._patience = patience
        self._handed_over = False  # nobody may rely on the message any more, heard or not
        self._acked = False
        self._secured = False
        self._ending = False
        self.ended = False
        """Nothing is left to be done about the message."""

    @property
    def body(self) -> bytes:
        """As it was published."""
        return self._delivery.body

    @property
    def priority(self) -> Priority:
        """As it was published."""
        return self._delivery.priority

    @property
    def redelivered(self) -> bool:
        """Somebody has had it and has not put it back."""
        return self._delivery.redelivered

    async def hand_over(self) -> None:
        """Remove the message while the work goes on: from now on the lease carries the task."""
        if self._ending:
            return
        self._handed_over = True
        await self._ack()

    async def adopt(self, newer: Ticket) -> bool:
        """Take over the message of a newer ticket for the same part, which ends that ticket.

        Returns:
            Whether it did; not when this ticket is at its end itself.
        """
        if self._ending:
            return False
        if self._handed_over:
            await newer.done()
            return True
        older, self._delivery = self._delivery, newer._delivery
        newer.ended = True
        await self._insist(older.ack)
        return True

    async def done(self) -> None:
        """Remove the message: the part needs nobody any more, or has another message."""
        self._ending = True
        await self._ack()
        self.ended = True

    async def secure(self, delay_s: float) -> None:
        """See to it that there is a message after the claim is given up; do so before that."""
        self._ending = True
        if self._handed_over and not self._secured:
            publish = partial(
                self._queue.publish,
                self.body,
                delay_s=max(AFTER_RELEASE_S, delay_s),
                priority=self.priority,
            )
            await self._insist(publish)
            self._secured = True

    async def put_back(self, delay_s: float) -> None:
        """Let anybody have the message, not before `delay_s` from now."""
        await self.secure(delay_s)
        if self._handed_over:
            await self._ack()
        else:
            await self._insist(partial(self._delivery.put_back, delay_s))
        self.ended = True

    async def dead_letter(self, reason: str) -> None:
        """Set the message aside for a person."""
        self._ending = True
        await self._insist(partial(self._delivery.dead_letter, reason))
        self.ended = True

    async def _ack(self) -> None:
        if not self._acked:
            await self._insist(self._delivery.ack)
            self._acked = True

    async def _insist(self, call: Callable[[], Awaitable[None]]) -> None:
        await self._patience.insist(QUEUE, call)
