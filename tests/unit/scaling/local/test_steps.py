"""From the containers that are wanted and those there are to what is done next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from scaling.local.containers import Found, Record
from scaling.local.steps import KILL_AFTER_S, Begin, Forget, Kill, Rules, Step, Tell, steps
from scaling.local.wanted import Wanted, WantedNode

RULES = Rules(capacity=2, grace_s=40.0)
NOW_S = 1000.0


def wanted(containers: int, *nodes: str, **changes: object) -> Wanted:
    names = nodes or ("worker-1", "worker-2")
    made = tuple(
        WantedNode(name=name.removesuffix("!"), emptying=name.endswith("!"), since_s=0.0)
        for name in names
    )
    return replace(Wanted(place="here", containers=containers, nodes=made), **changes)  # type: ignore[arg-type] # a test's shorthand


def found(slot: int, node: str = "worker-1", **changes: object) -> Found:
    kept = bool(changes.pop("kept", False))
    record = Record(id=f"c{slot}", name=f"{node}.{slot}", slot=slot, node=node, kept=kept)
    return replace(Found(record=record, alive=True, pid=100 + slot), **changes)  # type: ignore[arg-type] # as above


def due(
    want: Wanted, there: Sequence[Found], waits: Mapping[int, float] | None = None
) -> list[Step]:
    return steps(want, there, waits or {}, RULES, now_s=NOW_S)


ONE = found(1)
TOLD = found(1, told_s=(NOW_S - 1,))
SLOW = found(1, told_s=(NOW_S - RULES.grace_s - 1,))
HURRIED = found(1, told_s=(NOW_S - 100, NOW_S - 1))
STUCK = found(1, told_s=(NOW_S - 100, NOW_S - KILL_AFTER_S - 1))
DEAD = found(1, alive=False)
FOUNDER = found(9, kept=True)

CASES: dict[str, tuple[Wanted, list[Found], list[Step]]] = {
    "all is as it should be": (wanted(1), [ONE], []),
    "one is missing": (wanted(1), [], [Begin(slot=1, node="worker-1")]),
    "they are spread": (
        wanted(3),
        [],
        [
            Begin(slot=1, node="worker-1"),
            Begin(slot=2, node="worker-2"),
            Begin(slot=3, node="worker-1"),
        ],
    ),
    "where there is no room none is begun": (
        wanted(3, "worker-1"),
        [],
        [Begin(slot=1, node="worker-1"), Begin(slot=2, node="worker-1")],
    ),
    "a person's peer takes room, and is not counted": (
        wanted(1, "worker-1"),
        [FOUNDER],
        [Begin(slot=1, node="worker-1")],
    ),
    "a person's peer is never told to end": (wanted(0, closed=True), [FOUNDER], []),
    "what was a person's is forgotten": (
        wanted(0),
        [found(9, kept=True, alive=False)],
        [Forget(found(9, kept=True, alive=False))],
    ),
    "the chosen one is told, and not the last": (
        wanted(1, stopping=("c1",)),
        [ONE, found(2)],
        [Tell(ONE)],
    ),
    "told once": (wanted(0, stopping=("c1",)), [TOLD], []),
    "told to hurry when its grace is over": (wanted(0), [SLOW], [Tell(SLOW)]),
    "and given time for that": (wanted(0), [HURRIED], []),
    "and then ended": (wanted(0), [STUCK], [Kill(STUCK)]),
    "not told before it has said which process it is": (
        wanted(0, stopping=("c1",)),
        [found(1, pid=0)],
        [],
    ),
    "what nobody wants any more is told": (wanted(1), [ONE, found(2)], [Tell(found(2))]),
    "all are told when it is closed": (
        wanted(2, closed=True),
        [ONE, found(2)],
        [Tell(ONE), Tell(found(2))],
    ),
    "a node that is emptied: they end there, and begin elsewhere": (
        wanted(1, "worker-1!", "worker-2"),
        [ONE],
        [Tell(ONE), Begin(slot=2, node="worker-2")],
    ),
    "one that failed is begun again in its slot": (
        wanted(1),
        [DEAD],
        [Forget(DEAD), Begin(slot=1, node="worker-1")],
    ),
    "one that ended as it was told is forgotten": (
        wanted(0),
        [found(1, alive=False, told_s=(NOW_S,))],
        [Forget(found(1, alive=False, told_s=(NOW_S,)))],
    ),
    "one that failed and is not wanted any more, too": (wanted(0), [DEAD], [Forget(DEAD)]),
    "a slot is not given again while its last one still ends": (
        wanted(1),
        [TOLD],
        [Begin(slot=2, node="worker-1")],
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_due(name: str) -> None:
    """Exactly this, in this order."""
    want, there, expected = CASES[name]
    assert due(want, there) == expected


def test_one_that_failed_waits_and_the_others_do_not() -> None:
    """A slot whose containers fail holds up nobody else."""
    assert due(wanted(2), [DEAD], {1: NOW_S + 1}) == [Begin(slot=2, node="worker-1")]
    assert Begin(slot=1, node="worker-1") in due(wanted(2), [DEAD], {1: NOW_S - 1})
