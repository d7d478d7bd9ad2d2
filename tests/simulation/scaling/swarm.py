"""A Docker Swarm and a provider of nodes, as far as scaling meets them.

With the measured semantics: the one replicated service's tasks spread over the nodes with the
fewest, at most so many on each; more is running within two seconds; fewer ends those at the tail
of swarmkit's order, which get TERM up to three seconds later and KILL when their grace is over;
emptying a node makes before it breaks; a crashed task is replaced within three seconds.
"""

from __future__ import annotations

import itertools
import random
from collections import Counter
from dataclasses import dataclass
from functools import partial

from scaling.snapshot import Container, ContainerState, Node, NodeState
from tests.simulation.scaling.events import Timeline
from tests.simulation.scaling.order import victims
from tests.simulation.scaling.peers import ORDER_S, Peer, Work

CPU_EACH = 0.97

REAPED_S = 630.0
"""When a machine that never joins is destroyed: the time-out for boots, and some looks more."""


@dataclass(eq=False, slots=True, kw_only=True)
class Task:
    """A Swarm task."""

    id: str
    slot: int
    node: str = ""
    state: ContainerState = ContainerState.PENDING
    peer: Peer | None = None


@dataclass(eq=False, slots=True, kw_only=True)
class Machine:
    """A node, and since when it has been what it is and paid for."""

    name: str
    state: NodeState
    since_s: float
    ordered_s: float
    fixed: bool = False


