"""The numbers of dissemination. `ALGORITHM.md` says how they hang together."""

from __future__ import annotations

from dataclasses import dataclass

DATAGRAM_BYTES_MAX = 1200
"""UDP payload, sealed. Fits every path that carries IPv6 (1,280 bytes), with room for a tunnel's
headers, so no datagram is ever cut into fragments."""

BUCKETS = 64
"""Hashes in a digest; a peer falls into one by the highest 6 bits of its uid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipConfig:
    """How often, how much, how long. All times scale together: see `MembershipConfig.scaled`."""

    gossip_interval_s: float = 0.25
    # One datagram of rumours and loads, to one member drawn at random. Shorter: fresher loads.
    digest_interval_s: float = 2.0
    # One digest to one member drawn at random, while tables turn out equal.
    digest_hurry_s: float = 0.2
    # The same after an exchange that taught something: a new peer's table fills in a few of these.
    load_interval_s: float = 0.5
    # How often the own load gets a new number, and so spreads again. Twice for each change, which
    # costs no byte (what travels is the freshest anyway) and takes the tail off the ages.
    pages_max: int = 3
    # Pages in answer to one digest; what is left over waits for the next one.
    rumour_factor: int = 3
    # A rumour is sent rumour_factor * ceil(log2(members + 1)) times by each who hears of it.
    row_age_max_s: float = 30.0
    # A living row of an unknown peer whose last evidence is older is not believed: the age rule.
    tombstone_s: float = 600.0
    # How long the dead and the departed are remembered. Far more than row_age_max_s, so that
    # nothing that could still be believed outlives the memory of the death.
    tombstone_digest_s: float = 300.0
    # After this they are no longer in digests, so that peers may forget them at different moments.
    tombstones_min: int = 256
    # At most this many are remembered, or half the members if that is more; the oldest go first.
    bytes_per_s: float = 8000.0
    # What a peer sends, IP and UDP headers included, on average at most.
    burst_bytes: float = 64_000.0
    # What may be sent at once after a time of silence: a seed welcomes a hundred peers at once.

    def __post_init__(self) -> None:
        if self.tombstone_s < 4 * self.row_age_max_s:
            raise ValueError("tombstone_s must be at least four times row_age_max_s")
        if self.tombstone_digest_s >= self.tombstone_s:
            raise ValueError("tombstone_digest_s must be less than tombstone_s")
