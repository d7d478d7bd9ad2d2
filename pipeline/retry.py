"""Whether a failed attempt is tried again, and when: a pure decision.

A permanent error escalates at once. Anything else is tried again after an exponential delay with
full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), until the
stage it failed in has failed `attempts_max` times.
"""

from __future__ import annotations

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try again after `after_s` seconds."""

    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalate:
    """Give it to a person; `why` says why no more tries are made."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """After failure n the delay is drawn evenly from [base / 2, min(max, base * 2**(n - 1))].

    Half of the base stays as a floor, so that a retry never follows on the heels of the failure.
    """

    base_s: float = 2.0
    max_s: float = 600.0

    def __post_init__(self) -> None:
        if not 0 < self.base_s <= self.max_s:
            raise ValueError("retry: base_s must be above 0 and at most max_s")

    def decide(
        self, *, permanent: bool, failures: int, attempts_max: int, rng: random.Random
    ) -> Retry | Escalate:
        """Decide after a failure.

        Args:
            failures: How often this stage has failed, this time included; at least 1.
        """
        if permanent:
            return Escalate(why="no retry can help")
        if failures >= attempts_max:
            return Escalate(why=f"failed {failures} times, and {attempts_max} is the threshold")
        ceiling = min(self.max_s, self.base_s * 2.0 ** min(failures - 1, 60))
        return Retry(after_s=rng.uniform(self.base_s / 2, ceiling))
