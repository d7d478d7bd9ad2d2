"""Snapshots for tests of scaling, and a world in which every action works at once.

What a test does not say is as unremarkable as can be: an idle peer in a running container on a node
in service, seen by a leader who has led for an hour.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from scaling.config import ScalingConfig
from scaling.decision import (
    Action,
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
from scaling.snapshot import (
    Activity,
    Container,
    ContainerState,
    Demand,
    Node,
    NodeState,
    PeerSight,
    Snapshot,
)
from tests.simulation.scaling.order import victims

NOW_S = 10_000.0
CONFIG = ScalingConfig()


def a_demand(
    ready: int = 5,
    *,
    running: int = 0,
    delayed: int = 0,
    arrivals_per_s: float = 0.0,
    service_s: float | None = 60.0,
    age_s: float = 1.0,
) -> Demand:
    """Some work; by itself, a queue within the range."""
    return Demand(
        ready=ready,
        delayed=delayed,
        running=running,
        arrivals_per_s=arrivals_per_s,
        service_s=service_s,
        age_s=age_s,
    )


def a_node(
    name: str,
    state: NodeState = NodeState.READY,
    *,
    since_s: float = 3600.0,
    capacity: int = 4,
    fixed: bool = False,
    provided: bool = True,
    cpu: float | None = 0.5,
    memory: float | None = 0.3,
) -> Node:
    """A node."""
    return Node(
        name=name,
        state=state,
        since_s=since_s,
        capacity=capacity,
        fixed=fixed,
        provided=provided,
        cpu=cpu,
        memory=memory,
    )


def a_peer(
    number: int,
    activity: Activity = Activity.IDLE,
    *,
    running: int | None = None,
    remaining_s: float | None = 30.0,
    age_s: float = 1.0,
) -> PeerSight:
    """A peer; a busy one has one part, any other none."""
    count = int(activity is Activity.BUSY) if running is None else running
    return PeerSight(
        uid=f"{number:016x}",
        activity=activity,
        slots=1,
        running=count,
        remaining_s=remaining_s if count else 0.0,
        cpu=0.5,
        memory=0.3,
        age_s=age_s,
    )


def a_container(
    number: int,
    node: str,
    activity: Activity | None = Activity.IDLE,
    *,
    state: ContainerState = ContainerState.RUNNING,
    running: int | None = None,
    remaining_s: float | None = 30.0,
    age_s: float = 1.0,
    out_of_memory: bool = False,
) -> Container:
    """A container: `c<number>`, of that slot; without an activity nobody knows its peer."""
    peer = (
        None
        if activity is None
        else a_peer(number, activity, running=running, remaining_s=remaining_s, age_s=age_s)
    )
    return Container(
        id=f"c{number}",
        slot=number,
        node=node,
        state=state,
        peer=peer,
        out_of_memory=out_of_memory,
    )


def containers_on(
    layout: dict[str, int], activity: Activity = Activity.IDLE
) -> tuple[Container, ...]:
    """So many containers on each node, numbered from 1."""
    nodes = [node for node, count in layout.items() for _ in range(count)]
    return tuple(a_container(number, node, activity) for number, node in enumerate(nodes, 1))


def a_snapshot(
    demand: Demand | None,
    containers: Sequence[Container],
    nodes: Sequence[Node],
    *,
    now_s: float = NOW_S,
    leading_s: float = 3600.0,
    wanted: int | None = None,
    quorate: bool = True,
    expandable: bool = True,
    trouble: str = "",
    update: str = "",
) -> Snapshot:
    """A snapshot; as many containers are wanted as there are."""
    live = sum(container.state is not ContainerState.STOPPING for container in containers)
    return Snapshot(
        now_s=now_s,
        leading_s=leading_s,
        term=1,
        demand=demand,
        containers=tuple(containers),
        nodes=tuple(nodes),
        wanted=live if wanted is None else wanted,
        quorate=quorate,
        expandable=expandable,
        trouble=trouble,
        update=update,
    )


def watched(snapshot: Snapshot, config: ScalingConfig = CONFIG) -> Memory:
    """What a leader remembers who has seen just this for a window, and has begun nothing."""
    memory = Memory()
    rounds = int(config.down_window_s / config.interval_s) + 1
    for back in range(rounds, 0, -1):
        earlier = replace(snapshot, now_s=snapshot.now_s - back * config.interval_s)
        _, memory = decide(earlier, config, memory)
    return replace(memory, grown_s=None, growing_to=None, shrinking_to=None, leaving="")


def consider(
    snapshot: Snapshot, config: ScalingConfig = CONFIG, memory: Memory | None = None
) -> tuple[Decision, tuple[Action, ...], Memory]:
    """Decide and plan as a leader over a Swarm does.

    Args:
        memory: Without one, that of a leader who has seen just this for a whole window.
    """
    before = watched(snapshot, config) if memory is None else memory
    decision, after = decide(snapshot, config, before)
    going = victims(snapshot.containers, decision.desired.containers)
    return decision, plan(snapshot, decision, going, config), after


def codes(decision: Decision) -> list[str]:
    """The reasons' codes."""
    return [reason.code for reason in decision.reasons]


