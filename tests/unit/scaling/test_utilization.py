"""CPU and memory against their limits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from scaling.config import ScalingConfig
from scaling.events import ResourceUtilizationThresholdReached
from scaling.snapshot import ContainerState, NodeState
from scaling.utilization import Levels, look
from tests.scaling_scene import NOW_S, a_container, a_demand, a_node, a_snapshot

# An average over so short a time is that of the last look.
CONFIG = ScalingConfig(cpu_high=0.85, cpu_low=0.25, memory_high=0.9, average_s=0.001)


def _crossings(
    cpu: Sequence[float | None], memory: float = 0.3, config: ScalingConfig = CONFIG
) -> list[ResourceUtilizationThresholdReached]:
    levels = Levels()
    events: list[ResourceUtilizationThresholdReached] = []
    for number, used in enumerate(cpu):
        nodes = [a_node("a", cpu=used, memory=memory), a_node("b", cpu=used, memory=memory)]
        snapshot = a_snapshot(a_demand(), [], nodes, now_s=NOW_S + 5 * number)
        levels, crossed = look(snapshot, config, levels)
        events += crossed
    return events


@pytest.mark.parametrize(
    ("cpu", "directions"),
    [
        ([0.5, 0.6, 0.5], []),
        ([0.5, 0.85], ["above"]),
        ([0.5, 0.9, 0.95, 0.9], ["above"]),
        # It trembles around the limit: once.
        ([0.5, 0.86, 0.84, 0.86, 0.81, 0.86], ["above"]),
        # It was back, five points below, and crosses again.
        ([0.5, 0.86, 0.79, 0.86], ["above", "above"]),
        ([0.5, 0.24, 0.26, 0.24], ["below"]),
        ([0.24, 0.31, 0.24], ["below", "below"]),
        ([0.1, 0.9, 0.1], ["below", "above", "below"]),
        # Nobody says: as it was.
        ([0.9, None, 0.9], ["above"]),
        ([None, None], []),
    ],
)
def test_a_crossing_is_an_event_once(cpu: list[float | None], directions: list[str]) -> None:
    """With five points of hysteresis on the way back."""
    events = _crossings(cpu)
    assert [event.direction for event in events] == directions
    assert {event.resource for event in events} <= {"cpu"}
    assert all(event.nodes == 2 and event.reasons for event in events)


def test_a_limit_of_one_is_none() -> None:
    """Where one machine plays several nodes its CPU is at 100 % for minutes, and means nothing."""
    config = replace(CONFIG, cpu_high=1.0)
    assert _crossings([0.5, 1.0, 1.0], config=config) == []
    assert not Levels().hot(a_node("a", cpu=1.0, memory=0.3), config)


def test_memory_has_an_upper_limit_only() -> None:
    """Memory that is not used is no reason for anything."""
    assert [event.threshold for event in _crossings([0.5], memory=0.95)] == [0.9]
    assert _crossings([0.5], memory=0.0) == []


def test_a_moment_is_no_average() -> None:
    """Half a minute of hot nodes does not move an average over a minute that far; two do."""
    config = replace(CONFIG, average_s=60.0)
    assert _crossings([0.5] + [1.0] * 6, config=config) == []
    assert len(_crossings([0.5] + [1.0] * 24, config=config)) == 1
    # A leader's first look has nothing to be weighed against.
    assert len(_crossings([1.0], config=config)) == 1


def test_only_nodes_in_service_count() -> None:
    """One that is emptied, or stands by, says nothing about the workload."""
    nodes = [
        a_node("a", cpu=0.9),
        a_node("b", NodeState.EMPTYING, cpu=0.0),
        a_node("c", NodeState.STANDBY, cpu=0.0),
    ]
    levels, _ = look(a_snapshot(a_demand(), [], nodes), CONFIG, Levels())
    assert levels.cpu == "above"


def test_who_ran_out_of_memory_gets_no_more_for_a_while() -> None:
    """The node is hot for a window, and the event is raised once for it."""
    failed = a_container(1, "a", None, state=ContainerState.FAILED, out_of_memory=True)
    node = a_node("a", cpu=0.1, memory=0.1)
    snapshot = a_snapshot(a_demand(), [failed], [node])
    levels, events = look(snapshot, CONFIG, Levels())
    assert [event.reasons for event in events] == [("container c1 on a ran out of memory",)] or [
        event.resource for event in events
    ] == ["cpu", "memory"]
    assert levels.hot(node, CONFIG)
    later = replace(snapshot, now_s=NOW_S + 5)
    levels, events = look(later, CONFIG, levels)
    assert events == ()
    after = a_snapshot(a_demand(), [], [node], now_s=NOW_S + 310)
    levels, _ = look(after, CONFIG, levels)
    assert not levels.hot(node, CONFIG)
