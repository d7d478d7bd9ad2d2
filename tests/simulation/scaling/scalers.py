"""Who decides in the simulation: this project's policy, and its rivals.

Grapevine   `scaling.policy.decide` and `scaling.plan.plan`, the very code that runs in production
Literal     the specification's words and nothing else: a container or a node more or fewer on
            each look; with a cooldown, as its users soon add one
Keda        Kubernetes: KEDA's queue length of 5 a replica through an HPA (tolerance 10 %, at most
            doubling in 15 s, 300 s down window), a cluster autoscaler, random victims with 10 s
            of grace
"""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

from scaling.config import ScalingConfig
from scaling.decision import (
    Decision,
    EmptyNode,
    Park,
    RetireNode,
    SetContainers,
    StartNode,
    Unpark,
)
from scaling.memory import Memory
from scaling.plan import plan
from scaling.policy import decide
from scaling.snapshot import ContainerState, Demand, NodeState, Snapshot
from tests.simulation.scaling.swarm import Swarm, Task


class Scaler(Protocol):
    """Decides, and acts."""

    @property
    def grace_s(self) -> float:
        """Between TERM and KILL."""
        ...

    @property
    def interval_s(self) -> float:
        """Between two looks."""
        ...

    def tick(self, snapshot: Snapshot, swarm: Swarm) -> None:
        """Look once, and do something or nothing."""
        ...


DISRUPTIVE = (EmptyNode, RetireNode)


@dataclass(kw_only=True)
class Grapevine:
    """The policy under test.

    Attributes:
        codes: How often each reason was given.
        faults: What must never be, as sentences: two disturbing actions in a round, or one that
            was done although something held.
    """

    config: ScalingConfig
    grace_s: float = 600.0
    memory: Memory = field(default_factory=Memory)
    codes: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    last: Decision | None = None

    @property
    def interval_s(self) -> float:
        """Between two looks."""
        return self.config.interval_s

    def tick(self, snapshot: Snapshot, swarm: Swarm) -> None:
        """Decide, plan, do."""
        decision, self.memory = decide(snapshot, self.config, self.memory)
        self.last = decision
        self.codes.update(reason.code for reason in decision.reasons)
        victims = swarm.victims(decision.desired.containers)
        actions = plan(snapshot, decision, victims, self.config)
        disturbing = [
            action
            for action in actions
            if isinstance(action, DISRUPTIVE)
            or (isinstance(action, SetContainers) and action.count < snapshot.wanted)
        ]
        if len(disturbing) > 1 or (decision.held and actions):
            self.faults.append(f"{snapshot.now_s:.0f} s: {actions}")
        for action in actions:
            match action:
                case StartNode(name=name):
                    swarm.order(name)
                case SetContainers(count=count):
                    swarm.set_containers(count)
                case Park(uid=uid):
                    swarm.park(uid, True)
                case Unpark(uid=uid):
                    swarm.park(uid, False)
                case EmptyNode(name=name):
                    swarm.empty(name)
                case RetireNode(name=name):
                    swarm.retire(name)


def _demand(snapshot: Snapshot) -> Demand:
    assert snapshot.demand is not None
    return snapshot.demand


def _idle_first(task: Task) -> tuple[bool, float]:
    busy = task.peer is not None and task.peer.part is not None
    return busy, task.peer.ends_s if task.peer is not None and busy else 0.0