class Swarm:
    """The cluster.

    Args:
        per_node: At most so many containers on a node.
        grace_s: Between TERM and KILL.
        never_joins: The share of ordered nodes that never come.

    Attributes:
        boots: How many nodes were ordered.
        paid_s: For how long nodes were paid, of those that are gone.
        ended: How many tasks were told to end by a scale-down or an emptying.
        ended_busy: How many of those had work at that moment.
        writes: When the number of containers was changed, and by how much.
    """

    def __init__(
        self,
        timeline: Timeline,
        rng: random.Random,
        *,
        per_node: int,
        grace_s: float,
        never_joins: float = 0.0,
    ) -> None:
        self._timeline = timeline
        self._rng = rng
        self._per_node = per_node
        self._grace_s = grace_s
        self._never_joins = never_joins
        self._ids = itertools.count(1)
        self.work = Work(timeline, self._freed)
        self.tasks: list[Task] = []
        self.machines: dict[str, Machine] = {}
        self.wanted = 0
        self.boots = 0
        self.paid_s = 0.0
        self.ended = 0
        self.ended_busy = 0
        self.writes: list[tuple[float, int]] = []

    # -- what is there

    def serving(self) -> list[Machine]:
        """List the nodes where containers may start."""
        return [node for node in self.machines.values() if node.state is NodeState.READY]

    def live(self) -> list[Task]:
        """List the tasks that were not told to end."""
        return [task for task in self.tasks if task.state is not ContainerState.STOPPING]

    def containers(self) -> tuple[Container, ...]:
        """Return what the orchestrator and gossip say of the tasks."""
        now_s = self._timeline.now_s
        return tuple(
            Container(
                id=task.id,
                slot=task.slot,
                node=task.node,
                state=task.state,
                peer=None if task.peer is None else task.peer.sight(now_s),
            )
            for task in self.tasks
        )

    def nodes(self) -> tuple[Node, ...]:
        """Return what the orchestrator and the provider say of the nodes."""
        busy = Counter(
            task.node
            for task in self.tasks
            if task.peer is not None
            and (sight := task.peer.sight(self._timeline.now_s)) is not None
            and sight.running
        )
        load = Counter(task.node for task in self.tasks)
        return tuple(
            Node(
                name=machine.name,
                state=machine.state,
                since_s=self._timeline.now_s - machine.since_s,
                capacity=self._per_node,
                fixed=machine.fixed,
                provided=not machine.fixed,
                cpu=min(1.0, CPU_EACH * busy[machine.name] / self._per_node),
                memory=min(1.0, 0.15 * load[machine.name]),
            )
            for machine in self.machines.values()
        )

    def victims(self, count: int) -> tuple[str, ...]:
        """Say who ends when only so many are wanted."""
        return victims(self.tasks, count)

    # -- what a leader does

    def set_containers(self, count: int) -> None:
        """Run so many."""
        if count == self.wanted:
            return
        self.writes.append((self._timeline.now_s, count - self.wanted))
        self.wanted = count
        for name in self.victims(count):
            self.stop(next(task for task in self.tasks if task.id == name))
        self._fill()

    def end_one(self, task: Task) -> None:
        """Run one fewer, and choose which one: what rivals on other orchestrators can do."""
        self.writes.append((self._timeline.now_s, -1))
        self.wanted -= 1
        self.stop(task)

    def park(self, uid: str, parked: bool) -> None:
        """Tell a peer to take no new work, or to take some again."""
        for task in self.tasks:
            if task.peer is not None and task.peer.uid == uid:
                self._timeline.after(ORDER_S, partial(self.work.park, task.peer, parked))

    def order(self, name: str) -> None:
        """Take a node in, or have one made."""
        machine = self.machines.get(name)
        if machine is not None:
            if machine.state in (NodeState.STANDBY, NodeState.EMPTY):
                self._become(machine, NodeState.READY)
            return
        now_s = self._timeline.now_s
        machine = Machine(name=name, state=NodeState.BOOTING, since_s=now_s, ordered_s=now_s)
        self.machines[name] = machine
        self.boots += 1
        if self._rng.random() < self._never_joins:
            self._timeline.after(REAPED_S, partial(self.retire, name))
        else:
            boot_s = min(180.0, 60.0 + self._rng.expovariate(1 / 30))
            self._timeline.after(boot_s, partial(self._become, machine, NodeState.READY))

    def add(self, name: str, *, fixed: bool) -> None:
        """Begin with a node that is there."""
        self.machines[name] = Machine(
            name=name,
            state=NodeState.READY,
            since_s=self._timeline.now_s,
            ordered_s=self._timeline.now_s,
            fixed=fixed,
        )

    def empty(self, name: str) -> None:
        """Take a node's label away: others start elsewhere after 2 s, its own get TERM after 3."""
        machine = self.machines[name]
        self._become(machine, NodeState.EMPTYING)
        for task in list(self.tasks):
            if task.node == name and task.state is not ContainerState.STOPPING:
                self.stop(task, term_s=3.1)
        self._timeline.after(2.0, self._fill)
        self._look_for_empty()

    def retire(self, name: str) -> None:
        """Give a node back."""
        machine = self.machines.pop(name)
        self.paid_s += self._timeline.now_s - machine.ordered_s

    # -- what befalls it

    def stop(self, task: Task, *, term_s: float | None = None) -> None:
        """Tell one task to end: TERM after a moment, KILL after its grace."""
        self.ended += 1
        self.ended_busy += task.peer is not None and task.peer.part is not None
        if task.state is not ContainerState.RUNNING:
            self._remove(task)
            return
        task.state = ContainerState.STOPPING
        delay_s = self._rng.uniform(1.1, 3.1) if term_s is None else term_s
        peer = task.peer
        assert peer is not None
        self._timeline.after(delay_s, partial(self.work.tell_to_end, peer))
        self._timeline.after(delay_s + self._grace_s, partial(self._kill, task))

    def crash(self, task: Task) -> None:
        """End a task without a word; another comes in its place after the restart delay."""
        if task not in self.tasks or task.peer is None:
            return
        self.work.lose(task.peer, crashed=True)
        stopping = task.state is ContainerState.STOPPING
        task.state = ContainerState.FAILED
        self._timeline.after(0.0 if stopping else 1.0, partial(self._replace, task))

    def _replace(self, task: Task) -> None:
        if task in self.tasks:
            self._remove(task)
            self._fill()

    def _kill(self, task: Task) -> None:
        if task in self.tasks:
            assert task.peer is not None
            self.work.lose(task.peer, crashed=False)
            self._remove(task)

    def _freed(self, peer: Peer) -> None:
        if not peer.told_to_end:
            return
        for task in self.tasks:
            if task.peer is peer:
                peer.alive = False
                stopping = task.state is ContainerState.STOPPING
                self._remove(task)
                if not stopping:
                    self._fill()
                return

    def _remove(self, task: Task) -> None:
        self.tasks.remove(task)
        self._look_for_empty()
        self._place()

    def _become(self, machine: Machine, state: NodeState) -> None:
        if machine.name in self.machines:
            machine.state = state
            machine.since_s = self._timeline.now_s
            self._place()

    def _look_for_empty(self) -> None:
        for machine in self.machines.values():
            emptying = machine.state is NodeState.EMPTYING
            if emptying and not any(task.node == machine.name for task in self.tasks):
                machine.state = NodeState.EMPTY
                machine.since_s = self._timeline.now_s

    def _fill(self) -> None:
        live = self.live()
        taken = {task.slot for task in live}
        slots = (slot for slot in itertools.count(1) if slot not in taken)
        for _ in range(self.wanted - len(live)):
            self.tasks.append(Task(id=f"task{next(self._ids)}", slot=next(slots)))
        self._place()

    def _place(self) -> None:
        """Let what is pending start where the fewest are, up to the limit of each node."""
        load = Counter(task.node for task in self.live())
        for task in self.tasks:
            if task.state is not ContainerState.PENDING:
                continue
            free = [node.name for node in self.serving() if load[node.name] < self._per_node]
            if not free:
                return
            task.node = min(free, key=lambda name: (load[name], name))
            load[task.node] += 1
            task.state = ContainerState.STARTING
            self._timeline.after(self._rng.uniform(1.0, 2.0), partial(self._started, task))

    def _started(self, task: Task) -> None:
        if task in self.tasks and task.state is ContainerState.STARTING:
            task.state = ContainerState.RUNNING
            task.peer = Peer(uid=f"{next(self._ids):016x}")
            self.work.greet(task.peer)
