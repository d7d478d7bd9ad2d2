"""Who belongs to the cluster: coming and going, copied identities, keys, leaders, profiles.

As in `test_scenarios.py`, all rules of `checkers.py` are watched in every scenario.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from gossip.codec import encode
from gossip.config import GossipConfig
from gossip.keys import install, remove, use
from gossip.messages import Keys, Message, Ping, Watch
from gossip.rows import Address, State
from membership.changes import (
    IdentityLost,
    LeaderProposed,
    MemberDied,
    MemberSuspected,
)
from membership.cluster import Outgoing
from membership.config import MembershipConfig, quiet
from tests.simulation.host import Host, Packet
from tests.simulation.network import Partition, Weather
from tests.simulation.scene import Scene
from tests.simulation.settled import keys_differ, leaders_differ, tables_differ
from tests.simulation.workload import first_ring
from tests.simulation.world import Checker, World


class Addressed(Checker):
    """Collects what is sent to one address."""

    def __init__(self, address: Address) -> None:
        self.messages: list[Message | None] = []
        self._address = address

    def sent(self, world: World, host: Host, outgoing: Outgoing, message: Message | None) -> None:
        if outgoing.address == self._address:
            self.messages.append(message)


# Joining and leaving ------------------------------------------------------------------------------


def test_a_hundred_joins_at_once_end_in_equal_tables() -> None:
    """A hundred peers that start within half a second and know three seeds have equal tables 3 s
    later."""
    scene = Scene(100)
    scene.start()
    scene.run(0.5)
    assert scene.settled(3.0) <= 3.0


def test_a_peer_that_leaves_is_not_missed() -> None:
    """A departure is known everywhere within 2 s; nobody suspects or buries whoever has left."""
    scene = Scene(12).formed()
    for host in scene.hosts[3:6]:
        scene.world.leave(host)
    scene.until(lambda: all(scene.everywhere(h, State.LEFT) for h in scene.hosts[3:6]), 2.0)
    scene.run(30.0)
    assert not scene.told(MemberSuspected)
    assert not scene.told(MemberDied)


def test_islands_that_have_forgotten_each_other_meet_through_the_seeds() -> None:
    """Two halves that start apart, with seeds on both sides, are one cluster within 40 s of the
    moment when they can reach each other."""
    scene = Scene(10)
    scene.fault(Partition({host.number: host.number % 2 for host in scene.hosts}))
    scene.start()
    scene.run(45.0)
    scene.heal()
    assert scene.settled(40.0) < 40.0


# Identities ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
def test_a_cloned_disk_ends_with_two_identities(seed: int) -> None:
    """When a second machine starts with a peer's uid, one of the two takes another one within
    seconds, and both are members."""
    scene = Scene(8, seed=seed, weather=Weather(loss=0.1)).formed()
    original = scene.hosts[5]
    copy = scene.world.clone(original)
    scene.world.start(copy, scene.hosts[:3])
    scene.run(1.0)
    scene.until(lambda: original.uid != copy.uid, 20.0)
    scene.settled(20.0)
    assert 1 <= len(scene.told(IdentityLost)) <= 2


def test_recordings_move_nobody() -> None:
    """Everything that was ever said, said again to restarted peers, changes nothing."""
    scene = Scene(8)
    scene.world.copying = True
    scene.formed()
    for host in scene.hosts[3:5]:
        scene.world.crash(host)
    scene.world.crash(scene.hosts[5], for_good=True)
    scene.run(10.0)
    for host in scene.hosts[3:5]:
        scene.world.restart(host, scene.hosts[:3])
    scene.settled(10.0)
    scene.run(5.0)
    scene.diary.entries.clear()
    for _ in range(40):
        scene.world.replay(200)
        scene.run(0.5)
    changes = [
        change for _, _, change in scene.diary.entries if not isinstance(change, LeaderProposed)
    ]
    assert changes == []
    scene.settled(5.0)


def test_a_recorded_request_for_heartbeats_is_not_granted() -> None:
    """Whoever replays a dead peer's wish to be sent heartbeats, from an address of its own, to a
    peer that has restarted, is asked for a proof and gets nothing else."""
    scene = Scene(4).formed()
    recorded, target = scene.hosts[2], scene.hosts[3]
    assert recorded.tap is not None
    request = recorded.tap.seal(encode(Watch(nonce=1, lease_s=30.0)))
    scene.world.crash(recorded, for_good=True)
    scene.world.crash(target)
    scene.world.restart(target, scene.hosts[:2])
    listener = ("10.200.0.1", 7946)
    sent = Addressed(listener)
    scene.world.watch(sent)
    scene.world.inject(target, Packet(request, listener, -1))
    scene.run(20.0)
    assert sent.messages
    assert {type(message) for message in sent.messages} == {Ping}


def test_nobody_returns_from_the_dead_after_a_long_sleep() -> None:
    """Whoever slept through a death and its tombstone's whole time still believes the dead to be
    alive, and convinces nobody."""
    gossip = GossipConfig(row_age_max_s=10.0, tombstone_s=40.0, tombstone_digest_s=30.0)
    scene = Scene(8, config=MembershipConfig(gossip=gossip)).formed()
    sleeper, dead = scene.hosts[6], scene.hosts[7]
    scene.world.freeze(sleeper, 80.0)
    scene.run(1.0)
    scene.world.crash(dead, for_good=True)
    scene.until(lambda: scene.everywhere(dead, State.DEAD, among=scene.hosts[:6]), 12.0)
    scene.run(90.0)
    assert scene.everywhere(dead, State.DEAD, None, among=scene.hosts[:6])
    assert (
        sum(
            member.row.uid == dead.uid
            for host in scene.hosts[:6]
            for member in scene.world.view(host).members
            if member.state <= State.SUSPECT
        )
        == 0
    )


def test_keys_are_rotated_under_loss_without_a_gap() -> None:
    """A key is installed, used, and the old one removed, each at another peer, while a fifth of
    all datagrams is lost; nobody is suspected, and everybody has the same ring in the end."""
    scene = Scene(10, weather=Weather(loss=0.2), keys=first_ring()).formed()
    old = first_ring().primary
    steps: tuple[Callable[[Keys], Keys], ...] = (
        lambda keys: install(keys, bytes(range(100, 132)), 1),
        lambda keys: use(keys, next(k for k, _ in keys.keys if k != old), 2),
        lambda keys: remove(keys, old, 3),
    )
    for number, step in enumerate(steps):
        host = scene.hosts[3 * number]
        assert host.keys is not None
        scene.world.set_keys(host, step(host.keys))
        scene.until(lambda: keys_differ(scene.world) is None, 15.0)
    scene.run(20.0)
    assert not scene.told(MemberDied)
    assert [len(host.keys.keys) for host in scene.hosts if host.keys] == [1] * 10


def test_whoever_slept_through_a_change_of_keys_comes_back() -> None:
    """A peer that was down when another key began to be used, and restarts with its old ring, is
    let in as long as its key is in the others' ring, and gets the new one."""
    scene = Scene(6, keys=first_ring()).formed()
    absent = scene.hosts[4]
    scene.world.crash(absent)
    scene.until(lambda: scene.everywhere(absent, State.DEAD), 8.0)
    ring = install(first_ring(), bytes(range(100, 132)), 1)
    scene.world.set_keys(scene.hosts[0], use(ring, ring.keys[-1][0], 1))
    scene.run(10.0)
    scene.world.restart(absent, scene.hosts[:3])
    scene.settled(10.0)
    assert keys_differ(scene.world) is None


