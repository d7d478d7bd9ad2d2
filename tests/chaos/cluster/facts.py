"""What is known of a run when it is over, as plain values: all that the checker judges by.

Reading them is `reading`'s affair. Kept apart, every rule can be shown a history in which it is
broken, and that takes a millisecond instead of a cluster.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from tests.chaos.cluster.orders import Order
from tests.chaos.cluster.schedule import Lane
from tests.chaos.trail import Trail

PEER_SERVICES = ("peer", "seed")
"""Those whose containers are members."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """An order, and what its client was told.

    Args:
        answered: The task was taken, for certain.
        cancelled: Its cancellation was, too.
    """

    order: Order
    answered: bool
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """An output, as the ledger has it; `sha256` is None where it keeps none."""

    task_id: UUID
    key: str
    size: int
    sha256: str | None
    rendition: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """An object, as the store has it.

    Args:
        pictures: How many ffprobe counts in its first video stream; None where nobody asked.
    """

    size: int
    sha256: str
    pictures: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A claim, and where its holder was."""

    token: UUID
    task_id: UUID
    container: str
    node: str
    claimed_at: datetime
    ended_at: datetime | None
    expired: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """What was done, as it went.

    Args:
        node: That it was done to, or where its container was; empty for what everybody needs: the
            network, a service, the node that the services lie on.
        container: The orchestrator's task id; empty for a node's and the network's.
        ended_at: When it was undone; for what is done at once, when it was done.
    """

    lane: Lane
    what: str
    node: str
    container: str
    began_at: datetime
    ended_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Contained:
    """A container that runs, as its node's engine says; `task` is Swarm's, empty for a stranger."""

    node: str
    id: str
    service: str
    task: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A task that Swarm wants to run, and whether it does."""

    service: str
    id: str
    node: str
    runs: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The gossip table of one peer: who lives, by (uid, epoch), and who is to lead."""

    name: str
    own: tuple[str, int]
    alive: Mapping[tuple[str, int], str]
    leader: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What the cluster looks like at one moment, to Swarm, to its engines and to its peers."""

    wanted: Sequence[Wanted] = ()
    containers: Sequence[Contained] = ()
    tables: Sequence[Table] = ()

    @property
    def shape(self) -> frozenset[tuple[str, bool]]:
        """Which containers there should be, and are: what stays the same when things settle."""
        return frozenset((task.id, task.runs) for task in self.wanted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A run that is over.

    Args:
        titles: Of every task in the ledger.
        abandoned: Prefixes of attempts that ended without outputs.
        unfinished: Uploads to several parts that nobody completed.
        left: What each queue still holds.
        look: The last one.
        nonsense: Bodies that a client published and nobody can understand.
        dead: Bodies of the dead letters.
        intents: Nodes that somebody is said to be creating or destroying.
        lease_holder: Who has the scaler's lease; empty when nobody has.
        met_after_s: How long after the last change to the cluster all tables were equal; None: not
            within the time that was given.
        over: Whether all work was over within that time.
    """

    handed: Sequence[Handed]
    titles: Mapping[UUID, str]
    trails: Sequence[Trail]
    held: Sequence[Held]
    hits: Sequence[Hit]
    committed: Sequence[Committed]
    objects: Mapping[str, Stored]
    abandoned: Collection[str]
    unfinished: Sequence[str]
    left: Mapping[str, int]
    nonsense: Sequence[str]
    dead: Sequence[str]
    look: Look
    intents: Sequence[str]
    lease_holder: str
    met_after_s: float | None
    over: bool = True
