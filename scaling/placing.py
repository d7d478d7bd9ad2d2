"""Where containers have room: which nodes are to be started.

The user's threshold of containers to nodes is `containers_per_node`: at it, one container more
takes one node more. Memory and CPU lower a node's room to what it has: a container that finds
no CPU there helps nobody, so it comes on a further node. Unless there is none to be had: then a
crowded place is better than none, except for memory, whose lack kills.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

from scaling.config import ScalingConfig
from scaling.decision import Reason
from scaling.memory import Memory
from scaling.snapshot import ContainerState, Node, NodeState, Snapshot
from scaling.words import counted

IN_SERVICE = (NodeState.READY, NodeState.CORDONED)
_GOING = (ContainerState.STOPPING, ContainerState.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Placing:
    """Which nodes are to be started.

    Args:
        starting: Their names: nodes on standby first, then new ones.
        nodes: How many are in service or on their way, those included.
        room: How many containers the nodes in service may hold now.
    """

    starting: tuple[str, ...]
    nodes: int
    room: int
    reasons: tuple[Reason, ...]


def loads(snapshot: Snapshot) -> Counter[str]:
    """Count the containers of each node that are not told to end.

    One that failed is counted until its successor has a node. Were both, a node where memory ran
    out would seem to hold one container more than it does, and be given one more.
    """
    placed = [each for each in snapshot.containers if each.node and each.state not in _GOING]
    slots = {container.slot for container in placed}
    failed = {
        container.slot: container
        for container in snapshot.containers
        if container.node and container.state is ContainerState.FAILED
    }
    waiting = [container for slot, container in failed.items() if slot not in slots]
    return Counter(container.node for container in (*placed, *waiting))


def limit(node: Node, config: ScalingConfig) -> int:
    """How many containers a node may hold by its own capacity and the threshold."""
    return min(node.capacity, config.containers_per_node)


def room(
    node: Node, load: int, config: ScalingConfig, memory: Memory, *, crowd: bool = False
) -> int:
    """How many containers a node in service may hold now: never fewer than it has.

    Args:
        crowd: A lack of CPU does not count, only of memory.
    """
    if node.state is NodeState.CORDONED:
        return load
    full = memory.levels.full_of_memory(node, config) if crowd else memory.levels.hot(node, config)
    return load if full else max(load, limit(node, config))


def on_their_way(snapshot: Snapshot, memory: Memory) -> list[Node]:
    """List the nodes that were ordered and may still come in time."""
    return [
        node
        for node in snapshot.nodes
        if node.state is NodeState.BOOTING and node.name not in memory.boots.given_up
    ]


def reach(snapshot: Snapshot, config: ScalingConfig, memory: Memory) -> int:
    """How many containers have a place on the nodes in service and on their way."""
    return _room_here(snapshot, config, memory) + _room_coming(snapshot, config, memory)


def _room_here(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory, *, crowd: bool = False
) -> int:
    load = loads(snapshot)
    return sum(
        room(node, load[node.name], config, memory, crowd=crowd)
        for node in snapshot.nodes
        if node.state in IN_SERVICE
    )


def _room_coming(snapshot: Snapshot, config: ScalingConfig, memory: Memory) -> int:
    # A node that has not joined may not be known to hold anything yet.
    return sum(
        limit(node, config) or config.containers_per_node for node in on_their_way(snapshot, memory)
    )


def place(snapshot: Snapshot, config: ScalingConfig, memory: Memory, *, containers: int) -> Placing:
    """Say which nodes so many containers take beyond those in service and on their way."""
    serving = [node for node in snapshot.nodes if node.state in IN_SERVICE]
    coming = on_their_way(snapshot, memory)
    there = len(serving) + len(coming)
    here = _room_here(snapshot, config, memory)
    lack = max(0, containers - here - _room_coming(snapshot, config, memory))
    fewer = max(0, config.nodes_min - there)
    starting, reasons = _choose(snapshot, config, memory, lack=lack, fewer=fewer, there=there)
    if starting:
        hot = [node.name for node in serving if memory.levels.hot(node, config)]
        crowded = f"; {', '.join(hot)} have no CPU or memory to spare" if hot else ""
        why = (
            f"for {counted(containers, 'container', 'containers')}, "
            f"{config.containers_per_node} to a node, "
            f"{counted(there, 'node is', 'nodes are')} too few{crowded}"
            if lack
            else f"at least {counted(config.nodes_min, 'node is', 'nodes are')} kept"
        )
        reasons = (Reason(code="node_needed" if lack else "minimum", text=why), *reasons)
    if lack and not starting and not coming:
        here = _room_here(snapshot, config, memory, crowd=True)
    return Placing(starting=starting, nodes=there + len(starting), room=here, reasons=reasons)


def _choose(
    snapshot: Snapshot,
    config: ScalingConfig,
    memory: Memory,
    *,
    lack: int,
    fewer: int,
    there: int,
) -> tuple[tuple[str, ...], tuple[Reason, ...]]:
    """Name the nodes to be started, and say what kept it from being more.

    Args:
        lack: How many containers have no place.
        fewer: How many nodes there are too few, whatever they are to hold.
        there: How many are in service or on their way.
    """
    if not lack and not fewer:
        return (), ()
    # One that was given up may still be running and cost: it counts for the limit.
    free = config.nodes_max - there - len(memory.boots.given_up)
    chosen: list[str] = []
    for node in _idle(snapshot, config, memory):
        if len(chosen) < free and (lack > 0 or len(chosen) < fewer):
            chosen.append(node.name)
            lack -= limit(node, config)
    missing = max(math.ceil(lack / config.containers_per_node), fewer - len(chosen), 0)
    if not missing:
        return tuple(chosen), ()
    if len(chosen) >= free:
        text = f"{_more(missing)} needed, and {config.nodes_max} in all are allowed"
        return tuple(chosen), (Reason(code="nodes_max", text=text),)
    if not snapshot.expandable:
        text = f"{_more(missing)} needed, and none is on standby"
        return tuple(chosen), (Reason(code="no_node_left", text=text),)
    pause_s = memory.boots.pause_until_s - snapshot.now_s
    if pause_s > 0:
        text = (
            f"nodes did not join in time, {memory.boots.failures} times in a row: "
            f"the next is ordered in {pause_s:.0f} s"
        )
        return tuple(chosen), (Reason(code="boot_pause", text=text),)
    return (*chosen, *_new_names(snapshot, config, min(missing, free - len(chosen)))), ()


def _idle(snapshot: Snapshot, config: ScalingConfig, memory: Memory) -> list[Node]:
    """List the nodes that have joined and could be taken in, those on standby first."""
    return sorted(
        (
            node
            for node in snapshot.nodes
            if node.state in (NodeState.STANDBY, NodeState.EMPTY)
            and limit(node, config)
            and not memory.levels.full_of_memory(node, config)
        ),
        # worker-2 before worker-10, as people count
        key=lambda node: (node.state is not NodeState.STANDBY, len(node.name), node.name),
    )


def _new_names(snapshot: Snapshot, config: ScalingConfig, count: int) -> list[str]:
    """Name new nodes by the lowest free numbers: two leaders choose the same."""
    taken = {node.name for node in snapshot.nodes}
    names: list[str] = []
    number = 1
    while len(names) < count:
        name = f"{config.pool}-{number}"
        if name not in taken:
            names.append(name)
        number += 1
    return names


def _more(missing: int) -> str:
    return counted(missing, "node more is", "nodes more are")
