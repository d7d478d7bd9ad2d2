"""Whom Swarm ends: as it was seen on a real one, and by its rules."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from scaling.swarm.containers import Slot
from scaling.swarm.go_sort import INSERTION_MAX, go_sort
from scaling.swarm.victims import victims


def slot(number: int, node: str, *, running: bool = True, live: bool = True) -> Slot:
    """A slot with one task, which is called like it."""
    return Slot(number=number, tasks=(f"task-{number}",), node=node, running=running, live=live)


def in_blocks(nodes: int, each: int) -> list[Slot]:
    """As a cluster looks that got one node after the other, `each` containers at a time."""
    return [slot(1 + place, f"node-{place // each}") for place in range(nodes * each)]


def cut_one_by_one(slots: list[Slot], until: int) -> dict[int, int]:
    """Scale down singly; which slot goes when so many are there."""
    gone = {}
    while len(slots) > until:
        (victim,) = victims(slots, len(slots) - 1)
        number = int(victim.removeprefix("task-"))
        gone[len(slots)] = number
        slots = [each for each in slots if each.number != number]
    return gone


def test_as_a_real_swarm_did() -> None:
    """Three nodes of ten: a stable sort would have said 20, 19, 18 and 15 (engine 20.10.24)."""
    gone = cut_one_by_one(in_blocks(3, 10), 12)
    assert {count: gone[count] for count in (29, 26, 23, 14)} == {29: 10, 26: 9, 23: 8, 14: 5}


def test_of_few_the_highest_slot_of_the_fullest_node_goes() -> None:
    """Up to twelve the order of equals is kept."""
    slots = [slot(1, "a"), slot(2, "b"), slot(3, "a"), slot(4, "b"), slot(5, "a")]
    assert victims(slots, 2) == ("task-5", "task-4", "task-3")


def test_who_has_no_node_goes_first_and_then_who_does_not_run() -> None:
    """What is pending is cut before anybody runs into it."""
    slots = [slot(1, "a"), slot(2, ""), slot(3, "a", running=False), slot(4, "a")]
    assert victims(slots, 1) == ("task-2", "task-3", "task-4")


def test_what_has_ended_is_no_victim() -> None:
    """It takes its turn, and nobody is disturbed."""
    slots = [slot(1, "a"), slot(2, "a"), slot(3, "a", running=False, live=False)]
    assert victims(slots, 2) == ()
    assert victims(slots, 1) == ("task-2",)


@st.composite
def services(draw: st.DrawFn) -> list[Slot]:
    """Up to 70 slots on up to five nodes; some have none, some do not run."""
    names = st.sampled_from(["", "a", "b", "c", "d", "e"])
    return [
        slot(number, node, running=bool(node) and draw(st.booleans()))
        for number, node in enumerate(draw(st.lists(names, max_size=70)), start=1)
    ]


@given(services(), st.integers(min_value=0, max_value=80))
def test_the_fullest_nodes_lose(slots: list[Slot], count: int) -> None:
    """As many go as are too many; what has no node goes first; nodes are left even."""
    gone = set(victims(slots, count))
    assert len(gone) == max(len(slots) - count, 0)
    stay = [each for each in slots if each.tasks[0] not in gone]
    if any(not each.node for each in stay):
        assert all(not each.node for each in slots if each.tasks[0] in gone)
    left, before = (Counter(each.node for each in group if each.node) for group in (stay, slots))
    losers = [node for node in before if left[node] < before[node]]
    assert all(left[node] >= max(left.values(), default=0) - 1 for node in losers)


@given(st.lists(st.integers(min_value=0, max_value=9), max_size=200))
def test_gos_sort_sorts(numbers: list[int]) -> None:
    """And keeps the order of equals as long as there are few."""
    pairs = [(number, place) for place, number in enumerate(numbers)]
    go_sort(pairs, lambda one, other: one[0] < other[0])
    assert [number for number, _ in pairs] == sorted(numbers)
    if len(numbers) <= INSERTION_MAX:
        assert pairs == sorted(pairs)
