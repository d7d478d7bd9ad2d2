"""The next steps from what is to what should be: absolute, and at most one that disturbs anybody.

    up      start nodes; then as many containers as have room
    down    park the containers that the orchestrator will stop; stop those at the head of its
            order that have finished; wait for the others
    leave   park a node's peers; when all are idle, let its containers move; when none is left,
            retire it

Nobody who works is ever told to stop. A peer is parked (it takes no new work, and that can be
undone) until it has nothing left, and only then is the number of containers lowered. The number
goes down by as many as stand finished at the head of the orchestrator's own order, since it decides
who goes: the first busy one ends the row.

While the orchestrator replaces all containers their number is left alone, and what should be more
waits: the decision takes nothing away meanwhile, and this asks for none.

The disturbing actions are `SetContainers` downwards, `EmptyNode` and `RetireNode`. One a round,
because the next look shows what it did, and only then is the orchestrator's order known again.
"""

from __future__ import annotations

from collections.abc import Sequence

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
from scaling.leaving import on_node
from scaling.snapshot import Activity, Container, ContainerState, Node, NodeState, Snapshot


def plan(
    snapshot: Snapshot, decision: Decision, victims: Sequence[str], config: ScalingConfig
) -> tuple[Action, ...]:
    """Say what to do now.

    Args:
        victims: Ids of the containers that end when only `decision.desired.containers` are wanted,
            the first to go first: what the orchestrator predicts (`Orchestrator.victims`).
    """
    if decision.held:
        return ()
    desired = decision.desired
    surplus = max(0, snapshot.wanted - desired.containers)
    known = {container.id: container for container in snapshot.containers}
    going = [known[name] for name in victims[:surplus] if name in known]
    parked = {container.peer.uid for container in going if container.peer is not None}
    parked |= set(desired.parked)
    actions: list[Action] = [StartNode(name=name) for name in desired.starting]
    reachable = min(desired.containers, max(snapshot.wanted, desired.room))
    if reachable > snapshot.wanted and not snapshot.update:
        actions.append(SetContainers(count=reachable))
    actions += _parking(snapshot, parked)
    disruption = _disruption(snapshot, decision, going, config, surplus=surplus)
    if disruption is not None:
        actions.append(disruption)
    return tuple(actions)


def finished(container: Container, config: ScalingConfig) -> bool:
    """Whether it can be stopped without stopping any work: nothing runs, and nothing can begin.

    Who has not been heard of lately may be busy.
    """
    if container.state in (ContainerState.FAILED, ContainerState.PENDING):
        return True
    peer = container.peer
    return (
        container.state is ContainerState.RUNNING
        and peer is not None
        and peer.activity in (Activity.PARKED, Activity.DRAINING)
        and peer.running == 0
        and peer.age_s <= config.stale_s
    )


def _parking(snapshot: Snapshot, wanted: set[str]) -> list[Action]:
    actions: list[Action] = []
    for container in snapshot.containers:
        peer = container.peer
        if peer is None or container.state is not ContainerState.RUNNING:
            continue
        if peer.uid in wanted and peer.activity in (Activity.IDLE, Activity.BUSY):
            actions.append(Park(uid=peer.uid))
        elif peer.uid not in wanted and peer.activity is Activity.PARKED:
            actions.append(Unpark(uid=peer.uid))
    return actions


def _disruption(
    snapshot: Snapshot,
    decision: Decision,
    going: list[Container],
    config: ScalingConfig,
    *,
    surplus: int,
) -> Action | None:
    """Return the one action of this round that disturbs anybody, or None."""
    desired = decision.desired
    if snapshot.leading_s < config.down_window_s:
        return None
    if surplus:
        row = 0
        while row < len(going) and finished(going[row], config):
            row += 1
        # Those that are wanted and do not exist have no work; they come last.
        count = surplus if row == len(going) else row
        if count:
            return SetContainers(count=snapshot.wanted - count)
    else:
        for node in snapshot.nodes:
            if node.name in desired.leaving and _can_be_emptied(node, snapshot, config):
                return EmptyNode(name=node.name)
    # Last, because the others end: a provider that fails to take one back would keep them waiting.
    for node in snapshot.nodes:
        if node.name not in desired.starting and _is_over(node, snapshot, config):
            return RetireNode(name=node.name)
    return None


def _can_be_emptied(node: Node, snapshot: Snapshot, config: ScalingConfig) -> bool:
    return node.state is NodeState.READY and all(
        finished(container, config) for container in on_node(snapshot, node.name)
    )


def _is_over(node: Node, snapshot: Snapshot, config: ScalingConfig) -> bool:
    """Whether nothing is left on a node that was emptied, or it came when nobody needed it more;
    or it will not come back."""
    if node.state is NodeState.EMPTYING:
        return not on_node(snapshot, node.name)
    if node.state is NodeState.DOWN:
        return _is_dead(node, snapshot, config)
    unneeded = (
        node.state is NodeState.STANDBY
        and node.provided
        and not node.fixed
        and node.since_s >= config.node_age_min_s
    )
    return node.state is NodeState.EMPTY or unneeded


def _is_dead(node: Node, snapshot: Snapshot, config: ScalingConfig) -> bool:
    """Whether a node that a provider made has been down for as long as another takes to come.

    Nobody else would ever give it back: it costs, and counts where so many machines may be. But a
    node is down when only its engine has ended: whoever is heard from it goes on working.
    """
    heard = any(
        container.state is ContainerState.RUNNING
        or (container.peer is not None and container.peer.age_s <= config.stale_s)
        for container in on_node(snapshot, node.name)
    )
    lasting = node.since_s >= config.boot_timeout_s
    return lasting and not heard and node.provided and not node.fixed
