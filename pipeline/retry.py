"""Whether a failed attempt is tried again, and when: a pure decision.

A permanent error escalates at once. Anything else is tried again after an exponential delay with
full jitter (Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015), until the
stage it failed in has failed `attempts_max` times.

The first crash is the exception: it is tried again at once. A peer's death is rarely the task's
fault, and that it waits would only tell whoever watches that a machine was lost. A task that does
kill its peers shows that with the second one, and from then on the delays count.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from pipeline.errors import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Try again after `after_s` seconds."""

    after_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalate:
    """Give it to a person; `why` says why no more tries are made."""

    why: str


def full_jitter(nth: int, *, base_s: float, max_s: float, rng: random.Random) -> float:
    """Draw the delay after a failure: evenly from [base / 2, min(max, base * 2**(nth - 1))].

    Half of the base stays as a floor, so that a retry never follows on the heels of the failure.

    Args:
        nth: Which failure in a row it was, from 1.
    """
    return rng.uniform(base_s / 2, min(max_s, base_s * 2.0 ** min(nth - 1, 60)))


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long tasks wait for their next attempt: see `full_jitter`."""

    base_s: float = 2.0
    max_s: float = 600.0

    def __post_init__(self) -> None:
        if not 0 < self.base_s <= self.max_s:
            raise ValueError("retry: base_s must be above 0 and at most max_s")

    def decide(
        self, *, stage: Stage, permanent: bool, failures: int, attempts_max: int, rng: random.Random
    ) -> Retry | Escalate:
        """Decide after a failure.

        Args:
            failures: How often this stage has failed, this time included; at least 1.
        """
        if permanent:
            return Escalate(why="no retry can help")
        if failures >= attempts_max:
            return Escalate(why=f"failed {failures} times, and {attempts_max} is the threshold")
        if stage is Stage.CRASH and failures == 1:
            return Retry(after_s=0.0)
        return Retry(after_s=full_jitter(failures, base_s=self.base_s, max_s=self.max_s, rng=rng))
