"""Reception: from a message to a claim, or to the reason why there is none.

Whatever a message says, and whoever sent it, it ends here in one of four ways: as the ticket of a
claim, put back, acknowledged, or set aside for a person with the reason.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from uuid import UUID, uuid4

import trio

from pipeline.early import SECOND_LOOK_S, Early
from pipeline.errors import BadMessage, BadRequest
from pipeline.events import Recorder, TaskReceived
from pipeline.hold import LEAVE_TO_OTHERS_S, Hold
from pipeline.messages import WakeUp, decode_untrusted
from pipeline.patience import LEDGER, Patience
from pipeline.ports import ClaimLedger
from pipeline.redelivery import SILENT_S, Course, course
from pipeline.standing import Suspended
from pipeline.tasks import Busy, Claim, Held, Holder, Settled, Unknown
from pipeline.ticket import Ticket

log = logging.getLogger(__name__)

Answer = Claim | Busy | Settled | Unknown | Suspended

Answers = Callable[[Held], Awaitable[bool]]
"""Whether the life behind a claim still answers; false only after asking it for a second or two.
Never raises."""


async def always_answers(_: Held) -> bool:
    """Be `Answers` where nobody can be asked: leases alone say who is gone."""
    return True


class Reception:
    """Sees each message to a claim or to its end.

    Args:
        holder: Says who this peer is now.
        attempts_max: The threshold of a task that a message brings along without one.
    """

    def __init__(
        self,
        *,
        ledger: ClaimLedger,
        patience: Patience,
        hold: Hold,
        holder: Callable[[], Holder],
        recorder: Recorder,
        answers: Answers,
        attempts_max: int,
    ) -> None:
        self._ledger = ledger
        self._patience = patience
        self._hold = hold
        self._holder = holder
        self._record = recorder
        self._answers = answers
        self._attempts_max = attempts_max
        self._early = Early()
        # What this worker has, or is just asking for; the latter without a ticket.
        self._tickets: dict[UUID, Ticket | None] = {}

    @contextmanager
    def serving(self, ticket: Ticket) -> Iterator[UUID]:
        """Give a ticket the token under which its part is claimed, for as long as it is served."""
        token = uuid4()
        self._tickets[token] = None
        try:
            yield token
        finally:
            del self._tickets[token]

    async def claim(self, ticket: Ticket, token: UUID) -> Claim | None:
        """Claim the part that a message is about; without a claim, end the ticket."""
        try:
            wake_up = decode_untrusted(
                ticket.body, priority=ticket.priority, attempts_max=self._attempts_max
            )
            answer: Answer | None = await self._ask(wake_up, token)
        except (BadMessage, BadRequest) as error:
            await self._set_aside(ticket, str(error))
            return None
        if isinstance(answer, Busy) and answer.held is not None:
            answer = await self._contend(answer, answer.held, ticket, wake_up, token)
        match answer:
            case Claim():
                self._tickets[token] = ticket
                return answer
            case Busy():
                await ticket.put_back(answer.look_again_s)
            case Suspended():
                if self._hold.suspend(answer):
                    log.warning("no work for now", extra={"action": "hold", "why": answer.why})
                await ticket.put_back(LEAVE_TO_OTHERS_S)
            case Settled():
                await ticket.done()
            case Unknown():
                await self._look_again_once(ticket, wake_up, answer)
        return None

    async def _ask(self, wake_up: WakeUp, token: UUID, unheard: Held | None = None) -> Answer:
        claim = partial(
            self._ledger.claim,
            wake_up.task_id,
            wake_up.part,
            self._holder(),
            token,
            self._record(TaskReceived(task_id=wake_up.task_id, part=wake_up.part, attempt=0)),
            submission=wake_up.submission,
            unheard=unheard,
        )
        return await self._patience.insist(LEDGER, claim)

    async def _contend(
        self, busy: Busy, held: Held, ticket: Ticket, wake_up: WakeUp, token: UUID
    ) -> Answer | None:
        """See whether the holder of a part is still there; None when that is this worker itself."""
        match course(
            held,
            own=self._holder(),
            own_tokens=self._tickets,
            redelivered=ticket.redelivered,
        ):
            case Course.WAIT:
                return busy
            case Course.ADOPT:
                own = self._tickets[held.token]
                return None if own is not None and await own.adopt(ticket) else busy
            case Course.ASK if await self._is_heard(held):
                return busy
        answer = await self._ask(wake_up, token, unheard=held)
        about = {"task": str(wake_up.task_id), "part": wake_up.part, "peer": held.peer_name}
        if isinstance(answer, Busy) and answer.held is not None:
            # That one with a renewal, or another one that was quicker.
            log.info("its holder is at work", extra={"action": "leave", "why": answer.why, **about})
        else:
            log.warning(
                "taken over from a holder that is gone",
                extra={"action": "take_over", "silent_s": round(held.silent_s, 3), **about},
            )
        return answer

    async def _is_heard(self, held: Held) -> bool:
        """Ask a holder; when it has not answered, it has had the time to renew its claim, too."""
        renewal_overdue_at = trio.current_time() + SILENT_S - held.silent_s
        if await self._answers(held):
            return True
        await trio.sleep_until(renewal_overdue_at)
        return False

    async def _look_again_once(self, ticket: Ticket, wake_up: WakeUp, unknown: Unknown) -> None:
        now = trio.current_time()
        if self._early.deserves_second_look(wake_up.task_id, wake_up.part, now):
            await ticket.put_back(SECOND_LOOK_S)
        else:
            why = f"{unknown.why}; record a task and commit before publishing its message"
            await self._set_aside(ticket, why)

    async def _set_aside(self, ticket: Ticket, why: str) -> None:
        log.warning("bad message set aside", extra={"action": "dead_letter", "why": why})
        await ticket.dead_letter(why)
