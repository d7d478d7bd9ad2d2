"""The circuit breaker of one dependency: who may call while it does not answer, as a pure value.

Closed, everybody calls. Two failures with no answer between them open it, and then nobody calls
until its pause is over: an exponential one with full jitter, for other peers wait as well. Then it
is half-open, and exactly one trial goes out, on whose outcome all others wait.

One failure does not open it: a pooled connection that broke with a server's restart fails its next
caller, while the one after that gets a new connection and an answer. Should two such callers come
in a row, everybody waits for one short pause: that is cheaper than a window of time to be tuned.

A trial is a call that asks nothing but whether the dependency is there. Letting the next caller's
own call be the trial, as most breakers do, would make everybody wait for the end of whatever that
is: the pull of 5 GB, or a message that comes tomorrow. But such a trial may succeed while calls
fail (a store that lists and does not write). So what it closes is closed on trial: the first
failure opens it again, for a longer pause, and only an answer to a call makes all well.
"""

from __future__ import annotations

import math
import random
from enum import StrEnum

from pipeline.retry import full_jitter

FAILURES_TO_OPEN = 2
PAUSE_BASE_S = 0.1


class State(StrEnum):
    """Who may call."""

    CLOSED = "closed"
    """Everybody."""
    OPEN = "open"
    """Nobody."""
    HALF_OPEN = "half-open"
    """Nobody but the one trial that is on its way."""


class Breaker:
    """Counts the outcomes of calls to one dependency. Times are of any monotonic clock, in seconds.

    Args:
        rng: Draws the pauses.
        pause_max_s: The longest pause before a trial.
    """

    def __init__(self, rng: random.Random, *, pause_max_s: float) -> None:
        self._rng = rng
        self._pause_max_s = pause_max_s
        self._open = False
        self._trying = False
        self._failures = 0  # since the last answer
        self._pauses = 0  # since the last answer to a call
        self._due_at = -math.inf

    @property
    def state(self) -> State:
        """Who may call."""
        if not self._open:
            return State.CLOSED
        return State.HALF_OPEN if self._trying else State.OPEN

    @property
    def trial_due_at(self) -> float:
        """When a trial may begin; infinite while one is on its way, or none is needed."""
        return self._due_at if self.state is State.OPEN else math.inf

    def answered(self) -> None:
        """Count a call that was answered, even one that went out before the breaker opened."""
        self._open = False
        self._failures = 0
        self._pauses = 0

    def failed(self, now: float) -> None:
        """Count a call that was not answered; when it is open already, nothing changes."""
        self._failures += 1
        on_trial = self._pauses > 0
        if not self._open and (on_trial or self._failures >= FAILURES_TO_OPEN):
            self._pause(now)

    def trip(self, now: float) -> None:
        """Open at once: somebody has waited for it as long as he could."""
        if not self._open:
            self._pause(now)

    def begin_trial(self, now: float) -> bool:
        """Take the one trial, if it is due; whoever gets it must end it by one of the following."""
        if now < self.trial_due_at:
            return False
        self._trying = True
        return True

    def trial_answered(self) -> None:
        """Let calls go out again."""
        self._trying = False
        self._open = False
        self._failures = 0

    def trial_failed(self, now: float) -> None:
        """Wait longer than before; a call that was answered meanwhile has said more than that."""
        self._trying = False
        if self._open:
            self._pause(now)
        else:
            self.failed(now)

    def trial_abandoned(self, now: float) -> None:
        """Leave the trial to somebody else: it was cancelled before there was an outcome."""
        self._trying = False
        self._due_at = now

    def _pause(self, now: float) -> None:
        self._open = True
        self._pauses += 1
        pause_s = full_jitter(
            self._pauses, base_s=PAUSE_BASE_S, max_s=self._pause_max_s, rng=self._rng
        )
        self._due_at = now + pause_s
