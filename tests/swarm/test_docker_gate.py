"""The gate before a real manager's socket: what scaling does passes, and nothing else does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deploy.lab.engine import Engine, EngineError
from scaling.snapshot import NodeState
from scaling.swarm.client import Managers
from scaling.swarm.intents import SwarmIntents
from scaling.swarm.joining import ask_join
from scaling.swarm.lease import SwarmLease
from tests.contract.swarm_suite import TERM, Leader
from tests.servers.docker_gate import DockerGate
from tests.swarm.driver_world import SERVICE, RealWorld
from tests.swarm.rig import Swarm

pytestmark = pytest.mark.slow


@pytest.fixture
def world(swarm: Swarm) -> Iterator[RealWorld]:
    """The lab's Swarm, by way of its first manager's gate."""
    world = RealWorld(swarm)
    with DockerGate(swarm.managers[0], world.config, joins=True) as gate:
        world.config = gate.config
        yield world


@pytest.fixture
def managers(world: RealWorld) -> Iterator[Managers]:
    """A client that knows the gate only."""
    managers = Managers(world.config)
    yield managers
    managers.close()


async def test_scaling_passes_and_restarts_nobody(world: RealWorld, managers: Managers) -> None:
    """Lease, look, scale, claim, empty a node and take it in again; the spec stays as it was."""
    for worker in world.workers:
        world.label(worker, world.config.pool)
    world.deploy(2)
    before = world.service()
    leader = Leader(world, managers)
    seen = await leader.run(2)
    first = world.running()
    assert await SwarmLease(managers, world.config, clock=world.clock).keep("one") == 1
    assert await SwarmIntents(managers, world.config).claim("grapevine-9", term=TERM)
    await leader.driver.set_containers(4, seen=seen, term=TERM, reasons=["a queue"])
    seen = await leader.run(4)
    assert first < world.running()
    after = world.service()
    assert after["TaskTemplate"] == before["TaskTemplate"]
    assert after["Mode"] == {"Replicated": {"Replicas": 4}}
    gone = world.workers[0]
    await leader.driver.empty(gone, seen=seen, term=TERM)
    emptied = await leader.until(
        lambda now: any(n.name == gone and n.state is NodeState.EMPTY for n in now.nodes)
    )
    await leader.driver.take_in(gone, seen=emptied, term=TERM)
    await leader.until(
        lambda now: any(n.name == gone and n.state is NodeState.READY for n in now.nodes)
    )


async def test_a_worker_could_join_with_what_it_tells(
    world: RealWorld, managers: Managers, swarm: Swarm
) -> None:
    """The worker's token, and nothing of the manager's."""
    tokens = swarm.manager.get("/swarm")["JoinTokens"]
    join = await ask_join(managers)
    assert join.token == tokens["Worker"]
    assert join.addresses
    assert await managers.get("/swarm", dict) == {"JoinTokens": {"Worker": tokens["Worker"]}}


def test_the_rest_of_dockers_api_is_shut(world: RealWorld, swarm: Swarm) -> None:
    """No container, no exec, no other service, no former image by a rollback."""
    world.deploy(1)
    engine = Engine(swarm.managers[0])
    found = engine.get(f"/services/{SERVICE}")
    gate = Engine(_socket(world))
    version = found["Version"]["Index"]
    refused: list[Callable[[], Any]] = [
        lambda: gate.post("/containers/create", {"Image": "grapevine-tiny:lab"}),
        lambda: gate.get("/containers/json"),
        lambda: gate.get("/secrets"),
        lambda: gate.post("/services/create", {**found["Spec"], "Name": "evil"}),
        lambda: gate.delete(f"/services/{SERVICE}"),
        lambda: gate.post(
            f"/services/{SERVICE}/update", found["Spec"], version=version, rollback="previous"
        ),
        lambda: gate.post(
            f"/services/{SERVICE}/update",
            {**found["Spec"], "TaskTemplate": {**found["Spec"]["TaskTemplate"], "ForceUpdate": 1}},
            version=version,
        ),
    ]
    for attempt in refused:
        with pytest.raises(EngineError) as error:
            attempt()
        assert error.value.status == 403
    assert engine.get(f"/services/{SERVICE}")["Version"]["Index"] == version


def _socket(world: RealWorld) -> Path:
    return Path(world.config.managers[0].removeprefix("unix://"))
