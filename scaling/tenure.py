"""Whether this peer may act now, and until when: the lease, kept in a loop of its own.

Gossip proposes one peer; the lease decides. It is renewed four times in its duration whatever the
controller is doing, for a look or a write may take as long as a slow manager pleases. What the
controller asks is `may_act`: true only while the lease certainly holds, by this peer's own clock
from before it was asked for. So a leader whose renewals fail stops by itself, before anybody else
can begin.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

import trio

from scaling.ports import Lease, ScalingError

log = logging.getLogger(__name__)

RENEWALS = 4
"""In one duration of the lease: three may fail."""
ASK_AGAIN_S = 1.0
GIVE_UP_WITHIN_S = 3.0


@dataclass(frozen=True, slots=True)
class Hold:
    """The lease as it was last confirmed."""

    term: int
    until_s: float


class Tenure:
    """One peer's time as the leader that scales.

    Args:
        holder: Unique to this life of this peer.
        leads: Whether the others take this peer for the leader.
        changed: Called when a term has begun or ended.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        lease: Lease,
        holder: Callable[[], str],
        *,
        lease_s: float,
        leads: Callable[[], bool],
        changed: Callable[[], None],
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._lease, self._holder, self._leads = lease, holder, leads
        self._lease_s, self._changed, self._clock = lease_s, changed, clock
        self._hold: Hold | None = None
        self._barred_until_s = 0.0
        self._superseded = False
        self._resigned = False
        self._owed = False  # the lease may be ours, whether we may still act by it or not
        self._woken = trio.Event()
        self.trouble = ""

    @property
    def term(self) -> int | None:
        """The term under which this peer may act now; None while it may not."""
        hold = self._hold
        if hold is None or self._clock() >= hold.until_s or not self._willing():
            return None
        return hold.term

    def may_act(self, term: int) -> bool:
        """Whether an action of this term may be begun now."""
        return self.term == term

    def step_down(self, for_s: float) -> None:
        """Let go: a later leader has acted. Not tried again for so long, and then anew.

        The lease itself is given up, too: if it is ours all the same, its term is too small.
        """
        self._hold, self._superseded = None, True
        self._barred_until_s = self._clock() + for_s
        self._woken.set()
        self._changed()

    def resign(self) -> None:
        """Lead no more, for good: this peer was told to end. The next one need not wait for us."""
        self._resigned = True
        self._woken.set()
        self._changed()

    def wake(self) -> None:
        """Look at once: the others may have proposed somebody else."""
        self._woken.set()

    async def run(self) -> None:
        """Keep the lease while this peer is proposed, until cancelled; then give it up."""
        try:
            while True:
                self._woken = trio.Event()
                await self.look()
                with trio.move_on_after(self._pause_s()):
                    await self._woken.wait()
        finally:
            with trio.move_on_after(GIVE_UP_WITHIN_S, shield=True):
                await self._give_up()

    async def look(self) -> None:
        """Take it, renew it, or give it up."""
        if self._superseded or not self._willing():
            await self._give_up()
        if not self._willing() or self._clock() < self._barred_until_s:
            return
        before = self.term
        began_s = self._clock()
        self._owed = True
        trouble = f"the lease could not be had in {self._lease_s:g} s"
        with trio.move_on_after(self._lease_s):
            try:
                term = await self._lease.keep(self._holder())
            except ScalingError as error:
                trouble = str(error)
            else:
                trouble = ""
                self._owed = term is not None
                if term is None or self._superseded:  # the latter while this was asked for
                    self._hold = None
                else:
                    self._hold = Hold(term, began_s + self._lease_s)
        self._note(trouble)
        if self.term != before:
            self._changed()

    def _willing(self) -> bool:
        return not self._resigned and self._leads()

    def _pause_s(self) -> float:
        """Until the next look: sooner where somebody else has what the others want this one to
        have. He is about to give it up."""
        pause_s = self._lease_s / RENEWALS
        waits = self._willing() and self._hold is None and self._clock() >= self._barred_until_s
        return min(ASK_AGAIN_S, pause_s) if waits else pause_s

    async def _give_up(self) -> None:
        if self._hold is not None:
            self._hold = None
            self._changed()
        self._superseded = False
        if not self._owed:
            return
        try:
            with trio.move_on_after(self._lease_s):
                await self._lease.give_up(self._holder())
        except ScalingError as error:  # it runs out by itself
            log.info("lease", extra={"action": "lease", "error": str(error)})
        self._owed = False  # not when this was cancelled: then it is tried again at the end

    def _note(self, trouble: str) -> None:
        """Say once what is in the way."""
        if trouble and trouble != self.trouble:
            log.warning(
                "the right to scale cannot be kept", extra={"action": "lease", "why": trouble}
            )
        self.trouble = trouble
