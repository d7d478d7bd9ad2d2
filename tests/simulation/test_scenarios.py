"""Each kind of misfortune by itself, and what the protocol promises about it.

The random seeds find what nobody thought of; these tell a reader what was thought of. All rules of
`checkers.py` are watched in every one of them, so that what is asserted here comes on top.
"""

from __future__ import annotations

import math

import pytest

from gossip.load import Flag
from gossip.rows import State
from membership.changes import (
    Change,
    MemberDied,
    MemberRecovered,
    MemberSuspected,
)
from tests.simulation.checkers import BytesWithinBudget, DeathNeedsEvidence
from tests.simulation.host import Host
from tests.simulation.network import Bursts, FlipFlop, Lossy, OneWay, Partition, Weather
from tests.simulation.scene import Scene
from tests.simulation.world import Checker, World


class Verdicts(Checker):
    """Collects who had whose death told when, and whether its view was quorate then."""

    def __init__(self) -> None:
        self.told: list[tuple[float, Host, bool]] = []

    def changed(self, world: World, host: Host, change: Change) -> None:
        if isinstance(change, MemberDied):
            self.told.append((world.now, host, world.view(host).quorate))


# Crashes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "seed"), [(5, 1), (9, 2), (20, 3), (40, 4)])
def test_a_crash_is_known_everywhere_in_time(size: int, seed: int) -> None:
    """Every survivor has a crashed peer as SUSPECT within 4.3 s and as DEAD within 7.6 s."""
    scene = Scene(size, seed=seed).formed()
    victim = scene.hosts[size // 2]
    scene.world.crash(victim, for_good=True)
    suspect_s = scene.until(lambda: scene.everywhere(victim, State.SUSPECT, State.DEAD), 4.3)
    dead_s = suspect_s + scene.until(lambda: scene.everywhere(victim, State.DEAD), 7.6 - suspect_s)
    assert dead_s >= 5.4  # the last heartbeat was up to half a second before
    assert not scene.told(MemberDied, by=victim)


@pytest.mark.parametrize(
    ("size", "loss", "within_s"), [(2, 0.0, 8.0), (3, 0.0, 8.0), (2, 0.3, 25.0), (3, 0.3, 15.0)]
)
def test_two_and_three_peers_notice_a_crash_as_well(
    size: int, loss: float, within_s: float
) -> None:
    """Where there is hardly a quorum it takes longer on a lossy network, but it happens."""
    scene = Scene(size, weather=Weather(loss=loss), seed=size).formed(idle_s=30.0)
    scene.world.crash(scene.hosts[0], for_good=True)
    scene.until(lambda: scene.everywhere(scene.hosts[0], State.DEAD), within_s)
    assert len(scene.told(MemberDied)) == size - 1


def test_a_mass_crash_ends_with_the_truth() -> None:
    """When 16 of 20 crash at once, the four that are left come to know it, of each of them."""
    scene = Scene(20).formed()
    victims, survivors = scene.hosts[:16], scene.hosts[16:]
    for victim in victims:
        scene.world.crash(victim, for_good=True)
    scene.until(
        lambda: all(scene.everywhere(victim, State.DEAD) for victim in victims), 120.0, step_s=0.5
    )
    died = scene.told(MemberDied)
    assert {change.row.uid for _, _, change in died if isinstance(change, MemberDied)} == {
        victim.uid for victim in victims
    }
    # Not within the time of a single crash: so many at once are more likely the network.
    assert min(when for when, _, _ in died) - scene.diary.entries[0][0] > 5.0
    assert all(scene.everywhere(survivor, State.ALIVE) for survivor in survivors)


def test_a_restart_with_another_address_is_visible_at_once() -> None:
    """A peer that comes back elsewhere within its detection time is known there within 2 s, and
    nobody ever calls it dead."""
    scene = Scene(12).formed()
    moved = scene.hosts[7]
    scene.world.crash(moved)
    scene.run(1.0)
    scene.world.move(moved)
    scene.world.restart(moved, scene.hosts[:3])
    took_s = scene.until(
        lambda: all(
            (row := scene.row(host, moved)) is not None and row.body.address == moved.address
            for host in scene.hosts
        ),
        2.0,
    )
    scene.run(15.0)
    assert took_s <= 2.0
    assert not scene.told(MemberDied)


def test_a_restarted_peer_is_watched_like_any_other() -> None:
    """A peer that restarts faster than its silence is noticed, and then crashes, is missed in
    time: its observers watch its new start."""
    scene = Scene(8).formed()
    victim = scene.hosts[3]
    scene.world.crash(victim)
    scene.run(0.3)
    scene.world.restart(victim, scene.hosts[:3])
    scene.settled(5.0)
    scene.run(6.0)
    scene.world.crash(victim, for_good=True)
    assert scene.until(lambda: scene.everywhere(victim, State.DEAD), 7.6) >= 5.4


def test_a_restart_storm_settles() -> None:
    """When all of 12 restart within a second, their tables are equal a few seconds later."""
    scene = Scene(12).formed()
    for host in scene.hosts:
        when = scene.world.now + scene.world.rng.uniform(0.0, 1.0)
        scene.world.at(when, scene.world.crash, host)
        scene.world.at(when + 0.2, scene.world.restart, host, scene.hosts[:3])
    scene.run(1.2)
    assert scene.settled(10.0) < math.inf


# Loss ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "weather",
    [
        Weather(loss=0.3),
        Weather(loss=0.1),
        Weather(bursts=Bursts(share=0.1, bad_s=3.0, loss=0.9)),
        Weather(copies=0.2, stray=0.3, stray_s=0.5, delay_s=(0.001, 0.05)),
    ],
    ids=["30 %", "10 %", "bursts", "copies and strays"],
)
def test_loss_accuses_nobody(weather: Weather) -> None:
    """Under heavy loss for a minute and a half nobody is called dead, and at most one suspected."""
    scene = Scene(20, weather=weather).formed()
    scene.run(90.0)
    suspected = {
        change.row.uid
        for _, _, change in scene.told(MemberSuspected)
        if isinstance(change, MemberSuspected)
    }
    assert not scene.told(MemberDied)
    assert len(suspected) <= 1


