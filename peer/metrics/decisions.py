"""What the leader of the scaling decided and did, seen from before its journal.

Nothing is done that was not put down, so whoever stands before the journal sees each decision with
all that it was made of, and each outcome. The rejected alternative, to read the journal when the
metrics are asked for, would have every peer ask the ledger what only the leader need know.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, get_args

from scaling.decision import Action
from scaling.ports import Entry, Journal, Noted, Outcome
from scaling.utilization import Levels

KINDS: Final = ("acted", "kept", "held", "paused", "dry_run")
"""What became of a decision: something was to be done, nothing was, nothing might be."""

ACTIONS: Final = tuple(action.__name__ for action in get_args(Action))
RESULTS: Final = ("done", "failed")


class CountingJournal:
    """Implements `Journal` in front of another one, and counts.

    Args:
        clock: The time of day, in seconds since 1970.

    Attributes:
        decided: By `KINDS`.
        reasons: By their codes, which scaling/README.md lists.
        done: By `ACTIONS` and `RESULTS`.
        latest: The newest decision that this peer has put down; None before the first.
        latest_at: When.
    """

    def __init__(self, journal: Journal, *, clock: Callable[[], float] = time.time) -> None:
        self._journal = journal
        self._clock = clock
        self.decided: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.done: Counter[tuple[str, str]] = Counter()
        self.latest: Entry | None = None
        self.latest_at = 0.0

    async def begin(self, term: int) -> tuple[int, Levels]:
        """See `Journal`."""
        return await self._journal.begin(term)

    async def note(self, era: int, entry: Entry) -> Noted:
        """See `Journal`."""
        noted = await self._journal.note(era, entry)
        self.latest, self.latest_at = entry, self._clock()
        self.decided[_kind(entry, noted)] += 1
        self.reasons.update(reason.code for reason in entry.considered.decision.reasons)
        return noted

    async def finish(self, number: int, outcomes: Sequence[Outcome]) -> None:
        """See `Journal`. What was done counts, also where it could not be put down."""
        for outcome in outcomes:
            result = "failed" if outcome.trouble else "done"
            self.done[type(outcome.action).__name__, result] += 1
        await self._journal.finish(number, outcomes)


def _kind(entry: Entry, noted: Noted) -> str:
    if entry.considered.decision.held:
        return "held"
    if noted.paused:
        return "paused"
    if entry.dry_run:
        return "dry_run"
    return "acted" if entry.actions else "kept"
