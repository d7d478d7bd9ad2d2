"""What is done to a cluster and when, drawn from a seed before anything is begun. Pure.

Faults run on four *lanes*, one for each kind of thing that breaks: nodes, the network, peers,
services. On a lane they follow each other; lanes overlap as they like, because it is the second
fault on the heels of the first that finds what neither does alone. A single list of random faults
was the alternative: it leaves whole kinds out of a run of ten minutes, and piles three power
failures on each other in the next. So each lane deals from a shuffled deck, and begins it anew only
when every kind has had its turn.

What would make the promises empty is never drawn. One node at a time is away, so a majority of
three managers stays, and what is left of the cluster is to go on; no service is stopped while the
node it lies on is, for that would be no fault at all. And all is over before the quiet time.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tests.chaos.cluster.deck import deal

MINUTE_S = 60.0
QUIET_SHARE = 0.3
QUIET_MAX_S = 180.0
"""How long it is quiet at the end, at most. A death may wait for a minute where many fell silent at
once, tables are equal a minute after that, and work goes on from there."""

PATIENCE_S = 300.0
"""For how much longer the end of all work is waited for: on a busy machine it takes
what it takes, and late is not lost. Nothing waits so long where the cluster is done."""

WARM_UP_S = 10.0
RECOVERY_S = 20.0
"""Between two faults of nodes: a manager that is back must have caught up before the next one goes,
or the majority is gone."""

LEASE_S = 15.0
"""The stack's: a peer that is frozen for longer has lost what it held."""


class Kind(StrEnum):
    """What can be done, as a timeline calls it."""

    CUT = "cut"
    POWER = "power failure"
    ENGINE = "engine killed"
    DRAIN = "drain"

    LOSS = "loss of 30 %"

    KILL_PEER = "peer killed"
    FREEZE_SHORT = "peer frozen shortly"
    FREEZE_LONG = "peer frozen for long"
    FILL_DISK = "disk filled"
    KILL_LEADER = "leader killed"
    KILL_LEADER_SCALING = "leader killed in a scale-up"

    KILL_SERVICE = "service killed"
    RESTART_SERVICE = "service restarted"
    FREEZE_SERVICE = "service frozen"


SERVICES = ("postgres", "rabbitmq", "store")


class Lane(StrEnum):
    """What breaks."""

    NODES = "nodes"
    NETWORK = "network"
    PEERS = "peers"
    SERVICES = "services"


@dataclass(frozen=True, slots=True)
class Card:
    """One of a lane's faults, and within which seconds its length is drawn."""

    kind: Kind
    lasts_s: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Deck:
    """A lane's cards, and how long it rests between two of them."""

    cards: tuple[Card, ...]
    rests_s: tuple[float, float]


