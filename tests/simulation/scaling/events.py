"""Virtual time: a heap of what happens when. No trio, no clock: the same seed, the same run."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable


class Timeline:
    """What is to happen, in order; of two at the same time, the one that was planned first."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()

    def after(self, delay_s: float, what: Callable[[], None]) -> None:
        """Plan something."""
        heapq.heappush(self._heap, (self.now_s + delay_s, next(self._numbers), what))

    def run(self, until_s: float) -> None:
        """Let all happen that is due until then."""
        while self._heap and self._heap[0][0] <= until_s:
            self.now_s, _, what = heapq.heappop(self._heap)
            what()
        self.now_s = until_s
