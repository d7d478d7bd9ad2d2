"""What scaling decides: absolute numbers, and why.

"12 containers on 4 nodes, node-3 leaving", and never "one more": doing it twice is doing it once,
and two leaders who see the same decide the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from scaling.events import ResourceUtilizationThresholdReached


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """One gate that spoke, for people and for counting.

    Args:
        code: `queue_high`, `window`, `band`, `no_room`, `stale`, …: scaling/README.md has all.
        text: A sentence with the numbers.
    """

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """How it should be.

    Args:
        containers: How many, in all.
        nodes: How many in service or on their way.
        parked: Uids of the peers that take no new work, because their node leaves. Whom the
            orchestrator will stop when there are to be fewer containers is known to `plan` only.
        leaving: Nodes to be emptied and taken out of service.
        starting: Nodes to be taken in or created, by the names that they have or will have.
        room: How many containers the nodes now in service may hold: no more are asked for, so that
            those beyond it start on the nodes that are on their way.
    """

    containers: int
    nodes: int
    parked: tuple[str, ...] = ()
    leaving: tuple[str, ...] = ()
    starting: tuple[str, ...] = ()
    room: int = 0


@dataclass(frozen=True, slots=True)
class Decision:
    """What `decide` answers.

    Args:
        held: Nothing is to be changed, whatever `desired` says; the reasons say why.
        crossed: Limits of CPU and memory that were crossed since the last decision.
    """

    desired: Desired
    held: bool
    reasons: tuple[Reason, ...]
    crossed: tuple[ResourceUtilizationThresholdReached, ...] = ()


# What a leader does about it. Each is idempotent, and at most one of those that disturb anybody
# (`SetContainers` downwards, `EmptyNode`, `RetireNode`) is done in one round.


@dataclass(frozen=True, slots=True, kw_only=True)
class StartNode:
    """Take a node into service: one on standby, or a new one from the provider."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetContainers:
    """Tell the orchestrator how many containers to run."""

    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Park:
    """Ask a peer to take no new work."""

    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unpark:
    """Ask a parked peer to take work again."""

    uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EmptyNode:
    """Let the node's containers move: new ones start elsewhere, the old ones finish."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetireNode:
    """Put an empty node on standby, or destroy it."""

    name: str


Action = StartNode | SetContainers | Park | Unpark | EmptyNode | RetireNode
