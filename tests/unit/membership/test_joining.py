"""Whom a peer asks to be let in, when, and what it says when nobody answers."""

from __future__ import annotations

import itertools
import logging
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
import trio
import trio.testing

from gossip.addresses import HostPort
from gossip.resolving import LOOKUP_TIMEOUT_S, Resolved
from gossip.rows import Address
from membership.config import lan
from membership.joining import ASKED_MAX, Joining

SEED = HostPort("seed", 7946)
OTHER = HostPort("other", 7946)


@dataclass
class World:
    """What a name stands for now, who lives, and who was asked when."""

    names: dict[str, Sequence[str]] = field(default_factory=dict)
    living: frozenset[Address] = frozenset()
    own: Address = ("10.0.0.1", 7946)
    asked: list[tuple[float, Address]] = field(default_factory=list)

    async def resolve(self, seed: HostPort, timeout_s: float) -> Resolved:
        """An empty answer is a failure; for a name that is not there, it comes late."""
        if seed.host not in self.names:
            await trio.sleep(timeout_s)
            return Resolved((), f"{seed.host}: no answer")
        hosts = self.names[seed.host]
        failure = "" if hosts else f"{seed.host}: not known"
        return Resolved(tuple((host, seed.port) for host in hosts), failure)

    def ask(self, addresses: Sequence[Address]) -> None:
        self.asked += [(trio.current_time(), address) for address in addresses]

    def tries(self) -> list[float]:
        """When somebody was asked, in whole seconds."""
        return sorted({round(at) for at, _ in self.asked})

    def hosts(self) -> set[str]:
        """Who was asked at all."""
        return {address[0] for _, address in self.asked}


def joining(
    world: World, *seeds: HostPort, known: Sequence[Address] = (), **dropped: int
) -> Joining:
    drops: Mapping[str, int] = dropped
    return Joining(
        # Without jitter, times can be compared.
        replace(lan(), join_retry_s=1.0, join_retry_max_s=5.0, seed_interval_s=30.0),
        seeds=seeds,
        known=known,
        ask=world.ask,
        living=lambda: world.living,
        reaches=lambda address: ":" not in address[0],
        usable=lambda address: address != world.own,
        dropped=lambda: drops,
        resolve=world.resolve,
        rng=Steady(1),
    )


class Steady(random.Random):
    """Draws as it should, but always the middle of a range."""

    def uniform(self, a: float, b: float) -> float:
        return (a + b) / 2


async def run_for(joining: Joining, seconds: float) -> None:
    with trio.move_on_after(seconds):
        await joining.run()


async def test_a_lonely_peer_asks_again_and_again(autojump_clock: trio.testing.MockClock) -> None:
    """At once, after a second, and then ever more slowly, down to every five seconds."""
    world = World({"seed": ["10.0.0.9"]})

    await run_for(joining(world, SEED), 30)

    assert world.tries() == [0, 1, 2, 4, 6, 9, 13, 18, 23, 28]


async def test_a_member_asks_ever_more_seldom(autojump_clock: trio.testing.MockClock) -> None:
    """Whoever knows somebody asks those seeds that are no members: a few times soon, for it may
    have found another newcomer only, and in the end every 30 s."""
    world = World({"seed": ["10.0.0.9"], "other": ["10.0.0.8"]})
    world.living = frozenset({("10.0.0.8", 7946)})

    await run_for(joining(world, SEED, OTHER), 240)

    pauses = [later - earlier for earlier, later in itertools.pairwise(world.tries())]
    assert pauses[:5] == [1, 1, 2, 2, 3]
    assert pauses == sorted(pauses)
    assert pauses[-2:] == [30, 30]
    assert world.hosts() == {"10.0.0.9"}


async def test_who_is_alone_again_hurries_again(autojump_clock: trio.testing.MockClock) -> None:
    """When everybody else is gone, a patient peer asks as one that has just started."""
    world = World({"seed": ["10.0.0.9"]})
    world.living = frozenset({("10.0.0.8", 7946)})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, joining(world, SEED), 240)
        await trio.sleep(200)
        world.living = frozenset()

    late = [at for at in world.tries() if at > 200]
    assert [later - earlier for earlier, later in itertools.pairwise(late)][:3] == [1, 1, 2]


