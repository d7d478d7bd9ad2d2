"""Clearing up: what attempts left in the store that ended without outputs is removed.

An attempt removes what it uploaded when it fails or has lost its claim. A peer that was killed
cannot; it leaves whole objects below its prefix, which nobody sees and everybody pays for, and
unfinished ones that no list shows. So every peer asks now and then which attempts are over, and
removes their prefixes: the ledger says what may go, never the store's own age of a file, because an
hour-old object may be an output of a task that is still being worked on.

What is removed is noted after it is gone; a peer that dies in between, or another one at the same
time, removes nothing twice.
"""

from __future__ import annotations

import logging
import random

import trio

from pipeline.errors import Unavailable
from pipeline.ports import Clearing, ObjectStore

log = logging.getLogger(__name__)

ABANDONED_S = 600.0
"""For how long an attempt must be over. A holder that is frozen or cut off when it loses its claim
may upload another object when it wakes up, until it finds out and removes all of it itself."""

UNFINISHED_S = 86_400.0
"""How old an upload must be that was never completed. Nobody else knows whether it goes on; none
takes a day."""


class Clearer:
    """Looks now and then; at the start too, as it may be the start after a crash.

    Args:
        interval_s: How often to look for abandoned attempts.
        sweep_interval_s: How often to look for unfinished uploads, which may cost a walk through
            the whole store.
    """

    def __init__(
        self,
        *,
        clearing: Clearing,
        store: ObjectStore,
        rng: random.Random,
        interval_s: float = 60.0,
        sweep_interval_s: float = 3600.0,
    ) -> None:
        self._clearing = clearing
        self._store = store
        self._rng = rng
        self._interval_s = interval_s
        self._sweep_interval_s = sweep_interval_s

    async def run(self) -> None:
        """Clear up until cancelled. A dependency that is away is somebody else's to report."""
        sweep_at = trio.current_time()
        while True:
            try:
                await self.clear()
                if trio.current_time() >= sweep_at:
                    await self.sweep()
                    sweep_at = trio.current_time() + self._spread(self._sweep_interval_s)
            except Unavailable as error:
                log.debug("not cleared up", extra={"action": "clear", "error": str(error)})
            await trio.sleep(self._spread(self._interval_s))

    async def clear(self) -> None:
        """Remove what abandoned attempts have uploaded.

        Raises:
            LedgerUnavailable, StoreUnavailable: What is left, a later call finds.
        """
        while abandoned := await self._clearing.abandoned(ABANDONED_S):
            removed = 0
            for attempt in abandoned:
                removed += await self._store.remove(attempt.prefix)
            await self._clearing.cleared([attempt.token for attempt in abandoned])
            if removed:
                log.info(
                    "objects of abandoned attempts removed",
                    extra={"action": "clear", "attempts": len(abandoned), "objects": removed},
                )

    async def sweep(self) -> None:
        """Remove uploads that were never completed.

        Raises:
            StoreUnavailable: What is left, a later call finds.
        """
        if removed := await self._store.sweep(UNFINISHED_S):
            log.info("unfinished uploads removed", extra={"action": "clear", "uploads": removed})

    def _spread(self, interval_s: float) -> float:
        """A little off the beat, so that peers do not look together."""
        return interval_s * self._rng.uniform(0.8, 1.2)
