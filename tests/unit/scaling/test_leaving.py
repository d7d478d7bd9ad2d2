"""Which node leaves."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scaling.config import ScalingConfig
from scaling.leaving import choose
from scaling.memory import Memory
from scaling.snapshot import Activity, Container, Node, NodeState
from tests.scaling_scene import a_container, a_demand, a_node, a_snapshot

CONFIG = ScalingConfig(containers_per_node=4, node_age_min_s=600)
BUSY = Activity.BUSY


def _chosen(
    nodes: list[Node], containers: list[Container], *, leaving: str = "", count: int | None = None
) -> tuple[str, list[str]]:
    snapshot = a_snapshot(a_demand(0), containers, nodes)
    name, reasons = choose(
        snapshot,
        CONFIG,
        Memory(leaving=leaving),
        containers=len(containers) if count is None else count,
    )
    return name, [reason.code for reason in reasons]


@pytest.mark.parametrize(
    ("nodes", "containers", "expected"),
    [
        # The one with the least work left.
        (
            [a_node("a"), a_node("b"), a_node("c")],
            [
                a_container(1, "a", BUSY, remaining_s=50),
                a_container(2, "b", BUSY, remaining_s=10),
                a_container(3, "b", BUSY, remaining_s=10),
                a_container(4, "c", BUSY, remaining_s=30),
            ],
            "b",
        ),
        # What is not known is long.
        (
            [a_node("a"), a_node("b")],
            [
                a_container(1, "a", BUSY, remaining_s=None),
                a_container(2, "b", BUSY, remaining_s=5000),
            ],
            "b",
        ),
        ([a_node("a"), a_node("b")], [a_container(1, "a", None), a_container(2, "b", BUSY)], "b"),
        # Of equals the youngest, then the first name.
        ([a_node("a"), a_node("b", since_s=700)], [], "b"),
        ([a_node("b"), a_node("a")], [], "a"),
    ],
)
def test_the_least_work_leaves_then_the_youngest(
    nodes: list[Node], containers: list[Container], expected: str
) -> None:
    """By the time until all of its peers are done."""
    cool = [replace(node, cpu=0.1) for node in nodes]
    assert _chosen(cool, containers) == (expected, ["node_leaves"])


@pytest.mark.parametrize(
    ("nodes", "count", "codes"),
    [
        ([a_node("a")], 1, ["nodes_min"]),
        ([a_node("a", fixed=True), a_node("b", fixed=True)], 1, ["node_fixed"]),
        ([a_node("a", since_s=10), a_node("b", since_s=10)], 1, ["node_young"]),
        (
            [a_node("a", NodeState.CORDONED), a_node("b", fixed=True)],
            1,
            ["node_cordoned", "node_fixed"],
        ),
        ([a_node("a"), a_node("b")], 5, ["no_room_elsewhere"]),
        ([a_node("a"), a_node("b"), a_node("c", NodeState.EMPTYING)], 1, ["one_at_a_time"]),
        ([a_node("a"), a_node("b"), a_node("c", NodeState.BOOTING)], 1, ["on_its_way"]),
        ([a_node("a"), a_node("b", memory=0.95), a_node("c", fixed=True)], 5, None),
    ],
)
def test_why_no_node_leaves(nodes: list[Node], count: int, codes: list[str] | None) -> None:
    """Each obstacle has its reason."""
    name, found = _chosen(nodes, [], count=count)
    if codes is None:
        assert name == "b"  # the others hold five, and it would have held none
    else:
        assert (name, found) == ("", codes)


def test_work_that_the_others_have_no_cpu_for_stays() -> None:
    """What would be hot without the node keeps it; an idle node's CPU is not work to be moved."""
    nodes = [a_node("a", cpu=0.6, fixed=True), a_node("b", cpu=0.6)]
    busy = [a_container(1, "a", BUSY), a_container(2, "b", BUSY)]
    assert _chosen(nodes, busy) == ("", ["node_fixed", "cpu_elsewhere"])
    idle = [a_container(1, "a", BUSY), a_container(2, "b")]
    assert _chosen(nodes, idle)[0] == "b"


def test_the_choice_stands() -> None:
    """Another node that has less work by now is not parked instead."""
    nodes = [a_node("a", cpu=0.1), a_node("b", cpu=0.1)]
    containers = [
        a_container(1, "a", BUSY, remaining_s=50),
        a_container(2, "b", BUSY, remaining_s=10),
    ]
    assert _chosen(nodes, containers, leaving="a")[0] == "a"
    assert _chosen(nodes, containers, leaving="gone")[0] == "b"