DECKS: Mapping[Lane, Deck] = {
    Lane.NODES: Deck(
        (
            Card(Kind.CUT, (10.0, 35.0)),
            Card(Kind.POWER, (5.0, 25.0)),
            Card(Kind.ENGINE, (5.0, 20.0)),
            Card(Kind.DRAIN, (15.0, 30.0)),
        ),
        (RECOVERY_S, RECOVERY_S + 20.0),
    ),
    Lane.NETWORK: Deck((Card(Kind.LOSS, (20.0, 45.0)),), (45.0, 90.0)),
    Lane.PEERS: Deck(
        (
            Card(Kind.KILL_PEER, (0.0, 0.0)),
            Card(Kind.FREEZE_SHORT, (2.0, 0.6 * LEASE_S)),
            Card(Kind.FREEZE_LONG, (1.2 * LEASE_S, 2 * LEASE_S)),
            Card(Kind.FILL_DISK, (10.0, 25.0)),
            Card(Kind.KILL_LEADER, (0.0, 0.0)),
            # So long it waits for a scale-up to be in the middle of.
            Card(Kind.KILL_LEADER_SCALING, (40.0, 40.0)),
        ),
        (4.0, 14.0),
    ),
    Lane.SERVICES: Deck(
        (
            Card(Kind.KILL_SERVICE, (0.0, 0.0)),
            Card(Kind.RESTART_SERVICE, (0.0, 0.0)),
            Card(Kind.FREEZE_SERVICE, (3.0, 12.0)),
        ),
        (15.0, 35.0),
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One thing that is done.

    Args:
        at_s: When it begins, from the start of the run.
        lasts_s: After how long it is undone; 0 for what needs no undoing.
        target: The node's or the service's name. Empty for a peer's: which there are is known only
            then, and `draw` says which of them it is.
        draw: From 0 to 1.
    """

    lane: Lane
    kind: Kind
    at_s: float
    lasts_s: float
    target: str = ""
    draw: float = 0.0

    @property
    def ends_s(self) -> float:
        """When it is undone."""
        return self.at_s + self.lasts_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The cluster that is broken.

    Args:
        nodes: All of them; the first ones are managers.
        managers: How many.
        data: The node that the three services lie on.
    """

    nodes: Sequence[str]
    managers: int
    data: str

    @property
    def breakable(self) -> Sequence[str]:
        """The nodes of which one may be away: all, where managers outlive the loss of one."""
        return self.nodes if self.managers >= 3 else self.nodes[self.managers :]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """A run as it is meant to go.

    Args:
        chaos_s: When the last fault is over, and the quiet time begins.
        ends_s: When the whole run is to be over.
        patience_s: For how much longer the end of its work is waited for.
        faults: In the order of their beginnings.
    """

    seed: int
    chaos_s: float
    ends_s: float
    patience_s: float = PATIENCE_S
    faults: Sequence[Fault]


def draw_schedule(seed: int, minutes: float, ground: Ground) -> Schedule:
    """Draw a run."""
    ends_s = minutes * MINUTE_S
    chaos_s = ends_s - min(QUIET_MAX_S, QUIET_SHARE * ends_s)

    def draw(lane: Lane, targets: Sequence[str], beside: Sequence[Fault] = ()) -> list[Fault]:
        rng = random.Random(f"{seed} {lane}")
        return list(_draw_lane(rng, lane, targets, beside, chaos_s))

    nodes = draw(Lane.NODES, ground.breakable)
    of_the_data = [fault for fault in nodes if fault.target == ground.data]
    faults = [
        *nodes,
        *draw(Lane.NETWORK, ("",)),
        *draw(Lane.PEERS, ("",)),
        *draw(Lane.SERVICES, SERVICES, of_the_data),
    ]
    faults.sort(key=lambda fault: (fault.at_s, fault.lane))
    return Schedule(seed=seed, chaos_s=chaos_s, ends_s=ends_s, faults=faults)


def _draw_lane(
    rng: random.Random,
    lane: Lane,
    targets: Sequence[str],
    beside: Sequence[Fault],
    chaos_s: float,
) -> Iterator[Fault]:
    """Draw one lane's faults, none of them while any of `beside` goes on."""
    if not targets:
        return
    deck = DECKS[lane]
    cards, aims = deal(rng, deck.cards), deal(rng, targets)
    at_s = WARM_UP_S + rng.uniform(0.0, deck.rests_s[1])
    while True:
        card = next(cards)
        lasts_s = rng.uniform(*card.lasts_s)
        at_s = _put_off(at_s, lasts_s, beside)
        if at_s + lasts_s > chaos_s:
            return
        yield Fault(
            lane=lane,
            kind=card.kind,
            at_s=at_s,
            lasts_s=lasts_s,
            target=next(aims),
            draw=rng.random(),
        )
        at_s += lasts_s + rng.uniform(*deck.rests_s)


def _put_off(at_s: float, lasts_s: float, beside: Sequence[Fault]) -> float:
    """Return the first moment from `at_s` on that is clear of those, and of their recovery."""
    for fault in beside:  # in the order of time
        if at_s < fault.ends_s + RECOVERY_S and fault.at_s < at_s + lasts_s:
            at_s = fault.ends_s + RECOVERY_S
    return at_s
