"""Where containers have room, and which nodes are started."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scaling.boots import Boots
from scaling.config import ScalingConfig
from scaling.memory import Memory
from scaling.placing import place
from scaling.snapshot import Container, ContainerState, Node, NodeState
from scaling.utilization import Levels, Starved
from tests.scaling_scene import (
    NOW_S,
    a_container,
    a_demand,
    a_node,
    a_snapshot,
    containers_on,
)

CONFIG = ScalingConfig(containers_per_node=4, nodes_max=5)
STANDBY, BOOTING, EMPTY = NodeState.STANDBY, NodeState.BOOTING, NodeState.EMPTY


@pytest.mark.parametrize(
    ("nodes", "layout", "containers", "starting", "room"),
    [
        # There is room.
        ([a_node("a")], {"a": 2}, 4, (), 4),
        # At the threshold: one more takes a node more.
        ([a_node("a")], {"a": 4}, 5, ("worker-1",), 4),
        ([a_node("a")], {"a": 4}, 9, ("worker-1", "worker-2"), 4),
        # The lowest free names.
        ([a_node("worker-1")], {"worker-1": 4}, 9, ("worker-2", "worker-3"), 4),
        ([a_node("worker-2")], {"worker-2": 4}, 5, ("worker-1",), 4),
        # One on its way counts.
        ([a_node("a"), a_node("worker-1", BOOTING)], {"a": 4}, 8, (), 4),
        ([a_node("a"), a_node("worker-1", BOOTING)], {"a": 4}, 9, ("worker-2",), 4),
        # As people count.
        (
            [a_node("a"), a_node("worker-10", STANDBY), a_node("worker-2", STANDBY)],
            {"a": 4},
            5,
            ("worker-2",),
            4,
        ),
        # Standby first, then what was emptied, then new ones.
        ([a_node("a"), a_node("z", STANDBY), a_node("b", EMPTY)], {"a": 4}, 5, ("z",), 4),
        (
            [a_node("a"), a_node("z", STANDBY), a_node("b", EMPTY)],
            {"a": 4},
            16,
            ("z", "b", "worker-1"),
            4,
        ),
        # A smaller one on standby does not suffice alone.
        ([a_node("a"), a_node("s", STANDBY, capacity=1)], {"a": 4}, 6, ("s", "worker-1"), 4),
        # A smaller node, a cordoned one, a lost one.
        ([a_node("a", capacity=2)], {"a": 2}, 3, ("worker-1",), 2),
        ([a_node("a", NodeState.CORDONED)], {"a": 1}, 2, ("worker-1",), 1),
        ([a_node("a"), a_node("b", NodeState.DOWN)], {"a": 4}, 8, ("worker-1",), 4),
        # No CPU or memory to spare: what is there stays, and no more comes.
        ([a_node("a", cpu=0.9)], {"a": 2}, 3, ("worker-1",), 2),
        ([a_node("a", memory=0.95)], {"a": 2}, 3, ("worker-1",), 2),
        # More than the threshold already: nobody is driven out.
        ([a_node("a")], {"a": 6}, 6, (), 6),
        # The limit of nodes; the second of three.
        ([a_node(name) for name in "abcd"], dict.fromkeys("abcd", 4), 99, ("worker-1",), 16),
    ],
)
def test_nodes_are_started_for_what_has_no_place(
    nodes: list[Node],
    layout: dict[str, int],
    containers: int,
    starting: tuple[str, ...],
    room: int,
) -> None:
    """As many as it takes, by name, and none for what finds room."""
    snapshot = a_snapshot(a_demand(), containers_on(layout), nodes)
    placing = place(snapshot, CONFIG, Memory(), containers=containers)
    assert placing.starting == starting
    assert placing.room == room


@pytest.mark.parametrize(
    ("memory", "expandable", "code"),
    [
        (Memory(), False, "no_node_left"),
        (Memory(boots=Boots(failures=1, pause_until_s=NOW_S + 60)), True, "boot_pause"),
    ],
)
def test_a_crowded_place_is_better_than_none(memory: Memory, expandable: bool, code: str) -> None:
    """When no node can be had a hot one is filled up, but not one without memory."""
    hot = a_node("a", cpu=1.0)
    snapshot = a_snapshot(a_demand(), containers_on({"a": 2}), [hot], expandable=expandable)
    placing = place(snapshot, CONFIG, memory, containers=4)
    assert placing.starting == ()
    assert placing.room == 4
    assert [reason.code for reason in placing.reasons] == [code]
    starved = replace(memory, levels=Levels(starved=(Starved(node="a", until_s=NOW_S + 100),)))
    assert place(snapshot, CONFIG, starved, containers=4).room == 2


@pytest.mark.parametrize(
    ("successor", "started"),
    [
        (None, ()),
        (a_container(2, "", None, state=ContainerState.PENDING), ()),
        (a_container(2, "a", None, state=ContainerState.STARTING), ()),
        (a_container(2, "b", None, state=ContainerState.STARTING), ("worker-1",)),
    ],
)
def test_one_that_failed_and_its_successor_take_one_place(
    successor: Container | None, started: tuple[str, ...]
) -> None:
    """So where memory ran out there is never room for more than before; and where the successor has
    gone elsewhere, its place is taken there and not here."""
    failed = replace(a_container(2, "a", None, state=ContainerState.FAILED), id="failed")
    containers = [a_container(1, "a"), failed, *([successor] if successor else [])]
    nodes = [a_node("a"), a_node("b", capacity=1)]
    snapshot = a_snapshot(a_demand(), containers, nodes)
    starved = Memory(levels=Levels(starved=(Starved(node="a", until_s=NOW_S + 100),)))
    assert place(snapshot, CONFIG, starved, containers=3).starting == started


def test_the_least_number_of_nodes_is_kept() -> None:
    """Also with nothing to do."""
    config = replace(CONFIG, nodes_min=3)
    placing = place(a_snapshot(a_demand(0), [], [a_node("a")]), config, Memory(), containers=0)
    assert placing.starting == ("worker-1", "worker-2")
    assert [reason.code for reason in placing.reasons] == ["minimum"]


def test_one_that_was_given_up_may_still_cost() -> None:
    """It counts for the limit until it is gone, and for nothing else."""
    config = replace(CONFIG, nodes_max=2)
    late = a_node("worker-1", BOOTING, since_s=700.0)
    snapshot = a_snapshot(a_demand(), containers_on({"a": 4}), [a_node("a"), late])
    memory = Memory(boots=Boots(given_up=("worker-1",)))
    placing = place(snapshot, config, memory, containers=5)
    assert placing.starting == ()
    assert placing.reasons[-1].code == "nodes_max"
