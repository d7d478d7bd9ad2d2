"""A cluster on a timeline behind the ports of scaling, for tests of the controller.

The simulator's Swarm with versions and terms, its provider, and peers; the journal and the claims
are the real ones, in a database. Time is virtual and moved by hand. `gate` is awaited before and
after everything that changes something, so that a test can kill a leader there, or let another one
go first.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import trio

from scaling.config import ScalingConfig
from scaling.controller import Controller, Reign, World
from scaling.creating import Creator
from scaling.executor import Then
from scaling.intents import Intent, Intents
from scaling.ports import (
    Conflict,
    Entry,
    Journal,
    Machine,
    Noted,
    Outcome,
    Sight,
    Superseded,
    Workload,
)
from scaling.snapshot import Demand, NodeState, PeerSight
from scaling.upkeep import UpkeepRules
from scaling.utilization import Levels
from tests.simulation.scaling.events import Timeline
from tests.simulation.scaling.swarm import Swarm
from tests.simulation.scaling.traces import Part

Gate = Callable[[str], Awaitable[None]]

CONFIG = ScalingConfig(
    orchestrator="swarm",
    queue_high=4,
    queue_low=1,
    containers_per_node=2,
    containers_max=6,
    nodes_max=3,
    wait_s=60.0,
    down_window_s=60.0,
    node_age_min_s=60.0,
)
SETTLE_S = 10.0


async def no_gate(_: str) -> None:
    """Nothing happens there."""


class Cluster:
    """What all leaders of a test share.

    Attributes:
        created: Names of machines, each time one was made.
        faults: What must never be.
    """

    def __init__(self, seed: int = 1, config: ScalingConfig = CONFIG) -> None:
        self.config = config
        self.timeline = Timeline()
        self.swarm = Swarm(
            self.timeline, random.Random(seed), per_node=config.containers_per_node, grace_s=1e6
        )
        self.swarm.add("worker-1", fixed=True)
        self.swarm.set_containers(1)
        self.term = 0
        self.version = 0
        self.node_versions: dict[str, int] = {}
        self.created: list[str] = []
        self.faults: list[str] = []
        self.timeline.run(10.0)

    def now(self) -> float:
        return self.timeline.now_s

    def burst(self, parts: int, work_s: float) -> None:
        """Let parts come, all at once."""
        for _ in range(parts):
            self.swarm.work.arrive(Part(at_s=self.now(), work_s=work_s))

    def sight(self) -> Sight:
        nodes = tuple(n for n in self.swarm.nodes() if n.state is not NodeState.BOOTING)
        marks = [f"{n.name}={self.node_versions.get(n.name, 0)}" for n in nodes]
        return Sight(
            containers=tuple(replace(each, peer=None) for each in self.swarm.containers()),
            nodes=nodes,
            wanted=self.swarm.wanted,
            version=" ".join([str(self.version), *marks]),
            term=self.term,
        )

    def fence(self, term: int) -> None:
        if term < self.term:
            raise Superseded(f"term {self.term} has written already")
        self.term = term


class Driver:
    """Implements `Orchestrator` for one leader."""

    def __init__(self, cluster: Cluster, gate: Gate) -> None:
        self._cluster, self._gate = cluster, gate

    async def observe(self) -> Sight:
        sight = self._cluster.sight()
        await self._gate("observe")  # what was seen gets old on its way
        return sight

    def victims(self, sight: Sight, count: int) -> tuple[str, ...]:
        return self._cluster.swarm.victims(count)

    async def set_containers(
        self, count: int, *, seen: Sight, term: int, reasons: Sequence[str]
    ) -> None:
        def change() -> None:
            if seen.version.split()[0] != str(self._cluster.version):
                raise Conflict("the number was changed meanwhile")
            self._cluster.version += 1
            self._cluster.swarm.set_containers(count)

        await self._change("set_containers", term, change)

    async def take_in(self, node: str, *, seen: Sight, term: int) -> None:
        await self._on_node("take_in", node, seen, term, lambda: self._cluster.swarm.order(node))

    async def empty(self, node: str, *, seen: Sight, term: int) -> None:
        await self._on_node("empty", node, seen, term, lambda: self._cluster.swarm.empty(node))

    async def retire(self, node: str, *, seen: Sight, term: int) -> None:
        """The machine is destroyed by its provider; nothing else keeps it."""
        await self._on_node("retire", node, seen, term, lambda: None)

    async def _on_node(
        self, name: str, node: str, seen: Sight, term: int, do: Callable[[], None]
    ) -> None:
        def change() -> None:
            version = self._cluster.node_versions.get(node, 0)
            if f"{node}={version}" not in seen.version.split():
                raise Conflict(f"{node} was changed meanwhile")
            self._cluster.node_versions[node] = version + 1
            do()

        await self._change(name, term, change)

    async def _change(self, name: str, term: int, change: Callable[[], None]) -> None:
        await self._gate(f"before {name}")
        self._cluster.fence(term)
        change()
        await self._gate(f"after {name}")


class Provider:
    """Implements `NodeProvider`."""

    def __init__(self, cluster: Cluster, gate: Gate) -> None:
        self._cluster, self._gate = cluster, gate

    async def list(self) -> Sequence[Machine]:
        return [
            Machine(name=machine.name, state=machine.state)
            for machine in self._cluster.swarm.machines.values()
            if not machine.fixed
        ]

    async def create(self, name: str) -> None:
        await self._gate("before create")
        if name in self._cluster.swarm.machines:
            self._cluster.faults.append(f"{name} was made twice")
        self._cluster.created.append(name)
        self._cluster.swarm.order(name)
        await self._gate("after create")

    async def destroy(self, name: str) -> None:
        await self._gate("before destroy")
        if name in self._cluster.swarm.machines:
            if any(task.node == name for task in self._cluster.swarm.tasks):
                self._cluster.faults.append(f"{name} was destroyed with containers on it")
            self._cluster.swarm.retire(name)
        await self._gate("after destroy")


class Others:
    """Implements `Peers`, and `DemandSource`: gossip and the queue."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    def leads(self) -> bool:
        return True

    def quorate(self) -> bool:
        return True

    def sights(self) -> dict[str, PeerSight]:
        found = self._cluster.swarm.containers()
        return {each.id: each.peer for each in found if each.peer is not None}

    async def park(self, uid: str) -> bool:
        self._cluster.swarm.park(uid, True)
        return True

    async def unpark(self, uid: str) -> bool:
        self._cluster.swarm.park(uid, False)
        return True

    async def renew(self) -> None:
        """A park of the simulator lasts."""

    async def workload(self) -> Workload | None:
        work = self._cluster.swarm.work
        since_s = self._cluster.now() - 120.0
        lately = sum(at_s > since_s for at_s in work.arrivals_s)
        demand = Demand(
            ready=work.ready,
            delayed=0,
            running=work.running,
            arrivals_per_s=lately / 120.0,
            service_s=work.service_s,
            age_s=0.0,
        )
        sights = self.sights().values()
        return Workload(
            demand=demand,
            remaining_s={sight.uid: sight.remaining_s for sight in sights if sight.running},
        )