@pytest.mark.parametrize("size", [2, 3])
def test_loss_accuses_nobody_even_among_few(size: int) -> None:
    """The same for two and three peers, which have hardly anybody to ask."""
    scene = Scene(size, weather=Weather(loss=0.3)).formed()
    scene.run(300.0)
    assert not scene.told(MemberDied)


def test_a_lossy_machine_does_not_take_others_with_it() -> None:
    """One machine that loses 80 % both ways may be suspected; nobody else is."""
    scene = Scene(20).formed()
    bad = scene.hosts[4]
    scene.fault(Lossy(bad.number, 0.8), hurt=[bad])
    scene.run(90.0)
    blamed = {
        change.row.uid
        for kind in (MemberSuspected, MemberDied)
        for _, _, change in scene.told(kind)
        if isinstance(change, MemberSuspected | MemberDied)
    }
    assert blamed <= {bad.uid}


# Links --------------------------------------------------------------------------------------------


def test_one_link_that_is_cut_one_way_harms_nobody() -> None:
    """When one cannot hear one other, the others' word is believed: no suspicion at all."""
    scene = Scene(10).formed()
    scene.fault(OneWay((2,), (5,)))
    scene.fault(OneWay((6,), (7,)))
    scene.run(90.0)
    assert not scene.told(MemberSuspected)
    assert not scene.told(MemberDied)


def test_a_peer_that_cannot_speak_is_dead_until_it_can() -> None:
    """Whoever is heard by nobody is called dead, calls nobody dead, and is back after the heal."""
    scene = Scene(10).formed()
    mute = scene.hosts[3]
    others = tuple(host.number for host in scene.hosts if host is not mute)
    scene.fault(OneWay((mute.number,), others), hurt=[mute])
    scene.until(lambda: scene.everywhere(mute, State.DEAD), 8.0)
    scene.run(20.0)
    assert not scene.told(MemberDied, by=mute)
    scene.heal()
    assert scene.settled(15.0) < 15.0
    assert scene.told(MemberRecovered, about=mute)


