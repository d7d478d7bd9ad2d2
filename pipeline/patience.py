"""Patience: repeats what is safe to repeat while a dependency is away, and remembers which one is.

A call that waits is better than a task that fails: the ledger, the queue and the store are shared
by all peers, so while one of them is away nobody else would do any better.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeVar

import trio

from pipeline.errors import Unavailable

log = logging.getLogger(__name__)

T = TypeVar("T")

PAUSE_MIN_S = 0.05


class Patience:
    """Shared by everything one peer does, so that it knows which dependencies are in trouble.

    Args:
        rng: Spreads the pauses, so that peers do not all come back at once.
        pause_max_s: The longest pause between two tries; the first ones are shorter.
    """

    def __init__(self, rng: random.Random, *, pause_max_s: float) -> None:
        self._rng = rng
        self._pause_max_s = pause_max_s
        self._trouble: dict[str, str] = {}

    @property
    def trouble(self) -> Mapping[str, str]:
        """Dependencies that could not be reached when last tried, each with one sentence."""
        return dict(self._trouble)

    async def insist(self, call: Callable[[], Awaitable[T]], *, within_s: float = math.inf) -> T:
        """Repeat a call until it is answered.

        Raises:
            Unavailable: Its dependency was away for longer than `within_s`, and still is.
        """
        pause_s = PAUSE_MIN_S
        give_up_at = trio.current_time() + within_s
        seen: set[str] = set()
        while True:
            try:
                answer = await call()
            except Unavailable as error:
                self.note_trouble(error)
                if trio.current_time() >= give_up_at:
                    raise
                seen.add(error.dependency)
                await trio.sleep(pause_s * self._rng.uniform(0.5, 1.0))
                pause_s = min(self._pause_max_s, pause_s * 2)
            else:
                for dependency in seen:
                    self.note_well(dependency)
                return answer

    def note_trouble(self, error: Unavailable) -> None:
        """Remember that a dependency is away; it is logged once."""
        if error.dependency not in self._trouble:
            log.warning(
                "waiting for a dependency",
                extra={"action": "wait", "dependency": error.dependency, "error": str(error)},
            )
        self._trouble[error.dependency] = error.message

    def note_well(self, dependency: str) -> None:
        """Remember that a dependency answers again."""
        if self._trouble.pop(dependency, None) is not None:
            log.info("it answers again", extra={"action": "answers", "dependency": dependency})
