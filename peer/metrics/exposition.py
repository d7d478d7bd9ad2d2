"""Everything that a peer can be measured by, in the text that Prometheus reads.

deploy/grafana/README.md lists all of it; a test compares the two. What a peer does not know at the
moment is left out, rather than told as 0: of the queue while it is away, of the scaling while
another peer leads.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from peer.events import EVENT_TYPES
from peer.metrics.families import counter, gauge
from peer.metrics.gossip import gossip_families, membership_families
from peer.metrics.health import REASONS
from peer.metrics.pipeline import (
    attempt_families,
    dependency_families,
    event_families,
    queue_families,
    slot_families,
)
from peer.metrics.scaling import scaling_families
from peer.metrics.watched import Watched

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4


def exposition(watched: Watched) -> bytes:
    """Measure a peer, once. Takes some milliseconds, and waits for nobody."""
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_Collected(lambda: _families(watched)))
    return generate_latest(registry)


class _Collected(Collector):
    """Families as the library's registry takes them."""

    def __init__(self, families: Callable[[], Iterable[Metric]]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families()

    def describe(self) -> Iterable[Metric]:
        """Nothing: whoever registers this looks for no names that are there twice."""
        return ()


def _families(watched: Watched) -> Iterator[Metric]:
    yield from _about(watched)
    neighbours, log = watched.neighbours, watched.log
    yield from gossip_families(neighbours.counters(), log, neighbours.lag)
    yield from membership_families(neighbours.view(), log.changes)
    yield from event_families(watched.stamper.stamped, [event.kind for event in EVENT_TYPES])
    yield from queue_families(watched.depth())
    parts = watched.parts()
    if parts is None:
        return
    worker = parts.worker
    yield from slot_families(worker.jobs, slots=worker.slots, configured=watched.config.peer.slots)
    yield from attempt_families(parts.attempts)
    yield from dependency_families(worker.breakers, spooled=parts.spooling.spooled)
    if (governing := parts.scaling.governing) is not None:
        yield from scaling_families(*governing)


def _about(watched: Watched) -> Iterator[Metric]:
    holder = watched.holder()
    yield gauge(
        "grapevine_build_info",
        "1; the version is a label.",
        {(version("grapevine"),): 1},
        ["version"],
    )
    yield gauge(
        "grapevine_peer_info",
        "1; who this peer is, as its own row of the gossip table says.",
        {(holder.peer_name, holder.peer_uid, holder.node, holder.container): 1},
        ["name", "uid", "node", "container"],
    )
    why = watched.why_not_ready()
    yield gauge("grapevine_ready", "1 if this peer would take work.", float(not why))
    yield gauge(
        "grapevine_not_ready",
        "1 for each reason why it would not; /readyz says them as sentences.",
        {(reason,): float(reason in why) for reason in REASONS},
        ["reason"],
    )
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    yield counter(
        "grapevine_children_cpu_seconds_total",
        "Processor time of the programs that this peer has run, of those that have ended.",
        used.ru_utime + used.ru_stime,
    )