# -- a world in which every action works at once


def carried_out(
    snapshot: Snapshot, actions: Sequence[Action], *, elapsed_s: float = 5.0
) -> Snapshot:
    """Return what there is after the actions: parts that were worked on are done if parked."""
    for action in actions:
        snapshot = _carried_out(snapshot, action)
    return replace(
        snapshot,
        now_s=snapshot.now_s + elapsed_s,
        leading_s=snapshot.leading_s + elapsed_s,
        nodes=tuple(replace(node, since_s=node.since_s + elapsed_s) for node in snapshot.nodes),
    )


def _carried_out(snapshot: Snapshot, action: Action) -> Snapshot:
    match action:
        case StartNode(name=name):
            return _started(snapshot, name)
        case SetContainers(count=count):
            return _with_containers(snapshot, count)
        case Park(uid=uid):
            return _told(snapshot, uid, Activity.PARKED)
        case Unpark(uid=uid):
            return _told(snapshot, uid, Activity.IDLE)
        case EmptyNode(name=name):
            moved = [each for each in snapshot.containers if each.node == name]
            left = tuple(each for each in snapshot.containers if each.node != name)
            snapshot = _in_state(replace(snapshot, containers=left), name, NodeState.EMPTY)
            return _with_containers(replace(snapshot, wanted=len(left)), len(left) + len(moved))
        case RetireNode(name=name):
            return replace(
                snapshot, nodes=tuple(node for node in snapshot.nodes if node.name != name)
            )


def _in_state(snapshot: Snapshot, name: str, state: NodeState) -> Snapshot:
    return replace(
        snapshot,
        nodes=tuple(
            replace(node, state=state, since_s=0.0) if node.name == name else node
            for node in snapshot.nodes
        ),
    )


def _started(snapshot: Snapshot, name: str) -> Snapshot:
    if any(node.name == name for node in snapshot.nodes):
        idle = tuple(
            replace(node, cpu=0.0, memory=0.1) if node.name == name else node
            for node in snapshot.nodes
        )
        return _in_state(replace(snapshot, nodes=idle), name, NodeState.READY)
    booting = a_node(name, NodeState.BOOTING, since_s=0.0, capacity=100, cpu=None, memory=None)
    return replace(snapshot, nodes=(*snapshot.nodes, booting))


def joined(snapshot: Snapshot) -> Snapshot:
    """Return what there is when all nodes that boot have come."""
    for node in snapshot.nodes:
        if node.state is NodeState.BOOTING:
            snapshot = _in_state(snapshot, node.name, NodeState.READY)
    return snapshot


def _told(snapshot: Snapshot, uid: str, activity: Activity) -> Snapshot:
    def told(container: Container) -> Container:
        if container.peer is None or container.peer.uid != uid:
            return container
        peer = replace(container.peer, activity=activity, running=0, remaining_s=0.0)
        return replace(container, peer=peer)

    return replace(snapshot, containers=tuple(map(told, snapshot.containers)))


def _with_containers(snapshot: Snapshot, count: int) -> Snapshot:
    going = set(victims(snapshot.containers, count))
    left = [each for each in snapshot.containers if each.id not in going]
    load = Counter(each.node for each in left)
    numbers = iter(range(1, 10_000))
    taken = {each.slot for each in left}
    for _ in range(count - len(left)):
        number = next(number for number in numbers if number not in taken)
        ready = [
            node
            for node in snapshot.nodes
            if node.state is NodeState.READY and load[node.name] < node.capacity
        ]
        if ready:
            name = min(ready, key=lambda node: (load[node.name], node.name)).name
            load[name] += 1
            left.append(a_container(number, name))
        else:
            left.append(a_container(number, "", None, state=ContainerState.PENDING))
    return replace(snapshot, containers=tuple(left), wanted=count)
