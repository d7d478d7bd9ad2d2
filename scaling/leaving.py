"""Which node leaves: one at a time, the one with the least work left, then the youngest.

A node leaves when the others hold all containers that were needed for a whole window. Its peers are
parked first, which can be undone; it is emptied when all of them are idle. So a node that has been
chosen is kept to while it may still leave: choosing anew on each look would park all in turn.
"""

from __future__ import annotations

import math
from collections import Counter

from scaling.config import ScalingConfig
from scaling.decision import Reason
from scaling.memory import Memory
from scaling.placing import IN_SERVICE, loads, on_their_way, room
from scaling.snapshot import Container, ContainerState, Node, NodeState, Snapshot
from scaling.utilization import average, cpu_limit
from scaling.words import counted


def choose(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory, *, containers: int
) -> tuple[str, tuple[Reason, ...]]:
    """Name the node that leaves; empty when none does, with the reason.

    Args:
        containers: How many there should be; they are already no more than that.
    """
    serving = [node for node in snapshot.nodes if node.state in IN_SERVICE]
    reason = _why_none(snapshot, config, memory, serving)
    if reason is not None:
        return "", (reason,)
    load = loads(snapshot)
    refused: dict[str, Reason] = {}
    fitting = []
    for node in serving:
        why = _why_not(node, serving, snapshot, config, memory, load=load, containers=containers)
        if why is None:
            fitting.append(node)
        else:
            refused[node.name] = why
    if not fitting:
        return "", tuple({reason.code: reason for reason in refused.values()}.values())
    names = [node.name for node in fitting]
    if memory.leaving in names:
        name = memory.leaving
    else:
        name = min(fitting, key=lambda node: _eligibility(node, snapshot)).name
    held = counted(containers, "container", "containers")
    text = f"the other nodes hold {held}: {name} has the least work left"
    return name, (Reason(code="node_leaves", text=text),)


def _why_none(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory, serving: list[Node]
) -> Reason | None:
    if len(serving) <= config.nodes_min:
        return Reason(
            code="nodes_min",
            text=f"{counted(len(serving), 'node', 'nodes')}, and no fewer are allowed",
        )
    coming = on_their_way(snapshot, memory)
    if coming:
        return Reason(code="on_its_way", text=f"{coming[0].name} is being started")
    emptying = [node.name for node in snapshot.nodes if node.state is NodeState.EMPTYING]
    if emptying:
        return Reason(code="one_at_a_time", text=f"{emptying[0]} is being emptied")
    return None


def _why_not(
    node: Node,
    serving: list[Node],
    snapshot: Snapshot,
    config: ScalingConfig,
    memory: Memory,
    *,
    load: Counter[str],
    containers: int,
) -> Reason | None:
    if node.fixed:
        return Reason(code="node_fixed", text=f"{node.name} is never taken out of service")
    if node.state is NodeState.CORDONED:
        return Reason(
            code="node_cordoned", text=f"what a person does with {node.name} is not undone"
        )
    if node.since_s < config.node_age_min_s:
        return Reason(
            code="node_young",
            text=f"{node.name} has served for {node.since_s:.0f} s, and serves for "
            f"{config.node_age_min_s:.0f} s at least",
        )
    others = [other for other in serving if other.name != node.name]
    held = sum(room(other, load[other.name], config, memory) for other in others)
    if held < containers:
        return Reason(
            code="no_room_elsewhere",
            text=f"without {node.name} there is room for {held} of "
            f"{counted(containers, 'container', 'containers')}",
        )
    return _why_too_hot(node, others, snapshot, config)


def _why_too_hot(
    node: Node, others: list[Node], snapshot: Snapshot, config: ScalingConfig
) -> Reason | None:
    """Ask what the average would be if the node's work were the others' to do."""
    if node.cpu is None or not _busy(on_node(snapshot, node.name)):
        return None
    rest = average([other.cpu for other in others])
    if rest is None:
        return None
    mean, known = rest
    expected = mean + node.cpu / known
    if expected < cpu_limit(config):
        return None
    return Reason(
        code="cpu_elsewhere",
        text=f"without {node.name} the average CPU would be {expected:.0%}",
    )


def on_node(snapshot: Snapshot, name: str) -> list[Container]:
    """List the containers of a node, also those that were told to end."""
    return [container for container in snapshot.containers if container.node == name]


def _busy(containers: list[Container]) -> bool:
    return any(
        container.state is not ContainerState.FAILED
        and (container.peer is None or container.peer.running > 0)
        for container in containers
    )


def _eligibility(node: Node, snapshot: Snapshot) -> tuple[float, float, str]:
    """Order nodes by the work left on them; of equals the youngest goes first."""
    left_s = 0.0
    for container in on_node(snapshot, node.name):
        if container.state is ContainerState.FAILED:
            continue
        peer = container.peer
        if peer is None or (peer.running > 0 and peer.remaining_s is None):
            left_s = math.inf
        elif peer.running > 0 and peer.remaining_s is not None:
            left_s += peer.remaining_s
    return left_s, node.since_s, node.name
