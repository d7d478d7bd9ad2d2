"""What a peer knows of its own condition: a busy machine must not accuse others, nor be accused.

Lateness is measured, not guessed. A loop that ran late raises no alert until it has read what was
waiting and one more heartbeat has had its time; and it tells its observers how late it may be, so
that they wait. (Lifeguard infers the first from missing answers and has no such thing as the
second, which is what saves a frozen or starved *subject*.)
"""

from __future__ import annotations

import math
from collections import deque

from membership.config import MembershipConfig

TARDINESS_MAX = 7
LAG_WINDOW_S = 10.0
GRACE_WINDOW_S = 300.0
GRACE_FACTOR = 3.0
"""A member that was once late for so long asks to be waited for three times as long."""


class WindowMaximum:
    """The largest value of the last `window_s`, to within a fifth of the window."""

    PARTS = 5

    def __init__(self, window_s: float) -> None:
        self._part_s = window_s / self.PARTS
        self._parts: deque[tuple[int, float]] = deque(maxlen=self.PARTS + 1)

    def add(self, now: float, value: float) -> None:
        """Take in a value."""
        part = math.floor(now / self._part_s)
        if self._parts and self._parts[-1][0] == part:
            self._parts[-1] = (part, max(value, self._parts[-1][1]))
        else:
            self._parts.append((part, value))

    def lower(self, by: float) -> None:
        """Take so much from every value so far."""
        self._parts = deque(
            ((part, value - by) for part, value in self._parts), maxlen=self.PARTS + 1
        )

    def maximum(self, now: float) -> float:
        """Return the largest; 0 without any."""
        oldest = math.floor(now / self._part_s) - self.PARTS
        return max((value for part, value in self._parts if part > oldest), default=0.0)


class Health:
    """Lag, and what follows from it; refutations, and whether they are too many."""

    def __init__(self, config: MembershipConfig, now: float) -> None:
        self._config = config
        # Windows scale with the heartbeat, like everything else.
        scale = config.heartbeat_interval_s / 0.5
        self._lag = WindowMaximum(LAG_WINDOW_S * scale)
        self._worst = WindowMaximum(GRACE_WINDOW_S * scale)
        self._refuted: deque[float] = deque(maxlen=config.flaps_max + 1)
        self._calm_at = now
        self._ears_bad_since = math.nan

    def ran_late(self, now: float, late_s: float) -> None:
        """The loop ran, or read, so late."""
        if late_s <= 0:
            return
        self._lag.add(now, late_s)
        self._worst.add(now, late_s)
        if late_s > self._config.heartbeat_interval_s / 2:
            self._calm_at = max(self._calm_at, now + self._config.heartbeat_interval_s)

    def lag_s(self, now: float) -> float:
        """How late the loop ran at worst in the last 10 s."""
        return self._lag.maximum(now)

    def tardiness(self, now: float) -> int:
        """The lag in heartbeats, rounded, 0 to 7.

        Rounded, where the notes round up: some milliseconds of lag, which every busy machine has,
        would otherwise double everybody's patience.
        """
        return min(TARDINESS_MAX, round(self.lag_s(now) / self._config.heartbeat_interval_s))

    def grace_s(self, now: float) -> float:
        """For how long this peer asks to be waited for before it is called dead."""
        return min(self._config.grace_max_s, GRACE_FACTOR * self._worst.maximum(now))

    def calm(self, now: float) -> bool:
        """The loop has been on time for long enough to judge others."""
        return now >= self._calm_at

    def refuted(self, now: float) -> None:
        """This peer had to contradict what others said of it."""
        self._refuted.append(now)

    def flapping(self, now: float) -> bool:
        """It had to, again and again."""
        full = len(self._refuted) > self._config.flaps_max
        return full and now - self._refuted[0] <= self._config.flap_window_s

    def listen(self, now: float, edges: int, silent: int) -> None:
        """Compare how many of this peer's established edges are silent with how many there are."""
        if silent >= max(2, math.ceil(self._config.quorum * edges)):
            if math.isnan(self._ears_bad_since):
                self._ears_bad_since = now
        else:
            self._ears_bad_since = math.nan

    def deaf(self, now: float) -> bool:
        """Most edges have been silent for a while: this peer's own ears are the likely cause."""
        return now - self._ears_bad_since >= self._config.deaf_s  # False while it is NaN

    def deaf_s(self, now: float) -> float:
        """For how long this peer has been deaf; 0 while it is not."""
        return now - self._ears_bad_since if self.deaf(now) else 0.0

    def mute(self, now: float) -> bool:
        """Deaf, and not for so long yet that the others must really be gone."""
        return self.deaf(now) and now - self._ears_bad_since < self._config.unreachable_s
