"""Tasks for every place at which one can be held, with the peers that bring them there.

Most places are on the way of any peer. Three peers have ways of their own: `one` works as usual,
`long` hands its messages over as if every encode were a long one, and `leaving` is told to stop.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from uuid import UUID, uuid4

from pipeline.ledger.parts import Outcome
from tests.chaos.services.gates import FAILING, HANDED_OVER, STOPPED, Detour, Gate, Place
from tests.chaos.services.rig import Rig
from tests.chaos.services.small import SOURCE_BYTES
from tests.chaos.trail import Trail

WAYS: Mapping[str, Sequence[Place]] = {
    "one": [*Gate, *(place for place in Detour if place not in (*HANDED_OVER, *STOPPED))],
    "long": HANDED_OVER,
    "leaving": STOPPED,
}
"""The places by the peers, which together are all."""

Plan = Mapping[UUID, Place]


def plan_of(peer: str) -> dict[UUID, Place]:
    """A new task for each of a peer's places."""
    return {uuid4(): place for place in WAYS[peer]}


async def hand_in(rig: Rig, plan: Plan, *, size: int = SOURCE_BYTES) -> None:
    """Hand every task in by the way that brings it to its place.

    Args:
        size: Of the sources, in bytes.
    """
    for task_id, place in plan.items():
        if place is Detour.SUBMIT:
            await rig.send(task_id)
        elif place is Detour.DEAD_LETTER:
            await rig.send_nonsense(task_id)
        else:
            attempts_max = 1 if place is Detour.ESCALATE else 4
            await rig.submit(task_id, attempts_max=attempts_max, size=size)


def outcomes_at(place: Place) -> list[str]:
    """How the attempts at the task of a place end that goes its way, and does so once."""
    if place is Detour.DEAD_LETTER:
        return []
    if place is Detour.ESCALATE:
        return [Outcome.ESCALATED]
    if place in FAILING:
        return [Outcome.RETRY, Outcome.DONE]
    return [Outcome.HANDED_BACK, Outcome.DONE] if place in STOPPED else [Outcome.DONE]


def went_otherwise(
    trails: Mapping[UUID, Trail], begun: Counter[UUID], *plans: Plan
) -> dict[Place, tuple[list[str], int]]:
    """Find the tasks that did not go their way, or were transcoded more often than that takes.

    Returns:
        By their places: how their attempts ended, and how many transcodings were begun.
    """

    def find() -> Iterator[tuple[Place, tuple[list[str], int]]]:
        for plan in plans:
            for task_id, place in plan.items():
                claims = trails[task_id].claims if task_id in trails else ()
                ended = [str(claim.outcome) for claim in claims]
                expected = outcomes_at(place)
                # Who is told to stop is so in the middle of it, before anything has begun here.
                transcodings = len(expected) - (place in STOPPED)
                if (ended, begun[task_id]) != (expected, transcodings):
                    yield place, (ended, begun[task_id])

    return dict(find())