def test_a_peer_that_cannot_hear_blames_its_ears() -> None:
    """Whoever hears nobody says that it is deaf, calls nobody dead, and is back after the heal."""
    scene = Scene(10).formed()
    deaf = scene.hosts[3]
    others = tuple(host.number for host in scene.hosts if host is not deaf)
    scene.fault(OneWay(others, (deaf.number,)), hurt=[deaf])
    scene.run(12.0)
    assert scene.world.view(deaf).deaf
    member = next(m for m in scene.world.view(scene.hosts[0]).members if m.row.uid == deaf.uid)
    assert member.load is not None
    assert Flag.DEAF in member.load.flags
    scene.run(50.0)
    assert not scene.told(MemberDied, by=deaf)
    assert {
        change.row.uid for _, _, change in scene.told(MemberDied) if isinstance(change, MemberDied)
    } <= {deaf.uid}
    scene.heal()
    assert scene.settled(30.0) < 30.0


@pytest.mark.parametrize("inwards", [True, False], ids=["ears", "voice"])
def test_flip_flop_links_do_not_make_the_cluster_oscillate(inwards: bool) -> None:
    """A peer whose links come and go every 20 s may come and go with them, no oftener, and takes
    nobody with it."""
    scene = Scene(12).formed()
    victim = scene.hosts[8]
    scene.fault(FlipFlop(victim.number, 20.0, inwards), hurt=[victim])
    scene.run(200.0)
    witness = scene.hosts[0]
    assert len(scene.told(MemberSuspected, about=victim, by=witness)) <= 6
    assert all(
        change.row.uid == victim.uid
        for _, _, change in scene.told(MemberDied)
        if isinstance(change, MemberDied)
    )
    scene.heal()
    scene.settled(30.0)


@pytest.mark.parametrize("size", [6, 16])
def test_halves_that_were_apart_for_a_minute_find_each_other(size: int) -> None:
    """A 50/50 partition of 60 s is healed within 40 s: all tables are equal, all are alive."""
    scene = Scene(size).formed()
    scene.fault(Partition({host.number: host.number % 2 for host in scene.hosts}), hurt=scene.hosts)
    scene.run(60.0)
    assert scene.told(MemberDied)
    scene.heal()
    assert scene.settled(40.0) < 40.0


@pytest.mark.parametrize(("size", "few"), [(20, 1), (20, 2), (20, 6), (40, 8), (40, 12)])
def test_a_minority_buries_nobody(size: int, few: int) -> None:
    """The few that are cut off are dead to the many. To the few nobody is, for as long as most cuts
    last; and none of their views is quorate by the time when it might act on one that is."""
    scene = Scene(size, rules=[DeathNeedsEvidence(), BytesWithinBudget()]).formed(idle_s=15.0)
    minority, majority = scene.hosts[:few], scene.hosts[few:]
    verdicts = Verdicts()
    scene.world.watch(verdicts)
    scene.fault(Partition({host.number: 1 for host in minority}), hurt=scene.hosts)
    scene.until(
        lambda: all(scene.everywhere(host, State.DEAD, among=majority) for host in minority), 30.0
    )
    scene.run(30.0)
    assert not [verdict for verdict in verdicts.told if verdict[1] in minority]
    assert not any(scene.world.view(host).quorate for host in minority)
    assert all(scene.world.view(host).quorate for host in majority)
    scene.heal()
    scene.settled(40.0)


# Time ---------------------------------------------------------------------------------------------


def test_frozen_peers_are_not_dead() -> None:
    """Of 40, four freeze for 1 to 5 s, again and again: nobody is ever called dead."""
    scene = Scene(40).formed()
    begin, rng = scene.world.now, scene.world.rng
    for host in scene.hosts[::10]:
        when = begin + rng.uniform(0.0, 5.0)
        while when < begin + 45.0:
            pause_s = rng.uniform(1.0, 5.0)
            scene.world.at(when, scene.world.freeze, host, pause_s)
            when += pause_s + rng.uniform(0.5, 5.0)
    scene.run(55.0)
    assert not scene.told(MemberDied)