def test_a_ghost_whose_observers_are_all_new_is_buried() -> None:
    """Of four, two crash and a third restarts while the fourth is too lonely to call anybody dead;
    then that one restarts, too. Who took the dead over from it is not left alone with them: the
    peers that know nothing of them agree that they are silent."""
    scene = Scene(4).formed()
    first, last, *lost = scene.hosts
    for host in (*lost, first):
        scene.world.crash(host, for_good=host is not first)
        scene.run(0.2)
    scene.run(18.0)
    scene.world.restart(first, [last])
    scene.run(2.0)
    scene.world.crash(last)
    scene.run(0.5)
    scene.world.restart(last, [first])
    scene.world.start(scene.world.add(), [first])
    scene.run(2.0)
    assert any(scene.state(first, host) is State.ALIVE for host in lost)
    scene.until(lambda: tables_differ(scene.world) is None, 60.0, step_s=1.0)
    assert scene.leaders() != [lost[0].uid]


# Leaders ------------------------------------------------------------------------------------------


def test_the_leader_changes_only_when_it_must() -> None:
    """All propose one leader; a crash of somebody else changes nothing; a crash of the leader
    brings another one, which is again everybody's."""
    scene = Scene(9).formed(idle_s=15.0)
    [leader] = scene.leaders()
    assert leader is not None
    leading = next(host for host in scene.hosts if host.uid == leader)
    bystander = next(host for host in scene.hosts if host is not leading)
    scene.world.crash(bystander, for_good=True)
    scene.run(30.0)
    assert scene.leaders() == [leader]
    assert not scene.told(LeaderProposed)
    scene.world.crash(leading, for_good=True)
    scene.run(25.0)
    [successor] = scene.leaders()
    assert successor not in (None, leader)


@pytest.mark.parametrize(("few", "seed"), [(1, 4), (2, 5), (3, 1), (4, 2), (5, 3)])
def test_each_side_of_a_partition_has_at_most_one_leader(few: int, seed: int) -> None:
    """Of ten, a side of fewer than half proposes nobody once it knows; every other side proposes
    at most one; after the heal there is one."""
    scene = Scene(10, seed=seed).formed(idle_s=15.0)
    minority, majority = scene.hosts[:few], scene.hosts[few:]
    scene.fault(Partition({host.number: 1 for host in minority}), hurt=scene.hosts)
    scene.run(90.0)
    assert len(scene.leaders(majority)) == 1
    assert scene.leaders(majority) != [None]
    assert len(scene.leaders(minority)) == 1
    assert few == 5 or scene.leaders(minority) == [None]
    scene.heal()
    scene.settled(40.0)
    scene.until(lambda: leaders_differ(scene.world) is None, 20.0)
    assert scene.leaders() != [None]


# Profiles -----------------------------------------------------------------------------------------


def test_the_quiet_profile_is_slower_and_says_less() -> None:
    """A third of the traffic, and a crash is known everywhere within 15.2 s."""
    rates = []
    for config in (MembershipConfig(), quiet()):
        scene = Scene(10, config=config).formed(idle_s=20.0)
        before = scene.sent_bytes()
        scene.run(30.0)
        rates.append((scene.sent_bytes() - before) / 30.0 / 10)
    assert rates[1] < rates[0] / 2
    scene.world.crash(scene.hosts[3], for_good=True)
    scene.until(lambda: scene.everywhere(scene.hosts[3], State.DEAD), 15.2)


def test_scaled_configurations_tell_the_same_story() -> None:
    """Ten times faster, a crash is known ten times sooner."""
    scene = Scene(8, config=replace(MembershipConfig()).scaled(0.1)).formed(idle_s=2.0)
    scene.world.crash(scene.hosts[3], for_good=True)
    assert scene.until(lambda: scene.everywhere(scene.hosts[3], State.DEAD), 0.8) > 0.5
