"""A peer's own clock: it began somewhere, may run fast or slow, and may jump ahead.

The world has one true time; no peer ever sees it. What a core is given as `now` is read here, so
a machine that was suspended or whose oscillator drifts is a line in a scenario.
"""

from __future__ import annotations


class Clock:
    """Maps the world's time to a peer's, and back.

    Args:
        offset_s: What the peer's clock shows when the world begins.
        rate: Seconds that it counts in one true second.
    """

    __slots__ = ("_local_s", "_rate", "_true_s")

    def __init__(self, offset_s: float = 0.0, rate: float = 1.0) -> None:
        self._true_s = 0.0
        self._local_s = offset_s
        self._rate = rate

    def local(self, true_s: float) -> float:
        """Return what this clock shows at a true time."""
        return self._local_s + (true_s - self._true_s) * self._rate

    def true(self, local_s: float) -> float:
        """Return when this clock will show that."""
        return self._true_s + (local_s - self._local_s) / self._rate

    def jump(self, true_s: float, by_s: float) -> None:
        """Go ahead at once: never back, for no monotonic clock does that."""
        if by_s < 0:
            raise ValueError("a monotonic clock does not go back")
        self._local_s = self.local(true_s) + by_s
        self._true_s = true_s

    def drift(self, true_s: float, rate: float) -> None:
        """Run at another rate from now on."""
        self._local_s = self.local(true_s)
        self._true_s = true_s
        self._rate = rate
