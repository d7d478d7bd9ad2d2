"""What the gossip and the membership of a peer say of themselves, as metric families."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Final, get_args

from prometheus_client.metrics_core import Metric

from gossip.errors import Reason
from gossip.load import Load
from gossip.rows import State
from membership.changes import Change
from membership.lag import LoopLag
from membership.view import Member, View
from peer.gossip_log import GossipLog
from peer.metrics.counts import coarsened
from peer.metrics.families import counter, gauge, histogram

DROPPED: Final = (*get_args(Reason), "overflow", "source")
"""Why a datagram is thrown away: what gossip may find wrong with it, what the kernel had no room
for, and where it came from."""

CHANGES: Final = tuple(change.__name__ for change in get_args(Change))

_SINGLE: Final = {
    "held_unverified": (
        "grapevine_gossip_unverified_held_total",
        "Messages of a session that had not answered the question whether it is one.",
    ),
    "clones_met": (
        "grapevine_gossip_clones_met_total",
        "How often another peer was met that has this one's identity.",
    ),
    "callbacks_failed": (
        "grapevine_gossip_listeners_failed_total",
        "Exceptions of what listens to membership; each is a mistake of this program.",
    ),
    "clock_jumps": (
        "grapevine_gossip_clock_jumps_total",
        "How often the machine's clock was set while the socket was open.",
    ),
    "udp_received": (
        "grapevine_gossip_datagrams_received_total",
        "Datagrams read from the socket, whatever was wrong with them.",
    ),
    "udp_sent": ("grapevine_gossip_datagrams_sent_total", "Datagrams that the kernel has taken."),
    "received_bytes": (
        "grapevine_gossip_received_bytes_total",
        "Bytes of the datagrams that could be opened, without their headers.",
    ),
    "udp_sent_bytes": (
        "grapevine_gossip_sent_bytes_total",
        "Bytes of the datagrams that were sent, without their headers.",
    ),
}

_NO_MESSAGES: Final = frozenset({"sent_bytes", "received_bytes"})


def gossip_families(counters: Mapping[str, int], log: GossipLog, lag: LoopLag) -> Iterator[Metric]:
    """How much was said and heard, and how late the loop ran.

    Args:
        counters: As `MembershipService.counters` names them.
    """
    for name, (shown, said) in _SINGLE.items():
        yield counter(shown, said, counters.get(name, 0))
    for verb, said in (
        ("sent", "Messages that were sent, one for each receiver, by their type."),
        ("received", "Messages that were opened and understood, by their type."),
        ("unsent", "Messages that were left out because the budget of bytes was used up."),
    ):
        messages = _with_prefix(counters, f"{verb}_", without=_NO_MESSAGES)
        yield counter(f"grapevine_gossip_messages_{verb}_total", said, messages, ["message"])
    dropped: dict[tuple[str, ...], float] = {(reason,): 0 for reason in DROPPED}
    yield counter(
        "grapevine_gossip_datagrams_dropped_total",
        "Datagrams that were thrown away; gossip/errors.py explains the reasons.",
        dropped | _with_prefix(counters, "dropped_"),
        ["reason"],
    )
    yield counter(
        "grapevine_gossip_socket_errors_total",
        "Errors of the socket, by what was being done and by their names in the kernel.",
        {
            (doing, name): count
            for doing in ("send", "receive")
            for (name,), count in _with_prefix(counters, f"udp_{doing}_").items()
        },
        ["doing", "error"],
    )
    yield counter(
        "grapevine_gossip_heartbeats_received_total",
        "Heartbeats of the peers that this one observes.",
        log.heartbeats,
    )
    yield counter(
        "grapevine_gossip_merges_total",
        "How often what another peer knows was merged into this one's table.",
        log.merges,
    )
    yield counter(
        "grapevine_gossip_rows_received_total", "Rows in what was merged.", log.rows_received
    )
    yield counter(
        "grapevine_gossip_rows_changed_total",
        "Rows among those that were newer than this peer's.",
        log.rows_changed,
    )
    yield histogram(
        "grapevine_loop_lag_seconds",
        "By how much each turn of the gossip loop was late.",
        coarsened(lag.bars()),
    )


def membership_families(view: View, changes: Counter[str]) -> Iterator[Metric]:
    """What this peer believes of the cluster.

    Args:
        changes: How many were noticed, by the names of their types.
    """
    states = Counter(member.state for member in view.members)
    yield gauge(
        "grapevine_members",
        "Members as this peer sees them, by their state; itself included.",
        {(state.name.lower(),): states[state] for state in State},
        ["state"],
    )
    yield gauge(
        "grapevine_members_silent",
        "Members that this peer should hear and does not.",
        sum(member.silent for member in view.members),
    )
    for name, said, true in (
        ("grapevine_leader", "1 if this peer is the one proposed to lead.", view.leads),
        ("grapevine_leader_known", "1 if any is.", view.leader is not None),
        ("grapevine_quorate", "1 if half of the recent members are seen alive.", view.quorate),
        ("grapevine_deaf", "1 if this peer hears hardly anybody.", view.deaf),
        ("grapevine_suspected", "1 if others take this peer for suspect or dead.", view.suspected),
        (
            "grapevine_mass_event",
            "1 if so many fell silent at once that deaths are held back.",
            view.mass_event,
        ),
    ):
        yield gauge(name, said, float(true))
    yield counter(
        "grapevine_membership_changes_total",
        "Changes of the cluster that this peer noticed; membership/changes.py explains them.",
        {(name,): changes[name] for name in CHANGES},
        ["change"],
    )
    if (load := _own_load(view.members)) is not None:
        yield gauge(
            "grapevine_container_cpu_ratio",
            "Share of the processors that this peer's container may use, 0 to 1.",
            load.cpu,
        )
        yield gauge(
            "grapevine_container_memory_ratio",
            "Share of the memory that this peer's container may use, 0 to 1.",
            load.memory,
        )


def _own_load(members: Iterable[Member]) -> Load | None:
    return next((member.load for member in members if member.own), None)


def _with_prefix(
    counters: Mapping[str, int], prefix: str, without: frozenset[str] = frozenset()
) -> dict[tuple[str, ...], float]:
    return {
        (name.removeprefix(prefix),): count
        for name, count in counters.items()
        if name.startswith(prefix) and name not in without
    }
