"""Where CPU and memory stand against their limits, and each crossing once.

An average is over the nodes and over time: an exponential mean, as the kernel's load average is.
Ten parts that happen to come at once make all nodes hot for half a minute, and a node takes longer
than that to boot. A new leader's first look counts in full: it has nothing to weigh it against.

A limit counts as crossed back only five points on the other side of it (hysteresis): an average
that trembles around 85 % would otherwise be an event every five seconds. A container that ended for
lack of memory counts as memory's limit reached on its node, whatever the average says, because
what is measured between two looks is never as high as what killed it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from scaling.config import ScalingConfig
from scaling.events import ResourceUtilizationThresholdReached
from scaling.snapshot import ContainerState, Node, NodeState, Snapshot
from scaling.words import counted

HYSTERESIS = 0.05

WORKING_STATES = (NodeState.READY, NodeState.CORDONED)
"""In service, so that its utilization says something about the workload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Starved:
    """A node on which a container ended for lack of memory: it gets no further one for a while."""

    node: str
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """On which side of its limits each average is: `above`, `below`, or neither, with hysteresis.

    Args:
        cpu_mean, memory_mean: The averages over nodes and time; None: nobody has said.
        seen_s: When they were looked at last.
        starved: Nodes that lacked memory lately, sorted by name.
    """

    cpu: str = ""
    memory: str = ""
    cpu_mean: float | None = None
    memory_mean: float | None = None
    seen_s: float = 0.0
    starved: tuple[Starved, ...] = ()

    def hot(self, node: Node, config: ScalingConfig) -> bool:
        """Whether a further container on this node would find no CPU or memory."""
        return (
            (node.cpu is not None and node.cpu >= cpu_limit(config))
            or (node.memory is not None and node.memory >= config.memory_high)
            or any(starved.node == node.name for starved in self.starved)
        )

    def full_of_memory(self, node: Node, config: ScalingConfig) -> bool:
        """Whether a further container on this node would find no memory."""
        return (node.memory is not None and node.memory >= config.memory_high) or any(
            starved.node == node.name for starved in self.starved
        )


def cpu_limit(config: ScalingConfig) -> float:
    """Return the share of CPU from which on a node is hot: none where the limit is 1.

    Where one machine plays several nodes, or an encode takes all that it is given, CPU tells
    nothing; and an average of exactly 1 does occur there, so 1 has to mean never.
    """
    return config.cpu_high if config.cpu_high < 1 else math.inf


def average(values: list[float | None]) -> tuple[float, int] | None:
    """Return the mean of what is known and of how many it is, or None when nobody says."""
    known = [value for value in values if value is not None]
    return (sum(known) / len(known), len(known)) if known else None


def look(
    snapshot: Snapshot, config: ScalingConfig, before: Levels
) -> tuple[Levels, tuple[ResourceUtilizationThresholdReached, ...]]:
    """Say where the averages are now, and which limits were crossed since the last look."""
    nodes = [node for node in snapshot.nodes if node.state in WORKING_STATES]
    elapsed_s = snapshot.now_s - before.seen_s
    share = 1 - math.exp(-elapsed_s / config.average_s)
    cpu_mean, reporting = _mean(before.cpu_mean, [node.cpu for node in nodes], share)
    cpu, cpu_events = _level(
        "cpu", before.cpu, cpu_mean, reporting, low=config.cpu_low, high=cpu_limit(config)
    )
    memory_mean, reporting = _mean(before.memory_mean, [node.memory for node in nodes], share)
    memory, memory_events = _level(
        "memory", before.memory, memory_mean, reporting, low=None, high=config.memory_high
    )
    starved, starved_events = _starvation(snapshot, config, before)
    after = Levels(
        cpu=cpu,
        memory=memory,
        cpu_mean=cpu_mean,
        memory_mean=memory_mean,
        seen_s=snapshot.now_s,
        starved=starved,
    )
    return after, (*cpu_events, *memory_events, *starved_events)


def look_for_failures(
    snapshot: Snapshot, config: ScalingConfig, before: Levels
) -> tuple[Levels, tuple[ResourceUtilizationThresholdReached, ...]]:
    """Say only who ran out of memory; that is a fact however little else is known, unless the
    orchestrator itself is in trouble: then the snapshot shows what was seen before."""
    if snapshot.trouble:
        return before, ()
    starved, events = _starvation(snapshot, config, before)
    return replace(before, starved=starved), events


def _mean(
    before: float | None, values: list[float | None], share: float
) -> tuple[float | None, int]:
    now = average(values)
    if now is None:
        return before, 0
    mean, nodes = now
    return (mean if before is None else before + share * (mean - before)), nodes


def _level(
    resource: str, before: str, used: float | None, nodes: int, *, low: float | None, high: float
) -> tuple[str, tuple[ResourceUtilizationThresholdReached, ...]]:
    if used is None or not nodes:
        return before, ()
    if used >= high:
        after, threshold = "above", high
    elif low is not None and used < low:
        after, threshold = "below", low
    elif (before == "above" and used >= high - HYSTERESIS) or (
        before == "below" and low is not None and used < low + HYSTERESIS
    ):
        return before, ()
    else:
        return "", ()
    if after == before:
        return before, ()
    event = ResourceUtilizationThresholdReached(
        resource=resource,
        direction=after,
        utilization=round(used, 4),
        threshold=threshold,
        nodes=nodes,
        reasons=(
            f"the average {resource} of {counted(nodes, 'node', 'nodes')} is {used:.0%}, "
            f"{after} the limit of {threshold:.0%}",
        ),
    )
    return after, (event,)


def _starvation(
    snapshot: Snapshot, config: ScalingConfig, before: Levels
) -> tuple[tuple[Starved, ...], tuple[ResourceUtilizationThresholdReached, ...]]:
    lasting = {
        starved.node: starved for starved in before.starved if starved.until_s > snapshot.now_s
    }
    until_s = snapshot.now_s + config.down_window_s
    events = []
    for container in snapshot.containers:
        if container.state is not ContainerState.FAILED or not container.out_of_memory:
            continue
        if container.node not in lasting:
            events.append(
                ResourceUtilizationThresholdReached(
                    resource="memory",
                    direction="above",
                    utilization=1.0,
                    threshold=config.memory_high,
                    nodes=1,
                    reasons=(f"container {container.id} on {container.node} ran out of memory",),
                )
            )
        lasting[container.node] = Starved(node=container.node, until_s=until_s)
    return tuple(lasting[name] for name in sorted(lasting)), tuple(events)
