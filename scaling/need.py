"""How many containers the work takes: by the time it waits, and by how fast it comes.

The queue's length alone is the wrong measure: ten parts that wait are nothing for forty containers
with parts of a second, and a day's work for one with parts of two hours. So length opens the gate
(scaling/gates.py), and this says how far to go through it:

    waiting = (ready * min(S, W) + sum of min(remaining, W)) / W
    coming  = arrivals * S * 1.1
    need    = max(waiting, coming), at most the parts there are and will be in a moment

where S is how long one part takes and W within how long a waiting part should be taken up. A part
counts with W at most: what is to be *taken up* within W and takes longer than that needs a
container of its own, and no more than one. The last line is what others forget: never more
containers than parts (notes on KEDA: one that is idle because nothing is left to do cannot help).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scaling.config import ScalingConfig
from scaling.snapshot import Activity, Container, ContainerState, Demand
from scaling.words import counted, parts_wait

HEADROOM = 1.1
"""Containers for what comes, over the least that could do it: at 1.0 a queue grows for ever."""

START_S = 10.0
"""From the decision to a container that works, on a node with room: a tick, a start, a greeting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What the work takes.

    Args:
        containers: Without limits of the configuration.
        text: How it was computed, as a sentence.
    """

    containers: int
    text: str


def need(demand: Demand, containers: Sequence[Container], config: ScalingConfig) -> Need:
    """Compute how many containers the work takes. It never falls when more waits."""
    within_s = config.wait_s
    # Before the first part has ended, one counts as long: too many that wait are the worse mistake.
    # So it does when a clock that was set back says that parts end before they begin.
    service_s = demand.service_s
    if service_s is None or service_s <= 0:
        service_s = within_s
    waiting = (
        demand.ready * min(service_s, within_s)
        + _running_s(demand, containers, service_s=service_s, within_s=within_s)
    ) / within_s
    coming = demand.arrivals_per_s * service_s * HEADROOM
    parts = demand.ready + demand.running + demand.arrivals_per_s * START_S
    slots = slots_each(containers)
    count = math.ceil(round(min(max(waiting, coming), parts) / slots, 6))
    return Need(
        containers=count,
        text=(
            f"{parts_wait(demand.ready)}, "
            f"{counted(demand.running, 'is', 'are')} worked on and "
            f"{demand.arrivals_per_s:.3g} come a second, of {service_s:.3g} s each: "
            f"to be taken up within {within_s:.3g} s they take "
            f"{counted(count, 'container', 'containers')}"
        ),
    )


def _running_s(
    demand: Demand, containers: Sequence[Container], *, service_s: float, within_s: float
) -> float:
    """For how much of the time to come the parts in work hold their containers.

    A peer tells until when *all* its parts are done, so each of them counts until then.
    """
    known_s, known = 0.0, 0
    for container in containers:
        peer = container.peer
        if peer is None or peer.remaining_s is None or peer.running == 0:
            continue
        counted = min(peer.running, demand.running - known)
        known_s += counted * min(peer.remaining_s, within_s)
        known += counted
    return known_s + (demand.running - known) * min(service_s, within_s)


def slots_each(containers: Sequence[Container]) -> float:
    """How many parts one container works on at once: the mean of what peers say, else 1."""
    told = [
        container.peer.slots
        for container in containers
        if container.peer is not None and container.peer.slots > 0
    ]
    return sum(told) / len(told) if told else 1.0


def drained(containers: Sequence[Container]) -> int:
    """Count the containers that a person keeps from working: they run, and are no capacity."""
    return sum(
        container.state is ContainerState.RUNNING
        and container.peer is not None
        and container.peer.activity is Activity.DRAINING
        for container in containers
    )