class GatedJournal:
    """Implements `Journal`: the real one, with gates."""

    def __init__(self, journal: Journal, gate: Gate) -> None:
        self._journal, self._gate = journal, gate

    async def begin(self, term: int) -> tuple[int, Levels]:
        await self._gate("before begin")
        begun = await self._journal.begin(term)
        await self._gate("after begin")
        return begun

    async def note(self, era: int, entry: Entry) -> Noted:
        await self._gate("before note")
        noted = await self._journal.note(era, entry)
        await self._gate("after note")
        return noted

    async def finish(self, number: int, outcomes: Sequence[Outcome]) -> None:
        await self._gate("before finish")
        await self._journal.finish(number, outcomes)
        await self._gate("after finish")


class GatedIntents:
    """Implements `Intents`: the real ones, with gates."""

    def __init__(self, intents: Intents, gate: Gate) -> None:
        self._intents, self._gate = intents, gate

    async def list(self) -> Sequence[Intent]:
        return await self._intents.list()

    async def claim(self, name: str, *, term: int) -> bool:
        await self._gate("before claim")
        claimed = await self._intents.claim(name, term=term)
        await self._gate("after claim")
        return claimed

    async def adopt(self, intent: Intent, *, term: int) -> bool:
        await self._gate("before adopt")
        adopted = await self._intents.adopt(intent, term=term)
        await self._gate("after adopt")
        return adopted

    async def release(self, intent: Intent) -> bool:
        await self._gate("before release")
        released = await self._intents.release(intent)
        await self._gate("after release")
        return released


class Leader:
    """One leader, round by round.

    Args:
        may_act: Whether it believes in its lease.
    """

    def __init__(
        self,
        cluster: Cluster,
        journal: Journal,
        intents: Intents,
        *,
        term: int,
        gate: Gate = no_gate,
        dry_run: bool = False,
        may_act: Callable[[], bool] = lambda: True,
    ) -> None:
        self.term, self._cluster, self._may_act = term, cluster, may_act
        others, config = Others(cluster), cluster.config
        rules = UpkeepRules(
            pool=config.pool,
            machines_max=config.nodes_max,
            boot_timeout_s=config.boot_timeout_s,
            settle_s=SETTLE_S,
        )
        self.driver = Driver(cluster, gate)

        def make_creator(term: int, may_act: Callable[[], bool]) -> Creator:
            return Creator(
                Provider(cluster, gate),
                GatedIntents(intents, gate),
                rules,
                term=term,
                may_act=may_act,
                clock=cluster.now,
            )

        self.world = World(
            orchestrator=self.driver,
            demand=others,
            peers=others,
            journal=GatedJournal(journal, gate),
            make_creator=make_creator,
        )
        self.controller = Controller(
            self.world,
            config,
            name=f"leader-{term}",
            dry_run=dry_run,
            clock=cluster.now,
        )
        self.reign: Reign = self.controller.begin(term, may_act)

    async def tick(self) -> Then:
        """One round, and one look after the machines; after being superseded it begins anew."""
        then = Then.STEP_DOWN
        with suppress(Superseded):
            then = await self.controller.round(self.reign)
        if then is Then.STEP_DOWN:
            self.reign = self.controller.begin(self.term, self._may_act)
        else:
            await self.controller.tend(self.reign)
        return then


class Killer:
    """A gate at which a leader dies, counted over all it passes."""

    def __init__(self, at: int) -> None:
        self._at = at
        self.passed: list[str] = []
        self.scope = trio.CancelScope()

    async def __call__(self, name: str) -> None:
        self.passed.append(name)
        if len(self.passed) == self._at:
            self.scope.cancel()
        await trio.lowlevel.checkpoint()
