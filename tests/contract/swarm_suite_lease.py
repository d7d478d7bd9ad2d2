"""What must hold of lease, claims and nudges on any Swarm, as `swarm_suite` has it of the rest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from scaling.intents import Intents
from scaling.ports import Lease
from scaling.swarm.client import Managers
from scaling.swarm.intents import SwarmIntents
from scaling.swarm.lease import SwarmLease
from scaling.swarm.nudges import watch
from tests.contract.swarm_suite import TERM, Leader, World


async def test_one_of_two_contenders_leads(world: World, managers: Managers) -> None:
    """Who has the lease keeps it by renewing it; when he falls silent the other one gets it after
    its time, under a later term; who was silent learns that he has lost it."""
    world.deploy(0)
    config = replace(world.config, lease_s=2.0)
    one, other = (SwarmLease(managers, config, clock=world.clock) for _ in range(2))
    term = await one.keep("one")
    assert term is not None
    for _ in range(6):
        await world.let_pass(0.5)
        assert await one.keep("one") == term
        assert await other.keep("other") is None
    silent_since_s = world.clock()
    while (later := await other.keep("other")) is None:
        await world.let_pass(0.1)
    assert world.clock() - silent_since_s >= 2.0
    assert later > term
    assert await one.keep("one") is None
    await one.give_up("one")
    assert await other.keep("other") == later
    await other.give_up("other")
    assert await one.keep("one") == later + 1


async def test_many_contenders_at_once_give_one_leader(world: World, managers: Managers) -> None:
    """Also when there is no lease yet, and when it has just been given up."""
    world.deploy(0)
    terms: dict[str, int | None] = {}

    async def contend(name: str) -> None:
        lease = SwarmLease(managers, world.config, clock=world.clock)
        terms[name] = await lease.keep(name)
        if terms[name] is not None:
            await world.let_pass(0.2)
            await lease.give_up(name)

    seen: list[int] = []
    for turn in range(3):
        terms.clear()
        async with trio.open_nursery() as nursery:
            for number in range(4):
                nursery.start_soon(contend, f"{turn}-{number}")
        won = [term for term in terms.values() if term is not None]
        assert len(won) == len(set(won)) >= 1
        seen += sorted(won)
    assert seen == sorted(set(seen)), "no term is given twice"


async def test_a_lease_begins_after_all_terms(
    world: World, leader: Leader, managers: Managers
) -> None:
    """Somebody has removed the lease: the next term is later than any that has written."""
    world.deploy(0)
    seen = await leader.driver.observe()
    await leader.driver.set_containers(0, seen=seen, term=41, reasons=())
    lease: Lease = SwarmLease(managers, world.config, clock=world.clock)
    assert await lease.keep("one") == 42


async def test_a_name_is_claimed_once(world: World, managers: Managers) -> None:
    """A claim is one leader's until he gives it up or another takes it over; who comes late with
    an old listing changes nothing."""
    intents: Intents = SwarmIntents(managers, world.config)
    assert await intents.claim("pool-1", term=3)
    assert not await intents.claim("pool-1", term=4)
    assert await intents.claim("pool-2", term=4)
    old, two = await intents.list()
    assert [(each.name, each.term) for each in (old, two)] == [("pool-1", 3), ("pool-2", 4)]
    assert await intents.adopt(old, term=5)
    assert not await intents.adopt(old, term=6)
    assert not await intents.release(old)
    (new, _) = await intents.list()
    assert (new.name, new.term) == ("pool-1", 5)
    assert await intents.release(new)
    assert not await intents.release(new)
    assert [each.name for each in await intents.list()] == ["pool-2"]
    assert await intents.claim("pool-1", term=6)
    assert not await intents.release(new), "another claim of that name is another claim"
    for intent in await intents.list():
        assert await intents.release(intent)


async def test_a_name_is_claimed_by_one_of_many(world: World, managers: Managers) -> None:
    """Of those who claim at once, one gets it."""
    intents: Intents = SwarmIntents(managers, world.config)
    got: list[bool] = []

    async def claim(term: int) -> None:
        got.append(await intents.claim("pool-1", term=term))

    async with trio.open_nursery() as nursery:
        for term in range(1, 5):
            nursery.start_soon(claim, term)
    assert sorted(got) == [False, False, False, True]
    (intent,) = await intents.list()
    assert await intents.release(intent)


@pytest.mark.usefixtures("in_service")
async def test_a_change_of_the_swarm_is_a_nudge(
    world: World, leader: Leader, managers: Managers
) -> None:
    """Once when the line stands, and at each change of the service or a node after that."""
    world.deploy(0)
    nudged, take = trio.open_memory_channel[None](100)
    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, managers, lambda: nudged.send_nowait(None))
            await take.receive()
            seen = await leader.driver.observe()
            await leader.driver.set_containers(1, seen=seen, term=TERM, reasons=())
            await take.receive()
            world.label(world.workers[1], None)
            await take.receive()
            nursery.cancel_scope.cancel()
