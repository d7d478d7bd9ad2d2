"""The Swarm driver while managers die: what holds, for how long, and that nobody is disturbed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trio

from scaling.ports import Conflict, OrchestratorUnavailable
from scaling.snapshot import ContainerState
from scaling.swarm.client import Managers
from scaling.swarm.lease import SwarmLease
from scaling.swarm.sight import SwarmSight
from tests.contract.swarm_suite import Leader
from tests.swarm.driver_world import RealWorld
from tests.swarm.rig import Swarm

pytestmark = pytest.mark.slow

TERM = 3
RESUMES_WITHIN_S = 40.0
"""14 s without a leader, and until the nodes are heard by the new one; this machine is small."""


@pytest.fixture
def world(swarm_of_managers: Swarm) -> RealWorld:
    """Three managers that work, too."""
    world = RealWorld(swarm_of_managers)
    for node in swarm_of_managers.nodes():
        world.label(node["Description"]["Hostname"], world.config.pool)
    return world


@pytest.fixture
def managers(world: RealWorld) -> Iterator[Managers]:
    """A client that knows all three."""
    managers = Managers(world.config)
    yield managers
    managers.close()


def leading(swarm: Swarm) -> str:
    """The node whose manager leads the others."""
    return next(
        str(node["Description"]["Hostname"])
        for node in swarm.nodes()
        if node.get("ManagerStatus", {}).get("Leader")
    )


def _running(sight: SwarmSight) -> int:
    return sum(each.state is ContainerState.RUNNING for each in sight.containers)


async def holds_then_goes_on(leader: Leader, running: int) -> tuple[list[str], SwarmSight]:
    """Look until so many run without trouble; the troubles on the way, and the last look."""
    troubles: list[str] = []
    with trio.fail_after(RESUMES_WITHIN_S):
        while True:
            try:
                sight = await leader.driver.observe()
            except OrchestratorUnavailable as error:
                troubles.append(str(error))
                continue
            if not sight.trouble and _running(sight) >= running:
                return troubles, sight
            troubles.append(sight.trouble)
            await trio.sleep(0.2)


async def test_the_leading_manager_dies(world: RealWorld, managers: Managers) -> None:
    """Nothing is changed while there is no leader, the lease stays with one, and then all goes on
    by another manager, as the lab shows, too; only what ran on the dead node is replaced."""
    leader = Leader(world, managers)
    lease = SwarmLease(managers, world.config)
    world.deploy(6)
    before = await leader.run(6)
    term = await lease.keep("one")
    assert term is not None
    dead = leading(world.swarm)
    stay = {each.id for each in before.containers if each.node != dead}
    world.swarm.lab.kill(dead)
    try:
        await leader.driver.set_containers(7, seen=before, term=term, reasons=("too late",))
        written = True
    except (OrchestratorUnavailable, Conflict):
        written = False
    troubles, seen = await holds_then_goes_on(leader, 4)
    assert troubles
    assert dead not in {one.name for one in world.swarm.lab.status() if one.role == "leader"}
    assert leading(world.swarm) != dead
    assert seen.wanted == (7 if written else seen.wanted)
    again = await lease.keep("one")
    assert again is not None
    assert term is not None
    assert again >= term
    await leader.driver.set_containers(
        5, seen=await leader.driver.observe(), term=again, reasons=()
    )
    alive = {each.id for each in (await leader.driver.observe()).containers}
    assert len(stay & alive) >= len(stay) - 2, "at most what was scaled down is gone"


async def test_without_a_quorum_it_holds_and_says_why(world: RealWorld, managers: Managers) -> None:
    """Two of three managers are dead: every call says so within its time, containers go on, and
    when one manager is back, so does scaling."""
    leader = Leader(world, managers)
    world.deploy(3)
    seen = await leader.run(3)
    dead = ["node-2", "node-3"]
    stay = {each.id for each in seen.containers if each.node not in dead}
    for name in dead:
        world.swarm.lab.kill(name)
    said = ""
    with trio.fail_after(120):
        while "start managers until most of them run" not in said:
            try:
                await leader.driver.set_containers(4, seen=seen, term=TERM, reasons=())
            except OrchestratorUnavailable as error:
                said = str(error)
            except Conflict as error:  # the last write of the old leader was its own
                said = str(error)
    assert stay <= world.running()
    world.swarm.lab.start("node-2")
    _, seen = await holds_then_goes_on(leader, len(stay))
    await leader.driver.set_containers(2, seen=seen, term=TERM, reasons=())
    assert (await leader.driver.observe()).wanted == 2
