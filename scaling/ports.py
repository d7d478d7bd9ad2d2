"""What the controller asks of the world, each in six methods or fewer.

Adapters do not inherit from these; mypy checks them where the peer passes them in, and one contract
suite runs over every implementation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from scaling.decision import Action
from scaling.record import Considered
from scaling.snapshot import Container, Demand, Node, NodeState, PeerSight
from scaling.utilization import Levels


class ScalingError(Exception):
    """The base of what scaling raises; the message says what to do."""


class OrchestratorUnavailable(ScalingError):
    """It cannot be reached, or has no quorum: hold, and look again."""


class LedgerAway(OrchestratorUnavailable):
    """What scaling keeps in the ledger cannot be read or written: hold, and look again."""


class Conflict(ScalingError):
    """Somebody else has changed it since it was observed: observe and decide again."""


class Superseded(ScalingError):
    """A later term has written: this leader leads no more."""


class ProviderFailed(ScalingError):
    """A node could not be created, listed or destroyed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the orchestrator says at one moment.

    Args:
        containers: Without their peers: the controller knows those from gossip.
        wanted: How many containers it was last told to run.
        version: Opaque; a change is refused when this is not its version any more.
        term: Of the leader that changed it last; 0 before any.
        trouble: Why it cannot be changed now, as a sentence; empty when it can.
        update: That it is replacing all containers by those of another version, as a sentence;
            empty when it is not. `set_containers` is refused meanwhile, and nothing else is.
    """

    containers: tuple[Container, ...]
    nodes: tuple[Node, ...]
    wanted: int
    version: str
    term: int
    trouble: str = ""
    update: str = ""


class Orchestrator(Protocol):
    """**Protocol**: runs containers on nodes.

    Every change carries what was seen and the leader's term. It raises `Conflict` when what was
    seen is not so any more, `Superseded` when a later term has written, `OrchestratorUnavailable`
    when it cannot be reached; it has then changed nothing, or exactly what was asked.
    """

    async def observe(self) -> Sight:
        """Look. Raises `OrchestratorUnavailable`."""
        ...

    def victims(self, sight: Sight, count: int) -> tuple[str, ...]:
        """Predict which containers end when only `count` are wanted: ids, the first to go first.

        Pure. Where the orchestrator lets us choose, `count` of them are chosen by least work.
        """
        ...

    async def set_containers(
        self, count: int, *, seen: Sight, term: int, reasons: Sequence[str]
    ) -> None:
        """Run so many."""
        ...

    async def take_in(self, node: str, *, seen: Sight, term: int) -> None:
        """Let containers start on a node that has joined."""
        ...

    async def empty(self, node: str, *, seen: Sight, term: int) -> None:
        """Take a node out of service: its containers finish, their successors start elsewhere."""
        ...

    async def retire(self, node: str, *, seen: Sight, term: int) -> None:
        """Forget an empty node that is to be destroyed; leave one that stays on standby."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A node as its provider knows it.

    Args:
        age_s: How long ago it was ordered; None where the provider does not say.
    """

    name: str
    state: NodeState
    age_s: float | None = None


class NodeProvider(Protocol):
    """**Protocol**: makes nodes and takes them away, by name. Raises `ProviderFailed`."""

    async def list(self) -> Sequence[Machine]:
        """All machines of this cluster that it has, also those that have not joined."""
        ...

    async def create(self, name: str) -> None:
        """Order one. One of that name that exists is left as it is."""
        ...

    async def destroy(self, name: str) -> None:
        """Give it back. None of that name is fine, too."""
        ...


class Lease(Protocol):
    """**Protocol**: the right to act, kept where the orchestrator's own truth is."""

    async def keep(self, holder: str) -> int | None:
        """Take it, or renew it: the term under which to act until `lease_s` after this call began.

        Returns:
            None while somebody else holds it. A term that was never given before at each new
            holder, greater than all before.
        """
        ...

    async def give_up(self, holder: str) -> None:
        """Let the next one have it at once."""
        ...


class Peers(Protocol):
    """**Protocol**: the cluster, as far as scaling is concerned."""

    def leads(self) -> bool:
        """Whether this peer is the one proposed to lead."""
        ...

    def quorate(self) -> bool:
        """Whether at least half of the recent membership is alive in this peer's view."""
        ...

    def sights(self) -> dict[str, PeerSight]:
        """By container id."""
        ...

    async def park(self, uid: str) -> bool:
        """Ask it to take no new work. Whether it has heard."""
        ...

    async def unpark(self, uid: str) -> bool:
        """Ask it to take work again, unless a person has drained it. Whether it has heard."""
        ...

    async def renew(self) -> None:
        """Tell those that are parked, now and then, that it still holds: else it ends by itself."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """The work there is, and who will be free when.

    Args:
        remaining_s: By the uid of each peer that works: until all its parts are done; None where it
            does not say.
    """

    demand: Demand
    remaining_s: Mapping[str, float | None]


class DemandSource(Protocol):
    """**Protocol**: the work there is."""

    async def workload(self) -> Workload | None:
        """Look; None when the ledger is away. A few milliseconds, however much waits."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One decision, as it is put down before anything of it is done.

    Args:
        leader: For people: the peer's name.
        dry_run: Nothing of it is to be done.
        levels: Where CPU and memory stand after it; the next leader begins with them.
        sight: What the orchestrator said; None when it said nothing.
    """

    leader: str
    term: int
    considered: Considered
    actions: tuple[Action, ...]
    dry_run: bool
    levels: Levels
    sight: Sight | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """That it was put down.

    Args:
        number: Of the decision, for `finish`.
        acting: It may be carried out: no person has paused scaling, and it is no dry run.
        paused: A person has.
    """

    number: int
    acting: bool
    paused: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of an action.

    Args:
        trouble: Why it was not done, as a sentence; empty when it was.
    """

    action: Action
    trouble: str = ""


class Journal(Protocol):
    """**Protocol**: the record of one orchestrator's scaling. All raise `LedgerAway`.

    A leadership begins with `begin`; from then on whoever began before gets `Superseded`. So the
    looks that two leaders take down never mix.
    """

    async def begin(self, term: int) -> tuple[int, Levels]:
        """Open an era. What is to be taken down in it must be looked at after this has returned.

        Raises `Superseded` while a leader of a later term takes decisions down.

        Returns:
            The era, and where CPU and memory stood when the last leader looked.
        """
        ...

    async def note(self, era: int, entry: Entry) -> Noted:
        """Put a decision down, and in the same transaction the events of what has happened by then.

        What is not put down is not done. Decisions in a row that are alike are kept once, with a
        count. Raises `Superseded`.
        """
        ...

    async def finish(self, number: int, outcomes: Sequence[Outcome]) -> None:
        """Put down what became of it."""
        ...
