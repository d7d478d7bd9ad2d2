"""The other end of the edges: who watches this peer, and so gets its heartbeats.

Heartbeats go by lease and not by this peer's own idea of the ring. An observer whose table differs
for a moment gets what it asked for, and falls silent towards nobody who still listens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gossip.rows import Address
from membership.config import MembershipConfig


@dataclass(slots=True)
class Lease:
    """One watcher: where its heartbeats go, and until when."""

    address: Address
    until: float


class Watchers:
    """Leases, at most twice as many as there should be observers."""

    def __init__(self, config: MembershipConfig) -> None:
        self._lease_s = config.watch_lease_s
        self._leases_max = 2 * config.observers
        self._leases: dict[int, Lease] = {}

    def grant(
        self, now: float, uid: int, address: Address, lease_s: float, expected: Sequence[int]
    ) -> float:
        """Return for how long this peer will send its heartbeats; 0 for not at all.

        Args:
            lease_s: What was asked for; 0 ends it.
            expected: Who should watch this peer by its own table. They are always granted, in the
                place of somebody who should not.
        """
        if lease_s <= 0:
            self._leases.pop(uid, None)
            return 0.0
        self.forget(now)
        if uid not in self._leases and len(self._leases) >= self._leases_max:
            others = [other for other in self._leases if other not in expected]
            if uid not in expected or not others:
                return 0.0
            del self._leases[others[0]]
        granted = min(lease_s, self._lease_s)
        self._leases[uid] = Lease(address, now + granted)
        return granted

    def uids(self) -> tuple[int, ...]:
        """Return everybody who watches this peer, in the order in which they came."""
        return tuple(self._leases)

    def addresses(self, now: float) -> list[Address]:
        """Return where the next heartbeat goes."""
        self.forget(now)
        return [lease.address for lease in self._leases.values()]

    def moved(self, uid: int, address: Address) -> None:
        """A watcher has another address."""
        if uid in self._leases:
            self._leases[uid].address = address

    def forget(self, now: float) -> None:
        """Remove the leases that ran out."""
        for uid in [uid for uid, lease in self._leases.items() if lease.until <= now]:
            del self._leases[uid]
