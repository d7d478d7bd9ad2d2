"""What a peer is doing, as far as the others should know: pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from gossip.load import Flag, Load

AWAY_FLAGS = {
    "ledger": Flag.LEDGER_AWAY,
    "queue": Flag.QUEUE_AWAY,
    "store": Flag.STORE_AWAY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What it works on, and what keeps it from that.

    Args:
        slots: 0 while it could not work on anything.
        queue: Messages that it last saw waiting.
        parked: It takes no more because the scaler said so: told in its row, not in its load.
        away: Dependencies whose breakers are not closed, by their names in the settings.
        quarantined: It has failed what others finish, and has stopped taking work.
        probation: It has failed some in a row, and tries one at a time.
    """

    slots: int = 0
    running: int = 0
    encoding: int = 0
    queue: int = 0
    draining: bool = False
    parked: bool = False
    away: Collection[str] = ()
    quarantined: bool = False
    probation: bool = False

    def load(self, *, cpu: float, memory: float) -> Load:
        """Put it together with what the container uses, 0 to 1 each."""
        flags = Flag.DRAINING if self.draining else Flag(0)
        if self.quarantined:
            flags |= Flag.QUARANTINED
        if self.probation:
            flags |= Flag.PROBATION
        for name in self.away:
            flags |= AWAY_FLAGS.get(name, Flag(0))
        return Load(
            cpu=cpu,
            memory=memory,
            slots=self.slots,
            running=self.running,
            queue=self.queue,
            encoding=self.encoding,
            flags=flags,
        )
