"""Rings for those who wait for a message, when one is due.

A bell is an empty message in a queue of its own, which keeps it for a second. Each one is given to
one of those who wait, so a message does not wake more peers than it needs. Nothing depends on it:
those who wait look once a second anyway, and that is how late a message may be whose publisher has
died, or lost its line, by the time it is due.

The exchange of the work could ring by itself, had it the bell's queue among its own: but a message
for a queue that somebody deleted would then be in the bell only, gone within a second, and not be
returned.
"""

from __future__ import annotations

from contextlib import suppress

from pipeline.queues.rabbitmq.complaints import FAILURES
from pipeline.queues.rabbitmq.line import Line

LATE_S = 0.01
"""How much later than it should the broker is expected to have moved a message to its line."""
TIMERS_MAX = 1000
"""How many delayed messages this peer rings for; the others are found by looking."""


class Bell:
    """Rings while its line lives.

    Args:
        line: A publisher's.
        exchange: The bell's.
    """

    def __init__(self, line: Line, exchange: str) -> None:
        self.line = line
        self._exchange = exchange
        self._timers = 0

    def ring(self, due_in_s: float | None) -> None:
        """Ring when a message that was just published is in its line; None: it never will be."""
        if due_in_s == 0:
            self._ring_now()
        elif due_in_s is not None and self._timers < TIMERS_MAX and self.line.lost is None:
            self._timers += 1
            self.line.call_later(due_in_s + LATE_S, self._ring_in_time)

    def _ring_in_time(self) -> None:
        self._timers -= 1
        self._ring_now()

    def _ring_now(self) -> None:
        if self.line.lost is None and self.line.blocked is None:
            with suppress(*FAILURES):
                self.line.channel.tell(self._exchange)
