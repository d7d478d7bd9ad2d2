"""One link from a subject to this observer: what came over it, and how long it has been silent.

A subject's heartbeats come only to those who asked, so an edge that was never established proves
nothing: views differ for a moment at every join. It is established by the subject's consent and
three heartbeats. Before that, only complete silence counts: no consent, no answer, nothing at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

ESTABLISHED_BEATS = 3
LOSS_WEIGHT = 1 / 32
"""Of the newest heartbeat, lost or not, in the moving average: it looks back about 16 s."""

LATE_BEATS = 2
"""Further heartbeats that a subject is given for each by which it may be late. Added, where the
notes multiply: a peer that once ran two seconds late would then be watched with five times the
patience, and its death seconds later would go unseen for fourteen."""

GAP_MAX = 24
"""Of the heartbeats that are missing at once, so many at most count as lost: a link that was cut
for a minute was cut, and not lossy."""

LATE_PINGS = 2
"""Pings that must stay unanswered near the end of a silence before it is a death."""


@dataclass(slots=True)
class Edge:
    """This peer watches a subject.

    Args:
        heard_at: When anything last came from it, or a third peer passed its answer on; until
            then, when the edge was planned.
        beat_at: When the last heartbeat came over the link itself.
        observers: Who else watches it, by its own word.
        patience_s: After what silence an alert is due.
        alerting_since: Since when this peer has been saying that it is silent; NaN while it is not.
    """

    uid: int
    epoch: int
    heard_at: float
    beat_at: float = -math.inf
    consented: bool = False
    beats: int = 0
    sequence: int = 0
    loss: float = 0.0
    tardiness: int = 0
    grace_s: float = 0.0
    observers: tuple[int, ...] = ()
    watch_at: float = -math.inf
    patience_s: float = math.inf
    alerting_since: float = math.nan
    alert_at: float = -math.inf
    ping_at: float = -math.inf
    pings: int = 0
    late_pings: int = 0

    @property
    def established(self) -> bool:
        """The subject has agreed to be watched, and heartbeats have come."""
        return self.consented and self.beats >= ESTABLISHED_BEATS

    @property
    def alerting(self) -> bool:
        """It has been silent for longer than chance explains."""
        return not math.isnan(self.alerting_since)

    def silent_s(self, now: float) -> float:
        """For how long nothing has come."""
        return now - self.heard_at

    def hear(self, at: float) -> None:
        """The subject was alive then, whoever heard it."""
        self.heard_at = max(self.heard_at, at)

    def relent(self) -> None:
        """The silence is over."""
        self.alerting_since = math.nan
        self.pings = self.late_pings = 0

    def beat(self, at: float, sequence: int, tardiness: int, grace_s: float) -> None:
        """Take in a heartbeat, and learn from the gap before it how lossy the link is."""
        lost = sequence - self.sequence - 1
        if self.beats and lost < 0:
            return  # overtaken by a later one
        if self.beats:
            for _ in range(min(lost, GAP_MAX)):
                self.loss += LOSS_WEIGHT * (1.0 - self.loss)
            self.loss -= LOSS_WEIGHT * self.loss
        self.beats += 1
        self.sequence = sequence
        self.tardiness = tardiness
        self.grace_s = grace_s
        self.beat_at = max(self.beat_at, at)

    def be_patient(self, misses: int, interval_s: float, at_first_s: float) -> None:
        """Set after what silence an alert is due, from what is known of the link now.

        Args:
            misses: Heartbeats that must be missed in a row on a link like this.
            at_first_s: What an edge that is not established is given at least.
        """
        patience_s = (misses + 0.5 + LATE_BEATS * self.tardiness) * interval_s
        self.patience_s = patience_s if self.established else max(patience_s, at_first_s)
