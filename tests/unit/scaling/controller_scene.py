"""A controller with everything around it in memory, and refusals on request."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from peer.restraint import Restraint
from scaling.config import ScalingConfig
from scaling.controller import Controller, World
from scaling.creating import Creator
from scaling.intents import Intent
from scaling.ports import (
    Entry,
    Machine,
    NodeProvider,
    Noted,
    Outcome,
    ProviderFailed,
    ScalingError,
    Sight,
    Workload,
)
from scaling.snapshot import Container, ContainerState, Demand, Node, NodeState, PeerSight, Snapshot
from scaling.tenure import Tenure
from scaling.upkeep import UpkeepRules
from scaling.utilization import Levels

CONFIG = ScalingConfig(orchestrator="swarm", interval_s=5.0)
SETTLED_S = 2 * CONFIG.interval_s
PARK_S = 60.0


class Notebook:
    """Implements `Journal`, in memory: keeps what is put down, and refuses on request."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.at_s: list[float] = []
        self.finished: list[Sequence[Outcome]] = []
        self.error: ScalingError | None = None
        self.acting, self.paused = True, False
        self.levels = Levels()

    async def begin(self, term: int) -> tuple[int, Levels]:
        self._refuse()
        return 1, self.levels

    async def note(self, era: int, entry: Entry) -> Noted:
        self._refuse()
        self.entries.append(entry)
        self.at_s.append(trio.current_time())
        acting = self.acting and not self.paused and not entry.dry_run
        return Noted(number=len(self.entries), acting=acting, paused=self.paused)

    async def finish(self, number: int, outcomes: Sequence[Outcome]) -> None:
        self._refuse()
        self.finished.append(outcomes)

    def _refuse(self) -> None:
        if self.error is not None:
            raise self.error


class Place:
    """Implements `Orchestrator`, `Peers` and `DemandSource`: one node with one container."""

    def __init__(self) -> None:
        self.wanted, self.term, self.ready = 1, 0, 0
        self.set: list[int] = []
        self.observe_error: ScalingError | None = None
        self.change_error: ScalingError | None = None
        self.ledger_away = False
        self.renewed_at_s: list[float] = []
        self.restraint = Restraint(PARK_S)

    async def observe(self) -> Sight:
        if self.observe_error is not None:
            raise self.observe_error
        return Sight(
            containers=(Container(id="a", slot=1, node="worker-1", state=ContainerState.RUNNING),),
            nodes=(Node(name="worker-1", state=NodeState.READY, since_s=0.0, capacity=4),),
            wanted=self.wanted,
            version="1",
            term=self.term,
        )

    def victims(self, sight: Sight, count: int) -> tuple[str, ...]:
        return ()

    async def set_containers(
        self, count: int, *, seen: Sight, term: int, reasons: Sequence[str]
    ) -> None:
        if self.change_error is not None:
            raise self.change_error
        self.set.append(count)
        self.wanted = count

    async def take_in(self, node: str, *, seen: Sight, term: int) -> None:
        raise AssertionError("there is no other node")

    async def empty(self, node: str, *, seen: Sight, term: int) -> None:
        raise AssertionError("it is the only node")

    async def retire(self, node: str, *, seen: Sight, term: int) -> None:
        raise AssertionError("it is the only node")

    def leads(self) -> bool:
        return True

    def quorate(self) -> bool:
        return True

    def sights(self) -> dict[str, PeerSight]:
        return {}

    async def park(self, uid: str) -> bool:
        return True

    async def unpark(self, uid: str) -> bool:
        return True

    async def renew(self) -> None:
        self.renewed_at_s.append(trio.current_time())
        if self.restraint.parked:
            self.restraint.park(trio.current_time())

    async def workload(self) -> Workload | None:
        if self.ledger_away:
            return None
        demand = Demand(
            ready=self.ready, delayed=0, running=0, arrivals_per_s=0.0, service_s=60.0, age_s=0.0
        )
        return Workload(demand=demand, remaining_s={})


class Lease:
    """Implements `Lease`: there is no other contender."""

    def __init__(self) -> None:
        self.term = 1

    async def keep(self, holder: str) -> int | None:
        return self.term

    async def give_up(self, holder: str) -> None:
        self.term += 1


class NoIntents:
    """Implements `Intents`: nothing is claimed."""

    async def list(self) -> Sequence[Intent]:
        return []

    async def claim(self, name: str, *, term: int) -> bool:
        raise AssertionError("nothing is ordered")

    async def adopt(self, intent: Intent, *, term: int) -> bool:
        raise AssertionError("nothing is claimed")

    async def release(self, intent: Intent) -> bool:
        raise AssertionError("nothing is claimed")


class Strange:
    """Implements `NodeProvider`: has a machine that is not of the pool, or does not answer."""

    def __init__(self) -> None:
        self.error: ScalingError | None = ProviderFailed("the provider does not answer")

    async def list(self) -> Sequence[Machine]:
        if self.error is not None:
            raise self.error
        return [Machine(name="web-1", state=NodeState.BOOTING)]

    async def create(self, name: str) -> None:
        raise AssertionError("nothing is ordered")

    async def destroy(self, name: str) -> None:
        raise AssertionError("nothing is removed")


class Scene:
    """A controller with everything around it."""

    def __init__(
        self,
        *,
        dry_run: bool = False,
        config: ScalingConfig = CONFIG,
        provider: NodeProvider | None = None,
    ) -> None:
        def make_creator(term: int, may_act: Callable[[], bool]) -> Creator:
            assert provider is not None
            rules = UpkeepRules(pool="pool", machines_max=3, boot_timeout_s=300.0, settle_s=10.0)
            return Creator(provider, NoIntents(), rules, term=term, may_act=may_act)

        self.place, self.notebook = Place(), Notebook()
        self.looks: list[tuple[Sight | None, Sight]] = []
        self.world = World(
            orchestrator=self.place,
            demand=self.place,
            peers=self.place,
            journal=self.notebook,
            make_creator=None if provider is None else make_creator,
            on_sight=lambda before, after: self.looks.append((before, after)),
        )
        self.controller = Controller(self.world, config, name="demo-1", dry_run=dry_run)
        self.tenure = Tenure(
            Lease(),
            lambda: "me",
            lease_s=20.0,
            leads=self.place.leads,
            changed=self.controller.nudge,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.tenure.run)
            nursery.start_soon(self.controller.run, self.tenure)
            yield
            nursery.cancel_scope.cancel()

    def snapshot(self) -> Snapshot:
        return self.notebook.entries[-1].considered.snapshot

    def trouble(self) -> str:
        return self.snapshot().trouble

    def codes(self) -> list[str]:
        decision = self.notebook.entries[-1].considered.decision
        return [reason.code for reason in decision.reasons]
