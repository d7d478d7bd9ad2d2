"""What scaling looks at: demand, containers and nodes at one moment, as plain values.

Times are seconds on one clock that the caller reads; nothing here reads any. What could not be
observed is absent (`None`) or of state UNKNOWN, never guessed: whoever decides on it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Activity(StrEnum):
    """What a container's peer says of itself."""

    IDLE = "idle"
    BUSY = "busy"
    PARKED = "parked"  # takes no new work, because the scaler asked for that
    DRAINING = "draining"  # takes no new work, because a person or a signal said so


class ContainerState(StrEnum):
    """What the orchestrator says of a container."""

    PENDING = "pending"  # no node has room for it
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"  # was told to end, and finishes its work
    FAILED = "failed"  # ended, and is about to be replaced
    UNKNOWN = "unknown"


class NodeState(StrEnum):
    """What the orchestrator and the provider say of a node."""

    BOOTING = "booting"  # ordered from the provider, and not joined yet
    STANDBY = "standby"  # joined and ready, and not in service
    READY = "ready"  # in service: containers may start there
    CORDONED = "cordoned"  # in service, but a person lets nothing new start there
    EMPTYING = "emptying"  # being taken out of service: its containers finish, and no new one comes
    EMPTY = "empty"  # out of service for good: to be destroyed, or to be put on standby
    DOWN = "down"
    UNKNOWN = "unknown"  # while the orchestrator's own leader changes


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """The work there is.

    Args:
        ready: Parts that wait to be taken, now.
        delayed: Parts that wait for their next attempt.
        running: Parts that are worked on.
        arrivals_per_s: The larger of the rates over the last 120 s and 300 s.
        service_s: How long one part takes, a moving average; None before the first has ended.
        age_s: How old this observation is.
    """

    ready: int
    delayed: int
    running: int
    arrivals_per_s: float
    service_s: float | None
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSight:
    """The peer in a container, as gossip knows it.

    Args:
        uid: 16 hexadecimal digits.
        remaining_s: Until all its parts are done, as far as their progress tells; None: unknown,
            which counts as long. 0 when it is idle.
        cpu, memory: Shares of the container's own limits, 0 to 1.
        age_s: How long ago it was last heard by anybody.
    """

    uid: str
    activity: Activity
    slots: int
    running: int
    remaining_s: float | None
    cpu: float
    memory: float
    age_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """One container of the service.

    Args:
        id: The orchestrator's name for it: a Swarm task's id, a local process's name.
        slot: Its number in the service; the next one in its place has the same.
        node: Where it runs; empty while it is PENDING.
        peer: None while nobody has heard of one.
        out_of_memory: It FAILED for lack of memory.
    """

    id: str
    slot: int
    node: str
    state: ContainerState
    peer: PeerSight | None = None
    out_of_memory: bool = False

    @property
    def working(self) -> bool:
        """It can take work, now or in a moment: neither told to stop, nor parked, nor lost."""
        if self.state is ContainerState.STARTING:
            return True
        return (
            self.state is ContainerState.RUNNING
            and self.peer is not None
            and self.peer.activity in (Activity.IDLE, Activity.BUSY)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One node, in service or not.

    Args:
        name: Unique, and the same for orchestrator and provider.
        since_s: For how long it has been in this state, as far as this leader has seen.
        capacity: How many containers it holds at most.
        fixed: Never taken out of service: a manager, or one that a person has kept.
        provided: A provider created it, and can destroy it.
        cpu, memory: Averages over its peers, shares of the node, 0 to 1; None: nobody says.
    """

    name: str
    state: NodeState
    since_s: float
    capacity: int
    fixed: bool = False
    provided: bool = False
    cpu: float | None = None
    memory: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything that a decision is made of, and so everything that is recorded with it.

    Args:
        now_s: On the leader's clock that never goes back.
        leading_s: For how long this leader has held its term.
        term: The leadership under which it was taken.
        demand: None when it could not be observed.
        wanted: How many containers the orchestrator was last told to run.
        quorate: At least half of the recent membership is alive in this view.
        expandable: A provider can create nodes beyond those that are there.
        trouble: Why the orchestrator cannot be trusted or changed right now; empty when it can.
        update: That the orchestrator is replacing all containers, as a sentence; empty when it is
            not. Records from before it was looked for have none.
        machines: What is wrong with the provider or with its machines, as sentences. Nothing is
            decided by it: what follows from it is in the nodes. It is for people.
    """

    now_s: float
    leading_s: float
    term: int
    demand: Demand | None
    containers: tuple[Container, ...]
    nodes: tuple[Node, ...]
    wanted: int
    quorate: bool = True
    expandable: bool = True
    trouble: str = ""
    update: str = ""
    machines: tuple[str, ...] = ()