@dataclass(kw_only=True)
class Literal:
    """The rules as they are written, on each look."""

    config: ScalingConfig
    cooldown_s: float = 0.0
    grace_s: float = math.inf
    interval_s: float = 5.0
    acted_s: float = -math.inf

    def tick(self, snapshot: Snapshot, swarm: Swarm) -> None:
        """Do what the sentence for this queue length says."""
        for node in snapshot.nodes:
            if node.state is NodeState.EMPTY:
                swarm.retire(node.name)
        if snapshot.now_s - self.acted_s < self.cooldown_s:
            return
        ready = _demand(snapshot).ready
        if ready > self.config.queue_high:
            self._more(snapshot, swarm)
        elif ready < self.config.queue_low:
            self._fewer(snapshot, swarm)

    def _more(self, snapshot: Snapshot, swarm: Swarm) -> None:
        nodes = [
            node for node in snapshot.nodes if node.state in (NodeState.READY, NodeState.BOOTING)
        ]
        if swarm.wanted >= self.config.containers_max:
            return
        if swarm.wanted >= self.config.containers_per_node * len(nodes):
            if len(nodes) >= self.config.nodes_max:
                return
            swarm.order(f"new-{swarm.boots}")
        swarm.set_containers(swarm.wanted + 1)
        self.acted_s = snapshot.now_s

    def _fewer(self, snapshot: Snapshot, swarm: Swarm) -> None:
        running = [task for task in swarm.live() if task.state is ContainerState.RUNNING]
        if swarm.wanted <= self.config.containers_min or not running:
            return
        self.acted_s = snapshot.now_s
        serving = [node for node in snapshot.nodes if node.state is NodeState.READY]
        removable = [node.name for node in serving if not node.fixed]
        fits = swarm.wanted - 1 <= self.config.containers_per_node * (len(serving) - 1)
        if removable and fits:
            load = Counter(task.node for task in running)
            name = min(removable, key=lambda name: (load[name], name))
            there = [task for task in running if task.node == name]
            swarm.end_one(min(there or running, key=_idle_first))
            swarm.empty(name)
        else:
            swarm.end_one(min(running, key=_idle_first))


@dataclass(kw_only=True)
class Keda:
    """Kubernetes with a queue scaler, a horizontal pod autoscaler and a cluster autoscaler."""

    config: ScalingConfig
    rng: random.Random
    each: int = 5
    grace_s: float = 10.0
    interval_s: float = 15.0
    wishes: list[tuple[float, int]] = field(default_factory=list)
    unneeded_since_s: dict[str, float] = field(default_factory=dict)

    def tick(self, snapshot: Snapshot, swarm: Swarm) -> None:
        """Scale pods, then nodes."""
        self._pods(snapshot, swarm)
        self._nodes(snapshot, swarm)

    def _pods(self, snapshot: Snapshot, swarm: Swarm) -> None:
        demand, now_s = _demand(snapshot), snapshot.now_s
        ratio = (demand.ready + demand.running) / (self.each * max(1, swarm.wanted))
        wish = math.ceil(ratio * swarm.wanted) if abs(ratio - 1) > 0.1 else swarm.wanted
        wish = min(wish, max(2 * swarm.wanted, swarm.wanted + 4))
        wish = min(max(wish, self.config.containers_min), self.config.containers_max)
        self.wishes = [(at_s, old) for at_s, old in self.wishes if now_s - at_s <= 300]
        self.wishes.append((now_s, wish))
        wish = max(old for _, old in self.wishes) if wish < swarm.wanted else wish
        if wish > swarm.wanted:
            swarm.set_containers(wish)
        while swarm.wanted > wish:
            swarm.end_one(self.rng.choice(swarm.live()))

    def _nodes(self, snapshot: Snapshot, swarm: Swarm) -> None:
        pending = sum(task.state is ContainerState.PENDING for task in swarm.live())
        booting = sum(node.state is NodeState.BOOTING for node in snapshot.nodes)
        lack = math.ceil(pending / self.config.containers_per_node) - booting
        for _ in range(min(lack, self.config.nodes_max - len(snapshot.nodes))):
            swarm.order(f"new-{swarm.boots}")
        load = Counter(task.node for task in swarm.tasks)
        for node in snapshot.nodes:
            if node.state is not NodeState.READY or load[node.name] or node.fixed:
                self.unneeded_since_s.pop(node.name, None)
            elif snapshot.now_s - self.unneeded_since_s.setdefault(node.name, snapshot.now_s) > 600:
                swarm.retire(node.name)
                del self.unneeded_since_s[node.name]
