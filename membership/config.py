"""The numbers of failure detection. `gossip/ALGORITHM.md` says how they hang together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from gossip.config import GossipConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipConfig:
    """When a silence means something."""

    heartbeat_interval_s: float = 0.5
    # Each member to each of its observers, drawn 10 % around.
    observers: int = 8
    # How many watch each member: its successors on the ring of uids.
    quorum: float = 0.75
    # The share of the observers that must find a member silent.
    misses_min: int = 5
    # Heartbeats missed in a row before an observer raises an alert, on a good link …
    misses_max: int = 40
    # … and on the worst. Between them: such that chance alone makes a quorum of alerts once in
    # 1e10 rounds at the loss measured on the link.
    dead_silence_s: float = 6.0
    # The shortest silence that means death, unless the member has asked for more.
    grace_max_s: float = 20.0
    # The most that a member may ask for.
    alert_interval_s: float = 1.0
    alert_valid_s: float = 2.5
    # An alert is repeated while it holds, and forgotten when it is not.
    unreachable_s: float = 12.0
    # When a silence has lasted so long, observers that have been silent as long no longer count
    # for the quorum: they may have died together with the subject.
    watch_interval_s: float = 10.0
    watch_lease_s: float = 30.0
    # How often a watch is renewed, and how long heartbeats come without that.
    watch_retry_s: float = 1.0
    deaf_s: float = 3.0
    # For so long most links must be silent until a member blames its own ears, and raises no
    # alerts for as long as unreachable_s.
    mass_share: float = 0.25
    mass_hold_s: float = 14.0
    # When more than this share of the members falls silent within 5 s, deaths wait that long: it
    # is more likely the network.
    minority_hold_s: float = 60.0
    # On a side that hears less than half of the recent members, deaths wait as long as this: it is
    # probably cut off. If the others are still not heard then, they have died. mass_hold_s bridges
    # the time until it is known, which is unreachable_s.
    flap_window_s: float = 60.0
    flaps_max: int = 2
    # A member that contradicts suspicion more often than this in the window says that it flaps.
    dead_ping_s: float = 10.0
    # Each dead member is pinged about once in this time by somebody: so partitions heal.
    seed_interval_s: float = 30.0
    # How often seeds are looked up again and those that are no members are asked to join.
    join_retry_s: float = 1.0
    join_retry_max_s: float = 5.0
    # The same while this peer knows nobody: at first, and after half a dozen times in vain.
    leader_stable_s: float = 10.0
    # How long the same candidate must have been the best before it is proposed.
    leader_memory_s: float = 600.0
    # A proposal needs half of the most members seen alive in this time.
    listen_interval_s: float = 0.1
    # For so long heartbeats and gossip may wait to be read together, while nobody asks anything.
    # Every wake-up costs more than what it reads: one for each datagram takes a third more of the
    # processor. Shorter: what others tell is passed on sooner.
    gossip: GossipConfig = field(default_factory=GossipConfig)

    def __post_init__(self) -> None:
        if self.alert_valid_s <= 2 * self.alert_interval_s:
            raise ValueError("alert_valid_s must cover two lost alerts")
        if self.listen_interval_s > self.heartbeat_interval_s / 4:
            raise ValueError("a heartbeat must be read long before the next one")
        if self.watch_lease_s < 2 * self.watch_interval_s:
            raise ValueError("watch_lease_s must cover a lost renewal")
        if not self.misses_min * self.heartbeat_interval_s < self.dead_silence_s:
            raise ValueError("a member must be suspected before it can be dead")

    def scaled(self, factor: float) -> MembershipConfig:
        """Return the same protocol, so many times slower (or faster, below 1).

        Budgets in bytes per second are divided by it. For tests over real sockets, which would
        otherwise wait for seconds.
        """

        def scale(config: object) -> dict[str, float]:
            fields = config.__dataclass_fields__  # type: ignore[attr-defined] # of a dataclass
            values = {name: getattr(config, name) for name in fields if name.endswith("_s")}
            per_second = {name for name in values if name.endswith("_per_s")}
            return {
                name: value / factor if name in per_second else value * factor
                for name, value in values.items()
            }

        gossip = replace(self.gossip, **scale(self.gossip))  # type: ignore[arg-type] # all floats
        return replace(self, gossip=gossip, **scale(self))  # type: ignore[arg-type]


def lan() -> MembershipConfig:
    """Return the default: a death is known everywhere within 7.6 s; about 7 kB/s for each peer."""
    return MembershipConfig()


def quiet() -> MembershipConfig:
    """Return a third of the traffic, for small clusters on thin links; detection takes twice as
    long, and loads are a few seconds older."""
    return MembershipConfig(
        heartbeat_interval_s=1.0,
        listen_interval_s=0.25,
        dead_silence_s=12.0,
        gossip=GossipConfig(gossip_interval_s=1.0, digest_interval_s=4.0, load_interval_s=2.0),
    )
