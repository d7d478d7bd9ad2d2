"""Who ends when there are to be fewer: whoever has the least work left. Pure.

Here we may choose, so nobody has to wait for a long encode that Swarm's order happens to name. Of
those with nothing to do, the ones on the last node go first, so that nodes become empty; and who is
parked already goes before who is not, so that a choice once made is kept to. Of those that would
lose no more, who chooses is the last: without the leader nobody scales for a moment, and nothing is
taken away for a whole window.
"""

from __future__ import annotations

from math import inf

from scaling.local.sight import LocalSight
from scaling.local.wanted import numbered
from scaling.snapshot import Activity, Container, ContainerState

FREE, PARKED, AT_REST, IDLE, UNKNOWN, BUSY = range(6)


def victims(sight: LocalSight, count: int, own: str = "") -> tuple[str, ...]:
    """Ids of those that end when only `count` are wanted, the first to go first.

    Args:
        own: The container of whoever asks.
    """
    fixed = {node.name for node in sight.nodes if node.fixed}
    candidates = [
        container
        for container in sight.containers
        if container.id not in sight.kept and container.state is not ContainerState.STOPPING
    ]

    def order(container: Container) -> tuple[int, float, bool, bool, int, int]:
        rank, left_s = _work(sight, container)
        _, number = numbered(container.node)
        return rank, left_s, container.id == own, container.node in fixed, -number, -container.slot

    surplus = max(0, sight.wanted - count)
    return tuple(container.id for container in sorted(candidates, key=order)[:surplus])


def _work(sight: LocalSight, container: Container) -> tuple[int, float]:
    """How much would be lost, as a class, and within that in seconds."""
    if container.state in (ContainerState.PENDING, ContainerState.FAILED):
        return FREE, 0.0
    peer = sight.work.get(container.id)
    if peer is None:
        return UNKNOWN, 0.0
    if peer.running:
        return BUSY, inf if peer.remaining_s is None else peer.remaining_s
    match peer.activity:
        case Activity.PARKED:
            return PARKED, 0.0
        case Activity.DRAINING:
            return AT_REST, 0.0
    return IDLE, 0.0
