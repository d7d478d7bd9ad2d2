"""One look at the Swarm, put together from its service, tasks and nodes. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from scaling.ports import Sight
from scaling.snapshot import ContainerState, Node, NodeState
from scaling.swarm import nodes, service
from scaling.swarm.api import SwarmNode, SwarmService, SwarmTask
from scaling.swarm.config import SwarmConfig
from scaling.swarm.containers import (
    Failure,
    Outlook,
    Slot,
    containers,
    evacuated,
    failures,
    slots,
    state_of,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class SwarmSight(Sight):
    """What Swarm says at one moment, and what only Swarm's driver needs of it.

    Args:
        slots: What counts as a replica, for the prediction of victims.
        failures: All that Swarm remembers, oldest first.
        evacuating: Ids of containers that finish on a node that was emptied: that they have ended
            is never told by Swarm, only by their peers' silence.
    """

    slots: tuple[Slot, ...]
    failures: tuple[Failure, ...]
    evacuating: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """The managers' answers.

    Args:
        now: What the answering manager's clock showed; None: it did not say.
    """

    service: SwarmService
    tasks: Sequence[SwarmTask]
    nodes: Sequence[SwarmNode]
    now: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What earlier looks and others have told.

    Args:
        heard: Ids of containers whose peers are heard of now.
        were_heard: Of those that ever were.
        failed: Failures that were shown before; None at the first look, which takes as old what is
            not fresh.
        since_s: How long each node has been in its state.
    """

    heard: Collection[str] = ()
    were_heard: Collection[str] = ()
    failed: Collection[str] | None = None
    since_s: Mapping[str, tuple[NodeState, float]]


def sight(raw: Raw, known: Known, config: SwarmConfig) -> SwarmSight:
    """Put it together."""
    spec = raw.service.spec
    outlook = _outlook(raw, known)
    pool = pool_of(raw, known, config)
    capacity = service.per_node_max(spec) or config.containers_per_node
    failed = failures(raw.tasks, outlook)
    old = known.failed
    if old is None:
        old = {failure.id for failure in failed if not failure.fresh}
    found = containers(raw.tasks, outlook, {failure.id for failure in failed} - set(old))
    return SwarmSight(
        containers=found,
        nodes=tuple(_node(node, known, capacity) for node in pool),
        wanted=service.replicas(spec),
        version=version(raw, pool),
        term=max([service.term(spec), *(service.term(node.raw.spec) for node in pool)]),
        trouble=_trouble(raw, pool, config),
        update=service.update(raw.service, config),
        slots=slots(raw.tasks),
        failures=failed,
        evacuating=frozenset(task.id for task in raw.tasks if evacuated(task))
        & {c.id for c in found},
    )


def pool_of(raw: Raw, known: Known, config: SwarmConfig) -> tuple[nodes.OurNode, ...]:
    """Our nodes, with their specs."""
    outlook = _outlook(raw, known)
    occupied = {task.node_id for task in raw.tasks if _counts(task, outlook)}
    return nodes.ours(raw.nodes, config, occupied)


def version(raw: Raw, pool: Sequence[nodes.OurNode]) -> str:
    """Of all that can be changed: the service's version, then each node's."""
    return " ".join(
        [
            str(raw.service.version.index),
            *(f"{node.name}={node_mark(node)}" for node in pool),
        ]
    )


def node_mark(node: nodes.OurNode) -> str:
    """Which node it is, and which version of it."""
    return f"{node.raw.id}@{node.raw.version.index}"


def service_version(version: str) -> int:
    """The service's, as it was seen."""
    return int(version.split(" ", 1)[0])


def node_seen(version: str, name: str) -> str:
    """A node's mark when it was seen; empty when there was none of that name."""
    seen = dict(part.split("=", 1) for part in version.split(" ")[1:])
    return seen.get(name, "")


def lost(before: Sight, after: Sight) -> tuple[Failure, ...]:
    """Containers that went out of sight with their nodes between two looks."""
    down = _down(after) - _down(before)
    known = {container.id for container in before.containers}
    return tuple(
        Failure(
            id=container.id,
            slot=container.slot,
            node=container.node,
            reason=f"Swarm hears nothing from its node {container.node} any more",
            exit_code=None,
            out_of_memory=False,
        )
        for container in after.containers
        if container.node in down and container.id in known
    )


def _down(sight: Sight) -> frozenset[str]:
    return frozenset(node.name for node in sight.nodes if node.state is NodeState.DOWN)


def _outlook(raw: Raw, known: Known) -> Outlook:
    """Of all nodes, for containers may also be on some that left the pool."""
    return Outlook(
        nodes={node.id: node.description.hostname for node in raw.nodes},
        silent={node.id for node in raw.nodes if node.status.state != "ready"},
        heard=known.heard,
        were_heard=known.were_heard,
        now=raw.now,
        grace_s=service.grace_s(raw.service.spec),
    )


def _counts(task: SwarmTask, outlook: Outlook) -> bool:
    return state_of(task, outlook) not in (None, ContainerState.FAILED)


def _node(node: nodes.OurNode, known: Known, capacity: int) -> Node:
    state, since_s = known.since_s.get(node.name, (node.state, 0.0))
    return Node(
        name=node.name,
        state=node.state,
        since_s=since_s if state is node.state else 0.0,
        capacity=capacity,
        fixed=node.fixed,
        provided=node.provided,
    )


def _trouble(raw: Raw, pool: Sequence[nodes.OurNode], config: SwarmConfig) -> str:
    if fault := service.fault(raw.service.spec, config):
        return fault
    if same := nodes.twins(raw.nodes, config):
        return (
            f"two nodes of the Swarm are called {same[0]}: give every node a hostname of its own, "
            "or remove the one that is gone (docker node rm)"
        )
    unknown = [node.name for node in pool if node.state is NodeState.UNKNOWN]
    if unknown:
        return (
            "the Swarm's managers have changed their leader and do not hear these nodes yet: "
            + ", ".join(unknown)
        )
    return ""
