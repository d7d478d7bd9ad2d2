"""One look at the containers of this machine, put together from the row and the files. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scaling.local.containers import Found
from scaling.local.steps import Sorted, free_slots, sort
from scaling.local.wanted import Wanted, numbered
from scaling.ports import Sight
from scaling.snapshot import Container, ContainerState, Node, NodeState, PeerSight

ENDING = (
    "no peer is left on this machine that a person has started: its containers end; "
    "start one (peer), and they run again"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSight(Sight):
    """What there is, and what only this driver needs of it.

    Args:
        kept: Ids of the containers that people started.
        work: What the peers say, by container id, when it was looked.
    """

    kept: frozenset[str]
    work: Mapping[str, PeerSight]


def sight(
    wanted: Wanted,
    found: Sequence[Found],
    work: Mapping[str, PeerSight],
    names: Sequence[str],
    *,
    capacity: int,
) -> LocalSight:
    """Put it together.

    Args:
        names: Of the nodes that may be taken in.
        capacity: How many containers a node holds.
    """
    seen = sort(wanted, found)
    containers = _containers(seen)
    return LocalSight(
        containers=containers,
        nodes=_nodes(wanted, containers, seen, names, capacity),
        wanted=(0 if wanted.closed else wanted.containers) + len(seen.kept),
        version=wanted.mark,
        term=wanted.term,
        trouble=ENDING if wanted.closed else "",
        kept=frozenset(each.record.id for each in seen.kept),
        work=dict(work),
    )


def failed(before: Sight | None, after: Sight) -> tuple[Container, ...]:
    """Those that have ended by themselves between two looks; none at the first look."""
    if before is None:
        return ()
    lived = {each.id for each in before.containers if each.state is not ContainerState.FAILED}
    return tuple(
        each
        for each in after.containers
        if each.state is ContainerState.FAILED and each.id in lived
    )


def _containers(seen: Sorted) -> tuple[Container, ...]:
    known = [
        *((each, _running(each)) for each in (*seen.kept, *seen.staying)),
        *((each, ContainerState.STOPPING) for each in seen.ending),
        *((each, ContainerState.FAILED) for each in seen.failed),
    ]
    used = {each.record.slot for each, _ in known}
    containers = [
        Container(id=each.record.id, slot=each.record.slot, node=each.record.node, state=state)
        for each, state in known
    ]
    # Those that nobody has begun yet: in a second, or when a node has room.
    for slot in free_slots(used, seen.missing - len(seen.failed)):
        containers.append(
            Container(id=f"{slot}.pending", slot=slot, node="", state=ContainerState.PENDING)
        )
    return tuple(sorted(containers, key=lambda each: (each.slot, each.id)))


def _running(each: Found) -> ContainerState:
    return ContainerState.RUNNING if each.pid else ContainerState.STARTING


def _nodes(
    wanted: Wanted,
    containers: Sequence[Container],
    seen: Sorted,
    names: Sequence[str],
    capacity: int,
) -> tuple[Node, ...]:
    alive = {each.node for each in containers if each.state is not ContainerState.FAILED}
    fixed = {each.record.node for each in seen.kept}
    states: dict[str, tuple[NodeState, float]] = dict.fromkeys(names, (NodeState.STANDBY, 0.0))
    for name in sorted(alive - {""}):  # of a node that was taken out of service with force
        states[name] = NodeState.EMPTYING, 0.0
    for node in wanted.nodes:
        since_s = max(0.0, wanted.now_s - node.since_s)
        if not node.emptying:
            states[node.name] = NodeState.READY, since_s
        else:
            emptying = node.name in alive
            states[node.name] = NodeState.EMPTYING if emptying else NodeState.EMPTY, since_s
    return tuple(
        Node(
            name=name,
            state=states[name][0],
            since_s=states[name][1],
            capacity=capacity,
            fixed=name in fixed,
        )
        for name in sorted(states, key=numbered)
    )
