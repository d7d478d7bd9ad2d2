"""Swarm's behaviour, as far as scaling meets it, in virtual time and without one line of I/O.

All of it was measured on real Swarms of engine 20.10 (where the source says why, it was read, too):

- replicas are slots; scaling down cuts the tail of swarmkit's order, and those tasks are `remove`d
  and vanish when they have ended; scaling up makes new tasks at once, also in slots that still
  drain;
- a task that ends is replaced after the restart delay, by the condition; one that is not replaced
  still counts (the tombstone);
- a changed task template replaces all tasks, `fake_swarm_updates`; labels and replicas do not;
- a node that is drained: SIGTERM first, the replacement starts when the old one has ended, or after
  60 s; a node whose label is taken away while it is active: `rejected` at once, the replacement
  after the restart delay, SIGTERM with full grace, and never a word about the container's end; a
  paused node keeps what it has and gets nothing new;
- a node that is cut off is down after a bit more than two heartbeats, its tasks are replaced, its
  containers go on, and get SIGTERM when it is back;
- without a leader of the managers nothing is decided: what crashes stays down.
"""

from __future__ import annotations

import copy
import heapq
import itertools
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from scaling.swarm.go_sort import go_sort
from tests.servers.fake_swarm_records import (
    NANO,
    Container,
    Json,
    Node,
    Service,
    Task,
)
from tests.servers.fake_swarm_updates import Updates

PLACING_S = 0.05
STARTING_S = 0.9
TERM_S = 1.1
"""From the order to SIGTERM; with an overlay network it takes 3.1 s."""
HEALED_TERM_S = 4.0
DRAIN_CAP_S = 60.0
HEARTBEATS_UNTIL_DOWN = 2.2
HISTORY = 5
RESTART_DELAY_S = 5.0


@dataclass(kw_only=True)
class Hooks:
    """What a test wants to be told, so that it can play the peers in the containers."""

    started: Callable[[Container], None] = lambda _: None
    told_to_stop: Callable[[Container], None] = lambda _: None
    ended: Callable[[Container], None] = lambda _: None


@dataclass(order=True)
class _Due:
    at_s: float
    number: int
    action: Callable[[], None] = field(compare=False)


