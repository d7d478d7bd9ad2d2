"""One snapshot from what many said: orchestrator, provider, gossip and ledger. Pure.

A container is known by two: the orchestrator says that it runs, gossip says what its peer does.
They are joined by the container's id, which a peer is given by its orchestrator. Neither replaces
the other: who runs and is not heard does no work that anybody knows of, and who is heard and does
not run any more has just ended.

Whatever one of them could not say is absent, or said to be in trouble; nothing is filled in with
what it was before, except for what is there while the orchestrator itself is away: a decision that
is held still has to show people something.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from scaling.config import ScalingConfig
from scaling.ports import Machine, Sight, Workload
from scaling.snapshot import (
    Container,
    ContainerState,
    Demand,
    Node,
    NodeState,
    PeerSight,
    Snapshot,
)
from scaling.utilization import average


@dataclass(frozen=True, slots=True, kw_only=True)
class Machines:
    """What was last heard from the provider.

    Args:
        machines: All that it has; whatever is among them it can destroy.
        booting: Names on their way, and for how many seconds.
        going: Names of those that are being given back.
        expandable: It can make more.
        troubles: What is wrong, as sentences.
    """

    machines: tuple[Machine, ...] = ()
    booting: Mapping[str, float]
    going: Collection[str] = ()
    expandable: bool
    troubles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One look around.

    Args:
        now_s: When it ended, on the leader's clock.
        sight: The last that there is.
        trouble: Why there is no newer sight; empty when it is of now.
        workload: None when nobody could say.
        workload_s: When that was said.
        peers: By container id: who is alive.
        peers_s: When they were looked at: before the work was counted.
    """

    now_s: float
    sight: Sight
    trouble: str
    workload: Workload | None
    workload_s: float
    peers: Mapping[str, PeerSight]
    peers_s: float
    quorate: bool
    machines: Machines


def assembled(
    observed: Observed, config: ScalingConfig, *, leading_s: float, term: int
) -> Snapshot:
    """Put the snapshot together.

    Args:
        leading_s: For how long this leader has held its term.
    """
    sight, workload = observed.sight, observed.workload
    remaining_s = {} if workload is None else workload.remaining_s
    containers = tuple(
        replace(container, peer=_peer(observed.peers.get(container.id), remaining_s, observed))
        for container in sight.containers
    )
    return Snapshot(
        now_s=observed.now_s,
        leading_s=leading_s,
        term=term,
        demand=None if workload is None else _demand(workload, observed),
        containers=containers,
        nodes=_nodes(sight, containers, observed.machines, config),
        wanted=sight.wanted,
        quorate=observed.quorate,
        expandable=observed.machines.expandable,
        trouble=observed.trouble or sight.trouble,
        update=sight.update,
        machines=observed.machines.troubles,
    )


def _demand(workload: Workload, observed: Observed) -> Demand:
    waited_s = max(0.0, observed.now_s - observed.workload_s)
    return replace(workload.demand, age_s=workload.demand.age_s + waited_s)


def _peer(
    peer: PeerSight | None, remaining_s: Mapping[str, float | None], observed: Observed
) -> PeerSight | None:
    """Add what only the ledger knows: how long its parts will take, and that there are any.

    That a peer is parked may be heard before what it began just before that. Of the two, gossip
    and the ledger, whoever says that it works is believed: it may be told to end otherwise.
    """
    if peer is None:
        return None
    age_s = peer.age_s + max(0.0, observed.now_s - observed.peers_s)
    running = max(peer.running, 1) if peer.uid in remaining_s else peer.running
    left_s = remaining_s.get(peer.uid) if running else 0.0
    return replace(peer, running=running, remaining_s=left_s, age_s=age_s)


def _nodes(
    sight: Sight, containers: tuple[Container, ...], machines: Machines, config: ScalingConfig
) -> tuple[Node, ...]:
    """Those that the orchestrator knows, with their use, those that are on their way to it, and
    machines that are neither: their names are taken."""
    ours = {machine.name for machine in machines.machines}
    known = tuple(
        replace(
            node,
            provided=node.provided or node.name in ours,
            # It could be taken back otherwise, in the middle of its end.
            capacity=0 if node.name in machines.going else node.capacity,
            cpu=_mean(node.name, containers, config, "cpu"),
            memory=_mean(node.name, containers, config, "memory"),
        )
        for node in sight.nodes
    )
    names = {node.name for node in known}
    coming = tuple(
        Node(
            name=name,
            state=NodeState.BOOTING,
            since_s=since_s,
            capacity=config.containers_per_node,
            provided=True,
        )
        for name, since_s in sorted(machines.booting.items())
        if name not in names
    )
    names |= machines.booting.keys()
    # They are being given back, or nobody may: until then each costs, and has its name.
    others = tuple(
        Node(name=name, state=NodeState.DOWN, since_s=0.0, capacity=0, provided=True)
        for name in sorted(ours - names)
    )
    return known + coming + others


def _mean(
    node: str, containers: tuple[Container, ...], config: ScalingConfig, resource: str
) -> float | None:
    """Average over the peers of a node that were heard lately; None when none was."""
    found = average(
        [
            getattr(container.peer, resource)
            for container in containers
            if container.node == node
            and container.state is ContainerState.RUNNING
            and container.peer is not None
            and container.peer.age_s <= config.stale_s
        ]
    )
    return None if found is None else round(found[0], 4)
