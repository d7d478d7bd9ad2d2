"""The whole loop on a real Swarm: lease, looks, decisions in a real ledger, and what comes of them.

Engines, Swarm and database are real; the peers in the containers are played, and do what they are
told at once.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest
import trio

from peer.scale.ledger import QUERIES, ScalingDatabase, event_writer
from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from scaling.config import ScalingConfig
from scaling.controller import Controller, World
from scaling.ledger.journal import LedgerJournal
from scaling.ports import Sight, Workload
from scaling.snapshot import Activity, ContainerState, Demand, NodeState, PeerSight
from scaling.swarm.client import Managers
from scaling.swarm.lease import SwarmLease
from scaling.swarm.nudges import watch
from scaling.swarm.orchestrator import SwarmOrchestrator
from scaling.tenure import Tenure
from tests.ledger_rig import MakePeer
from tests.swarm.driver_world import RealWorld
from tests.swarm.rig import Swarm

pytestmark = pytest.mark.slow

CONFIG = ScalingConfig(
    orchestrator="swarm",
    pool="grapevine",
    interval_s=0.5,
    queue_low=1,
    queue_high=2,
    containers_per_node=2,
    containers_max=4,
    nodes_max=2,
    down_window_s=3.0,
    node_age_min_s=1.0,
    average_s=0.5,
)
WITHIN_S = 60.0


class Played:
    """Implements `Peers` and `DemandSource`: an idle peer in each container that runs."""

    def __init__(self) -> None:
        self.ready = 0
        self.sight: Sight | None = None
        self.looked = trio.Event()
        self._parked: set[str] = set()

    def look(self, _before: Sight | None, after: Sight) -> None:
        self.sight = after
        self.looked.set()
        self.looked = trio.Event()

    def leads(self) -> bool:
        return True

    def quorate(self) -> bool:
        return True

    def sights(self) -> dict[str, PeerSight]:
        containers = self.sight.containers if self.sight is not None else ()
        return {
            each.id: PeerSight(
                uid=each.id,
                activity=Activity.PARKED if each.id in self._parked else Activity.IDLE,
                slots=1,
                running=0,
                remaining_s=0.0,
                cpu=0.5,
                memory=0.1,
                age_s=0.0,
            )
            for each in containers
            if each.state is ContainerState.RUNNING
        }

    async def park(self, uid: str) -> bool:
        self._parked.add(uid)
        return True

    async def unpark(self, uid: str) -> bool:
        self._parked.discard(uid)
        return True

    async def renew(self) -> None:
        """These never forget."""

    async def workload(self) -> Workload | None:
        demand = Demand(
            ready=self.ready, delayed=0, running=0, arrivals_per_s=0.0, service_s=60.0, age_s=0.0
        )
        return Workload(demand=demand, remaining_s={})


@pytest.fixture
def world(swarm: Swarm) -> RealWorld:
    """The lab's Swarm: one worker in service, the other one on standby."""
    world = RealWorld(swarm)
    world.label(world.workers[0], CONFIG.pool)
    world.label(world.workers[1], f"{CONFIG.pool}:standby")
    return world


async def test_a_burst_on_a_real_swarm(
    world: RealWorld, database: Database, ledger: PostgresLedger, make_peer: MakePeer
) -> None:
    """Work comes: containers up to the threshold, a node more, and more on it. It goes: all of that
    is taken back, containers first. Each is told once, with reasons, and nobody was restarted."""
    world.deploy(1, per_node_max=2)
    managers, played = Managers(world.config), Played()
    orchestrator = SwarmOrchestrator(
        managers, world.config, leader="a test", heard=lambda: played.sights().keys()
    )
    journal = LedgerJournal(
        ScalingDatabase(database),
        QUERIES,
        scope="swarm",
        write_events=event_writer(make_peer("ada").record),
        silence_s=60.0,
    )
    scene = World(
        orchestrator=orchestrator,
        demand=played,
        peers=played,
        journal=journal,
        on_sight=played.look,
    )
    controller = Controller(scene, CONFIG, name="ada")
    tenure = Tenure(
        SwarmLease(managers, world.config),
        lambda: "ada",
        lease_s=world.config.lease_s,
        leads=played.leads,
        changed=controller.nudge,
    )

    def there(containers: int, *states: NodeState) -> Callable[[], bool]:
        def so() -> bool:
            sight = played.sight
            if sight is None or len(sight.containers) != containers:
                return False
            running = all(each.state is ContainerState.RUNNING for each in sight.containers)
            return running and sorted(node.state for node in sight.nodes) == sorted(states)

        return so

    async def until(so: Callable[[], bool]) -> None:
        with trio.fail_after(WITHIN_S):
            while not so():
                await played.looked.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tenure.run)
        nursery.start_soon(controller.run, tenure)
        nursery.start_soon(watch, managers, controller.nudge)
        await until(there(1, NodeState.READY, NodeState.STANDBY))
        before = world.running()
        await trio.sleep(CONFIG.interval_s * 4)  # the first looks of a leader change nothing
        played.ready = 40
        await until(there(4, NodeState.READY, NodeState.READY))
        assert before <= world.running(), "who was there goes on"
        played.ready = 0
        await until(there(1, NodeState.READY, NodeState.STANDBY))
        await trio.sleep(CONFIG.interval_s * 4)
        nursery.cancel_scope.cancel()
    managers.close()
    rows = await ledger.list_events(task_id=None, type=None, after_id=0, limit=100)
    assert Counter(row.type for row in rows if "Scaled" in row.type) == {
        "ContainerScaledUp": 3,
        "ContainerScaledDown": 3,
        "WorkerNodeScaledUp": 1,
        "WorkerNodeScaledDown": 1,
    }
    assert all("no decision" not in row.data["reasons"][0] for row in rows if "Scaled" in row.type)
