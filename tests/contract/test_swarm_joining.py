"""What a new machine is told of the Swarm that it is to join, by managers of every condition."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest

from scaling.ports import OrchestratorUnavailable
from scaling.providers.join import Join
from scaling.swarm.client import Managers
from scaling.swarm.config import SwarmConfig
from scaling.swarm.joining import ask_join
from tests.servers.fake_swarm import FakeSwarm

TIMEOUT_S = 1.0


@pytest.fixture
def swarm() -> Iterator[FakeSwarm]:
    """Three managers, the first of which leads, and a worker."""
    with FakeSwarm() as swarm:
        for name in ("node-1", "node-2", "node-3"):
            swarm.add_manager(name)
        swarm.add_worker("node-4")
        yield swarm


@asynccontextmanager
async def asking(*managers: str) -> AsyncIterator[Managers]:
    asked = Managers(SwarmConfig(managers=managers, timeout_s=TIMEOUT_S))
    try:
        yield asked
    finally:
        asked.close()


async def ask(*managers: str) -> Join:
    async with asking(*managers) as asked:
        return await ask_join(asked)


def address(swarm: FakeSwarm, name: str) -> str:
    said: str = swarm.node(name)["ManagerStatus"]["Addr"]
    return said


async def test_the_leader_is_told_first(swarm: FakeSwarm) -> None:
    """All managers are named, the leading one first, and no worker, whoever is asked."""
    expected = tuple(address(swarm, name) for name in ("node-1", "node-2", "node-3"))
    for url in swarm.managers:
        assert (await ask(url)).addresses == expected


async def test_a_lost_manager_is_left_out(swarm: FakeSwarm) -> None:
    """When the leading one dies another leads and is told first; who is unreachable is not told."""
    swarm.cut("node-3")
    swarm.kill("node-1")
    swarm.heal("node-3")  # else they are too few
    swarm.advance(60.0)
    expected = (address(swarm, "node-2"), address(swarm, "node-3"))
    assert (await ask(*swarm.managers)).addresses == expected
    swarm.cut("node-3")
    assert (await ask(*swarm.managers)).addresses == expected[:1]


async def test_a_rotated_token_is_the_new_one(swarm: FakeSwarm) -> None:
    """It is asked for each time, so the one that a person has rotated is never given again; and it
    is the workers', which lets nobody manage the Swarm."""
    async with asking(*swarm.managers) as managers:
        before = await ask_join(managers)
        swarm.worker_token = "SWMTKN-rotated"
        after = await ask_join(managers)
    assert (before.token, after.token) == ("SWMTKN-of-workers", "SWMTKN-rotated")
    with pytest.raises(ValueError, match="lets anybody in"):
        swarm.join("node-5", token=before.token, addresses=before.addresses)
    swarm.join("node-5", token=after.token, addresses=after.addresses)


async def test_nobody_to_join_is_said(swarm: FakeSwarm) -> None:
    """A Swarm whose managers all call each other unreachable names nobody, and the setting that
    helps is named instead."""
    for name in ("node-1", "node-2", "node-3"):
        swarm.cut(name)
    with pytest.raises(OrchestratorUnavailable, match=r"set scaling\.provider\.join_addresses"):
        await ask(*swarm.managers)


async def test_a_worker_cannot_say(swarm: FakeSwarm) -> None:
    """Who is no manager knows no token: that is trouble of the orchestrator's, for the caller."""
    worker = swarm.managers[0].replace("node-1", "node-4")
    with pytest.raises(OrchestratorUnavailable):
        await ask(worker)


async def test_nothing_is_written(swarm: FakeSwarm) -> None:
    """To ask changes nothing."""
    await ask(*swarm.managers)
    assert swarm.writes == []


async def test_the_token_is_not_shown(swarm: FakeSwarm) -> None:
    """What is asked for may be logged as a whole, and its secret is not in it."""
    join = await ask(*swarm.managers)
    assert join.token not in repr(join)
