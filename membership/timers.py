"""When what is due: six clocks of one peer, each a little off the beat."""

from __future__ import annotations

import random

from membership.config import MembershipConfig


class Timers:
    """The next time for each thing that is done again and again.

    Attributes:
        digest_pause_s: The pause after the next digest, which grows while tables turn out equal.
    """

    def __init__(self, config: MembershipConfig, rng: random.Random, now: float) -> None:
        self._rng = rng
        self._hurry_s = config.gossip.digest_hurry_s
        # A little apart, so that peers that start together do not speak together.
        start = now + config.gossip.gossip_interval_s * rng.random()
        self.heartbeat_at = start
        self.gossip_at = start
        self.digest_at = start
        self.digest_pause_s = config.gossip.digest_interval_s
        self.load_at = now
        self.second_at = now

    def due(self) -> float:
        """When the first of them is due. The load goes with whichever comes first."""
        return min(self.heartbeat_at, self.gossip_at, self.digest_at, self.second_at)

    def after(self, now: float, interval_s: float, jitter: float = 0.1) -> float:
        """Return the time one interval from now, give or take."""
        return now + interval_s * self._rng.uniform(1 - jitter, 1 + jitter)

    def rush(self, now: float) -> None:
        """Something must be known soon: do not wait for the next gossip."""
        self.gossip_at = min(self.gossip_at, now)

    def hurry(self, now: float) -> None:
        """There is more to learn: compare tables with the next one soon."""
        self.digest_pause_s = self._hurry_s
        self.digest_at = min(self.digest_at, self.after(now, self._hurry_s))
