"""Scrutiny: this peer's conduct, with a clock, a log, and the ledger to be asked for evidence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol
from uuid import UUID

import trio

from pipeline.errors import StepError
from pipeline.patience import LEDGER, Patience
from pipeline.ports import Witnesses
from pipeline.quarantine import Conduct, ConductRules, Memory, Standing, counts

log = logging.getLogger(__name__)


class Diary(Protocol):
    """**Protocol**: where a peer's conduct outlives it. Never raises: a peer can do without it."""

    def recall(self) -> Memory | None:
        """What the former life has left."""
        ...

    def keep(self, memory: Memory | None) -> None:
        """Leave this to the next life, or nothing. Rare, and may take as long as a small file."""
        ...


class Scrutiny:
    """Watches what becomes of this peer's own attempts, and says whether it may take more.

    Args:
        witnesses: Who knows what others made of the same tasks; without one, a peer that doubts
            itself goes on probation and no further.
        uid: Says who this peer is now.
        diary: Where the conduct outlives this life; without one, it does not.
    """

    def __init__(
        self,
        rules: ConductRules,
        witnesses: Witnesses | None,
        patience: Patience,
        *,
        uid: Callable[[], str],
        diary: Diary | None = None,
    ) -> None:
        self._witnesses = witnesses
        self._patience = patience
        self._uid = uid
        self._conduct = Conduct(rules)
        self._diary = diary
        self._memory = diary.recall() if diary is not None else None
        if self._memory is not None:
            self._conduct.recall(trio.current_time(), self._memory)
            log.warning("as before the restart", extra={"action": "recall", "why": self.trouble})

    @property
    def trouble(self) -> str | None:
        """What is held against this peer, in one sentence."""
        return self._conduct.why()

    @property
    def quarantined(self) -> str | None:
        """The same, once others have finished what it failed."""
        return self.trouble if self._conduct.standing is Standing.QUARANTINED else None

    @property
    def reason(self) -> str | None:
        """Why no task must be taken just now."""
        return None if self._conduct.may_take(trio.current_time()) else self.trouble

    def begin(self) -> bool:
        """Note that a task is being taken; tell whether it is a trial, which must be ended."""
        return self._conduct.begin()

    def end_trial(self) -> None:
        """Note that the trial is over, however it went."""
        self._conduct.end_trial()

    def note_success(self) -> None:
        """Hear that a task was finished here."""
        if self._conduct.succeeded():
            log.info("trusted again", extra={"action": "trusted", "why": "it finished a task"})
            self._keep()

    def note_failure(self, task_id: UUID, error: StepError, *, trial: bool) -> None:
        """Hear that an attempt failed here."""
        if not counts(error):
            return
        cause = f"{error.code} ({error.message})"
        if self._conduct.note_failure(trio.current_time(), task_id, cause, trial=trial):
            log.warning("on probation", extra={"action": "probation", "why": self.trouble})
        self._keep()

    async def ask_witnesses(self) -> None:
        """Ask the ledger what others made of the tasks that failed here, if that is of interest."""
        if self._witnesses is None or not self._conduct.evidence_wanted(trio.current_time()):
            return
        ask = partial(self._witnesses.testify, self._uid(), self._conduct.failed)
        evidence = await self._patience.insist(LEDGER, ask)
        if not self._conduct.note_evidence(trio.current_time(), evidence):
            return
        self._keep()
        if self._conduct.standing is Standing.QUARANTINED:
            log.error("quarantined", extra={"action": "quarantine", "why": self.trouble})
        else:
            why = "what failed here failed at others, too"
            log.info("trusted again", extra={"action": "trusted", "why": why})

    def release(self) -> None:
        """Trust this peer again: a person says so."""
        if self._conduct.release():
            log.info("trusted again", extra={"action": "trusted", "why": "a person says so"})
            self._keep()

    def _keep(self) -> None:
        """Leave to the next life what it must know, if that has changed."""
        memory, kept = self._conduct.memory(trio.current_time()), self._memory
        if self._diary is not None and not (memory is None and kept is None):
            self._diary.keep(memory)
        self._memory = memory
