"""How long to wait after failures before trying again: longer each time, and never for ever.

The delay doubles with every failure in a row (30 s, 1 min, 2 min, … 30 min) and one success forgets
them all. There is no jitter, unlike in `pipeline/retry.py`: one leader acts at a time, so nobody is
there to be spread out, and a delay that can be foretold can be told to people.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

BASE_S = 30.0
MAX_S = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """What has failed in a row, as a value.

    Args:
        failures: How many, without a success in between.
        until_s: Before this, on the caller's clock, nothing new is tried.
        why: The last failure, as a sentence.
    """

    failures: int = 0
    until_s: float = 0.0
    why: str = ""

    def failed(self, now_s: float, why: str) -> Backoff:
        """After one more failure; what fails while all wait is part of the same failure."""
        if self.waits(now_s):
            return replace(self, why=why)
        delay_s = min(MAX_S, BASE_S * 2.0 ** min(self.failures, 30))
        return Backoff(failures=self.failures + 1, until_s=now_s + delay_s, why=why)

    def waits(self, now_s: float) -> bool:
        """Whether it is too early."""
        return now_s < self.until_s
