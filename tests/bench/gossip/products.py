"""What the bench must know of a product to compare it: how to start it, and what its lines mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from tests.bench.gossip.fleet import Fleet
    from tests.bench.gossip.processes import Process


class Kind(Enum):
    """What an agent may say of another."""

    JOINED = "joined"
    SUSPECTED = "suspected"
    DIED = "died"


class Said(NamedTuple):
    """One agent has said something about another.

    Args:
        at: When the bench read it, in monotonic seconds.
        subject: The key of the agent that it is about.
        episode: Equal in what several agents say about one and the same suspicion or death.
    """

    at: float
    observer: int
    kind: Kind
    subject: str
    episode: str


@dataclass(slots=True, eq=False)
class Agent:
    """One running agent.

    Args:
        index: Its place in the fleet, which decides its address; a restarted one keeps it.
        process: Its process.
        key: What others call it; empty until it is known.
        ready: It can be told to join.
        answers: Lines that it gave when it was asked for something, oldest first.
    """

    index: int
    process: Process
    key: str = ""
    ready: bool = False
    answers: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Dump:
    """What an agent knows at one moment.

    Args:
        load_ages_s: How old the last load of each other living agent is.
        late: How often the agent's loop ran late, by the upper bound in seconds; empty when the
            product does not say.
        fingerprint: Equal where tables are; empty when the product does not say.
    """

    load_ages_s: Sequence[float]
    late: Mapping[float, int]
    fingerprint: str


class Product(Protocol):
    """One of the two that are compared."""

    name: str
    lossy: Sequence[str]
    """The protocols of its packets that a lossy network loses."""
    spreads_suspicion: bool
    """Everybody says whom somebody suspects, not only who found it out."""

    def command(self, index: int, *, join: Sequence[str]) -> list[str]:
        """Return how to start an agent. Without addresses to join it waits for `join`."""

    def read(self, agent: Agent, at: float, text: str) -> Said | None:
        """Understand one of an agent's lines."""

    def join(self, agents: Sequence[Agent], seed: str) -> None:
        """Tell agents that are ready to join, all at once."""

    def start_loads(self, agents: Sequence[Agent]) -> None:
        """Let every agent tell the others a new load once a second."""

    def stop_loads(self) -> None:
        """End that."""

    def dump(self, fleet: Fleet, agents: Sequence[Agent]) -> list[Dump]:
        """Ask agents what they know of the others' loads, and of themselves."""
