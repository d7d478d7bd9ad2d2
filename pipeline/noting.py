"""A ledger whose steps are written behind: noted in memory, and in its tables moments later.

An attempt writes an event at each of its steps. A step decides nothing, so nobody need wait until
it is on the ledger's disk: a short task would do little else. So it is noted, and the attempt goes
on. What is noted is written in the transaction of the call that ends its claim, or after `LINGER_S`
in one of its own, all of it at once. What decides (to claim, to commit, to release) is waited for.

A kill loses at most the steps that were taken within one `LINGER_S`, the last ones of their claim:
while older ones are not written, whatever keeps them, no further step is taken. That equals a kill
before the first of them, because nobody was told of them, and a claim cannot come to an end without
its steps. A claim that was lost meanwhile is found out at the step after the next write, or at its
end or renewal, whichever is first; until then its holder does in vain what it could not know to be
in vain. Times are those of the steps, as their stamps were made then.

Of one claim one write is under way at a time, and nothing of it overtakes what was noted before. Of
different claims nothing is ordered.

The rejected alternative, to commit the steps without waiting for the disk (`synchronous_commit`),
saves the wait and not the transactions, which are most of the work when several tasks share it; and
a server that crashes would have forgotten steps behind which this peer has already gone on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from uuid import UUID

import trio

from pipeline.errors import ClaimLost, LedgerUnavailable
from pipeline.events import Record
from pipeline.ports import ClaimLedger, Release, Submission
from pipeline.standing import Suspended
from pipeline.tasks import Busy, Claim, Held, Holder, Product, Progress, Settled, Unknown

log = logging.getLogger(__name__)

LINGER_S = 0.05
"""How long a step waits for others, or for the end of its claim, to be written with them."""

PAUSE_S = 1.0
"""Before noted steps are tried again that neither the ledger nor the disk before it would take."""


class NotingLedger:
    """Implements `ClaimLedger` in front of another one. Call `run` during it.

    Args:
        ledger: A step that is written to it is safe: `SpoolingLedger`, which keeps steps on disk
            while the database is away.
    """

    def __init__(self, ledger: ClaimLedger) -> None:
        self._ledger = ledger
        self._notes: dict[UUID, _Notes] = {}  # of claims that have not ended, by their tokens
        self._watching: trio.Nursery | None = None  # while `run` does

    async def run(self) -> None:
        """Write in time what is noted, until cancelled."""
        async with trio.open_nursery() as self._watching:
            for notes in self._notes.values():
                self._watch(notes)
            await trio.sleep_forever()

    async def advance(self, claim: Claim, *steps: Record) -> None:
        """See `ClaimLedger`. Returns at once, unless earlier steps should have been written by now.

        Raises:
            ClaimLost: An earlier step was refused, or this one.
            LedgerUnavailable: Earlier steps can be written nowhere; these are not even noted.
        """
        await trio.lowlevel.checkpoint()
        notes = self._notes.setdefault(claim.token, _Notes(claim))
        try:
            if trio.current_time() > notes.due_at:
                await self._write(notes)
            notes.raise_if_ended()
        except ClaimLost:
            self._forget(claim)
            raise
        notes.add(steps)
        self._watch(notes)

    async def claim(
        self,
        task_id: UUID,
        part: int,
        holder: Holder,
        token: UUID,
        record: Record,
        *,
        submission: Submission | None = None,
        unheard: Held | None = None,
    ) -> Claim | Busy | Settled | Unknown | Suspended:
        """See `ClaimLedger`."""
        return await self._ledger.claim(
            task_id, part, holder, token, record, submission=submission, unheard=unheard
        )

    async def renew(self, claim: Claim, progress: Progress | None) -> None:
        """See `ClaimLedger`."""
        try:
            await self._ledger.renew(claim, progress)
        except ClaimLost:
            self._forget(claim)
            raise

    async def finish(
        self,
        claim: Claim,
        products: Sequence[Product],
        warnings: Sequence[str],
        record: Record,
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        """See `ClaimLedger`."""
        notes = self._notes.get(claim.token) or _Notes(claim)
        async with notes.writing:
            if not isinstance(notes.ended_by, ClaimLost):  # it may be a repeat: the ledger knows
                notes.raise_if_ended()
            steps = (*notes.steps, *steps)
            try:
                await self._ledger.finish(claim, products, warnings, record, steps=steps)
            except ClaimLost:
                self._forget(claim)
                raise
            self._forget(claim)

    async def release(
        self,
        claim: Claim,
        release: Release,
        records: Sequence[Record],
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        """See `ClaimLedger`. Steps that the ledger refuses do not keep a claim from its end."""
        notes = self._notes.get(claim.token) or _Notes(claim)
        async with notes.writing:
            steps = (*notes.steps, *steps)
            try:
                await self._ledger.release(claim, release, records, steps=steps)
            except LedgerUnavailable:
                raise
            except ClaimLost:
                self._forget(claim)
                raise
            except Exception as error:
                if not steps:
                    raise
                _log_refused(claim, steps, error)
                notes.end(error)
                await self._ledger.release(claim, release, records)
            self._forget(claim)

    async def _write(self, notes: _Notes) -> None:
        """Write what is noted of a claim.

        Raises:
            ClaimLost: The ledger refuses it.
            LedgerUnavailable: It can be written nowhere, and stays noted.
        """
        async with notes.writing:
            steps = notes.steps
            if not steps:
                return
            try:
                await self._ledger.advance(notes.claim, *steps)
            except LedgerUnavailable:
                raise
            except ClaimLost as error:
                notes.end(error)
                raise
            except Exception as error:
                _log_refused(notes.claim, steps, error)
                notes.end(error)
                raise
            notes.written(steps)

    def _watch(self, notes: _Notes) -> None:
        """See to it that what is noted is written in time."""
        if self._watching is not None and not notes.is_watched:
            notes.is_watched = True
            self._watching.start_soon(self._write_in_time, notes)

    async def _write_in_time(self, notes: _Notes) -> None:
        try:
            while notes.steps:
                await trio.sleep_until(notes.due_at)
                try:
                    await self._write(notes)
                except LedgerUnavailable as error:
                    log.debug("not written", extra={"action": "note", "error": str(error)})
                    await trio.sleep(PAUSE_S)
                except Exception:
                    return  # it is the attempt's, which hears of it at its next step or its end
        finally:
            notes.is_watched = False

    def _forget(self, claim: Claim) -> None:
        """Nothing more is told of it."""
        if (notes := self._notes.pop(claim.token, None)) is not None:
            notes.written(notes.steps)


class _Notes:
    """What is noted of one claim, in order."""

    def __init__(self, claim: Claim) -> None:
        self.claim = claim
        self.writing = trio.Lock()
        self.is_watched = False
        self.ended_by: Exception | None = None
        self.due_at = math.inf  # when it should have been written, in trio's time
        self._steps: list[Record] = []

    @property
    def steps(self) -> Sequence[Record]:
        return tuple(self._steps)

    def add(self, steps: Sequence[Record]) -> None:
        if not self._steps:
            self.due_at = trio.current_time() + LINGER_S
        self._steps += steps

    def written(self, steps: Sequence[Record]) -> None:
        """Forget the first ones; what was noted behind them is as old as it may be already."""
        del self._steps[: len(steps)]
        if not self._steps:
            self.due_at = math.inf

    def end(self, why: Exception) -> None:
        """Forget all of them, as nobody can write them, and let no more follow."""
        self._steps.clear()
        self.due_at = math.inf
        self.ended_by = why

    def raise_if_ended(self) -> None:
        if self.ended_by is not None:
            raise self.ended_by


def _log_refused(claim: Claim, steps: Sequence[Record], error: Exception) -> None:
    log.error(
        "the ledger refuses steps: their task fails here",
        extra={
            "action": "note",
            "task": str(claim.task_id),
            "part": claim.part,
            "attempt": claim.attempt,
            "events": [step.event.kind for step in steps],
            "error": f"{type(error).__name__}: {error}",
        },
    )
