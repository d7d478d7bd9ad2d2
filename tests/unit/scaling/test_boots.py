"""Ordered nodes that come, and those that do not."""

from __future__ import annotations

from scaling.boots import PAUSE_MAX_S, Boots
from scaling.decision import StartNode
from scaling.snapshot import Activity, Node, NodeState
from tests.scaling_scene import NOW_S, a_demand, a_node, a_snapshot, codes, consider, containers_on

TIMEOUT_S = 600.0


def _booting(name: str, since_s: float = 10.0) -> Node:
    return a_node(name, NodeState.BOOTING, since_s=since_s)


def _looked(boots: Boots, nodes: list[Node], now_s: float = NOW_S) -> Boots:
    return boots.looking(a_snapshot(a_demand(), [], nodes, now_s=now_s), TIMEOUT_S)


def test_one_that_comes_is_no_failure() -> None:
    """From booting to ready, or to standby until it is taken in."""
    for state in (NodeState.READY, NodeState.STANDBY):
        waiting = _looked(Boots(), [_booting("w-1")])
        assert waiting.waited_for == ("w-1",)
        assert _looked(waiting, [a_node("w-1", state)]) == Boots()


def test_each_failure_doubles_the_pause() -> None:
    """One minute, two, four, up to an hour; and one that comes ends it."""
    boots, pauses = Boots(), []
    for number in range(8):
        boots = _looked(boots, [_booting(f"w-{number}")])
        boots = _looked(boots, [_booting(f"w-{number}", since_s=601.0)])
        assert boots.given_up == (f"w-{number}",)
        pauses.append(boots.pause_until_s - NOW_S)
        boots = _looked(boots, [])
    assert pauses[:4] == [60.0, 120.0, 240.0, 480.0]
    assert pauses[-1] == PAUSE_MAX_S
    boots = _looked(boots, [_booting("w-9")])
    assert _looked(boots, [a_node("w-9")]).pause_until_s == 0.0


def test_one_that_vanishes_has_failed_and_is_counted_once() -> None:
    """An order that failed, or a machine that somebody destroyed."""
    boots = _looked(_looked(Boots(), [_booting("w-1"), _booting("w-2")]), [])
    assert boots.failures == 1
    assert _looked(boots, []) == boots
    late = _looked(_looked(Boots(), [_booting("w-1")]), [_booting("w-1", since_s=601.0)])
    assert _looked(late, [_booting("w-1", since_s=606.0)]).failures == 1
    assert _looked(late, []).failures == 1


def test_nothing_is_ordered_during_the_pause() -> None:
    """And the decision says until when."""
    late = _booting("worker-1", since_s=595.0)
    nodes = [a_node("a"), late]
    work = a_demand(50, running=4)
    containers = containers_on({"a": 4}, Activity.BUSY)
    _, _, memory = consider(a_snapshot(work, containers, nodes))
    later = [a_node("a"), _booting("worker-1", since_s=605.0)]
    snapshot = a_snapshot(work, containers, later, now_s=NOW_S + 10)
    decision, actions, memory = consider(snapshot, memory=memory)
    assert "boot_pause" in codes(decision)
    assert not [action for action in actions if isinstance(action, StartNode)]
    snapshot = a_snapshot(work, containers, [a_node("a")], now_s=NOW_S + 30)
    _, _, memory = consider(snapshot, memory=memory)
    snapshot = a_snapshot(work, containers, [a_node("a")], now_s=NOW_S + 71)
    _, actions, _ = consider(snapshot, memory=memory)
    assert [action for action in actions if isinstance(action, StartNode)]
