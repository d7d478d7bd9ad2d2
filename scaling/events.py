"""What scaling says has happened: five of the seventeen events.

Each change of size carries the decision's reasons, as sentences: whoever asks in a month why a node
was shut down finds the answer in the same row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceUtilizationThresholdReached:
    """The use of a resource crossed a limit that scaling acts on.

    Args:
        resource: `cpu` or `memory`.
        direction: `above` or `below`.
        utilization: The average over the nodes, 0 to 1.
        threshold: The limit it crossed, 0 to 1.
        nodes: How many nodes the average is of.
    """

    kind: ClassVar[str] = "ResourceUtilizationThresholdReached"
    resource: str
    direction: str
    utilization: float
    threshold: float
    nodes: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerScaledUp:
    """A container was started.

    Args:
        worker_node: Where it runs; empty when the orchestrator has not said so yet.
        containers: How many are wanted now, this one included.
        term: The leadership under which it was done; a later one wins.
    """

    kind: ClassVar[str] = "ContainerScaledUp"
    worker_node: str
    containers: int
    term: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerScaledDown:
    """A container was shut down after it had finished its current work.

    Args:
        worker_node: Where it ran.
        containers: How many are wanted now, without it.
        term: The leadership under which it was done; a later one wins.
    """

    kind: ClassVar[str] = "ContainerScaledDown"
    worker_node: str
    containers: int
    term: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerNodeScaledUp:
    """A node was started, or an idle one was taken into service.

    Args:
        worker_node: The node's name.
        nodes: How many are wanted now, this one included.
        term: The leadership under which it was done; a later one wins.
    """

    kind: ClassVar[str] = "WorkerNodeScaledUp"
    worker_node: str
    nodes: int
    term: int
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerNodeScaledDown:
    """A node was emptied and taken out of service.

    Args:
        worker_node: The node's name.
        nodes: How many are wanted now, without it.
        term: The leadership under which it was done; a later one wins.
    """

    kind: ClassVar[str] = "WorkerNodeScaledDown"
    worker_node: str
    nodes: int
    term: int
    reasons: tuple[str, ...]


ScalingEvent = (
    ResourceUtilizationThresholdReached
    | ContainerScaledUp
    | ContainerScaledDown
    | WorkerNodeScaledUp
    | WorkerNodeScaledDown
)
