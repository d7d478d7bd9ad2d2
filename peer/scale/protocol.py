"""What `peerctl scale` and a peer say to each other; fields are added, not renamed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Mode = Literal["acting", "dry_run", "paused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownReason:
    """One gate that spoke; scaling/README.md has all codes."""

    code: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownPause:
    """That a person lets nothing be changed."""

    at: datetime
    by: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownNode:
    """A node, in service or not.

    Args:
        state: As `scaling.snapshot.NodeState` has them.
        containers: How many are on it, those that end included.
        cpu, memory: Averages over its peers, 0 to 1; None: nobody says.
        fixed: It is never taken out of service.
    """

    name: str
    state: str
    since_s: float
    containers: int
    capacity: int
    cpu: float | None
    memory: float | None
    fixed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownDemand:
    """The work there was; `service_s` is None before any part has ended."""

    ready: int
    delayed: int
    running: int
    arrivals_per_s: float
    service_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownLook:
    """What the leader saw last, and what it made of that.

    Args:
        age_s: How long ago.
        leader: The peer's name.
        wanted: How many containers the orchestrator was told to run.
        containers: How many there are, by their states.
        desired_containers, desired_nodes: How many there should be.
        leaving, starting: Nodes.
        held: Nothing is to be changed; the reasons say why.
        machines: What is wrong with the provider or its machines, as sentences.
    """

    at: datetime
    age_s: float
    term: int
    leader: str
    mode: Mode
    demand: ShownDemand | None
    wanted: int
    containers: Mapping[str, int]
    nodes: tuple[ShownNode, ...]
    desired_containers: int
    desired_nodes: int
    leaving: tuple[str, ...]
    starting: tuple[str, ...]
    held: bool
    reasons: tuple[ShownReason, ...]
    machines: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownScaling:
    """The answer to `scale`.

    Args:
        orchestrator: What starts and stops containers, in a few words.
        leader: The name of the peer that is proposed to lead; None while there is none.
        own: It is the peer that answers.
        reach: Why the peer that answers cannot reach the orchestrator; empty when it can.
        look: None when no leader has looked yet.
    """

    orchestrator: str
    leader: str | None
    own: bool
    reach: str
    paused: ShownPause | None
    look: ShownLook | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownDecision:
    """An item of `scale_explain`, the newest first.

    Args:
        count: How many in a row were alike, from `first_at` to `last_at`.
        considered: Snapshot, settings, memory and decision of the first of them, from which the
            decision can be made again.
        reasons: Of the last of them.
        actions: Each with its name as `action`.
        outcomes: The same with `trouble`, for those that were begun.
    """

    number: int
    first_at: datetime
    last_at: datetime
    count: int
    term: int
    leader: str
    mode: Mode
    considered: Mapping[str, Any] = field(repr=False)
    reasons: tuple[ShownReason, ...]
    actions: tuple[Mapping[str, Any], ...]
    outcomes: tuple[Mapping[str, Any], ...]
