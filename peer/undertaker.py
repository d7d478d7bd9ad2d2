"""The undertaker: tells the ledger who is gone, so that others get the work, and who is back.

The loop around `duties`: it looks at the view when something changed, and once a second anyway,
and does what is due. What fails because the ledger is away is still due at the next look, if it is
still true by then; so nothing waits in a queue, and nothing is lost with a restart.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Sequence

import trio

from membership.changes import (
    Change,
    LeaderProposed,
    MemberDied,
    MemberLeft,
    MemberRecovered,
    MemberRestarted,
    MemberSuspected,
)
from membership.events import ContainerFailureDetected
from membership.view import View
from peer.duties import Bury, Duties, Duty, Reinstate, Suspend
from peer.ended import BuryEnded, Ended, Reports
from pipeline.errors import Unavailable
from pipeline.events import Recorder
from pipeline.ports import Expired, Undertaking
from pipeline.standing import Death, Life, Suspended
from pipeline.tasks import Holder

log = logging.getLogger(__name__)

LOOK_S = 1.0

PRESSING = (
    MemberDied,
    MemberRestarted,
    MemberSuspected,
    MemberRecovered,
    MemberLeft,
    LeaderProposed,
)
"""The changes after which it looks at once."""

Wake = Callable[[Sequence[Expired]], Awaitable[None]]
"""Wakes somebody for each of these parts: `Sweeper.wake`."""


Hears = Callable[[Life], Awaitable[bool]]
"""Asks a life whether it is still there: `Neighbours.hears`."""


class Undertaker:
    """Does this peer's share of telling the ledger who lives.

    Args:
        view: What this peer believes now; None while it believes nothing yet.
        own: Under which identity this peer works now.
        hears: Asks a life for a sign of itself; False after about a second of silence.
        own_burial: Of its former life, where that was a crash.
    """

    def __init__(
        self,
        *,
        ledger: Undertaking,
        wake: Wake,
        view: Callable[[], View | None],
        own: Callable[[], Holder],
        recorder: Recorder,
        hears: Hears,
        own_burial: Bury | None = None,
    ) -> None:
        self._ledger = ledger
        self._wake = wake
        self._view = view
        self._own = own
        self._record = recorder
        self._hears = hears
        self._duties = Duties(own_burial)
        self._reports = Reports()
        self._news = trio.Event()
        self._hindrance: str | None = None

    @property
    def own_burial(self) -> Bury | None:
        """What is still to be told of this peer's former life; None once the ledger knows."""
        return self._duties.own_burial

    def notice(self, change: Change) -> None:
        """Hear of a change. Synchronous, cheap, never fails; for every kind of change."""
        self._duties.notice(trio.current_time(), change)
        if isinstance(change, PRESSING):
            self._news.set()

    def note_ended(self, ended: Ended) -> None:
        """Hear from the orchestrator of a container that has ended. Synchronous, never fails.

        To be called by whoever observes the orchestrator, for each that failed since it last
        looked; again is harmless.
        """
        self._reports.note(trio.current_time(), ended)
        self._news.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            await self.look()
            with trio.move_on_after(LOOK_S):
                await self._news.wait()
            self._news = trio.Event()

    async def look(self) -> None:
        """Do what is due now. What cannot be done stays due."""
        view = self._view()
        if view is None:
            return
        for duty in self._duties.due(trio.current_time(), view):
            try:
                refused = await self._do(duty)
            except Unavailable as error:
                self._note_hindrance("the ledger cannot be told", error.message)
                return
            if refused is not None:
                self._note_hindrance("the ledger does not believe this peer", refused.why)
                return
            self._duties.done(trio.current_time(), duty)
            self._hindrance = None
        await self._look_at_reports(view)

    async def _look_at_reports(self, view: View) -> None:
        """Bury what the orchestrator has seen end, unless it answers."""
        if view.deaf or view.suspected:
            return  # whoever does not hear cannot ask, and will
        for burial in self._reports.due(trio.current_time(), view):
            about = {"action": "undertake", "container": burial.container}
            if burial.heard and await self._hears(burial.deaths[0].life):
                # Buried as ENDED it could not contradict: nothing counts above that.
                why = burial.event.detail
                log.warning("said to have ended, and answers", extra={**about, "why": why})
            else:
                try:
                    refused = await self._bury_all(burial)
                except Unavailable as error:
                    self._note_hindrance("the ledger cannot be told", error.message)
                    return
                if refused is not None:
                    self._note_hindrance("the ledger does not believe this peer", refused.why)
                    return
            self._reports.done(burial.container)

    async def _do(self, duty: Duty) -> Suspended | None:
        match duty:
            case Bury():
                return await self._bury(duty.death, duty.event)
            case Suspend():
                return await self._ledger.suspend(self._own(), duty.lives)
            case Reinstate():
                await self._ledger.reinstate(duty.life)
        return None

    async def _bury_all(self, burial: BuryEnded) -> Suspended | None:
        event: ContainerFailureDetected | None = burial.event
        for death in burial.deaths:
            if (refused := await self._bury(death, event)) is not None:
                return refused
            event = None
        return None

    async def _bury(self, death: Death, event: ContainerFailureDetected | None) -> Suspended | None:
        record = None if event is None else self._record(event)
        answer = await self._ledger.bury(self._own(), death, record)
        if isinstance(answer, Suspended):
            return answer
        if answer:
            try:
                await self._wake(answer)
            except Unavailable as error:  # the parts are put back; the sweeper wakes somebody
                log.info("nobody woken", extra={"action": "wake", "error": error.message})
        return None

    def _note_hindrance(self, message: str, why: str) -> None:
        """Say once what is in the way."""
        if self._hindrance != message:
            log.warning(message, extra={"action": "undertake", "why": why})
        self._hindrance = message
