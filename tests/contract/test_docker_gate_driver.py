"""The Swarm driver, knowing nothing but the gate: all that scaling does passes it, unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from scaling.ports import Conflict, OrchestratorUnavailable
from scaling.swarm.client import Managers
from scaling.swarm.intents import SwarmIntents
from scaling.swarm.joining import ask_join
from scaling.swarm.problems import Refused
from tests.contract.swarm_suite import *  # noqa: F403  the suite's tests become this module's
from tests.contract.swarm_suite_lease import *  # noqa: F403  and these
from tests.contract.test_swarm_orchestrator import FakeWorld
from tests.servers.docker_gate import DockerGate
from tests.servers.fake_swarm import FakeSwarm


@pytest.fixture
def world() -> Iterator[FakeWorld]:
    """The fake Swarm, behind a gate."""
    with FakeSwarm() as swarm:
        world = FakeWorld(swarm)
        engine = Path(swarm.managers[0].removeprefix("unix://"))
        with DockerGate(engine, world.config) as gate:
            world.config = gate.config
            yield world


async def test_how_workers_join_is_told_only_where_machines_are_made(
    world: FakeWorld, managers: Managers
) -> None:
    """Without `--joins` the gate keeps the token to itself, and says so."""
    with pytest.raises(OrchestratorUnavailable, match="does not tell how machines join"):
        await ask_join(managers)


async def test_an_engine_that_is_away_is_said_so(world: FakeWorld, managers: Managers) -> None:
    """As a sentence; and when the engine is back, the gate works without being started anew."""
    assert len(await managers.get("/nodes", list)) == 3
    world.swarm.kill("node-1")
    with pytest.raises(OrchestratorUnavailable, match="the Docker engine takes no connection"):
        await managers.get("/nodes", list)
    world.swarm.heal("node-1")
    world.swarm.advance(60.0)
    assert len(await managers.get("/nodes", list)) == 3


async def test_configs_of_others_are_neither_listed_nor_shown(
    world: FakeWorld, managers: Managers
) -> None:
    """Whatever their labels say: a config's content may be another program's settings."""
    past = Managers(replace(world.config, managers=world.swarm.managers))
    stranger = {"Name": "web", "Data": "", "Labels": {"grapevine.service": world.config.service}}
    await past.post("/configs/create", stranger)
    past.close()
    assert await SwarmIntents(managers, world.config).claim("worker-1", term=7)
    filters = f'{{"label":["grapevine.service={world.config.service}"]}}'
    shown = await managers.get("/configs", list, filters=filters)
    assert [one["Spec"]["Name"] for one in shown] == [f"{world.config.service}-intent-worker-1"]
    with pytest.raises(Refused) as refused:
        await managers.get("/configs/web", dict)
    assert refused.value.missing


async def test_a_stale_version_is_told_as_the_engine_tells_it(
    world: FakeWorld, managers: Managers
) -> None:
    """So that the driver takes it for what it is: somebody was quicker."""
    world.deploy(1)
    found = world.swarm.service(world.config.service)
    path, version = f"/services/{found['ID']}/update", found["Version"]["Index"]
    wish = {**found["Spec"], "Mode": {"Replicated": {"Replicas": 2}}}
    await managers.post(path, wish, version=version)
    with pytest.raises(Conflict):
        await managers.post(path, wish, version=version)
