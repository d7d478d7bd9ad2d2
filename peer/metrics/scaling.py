"""What the scaling decides and does, as metric families: by the peer that leads it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client.metrics_core import Metric

from peer.metrics.decisions import ACTIONS, KINDS, RESULTS, CountingJournal
from peer.metrics.families import counter, gauge
from scaling.ports import Entry
from scaling.snapshot import ContainerState, NodeState
from scaling.tenure import Tenure


def scaling_families(journal: CountingJournal, tenure: Tenure) -> Iterator[Metric]:
    """What was counted since the start; and, only while this peer leads, how things are."""
    term = tenure.term
    yield gauge(
        "grapevine_scaling_leading",
        "1 if this peer holds the lease, and so may scale.",
        float(term is not None),
    )
    yield gauge(
        "grapevine_scaling_lease_trouble",
        "1 if this peer should hold the lease and something is in the way.",
        float(bool(tenure.trouble)),
    )
    yield counter(
        "grapevine_scaling_decisions_total",
        "Decisions that were put down. acted, kept: something was to be done, or nothing.",
        {(kind,): journal.decided[kind] for kind in KINDS},
        ["kind"],
    )
    yield counter(
        "grapevine_scaling_reasons_total",
        "How often each reason was given; scaling/README.md explains them.",
        {(code,): count for code, count in journal.reasons.items()},
        ["reason"],
    )
    yield counter(
        "grapevine_scaling_actions_total",
        "What was done, and what was tried in vain.",
        {(a, result): journal.done[a, result] for a in ACTIONS for result in RESULTS},
        ["action", "result"],
    )
    if term is None:
        return
    yield gauge("grapevine_scaling_term", "The term under which this peer leads.", term)
    if journal.latest is not None:
        yield gauge(
            "grapevine_scaling_decided_timestamp_seconds",
            "When the last decision was put down, in seconds since 1970.",
            journal.latest_at,
        )
        yield from _latest(journal.latest)


def _latest(entry: Entry) -> Iterator[Metric]:
    snapshot, decision = entry.considered.snapshot, entry.considered.decision
    yield gauge(
        "grapevine_scaling_held",
        "1 if the last decision was to change nothing because something could not be trusted.",
        float(decision.held),
    )
    yield gauge(
        "grapevine_scaling_containers_desired",
        "How many containers there should be.",
        decision.desired.containers,
    )
    yield gauge(
        "grapevine_scaling_containers_wanted",
        "How many the orchestrator was last told to run.",
        snapshot.wanted,
    )
    containers = Counter(container.state for container in snapshot.containers)
    yield gauge(
        "grapevine_scaling_containers",
        "How many there are, by what the orchestrator says of them.",
        {(state.value,): containers[state] for state in ContainerState},
        ["state"],
    )
    yield gauge(
        "grapevine_scaling_nodes_desired",
        "How many nodes should be in service or on their way.",
        decision.desired.nodes,
    )
    nodes = Counter(node.state for node in snapshot.nodes)
    yield gauge(
        "grapevine_scaling_nodes",
        "How many there are, by what the orchestrator and the provider say of them.",
        {(state.value,): nodes[state] for state in NodeState},
        ["state"],
    )
    if (demand := snapshot.demand) is None:
        return
    yield gauge(
        "grapevine_scaling_parts",
        "Parts as the leader has counted them: ready, delayed, or being worked on.",
        {
            ("ready",): demand.ready,
            ("delayed",): demand.delayed,
            ("running",): demand.running,
        },
        ["state"],
    )
    yield gauge(
        "grapevine_scaling_part_arrivals_per_second",
        "Parts that come in one second.",
        demand.arrivals_per_s,
    )
    if demand.service_s is not None:
        yield gauge(
            "grapevine_scaling_part_seconds",
            "How long a part takes, a moving average.",
            demand.service_s,
        )
