"""While the orchestrator replaces all containers, their number is left alone."""

from __future__ import annotations

import json
from dataclasses import replace

from scaling.decision import SetContainers, StartNode, Unpark
from scaling.memory import Memory
from scaling.policy import decide
from scaling.record import Considered
from scaling.snapshot import Activity, ContainerState, NodeState
from tests.scaling_scene import (
    CONFIG,
    NOW_S,
    a_container,
    a_demand,
    a_node,
    a_snapshot,
    codes,
    consider,
    containers_on,
)

UPDATE = "the service peers is being updated"
BUSY, PARKED = Activity.BUSY, Activity.PARKED
LEFT_ALONE = f"{UPDATE}: the number of containers is left alone until that is over"


def test_what_should_be_more_is_said_and_waits() -> None:
    """Nodes come meanwhile; when the update is over, so do the containers."""
    nodes = [a_node("a"), a_node("b", NodeState.STANDBY)]
    containers = containers_on({"a": 3}, BUSY)
    snapshot = a_snapshot(a_demand(50), containers, nodes, update=UPDATE)
    assert SetContainers(count=4) in consider(replace(snapshot, update=""))[1], "there is room"
    decision, actions, memory = consider(snapshot)
    assert decision.desired.containers > 4
    assert not decision.held
    assert decision.reasons[-1].code == "update_under_way"
    assert decision.reasons[-1].text == LEFT_ALONE
    assert set(actions) >= {StartNode(name="b")}
    assert not [action for action in actions if isinstance(action, SetContainers)]

    over = a_snapshot(
        a_demand(50), containers, [a_node("a"), a_node("b")], now_s=NOW_S + CONFIG.interval_s
    )
    _, actions, _ = consider(over, memory=memory)
    assert [each.count for each in actions if isinstance(each, SetContainers)] == [8]


def test_nothing_is_taken_away_and_who_was_parked_works_again() -> None:
    """A shrinking is not begun, and one that has begun is given up: an update lasts for hours."""
    parked = (*containers_on({"a": 3}), a_container(4, "a", PARKED))
    idle = a_snapshot(a_demand(0), parked, [a_node("a")])
    decision, actions, memory = consider(idle)
    assert decision.desired.containers == 1
    assert SetContainers(count=3) in actions
    updated = replace(idle, update=UPDATE, now_s=NOW_S + CONFIG.interval_s)
    decision, actions, memory = consider(updated, memory=memory)
    assert decision.desired.containers == 4
    assert actions == (Unpark(uid=f"{4:016x}"),)
    assert codes(decision).count("update_under_way") == 1
    assert memory.shrinking_to is None


def test_no_node_is_chosen_to_leave() -> None:
    """A new container that is moved away reads as a failure of the update."""
    nodes = [a_node("a"), a_node("b")]
    idle = a_snapshot(a_demand(0), containers_on({"a": 1}), nodes)
    assert consider(idle)[0].desired.leaving == ("a",)
    decision, actions, memory = consider(replace(idle, update=UPDATE))
    assert (decision.desired.leaving, actions, memory.leaving) == ((), (), "")


def test_each_container_gets_a_place_although_fewer_would_do() -> None:
    """A node was lost, and little work is left: without an update fewer are wanted, and no node.
    The update would wait for the place of those that are pending, and their number for it."""
    waiting = [a_container(number, "", None, state=ContainerState.PENDING) for number in (5, 6)]
    nodes = [a_node("a"), a_node("b", NodeState.STANDBY)]
    snapshot = a_snapshot(a_demand(0), (*containers_on({"a": 4}), *waiting), nodes)
    assert consider(snapshot)[0].desired.starting == ()
    decision, actions, _ = consider(replace(snapshot, update=UPDATE))
    assert decision.desired.starting == ("b",)
    assert actions == (StartNode(name="b"),)


def test_doubt_comes_first() -> None:
    """What is not known holds everything, also during an update."""
    snapshot = a_snapshot(None, containers_on({"a": 4}), [a_node("a")], update=UPDATE)
    decision, _ = decide(snapshot, CONFIG, Memory())
    assert decision.held
    assert codes(decision) == ["no_demand"]


def test_a_record_from_before_it_was_looked_for_is_repeated() -> None:
    """It has no such field, and says the same."""
    snapshot = a_snapshot(a_demand(50), containers_on({"a": 4}, BUSY), [a_node("a")])
    decision, _ = decide(snapshot, CONFIG, Memory())
    considered = Considered(snapshot=snapshot, config=CONFIG, memory=Memory(), decision=decision)
    record = json.loads(considered.encode())
    del record["snapshot"]["update"]
    old = Considered.decode(json.dumps(record))
    assert old == considered
    assert old.repeated() == decision