class FakeEngine:
    """The managers' decisions and the nodes' deeds. Not thread-safe: its owner locks."""

    def __init__(self, *, heartbeat_s: float = 5.0) -> None:
        self.now_s = 0.0
        self.heartbeat_s = heartbeat_s
        self.nodes: dict[str, Node] = {}
        self.services: dict[str, Service] = {}
        self.tasks: dict[str, Task] = {}
        self.containers: dict[str, Container] = {}
        self.hooks = Hooks()
        self.frozen = False
        self.events: list[Json] = []
        self._numbers, self._addresses = itertools.count(1), itertools.count(1)
        self._due: list[_Due] = []
        self._updates = Updates(self)

    # Time

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.run_until(self.now_s + seconds)

    def run_until(self, at_s: float) -> None:
        """Do what is due, in its order."""
        while self._due and self._due[0].at_s <= at_s:
            due = heapq.heappop(self._due)
            self.now_s = max(self.now_s, due.at_s)
            due.action()
        self.now_s = max(self.now_s, at_s)

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something later."""
        heapq.heappush(self._due, _Due(self.now_s + seconds, next(self._numbers), action))

    def new_id(self, kind: str) -> str:
        """25 letters, as Swarm's; in the order in which they were given."""
        return f"{kind}{next(self._numbers):0{25 - len(kind)}d}"

    def next_version(self) -> int:
        """Swarm counts all its writes in one row."""
        return next(self._numbers)

    # What the API writes

    def add_node(self, name: str, *, role: str = "worker", **labels: str) -> Node:
        """Let a machine join."""
        spec = {"Role": role, "Availability": "active", "Labels": dict(labels)}
        node = Node(
            id=self.new_id("n"),
            name=name,
            address=f"10.0.0.{next(self._addresses)}",
            spec=spec,
            created_s=self.now_s,
            version=self.next_version(),
        )
        self.nodes[node.id] = node
        self._tell("node", "create", node.id, name)
        self._schedule()
        return node

    def update_node(self, node: Node, spec: Json) -> None:
        """Replace its spec."""
        node.spec, node.version = copy.deepcopy(spec), self.next_version()
        self._tell("node", "update", node.id, node.name)
        if self.frozen:
            return
        if spec["Availability"] == "active":
            self._enforce_constraints(node)
        elif spec["Availability"] == "drain":
            self._move_away(node, wait_for_end=True)
        self._schedule()

    def create_service(self, spec: Json) -> Service:
        """Run something."""
        service = Service(
            id=self.new_id("s"),
            spec=copy.deepcopy(spec),
            version=self.next_version(),
            created_s=self.now_s,
        )
        self.services[service.id] = service
        self._tell("service", "create", service.id, service.name)
        self._reconcile(service)
        return service

    def update_service(self, service: Service, spec: Json) -> None:
        """Change its replicas, its labels, or everything."""
        service.previous, service.spec = service.spec, copy.deepcopy(spec)
        service.update = None
        self._adapt(service)

    def roll_back(self, service: Service) -> None:
        """Go back to the spec before the last write; that one becomes the one to go back to."""
        assert service.previous is not None, "nothing was written since it was made"
        service.previous, service.spec = service.spec, service.previous
        service.update = {"State": "rollback_started", "Message": "manually requested rollback"}
        self._adapt(service)

    def _adapt(self, service: Service) -> None:
        self.written(service)
        self._reconcile(service)
        self._updates.begin(service)

    def written(self, service: Service) -> None:
        """It is another version of the service now."""
        service.version = self.next_version()
        self._tell("service", "update", service.id, service.name)

    def remove_service(self, service: Service) -> None:
        """Its containers finish; it is gone at once."""
        del self.services[service.id]
        self._updates.forget(service)
        self._tell("service", "remove", service.id, service.name)
        for task in self._of(service):
            self._order(task, "remove")

    # What happens to machines and containers

    def end_container(self, container: Container, exit_code: int) -> None:
        """It ends by itself, or somebody kills it."""
        if not container.running:
            return
        container.running, container.exit_code = False, exit_code
        self.containers.pop(container.id, None)
        self.hooks.ended(container)
        self._report(container.task)

    def cut(self, node: Node) -> None:
        """Cut a node's line: its containers go on."""
        node.linked = False
        self._expect_down(node)

    def kill(self, node: Node) -> None:
        """Take its power away, and so its containers'."""
        node.up = False
        for container in [each for each in self.containers.values() if each.node is node]:
            container.running = False
            self.containers.pop(container.id)
            self.hooks.ended(container)
        self._expect_down(node)

    def heal(self, node: Node) -> None:
        """Give it line and power back; its agent makes itself heard within a heartbeat."""
        node.linked = node.up = True
        self.after(self.heartbeat_s / 2, lambda: self._back(node))

    def remove_node(self, node: Node) -> None:
        """The managers forget it."""
        del self.nodes[node.id]
        for task in [task for task in self.tasks.values() if task.node is node]:
            self._observe(task, "orphaned", message="node was removed")
        self._tell("node", "remove", node.id, node.name)

    def set_node_state(self, node: Node, state: str) -> None:
        """What the managers believe of it."""
        if node.state == state:
            return
        node.state, node.version = state, self.next_version()
        self._tell("node", "update", node.id, node.name)
        if state == "down":
            self._move_away(node, wait_for_end=False)
        elif state == "ready":
            self._schedule()

    def thaw(self) -> None:
        """There is a leader again: what has happened meanwhile is heard of and decided on."""
        self.frozen = False
        for node in list(self.nodes.values()):
            self._flush(node)
            if node.spec["Availability"] == "active":
                self._enforce_constraints(node)
        for service in list(self.services.values()):
            self._reconcile(service)
        self._schedule()

    def _back(self, node: Node) -> None:
        if not node.heard or node.id not in self.nodes:
            return
        self.set_node_state(node, "ready")
        self._flush(node)
        for container in [each for each in self.containers.values() if each.node is node]:
            if not container.task.wanted:
                self._tell_to_stop_in(HEALED_TERM_S, container)
        # What was running when the power went is seen to be gone.
        for task in self._on(node):
            lost = task.container is not None and not task.container.running
            if lost and not task.ended and task.state == "running":
                self._report(task)

    def _flush(self, node: Node) -> None:
        if not node.heard or self.frozen:
            return
        unsent, node.unsent = node.unsent, []
        for task in unsent:
            self._report(task)

    def _expect_down(self, node: Node) -> None:
        def look() -> None:
            if not node.heard and not self.frozen and node.id in self.nodes:
                self.set_node_state(node, "down")

        self.after(self.heartbeat_s * HEARTBEATS_UNTIL_DOWN, look)

    # The managers' decisions

    def _reconcile(self, service: Service) -> None:
        """Have as many slots as replicas."""
        if self.frozen or service.id not in self.services:
            return
        slots = self.slots(service)
        missing = service.replicas - len(slots)
        numbers = (number for number in itertools.count(1) if number not in slots)
        for number in itertools.islice(numbers, max(missing, 0)):
            self._new_task(service, number, desired="running")
        if missing < 0:
            for slot in self._in_order(slots)[service.replicas :]:
                for task in slot:
                    self._order(task, "remove")
        self._schedule()

    def slots(self, service: Service) -> dict[int, list[Task]]:
        """What counts as a replica: tasks that are wanted, and tombstones."""
        found: dict[int, list[Task]] = defaultdict(list)
        tasks = self._of(service)
        for task in tasks:
            if task.wanted:
                found[task.slot].append(task)
        for task in sorted(tasks, key=lambda task: task.created_s, reverse=True):
            stone = task.ended and task.desired == "shutdown" and not self._is_restarted(task)
            if task.slot not in found and stone:
                found[task.slot].append(task)
        return dict(found)

    @staticmethod
    def _in_order(slots: dict[int, list[Task]]) -> list[list[Task]]:
        """Swarmkit's: what comes last goes first."""

        def runs(slot: list[Task]) -> bool:
            return any(task.state == "running" for task in slot)

        count: Counter[str] = Counter()
        numbered: list[tuple[int, int]] = []
        for number, slot in sorted(slots.items(), key=lambda item: (not runs(item[1]), item[0])):
            alone = slot[0].node if len(slot) == 1 else None
            if alone is not None:
                count[alone.id] += 1
            numbered.append((count[alone.id] if alone is not None else 10**6, number))
        # The engine's own sort, which the real Swarm confirms: see tests/swarm/test_driver.py.
        go_sort(numbered, lambda one, other: one[0] < other[0])
        return [slots[number] for _, number in numbered]

    def replace(self, task: Task, then: Callable[[], None]) -> None:
        """Put a successor in a task's place, the old one first, and go on when it runs."""
        new = self._new_task(task.service, task.slot, desired="ready")
        self._order(task, "shutdown")
        self._when_ended(task, partial(self._start, new))
        self.after(DRAIN_CAP_S, partial(self._start, new))
        self._when_running(new, then)

    def _enforce_constraints(self, node: Node) -> None:
        for task in self._on(node):
            if task.wanted and not node.satisfies(task.template):
                self._observe(
                    task,
                    "rejected",
                    err="assigned node no longer meets constraints",
                    message="task rejected by constraint enforcer",
                )
                self._restart(task)

    def _move_away(self, node: Node, *, wait_for_end: bool) -> None:
        """From a node that is drained (no delay, but the old one ends first) or down."""
        for task in self._on(node):
            if not task.wanted:
                continue
            self._order(task, "shutdown")
            new = self._new_task(task.service, task.slot, desired="ready")
            if wait_for_end:
                self._when_ended(task, partial(self._start, new))
                self.after(DRAIN_CAP_S, partial(self._start, new))
            else:
                self.after(_delay_s(task.template), partial(self._start, new))
        self._schedule()

    def _restart(self, task: Task) -> None:
        """After it has ended, or was rejected."""
        restarted = self._is_restarted(task)
        self._order(task, "shutdown")
        if task.service.id not in self.services or not restarted:
            return
        new = self._new_task(task.service, task.slot, desired="ready")
        self.after(_delay_s(task.template), lambda: self._start(new))
        self._forget_history(task.service, task.slot)

    @staticmethod
    def _is_restarted(task: Task) -> bool:
        condition = (task.template.get("RestartPolicy") or {}).get("Condition", "any")
        return condition == "any" or (condition == "on-failure" and task.state != "complete")

    def _forget_history(self, service: Service, slot: int) -> None:
        old = [task for task in self._of(service) if task.slot == slot and task.ended]
        for task in sorted(old, key=lambda task: task.created_s)[: -(HISTORY - 1)]:
            del self.tasks[task.id]

    def _new_task(self, service: Service, slot: int, *, desired: str) -> Task:
        task = Task(
            id=self.new_id("t"),
            service=service,
            slot=slot,
            template=copy.deepcopy(service.template),
            created_s=self.now_s,
            changed_s=self.now_s,
            desired=desired,
        )
        self.tasks[task.id] = task
        self._observe(task, "pending", message="pending task scheduling")
        self.after(PLACING_S, partial(self._consider, task))
        return task

    def _consider(self, task: Task) -> None:
        task.considered = True
        self._schedule()

    def _schedule(self) -> None:
        """Give pending tasks to nodes: who has fewest of the service, then fewest at all."""
        if self.frozen:
            return
        for task in list(self.tasks.values()):
            if task.state == "pending" and task.wanted and task.considered:
                self._place(task)

    def _place(self, task: Task) -> None:
        fitting = [node for node in self.nodes.values() if self._takes(node, task)]
        if not fitting:
            task.err = "no suitable node (" + self._why_not(task) + ")"
            return
        node = min(
            fitting,
            key=lambda node: (self._load(node, task.service), self._load(node), node.id),
        )
        task.node, task.err = node, ""
        task.container = Container(task=task, node=node)
        self._observe(task, "preparing")
        if task.desired == "running":
            self._begin(task)
        else:
            self._observe(task, "ready", message="prepared")

    def _takes(self, node: Node, task: Task) -> bool:
        limit = (task.template.get("Placement") or {}).get("MaxReplicas", 0)
        return (
            node.state == "ready"
            and node.spec["Availability"] == "active"
            and node.satisfies(task.template)
            and (not limit or self._load(node, task.service) < limit)
        )

    def _why_not(self, task: Task) -> str:
        ready = [
            node
            for node in self.nodes.values()
            if node.state == "ready" and node.spec["Availability"] == "active"
        ]
        unfit = [node for node in ready if not node.satisfies(task.template)]
        full, away = len(ready) - len(unfit), len(self.nodes) - len(ready)
        parts = (
            (away, "{} not available for new tasks"),
            (len(unfit), "scheduling constraints not satisfied on {}"),
            (full, "max replicas per node limit exceed on {}"),
        )
        return "; ".join(
            words.format(f"{count} node{'s' if count > 1 else ''}")
            for count, words in parts
            if count
        )

    def _load(self, node: Node, service: Service | None = None) -> int:
        return sum(
            1
            for task in self._on(node)
            if task.wanted and (service is None or task.service.id == service.id)
        )

    def _start(self, task: Task) -> None:
        """Its turn has come: what was made ready starts."""
        if task.desired != "ready":
            return
        task.desired = "running"
        if task.state == "ready":
            self._begin(task)

    def _order(self, task: Task, desired: str) -> None:
        """Want it no more."""
        task.desired = desired
        container = task.container
        if container is None or not container.running:
            if not task.ended:
                self._observe(task, "shutdown", message="shutdown")
            self._forget_if_removed(task)
        elif container.node.heard:
            self._tell_to_stop_in(TERM_S, container)

    def _forget_if_removed(self, task: Task) -> None:
        if task.desired == "remove" and task.ended:
            self.tasks.pop(task.id, None)

    # The nodes' deeds

    def _begin(self, task: Task) -> None:
        self._observe(task, "starting")
        self.after(STARTING_S, lambda: self._run(task))

    def _run(self, task: Task) -> None:
        container = task.container
        if container is None or not task.wanted or task.ended or not container.node.up:
            return
        container.running = True
        self.containers[container.id] = container
        self._observe(task, "running", message="started")
        self.hooks.started(container)

    def _tell_to_stop_in(self, seconds: float, container: Container) -> None:
        def term() -> None:
            if container.running and container.told_at_s is None and container.node.up:
                container.told_at_s = self.now_s
                self.hooks.told_to_stop(container)
                self._finish(container)

        self.after(seconds, term)

    def _finish(self, container: Container) -> None:
        """Its work ends it, or the grace does. Work may become longer or shorter meanwhile."""
        told = container.told_at_s or 0.0
        grace_s = container.task.grace_s

        def look() -> None:
            if not container.running:
                return
            if self.now_s - told >= container.work_s:
                self.end_container(container, 143)
            elif self.now_s - told >= grace_s:
                self.end_container(container, 137)
            else:
                self.after(0.1, look)

        look()

    def _report(self, task: Task) -> None:
        """The node tells how a container has ended; it may have to wait to be heard."""
        container = task.container
        if container is None or container.running:
            return
        if not container.node.heard or self.frozen:
            if task not in container.node.unsent:
                container.node.unsent.append(task)
            return
        if task.state == "rejected" or task.ended:
            return  # never corrected: an observed state only goes up
        code = container.exit_code if container.exit_code is not None else 137
        task.reported_exit = code
        if not task.wanted:
            self._observe(task, "shutdown", message="shutdown")
            self._forget_if_removed(task)
            return
        if code == 0:
            self._observe(task, "complete", message="finished")
        else:
            self._observe(task, "failed", err=f"task: non-zero exit ({code})", message="started")
        self._restart(task)

    def _observe(self, task: Task, state: str, *, err: str = "", message: str = "") -> None:
        task.state, task.err, task.message = state, err, message or state
        task.changed_s = self.now_s

    # Small things

    def _when_ended(self, task: Task, action: Callable[[], None]) -> None:
        self._when(lambda: task.ended or task.id not in self.tasks, action)

    def _when_running(self, task: Task, action: Callable[[], None]) -> None:
        self._when(lambda: task.state == "running" or not task.wanted, action)

    def _when(self, condition: Callable[[], bool], action: Callable[[], None]) -> None:
        def look() -> None:
            if condition():
                action()
            else:
                self.after(0.1, look)

        look()

    def _of(self, service: Service) -> list[Task]:
        return [task for task in self.tasks.values() if task.service.id == service.id]

    def _on(self, node: Node) -> list[Task]:
        return [task for task in self.tasks.values() if task.node is node]

    def _tell(self, kind: str, action: str, id: str, name: str) -> None:
        self.events.append(
            {
                "Type": kind,
                "Action": action,
                "Actor": {"ID": id, "Attributes": {"name": name}},
                "scope": "swarm",
                "time": int(self.now_s),
            }
        )


def _delay_s(template: Json) -> float:
    policy = template.get("RestartPolicy") or {}
    return float(policy.get("Delay", RESTART_DELAY_S * NANO)) / NANO
