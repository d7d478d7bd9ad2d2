"""Two versions in one cluster, as long as an upgrade takes, or for good.

All rules of `checkers.py` are watched: among them that nobody dies without evidence, that all
tables become equal, and that no peer sends more than it may.
"""

from __future__ import annotations

from functools import partial

from gossip import keys
from gossip.rows import State
from gossip.sealing import Envelope
from membership.changes import MemberDied, MemberSuspected
from membership.cluster import Cluster
from membership.config import MembershipConfig
from tests.simulation.host import Core, Host
from tests.simulation.later import MORE, later_core
from tests.simulation.network import Weather
from tests.simulation.scene import Scene
from tests.simulation.world import real_core

KEYS = keys.first(b"k" * 32)


class TwoVersions(Scene):
    """A cluster in which each host has today's version, or the one after it.

    Attributes:
        later: The hosts that start the later one from now on.
    """

    def __init__(self, size: int, *, seed: int = 1, weather: Weather | None = None) -> None:
        self.later: set[int] = set()
        super().__init__(size, seed=seed, weather=weather, keys=KEYS, make_core=self._make_core)

    def _make_core(
        self, host: Host, now: float, config: MembershipConfig, envelope: Envelope
    ) -> Core:
        make = later_core if host.number in self.later else real_core
        return make(host, now, config, envelope)

    def replace(self, host: Host, *, later: bool) -> None:
        """Let a peer leave, and start another version in its place, as an upgrade does."""
        self.world.leave(host)
        self.until(lambda: host.core is None, 3.0)
        (self.later.add if later else self.later.discard)(host.number)
        self.world.start(host, [one for one in self.hosts if one is not host][:3])

    def dropped(self, host: Host) -> dict[str, int]:
        """Return what a host has thrown away, by reason."""
        assert isinstance(host.core, Cluster)
        return {
            name.removeprefix("dropped_"): count
            for name, count in host.core.counters().items()
            if name.startswith("dropped_")
        }


def test_an_upgrade_peer_by_peer_and_back() -> None:
    """Each peer that is replaced is known to all within seconds, whatever it says; nobody is
    suspected for it; at the end, and when all go back, the tables are equal."""
    scene = TwoVersions(9, seed=5)
    scene.formed()
    for later in (True, False):
        for host in scene.hosts:
            scene.replace(host, later=later)
            scene.settled(6.0)
        scene.run(30.0)
        scene.settled(3.0)
        for host in scene.hosts:
            row = scene.row(scene.hosts[0], host)
            assert row is not None
            assert row.body.more == (MORE if later else b"")
    assert scene.told(MemberDied) == []
    assert scene.told(MemberSuspected) == []


def test_half_of_each_on_a_bad_network() -> None:
    """Peers of two versions stay one cluster for long, propose one leader, and agree on a crash as
    quickly as peers of one version do; what is not understood is dropped as such, and no more."""
    scene = TwoVersions(10, seed=3, weather=Weather(loss=0.05))
    scene.later.update(range(0, 10, 2))
    scene.formed(idle_s=60.0)
    assert scene.told(MemberDied) == []
    (leader,) = scene.leaders()
    assert leader is not None

    newest, oldest = scene.hosts[4], scene.hosts[5]
    for victim in (newest, oldest):
        scene.world.crash(victim, for_good=True)
        scene.until(partial(scene.everywhere, victim, State.DEAD), 9.0)
    scene.run(10.0)
    scene.settled(3.0)

    for host in scene.world.running():
        dropped = scene.dropped(host)
        assert dropped.pop("later") > 0
        assert not {"malformed", "forged", "version", "key"} & dropped.keys()


def test_the_next_key_reaches_both_versions() -> None:
    """Keys are rotated while a cluster is between two versions."""
    scene = TwoVersions(6, seed=2)
    scene.later.update({0, 3, 5})
    scene.formed()
    ring = keys.install(KEYS, b"n" * 32, origin=scene.hosts[1].uid)
    scene.world.set_keys(scene.hosts[1], ring)
    scene.until(lambda: all(host.keys == ring for host in scene.hosts), 10.0)
    scene.settled(5.0)