@pytest.mark.parametrize(("size", "newcomers"), [(3, 3), (6, 12)])
def test_who_asked_for_patience_has_it_from_newcomers_too(size: int, newcomers: int) -> None:
    """A member that froze once asks for time. When it freezes again just as others have come, and
    watch it now, they wait as long, though they have not had a heartbeat from it."""
    scene = Scene(size).formed()
    victim = scene.hosts[size // 2]
    scene.world.freeze(victim, 5.0)
    scene.run(45.0)
    for _ in range(newcomers):
        scene.world.start(scene.world.add(), scene.hosts[:3])
    scene.run(0.3)
    scene.world.freeze(victim, 9.0)
    scene.run(12.0)
    assert not scene.told(MemberDied)


def test_starved_peers_are_not_dead_and_call_nobody_dead() -> None:
    """Six of 20 that run only for moments, every 0.1 to 3 s, for two minutes, stay members."""
    scene = Scene(20, weather=Weather(loss=0.05)).formed()
    for host in scene.hosts[::3]:
        scene.world.starve(host, scene.world.now + 120.0)
    scene.run(125.0)
    assert not scene.told(MemberDied)
    scene.settled(10.0)


def test_a_long_freeze_is_forgiven_at_once() -> None:
    """Whoever was frozen for 20 s was dead to all, and is alive to all soon after; frozen again
    for 8 s it is not called dead: it has asked to be waited for."""
    scene = Scene(12).formed()
    sleeper = scene.hosts[4]
    scene.world.freeze(sleeper, 20.0)
    scene.run(20.0)
    assert scene.everywhere(sleeper, State.DEAD)
    assert scene.settled(5.0) < 5.0
    scene.run(10.0)
    scene.diary.entries.clear()
    sleeper.excused_until = -1.0
    scene.world.freeze(sleeper, 8.0)
    sleeper.excused_until = -1.0
    scene.run(12.0)
    assert not scene.told(MemberDied)


@pytest.mark.parametrize(("size", "newcomers"), [(6, 6), (3, 6), (6, 12)])
def test_newcomers_wait_for_whom_the_others_wait(size: int, newcomers: int) -> None:
    """Whoever was frozen for 5 s has asked to be waited for; when it freezes for 9 s just after
    the cluster has grown, its new observers, too, do not call it dead."""
    scene = Scene(size).formed()
    sleeper = scene.hosts[1]
    scene.world.freeze(sleeper, 5.0)
    scene.run(40.0)
    for _ in range(newcomers):
        scene.world.start(scene.world.add(), scene.hosts[:1])
    scene.run(0.3)
    scene.diary.entries.clear()
    scene.world.freeze(sleeper, 9.0)
    sleeper.excused_until = -1.0
    scene.run(15.0)
    assert not scene.told(MemberDied, about=sleeper)
    scene.settled(10.0)


def test_a_new_suspicion_starts_a_new_clock() -> None:
    """A SUSPECT that contradicts itself and falls silent again is dead no sooner than 6 s after
    it was last heard, not 6 s after the first suspicion."""
    scene = Scene(10).formed()
    sleeper = scene.hosts[4]
    scene.world.freeze(sleeper, 4.5)
    scene.until(lambda: scene.everywhere(sleeper, State.SUSPECT), 4.4)
    scene.until(lambda: scene.everywhere(sleeper, State.ALIVE), 2.0)
    last_s = scene.world.now
    scene.world.crash(sleeper, for_good=True)
    scene.run(30.0)
    died = [when for when, _, _ in scene.told(MemberDied, about=sleeper)]
    assert len(died) == 9
    assert min(died) - last_s > 5.9


@pytest.mark.parametrize("by_s", [2.0, 10.0, 300.0])
def test_a_clock_that_jumps_kills_nobody(by_s: float) -> None:
    """A machine whose clock goes ahead at once, as after a suspension, calls nobody dead and is
    not called dead."""
    scene = Scene(10, weather=Weather(loss=0.1)).formed()
    for host in scene.hosts[:3]:
        scene.world.jump(host, by_s)
        scene.run(10.0)
    assert not scene.told(MemberDied)
    scene.settled(10.0)


def test_clocks_that_run_fast_and_slow_kill_nobody() -> None:
    """A tenth faster here, a tenth slower there: nobody is even suspected."""
    scene = Scene(12).formed()
    for host in scene.hosts:
        scene.world.drift(host, 0.9 + 0.2 * host.number / 11)
    scene.run(90.0)
    assert not scene.told(MemberSuspected)
