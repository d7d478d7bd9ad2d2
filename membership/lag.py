"""How late the loop runs: at worst of late, and by quantiles since the start.

A bar of the histogram is a tenth wider than the one before, so that a quantile is right within
10 % and the memory is the same after a month as after a second.
"""

from __future__ import annotations

import math
from collections import Counter

from membership.health import WindowMaximum

WINDOW_S = 10.0
SMALLEST_S = 0.0001
_GROWTH = math.log(1.1)


class LoopLag:
    """Takes in by how much each turn of the loop was late.

    Attributes:
        turned_at: When the last one was, on the caller's clock; None before the first.
    """

    def __init__(self) -> None:
        self.turned_at: float | None = None
        self._recent = WindowMaximum(WINDOW_S)
        self._bars: Counter[int] = Counter()
        self._turns = 0

    def add(self, now: float, late_s: float) -> None:
        """One turn was so late; a negative number is none."""
        self.turned_at = now
        late_s = max(0.0, late_s)
        self._recent.add(now, late_s)
        self._turns += 1
        self._bars[math.ceil(math.log(max(late_s, SMALLEST_S) / SMALLEST_S) / _GROWTH)] += 1

    def worst_s(self, now: float) -> float:
        """The worst of the last 10 s."""
        return self._recent.maximum(now)

    def bars(self) -> dict[float, int]:
        """Return how many turns were late by at most so many seconds, and by more than the next
        smaller number."""
        return {_bound_s(bar): count for bar, count in sorted(self._bars.items())}

    def quantile_s(self, share: float) -> float:
        """The lag that this share of all turns did not exceed, but for the 10 % of a bar's width.

        Returns:
            0 before the first turn.
        """
        wanted = share * self._turns
        seen = 0
        for bar in sorted(self._bars):
            seen += self._bars[bar]
            if seen >= wanted:
                return _bound_s(bar)
        return 0.0


def _bound_s(bar: int) -> float:
    return SMALLEST_S * math.exp(bar * _GROWTH)
