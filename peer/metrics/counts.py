"""A histogram that knows nothing of how it is told: bounds, and how many values were at most that.

The monitoring library has one of its own, which registers itself, takes a lock at each value, and
would have to be loaded by a peer that nobody monitors.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from math import inf

STEP_BOUNDS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600, 7200)
"""For what takes from the blink of an eye to an evening."""

LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""For a loop that should never be late."""


class Histogram:
    """Counts values by how large they are.

    Args:
        bounds: Rising; the last bar, for everything, is added.
    """

    def __init__(self, bounds: Sequence[float] = STEP_BOUNDS_S) -> None:
        self._bounds = (*bounds, inf)
        self._bars = [0] * len(self._bounds)
        self.total = 0.0

    def add(self, value: float, count: int = 1) -> None:
        """Count a value, or as many alike."""
        self._bars[bisect_left(self._bounds, value)] += count
        self.total += value * count

    @property
    def cumulative(self) -> list[tuple[float, int]]:
        """Each bound with how many values were at most that; the last one is infinite."""
        so_far, found = 0, []
        for bound, count in zip(self._bounds, self._bars, strict=True):
            so_far += count
            found.append((bound, so_far))
        return found


def coarsened(bars: Mapping[float, int], bounds: Sequence[float] = LAG_BOUNDS_S) -> Histogram:
    """Make few bars of many; its total is as much too large as those were wide.

    Args:
        bars: How many values there were of at most each bound, and above the next smaller one.
    """
    coarse = Histogram(bounds)
    for bound, count in bars.items():
        coarse.add(bound, count)
    return coarse