async def test_names_are_looked_up_at_every_try(autojump_clock: trio.testing.MockClock) -> None:
    """A name that stands for somebody else by now leads there."""
    world = World({"seed": []})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, joining(world, SEED), 3)
        await trio.sleep(0.5)
        world.names["seed"] = ["10.0.0.7"]

    assert world.tries() == [1, 2]
    assert world.hosts() == {"10.0.0.7"}


async def test_one_dead_name_does_not_hold_up_the_others(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Who can be looked up is asked at once, whoever else cannot."""
    world = World({"seed": ["10.0.0.9"]})

    await run_for(joining(world, HostPort("hangs", 7946), SEED), LOOKUP_TIMEOUT_S / 2)

    assert world.asked == [(0.0, ("10.0.0.9", 7946))]


async def test_a_name_for_many_is_asked_by_threes(autojump_clock: trio.testing.MockClock) -> None:
    """Each try draws other ones, never this peer itself, and each at most once."""
    hosts = [f"10.0.0.{number}" for number in range(1, 21)]
    world = World({"seed": hosts, "other": hosts[:2]})

    await run_for(joining(world, SEED, OTHER), 30)

    for moment in {at for at, _ in world.asked}:
        asked = [address for at, address in world.asked if at == moment]
        assert len(asked) == len(set(asked)) <= ASKED_MAX + 1
    assert world.own[0] not in world.hosts()
    assert len(world.hosts()) > 10


async def test_who_was_known_before_is_asked_while_alone(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A restart needs no seeds; later those addresses may be anybody's, and are left alone."""
    world = World()
    before: Sequence[Address] = [("10.0.0.5", 7946), ("10.0.0.6", 7000)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(run_for, joining(world, known=before), 120)
        await trio.sleep(0.5)
        world.living = frozenset({("10.0.0.8", 7946)})

    assert world.tries() == [0]
    assert {address for _, address in world.asked} == set(before)


async def test_silence_is_told(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """After some tries in vain, and about once a minute, a warning says what to check, with what
    this peer has seen itself."""
    world = World({"seed": ["10.0.0.9"], "other": []})

    await run_for(joining(world, SEED, OTHER, dropped_forged=3), 150)

    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 3
    message = warnings[0].getMessage()
    assert all(word in message for word in ("addresses", "key", "cluster name", "firewall"))
    assert {
        name: warnings[0].__dict__[name] for name in ("tries", "asked", "unresolved", "dropped")
    } == {
        "tries": 5,
        "asked": ["10.0.0.9:7946"],
        "unresolved": ["other: not known"],
        "dropped": {"dropped_forged": 3},
    }


async def test_a_seed_of_the_other_family_is_told(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Where this peer's socket cannot send at all, nothing is asked; that and what to do is said.
    One address of its own family is enough."""
    world = World({"2001:db8::5": ["2001:db8::5"], "other": ["2001:db8::6", "10.0.0.9"]})

    await run_for(joining(world, HostPort("2001:db8::5", 7946), OTHER), 20)

    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert warning.__dict__["unresolved"] == [
        "[2001:db8::5]:7946: has IPv6 only, and this peer listens on IPv4 only; let it listen on "
        "[::], which speaks both"
    ]


@pytest.mark.parametrize("names", [{}, {"seed": ["10.0.0.1"]}])
async def test_the_first_peer_is_no_fault(
    autojump_clock: trio.testing.MockClock,
    caplog: pytest.LogCaptureFixture,
    names: dict[str, Sequence[str]],
) -> None:
    """Who has no seeds, or only itself for one, waits for others and warns of nothing."""
    world = World(names)

    await run_for(joining(world, *(HostPort(name, 7946) for name in names)), 300)

    assert not world.asked
    assert not caplog.records
