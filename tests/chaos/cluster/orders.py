"""What clients hand in during a run, drawn from its seed before anything is begun. Pure.

An order is one client's one task: which clip, by which of the three ways (`pipeline/README.md`),
what the client does to it later, and how it may end. The mix is small films that any cluster would
do in passing, long ones that faults meet half-way, and films that no retry can help; and now and
then a burst, since the scaler's work must be there to be disturbed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from pipeline.tasks import PartState
from tests.chaos.cluster.deck import deal

PAUSE_S = (2.0, 8.0)
BURST_EVERY_S = 90.0
BURST = 8


class Clip(StrEnum):
    """The films; `clips` makes them."""

    SHORT = "short"
    LONG = "long"
    CUT_SHORT = "cut-short"
    NOISE = "noise"


SECONDS = {Clip.SHORT: 2, Clip.LONG: 20}
"""How long the good ones are."""
RATE = 25
"""Pictures a second."""


class Way(StrEnum):
    """How a task is handed in."""

    MESSAGE = "message"
    """The whole task, to RabbitMQ. The client draws the id, and repeats until it is confirmed."""
    ROWS = "rows"
    """Written into the ledger, then announced: the same."""
    PEERCTL = "peerctl"
    """`peerctl submit` draws the id. It is not repeated, for that would be another task."""


BROKEN = (Clip.CUT_SHORT, Clip.NOISE)
CLIPS = [Clip.SHORT] * 12 + [Clip.LONG] * 4 + [Clip.CUT_SHORT, Clip.NOISE]
WAYS = [Way.MESSAGE] * 6 + [Way.ROWS] * 3 + [Way.PEERCTL] * 2
CANCELLED = [True] + [False] * 11
CANCEL_AFTER_S = (0.0, 6.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One client's task.

    Args:
        name: The task's title, which no other task has: the file's name.
        task_id: What the client draws; `peerctl` draws another.
        at_s: When it is handed in, from the start of the run.
        cancel_after_s: When the client thinks better of it; None: never.
    """

    name: str
    task_id: UUID
    at_s: float
    clip: Clip
    way: Way
    cancel_after_s: float | None = None

    @property
    def ends(self) -> frozenset[PartState]:
        """How it may end. Who cancels may be too late: `checker` knows whether he was."""
        end = PartState.ESCALATED if self.clip in BROKEN else PartState.DONE
        return frozenset({end} if self.cancel_after_s is None else {end, PartState.CANCELLED})


def draw_orders(seed: int, for_s: float) -> Sequence[Order]:
    """Draw what is handed in until then."""
    rng = random.Random(f"{seed} orders")
    times = []
    at_s = 0.0
    while at_s < for_s:
        times.append(at_s)
        at_s += rng.uniform(*PAUSE_S)
    burst_s = rng.uniform(0.2, 1.0) * BURST_EVERY_S
    while burst_s < for_s:
        times += [burst_s] * BURST
        burst_s += BURST_EVERY_S
    clips, ways, regrets = deal(rng, CLIPS), deal(rng, WAYS), deal(rng, CANCELLED)
    return [
        _draw_order(rng, number, at_s, next(clips), next(ways), cancelled=next(regrets))
        for number, at_s in enumerate(sorted(times), 1)
    ]


def draw_burst(seed: int, number: int) -> Sequence[Order]:
    """Draw a burst besides those: for somebody who waits for a scale-up."""
    rng = random.Random(f"{seed} burst {number}")
    return [
        Order(
            name=f"burst-{number}-{each}.mp4",
            task_id=UUID(int=rng.getrandbits(128), version=4),
            at_s=0.0,
            clip=Clip.LONG,
            way=Way.MESSAGE,
        )
        for each in range(1, BURST + 1)
    ]


def _draw_order(
    rng: random.Random, number: int, at_s: float, clip: Clip, way: Way, *, cancelled: bool
) -> Order:
    return Order(
        name=f"clip-{number:04}.mp4",
        task_id=UUID(int=rng.getrandbits(128), version=4),
        at_s=at_s,
        clip=Clip.LONG if cancelled else clip,  # the others are over before anybody could
        way=way,
        cancel_after_s=rng.uniform(*CANCEL_AFTER_S) if cancelled else None,
    )
