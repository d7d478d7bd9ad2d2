"""What scaling aims at, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

Share = Annotated[float, Meta(ge=0, le=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingConfig:
    """The policy's settings, alike on all peers that may lead."""

    orchestrator: Literal["none", "local", "swarm"] = "none"
    # Who starts and stops containers: nobody, this machine (as processes), or Docker Swarm.
    queue_low: Annotated[int, Meta(ge=0)] = 2
    # With fewer parts waiting, containers may be stopped.
    queue_high: Annotated[int, Meta(ge=1)] = 10
    # With more waiting, containers are started. At least twice `queue_low`.
    pool: Annotated[str, Meta(pattern=r"^[a-z]([-a-z0-9]{0,46}[a-z0-9])?$")] = "worker"
    # New nodes are called after it: worker-1, worker-2, …
    containers_per_node: Annotated[int, Meta(ge=1, le=1000)] = 4
    # The threshold of containers to nodes: at it, a container more takes a node more.
    containers_min: Annotated[int, Meta(ge=0)] = 1
    containers_max: Annotated[int, Meta(ge=1)] = 40
    nodes_min: Annotated[int, Meta(ge=1)] = 1
    nodes_max: Annotated[int, Meta(ge=1)] = 10
    wait_s: Annotated[float, Meta(gt=0)] = 120.0
    # Within how long what waits should be taken up: how many containers that takes is computed.
    cpu_high: Share = 0.85
    # Above this average over the nodes a further container comes on a further node. 1: CPU is not
    # looked at for that.
    cpu_low: Share = 0.25
    # Below it, nodes whose containers fit elsewhere are emptied and shut down.
    memory_high: Share = 0.90
    # Above it, no container is added to a node, whatever the threshold says.
    average_s: Annotated[float, Meta(gt=0)] = 60.0
    # Over which time CPU and memory are averaged.
    band: Share = 0.2
    # A change smaller than this share of what there is, and smaller than one, is not made.
    down_window_s: Annotated[float, Meta(ge=0)] = 300.0
    # Only what has been too much for so long is taken away.
    node_age_min_s: Annotated[float, Meta(ge=0)] = 600.0
    # A node is kept for so long at least.
    boot_timeout_s: Annotated[float, Meta(gt=0)] = 600.0
    # A node that has not joined by then has failed, and the next one waits longer each time.
    interval_s: Annotated[float, Meta(ge=0.2, le=300)] = 5.0
    # Between two looks; events are looked at at once.
    stale_s: Annotated[float, Meta(gt=0)] = 20.0
    # What was observed longer ago is not acted on.

    def __post_init__(self) -> None:
        if self.queue_high < 2 * self.queue_low:
            raise ValueError(
                f"scaling.queue_high: {self.queue_high} is less than twice scaling.queue_low "
                f"({self.queue_low}): one container more or less would cross the whole range"
            )
        for low, high in (
            ("containers_min", "containers_max"),
            ("nodes_min", "nodes_max"),
            ("cpu_low", "cpu_high"),
        ):
            if getattr(self, low) > getattr(self, high):
                raise ValueError(f"scaling.{low} is larger than scaling.{high}")
