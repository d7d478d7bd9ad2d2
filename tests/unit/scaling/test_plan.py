"""The next steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from scaling.config import ScalingConfig
from scaling.decision import (
    Action,
    Decision,
    Desired,
    EmptyNode,
    Park,
    RetireNode,
    SetContainers,
    StartNode,
    Unpark,
)
from scaling.plan import finished, plan
from scaling.snapshot import Activity, Container, ContainerState, Node, NodeState
from tests.scaling_scene import a_container, a_demand, a_node, a_snapshot

CONFIG = ScalingConfig(stale_s=20)
BUSY, PARKED, DRAINING = Activity.BUSY, Activity.PARKED, Activity.DRAINING
NODES = (a_node("a"), a_node("b"))


def _uid(number: int) -> str:
    return f"{number:016x}"


def _planned(
    desired: Desired,
    containers: Sequence[Container],
    victims: Sequence[str] = (),
    nodes: Sequence[Node] = NODES,
    *,
    wanted: int | None = None,
    held: bool = False,
    leading_s: float = 3600.0,
) -> tuple[Action, ...]:
    snapshot = a_snapshot(a_demand(), containers, nodes, wanted=wanted, leading_s=leading_s)
    return plan(snapshot, Decision(desired, held=held, reasons=()), victims, CONFIG)


@pytest.mark.parametrize(
    ("container", "expected"),
    [
        (a_container(1, "a", PARKED), True),
        (a_container(1, "a", DRAINING), True),
        (a_container(1, "a", PARKED, running=1), False),
        (a_container(1, "a", DRAINING, running=1), False),
        (a_container(1, "a", PARKED, age_s=21), False),
        (a_container(1, "a"), False),
        (a_container(1, "a", BUSY), False),
        (a_container(1, "a", None), False),
        (a_container(1, "a", None, state=ContainerState.STARTING), False),
        (a_container(1, "a", None, state=ContainerState.UNKNOWN), False),
        (a_container(1, "a", None, state=ContainerState.STOPPING), False),
        (a_container(1, "a", None, state=ContainerState.FAILED), True),
        (a_container(1, "", None, state=ContainerState.PENDING), True),
    ],
)
def test_who_can_be_stopped_without_stopping_work(container: Container, expected: bool) -> None:
    """Parked and idle, by recent word; or with nothing running at all."""
    assert finished(container, CONFIG) is expected


def test_what_grows_is_asked_for_as_far_as_there_is_room() -> None:
    """Nodes first; the containers beyond the room come when the nodes have."""
    containers = [a_container(1, "a", BUSY)]
    desired = Desired(containers=9, nodes=3, starting=("n-1", "n-2"), room=4)
    assert _planned(desired, containers) == (
        StartNode(name="n-1"),
        StartNode(name="n-2"),
        SetContainers(count=4),
    )
    full = Desired(containers=9, nodes=3, room=1)
    assert _planned(full, containers) == ()


def test_the_row_of_those_who_have_finished_is_stopped_in_one_write() -> None:
    """The first who works ends the row: the orchestrator would take him before those behind."""
    containers = [
        a_container(1, "a", BUSY),
        a_container(2, "a", PARKED),
        a_container(3, "a", PARKED, running=1),
        a_container(4, "b", PARKED),
        a_container(5, "b"),
    ]
    desired = Desired(containers=1, nodes=2, room=8)
    victims = ("c2", "c4", "c3", "c5")
    assert _planned(desired, containers, victims) == (Park(uid=_uid(5)), SetContainers(count=3))
    assert _planned(desired, containers, ("c3", "c2", "c4", "c5")) == (Park(uid=_uid(5)),)


def test_load_that_returned_has_its_containers_back() -> None:
    """Whoever is parked and not to be stopped any more is un-parked."""
    containers = [a_container(1, "a", BUSY), a_container(2, "a", PARKED, running=1)]
    desired = Desired(containers=2, nodes=2, room=8)
    assert _planned(desired, containers) == (Unpark(uid=_uid(2)),)


def test_what_a_person_drained_is_left_alone() -> None:
    """It is neither parked nor un-parked."""
    containers = [a_container(1, "a", BUSY), a_container(2, "a", DRAINING)]
    desired = Desired(containers=1, nodes=2, room=8)
    assert _planned(desired, containers, ("c2",)) == (SetContainers(count=1),)
    assert _planned(Desired(containers=2, nodes=2, room=8), containers) == ()


def test_what_does_not_exist_is_no_longer_wanted() -> None:
    """More were wanted than there are: to want fewer stops nobody."""
    containers = [a_container(1, "a", BUSY)]
    desired = Desired(containers=1, nodes=2, room=8)
    assert _planned(desired, containers, (), wanted=4) == (SetContainers(count=1),)


@pytest.mark.parametrize(
    ("activity", "running", "expected"),
    [
        (Activity.IDLE, 0, (Park(uid=_uid(2)),)),
        (BUSY, 1, (Park(uid=_uid(2)),)),
        (PARKED, 1, ()),
        (PARKED, 0, (EmptyNode(name="b"),)),
    ],
)
def test_a_node_is_emptied_when_the_last_of_its_peers_is_idle(
    activity: Activity, running: int, expected: tuple[Action, ...]
) -> None:
    """Park, wait, empty."""
    containers = [a_container(1, "a", BUSY), a_container(2, "b", activity, running=running)]
    desired = Desired(containers=2, nodes=1, parked=(_uid(2),), leaving=("b",), room=8)
    assert _planned(desired, containers) == expected


def test_fewer_containers_come_before_an_emptied_node() -> None:
    """One disturbing action a round, and the smaller one first."""
    containers = [a_container(1, "a", PARKED), a_container(2, "b", PARKED)]
    desired = Desired(containers=1, nodes=1, parked=(_uid(2),), leaving=("b",), room=8)
    assert _planned(desired, containers, ("c1",)) == (SetContainers(count=1),)


STANDBY = NodeState.STANDBY


@pytest.mark.parametrize(
    ("node", "containers", "expected"),
    [
        (a_node("b", NodeState.EMPTY), [], True),
        (a_node("b", NodeState.EMPTYING), [], True),
        (a_node("b", NodeState.EMPTYING), [a_container(2, "b", DRAINING)], False),
        (
            a_node("b", NodeState.EMPTYING),
            [a_container(2, "b", DRAINING, state=ContainerState.STOPPING)],
            False,
        ),
        # A provider's, which nobody has needed for long; one that has just come; one of ours.
        (a_node("b", STANDBY, since_s=700), [], True),
        (a_node("b", STANDBY, since_s=10), [], False),
        (a_node("b", STANDBY, since_s=700, provided=False), [], False),
        (a_node("b", NodeState.READY), [], False),
        (a_node("b", NodeState.DOWN, since_s=599), [], False),
    ],
)
def test_a_node_is_retired_when_nothing_is_left_on_it(
    node: Node, containers: list[Container], expected: bool
) -> None:
    """Also no container that was told to end and finishes."""
    desired = Desired(containers=len(containers), nodes=1, room=8)
    live = [each for each in containers if each.state is not ContainerState.STOPPING]
    actions = _planned(desired, containers, (), [a_node("a"), node], wanted=len(live))
    assert (RetireNode(name="b") in actions) is expected


def test_an_emptied_node_that_is_needed_again_is_not_retired() -> None:
    """It is taken in instead."""
    desired = Desired(containers=5, nodes=2, starting=("b",), room=4)
    nodes = [a_node("a"), a_node("b", NodeState.EMPTY)]
    assert _planned(desired, [], (), nodes, wanted=4) == (StartNode(name="b"),)


def test_nothing_is_done_while_something_holds_or_the_leader_is_new() -> None:
    """What is disturbing waits for a window; what holds holds everything."""
    containers = [a_container(1, "a", PARKED), a_container(2, "b", PARKED)]
    desired = Desired(containers=1, nodes=2, room=8)
    assert _planned(desired, containers, ("c2",), held=True) == ()
    nodes = [a_node("a"), a_node("b", NodeState.EMPTY)]
    quiet = Desired(containers=2, nodes=1, parked=(_uid(1), _uid(2)), room=8)
    assert _planned(quiet, containers, (), nodes, leading_s=100) == ()


DEAD = a_node("b", NodeState.DOWN, since_s=CONFIG.boot_timeout_s, provided=True)
UNHEARD = a_container(2, "b", BUSY, state=ContainerState.UNKNOWN, running=1, age_s=21)
HEARD = a_container(2, "b", BUSY, state=ContainerState.UNKNOWN, running=1, age_s=20)


@pytest.mark.parametrize(
    ("node", "containers", "expected"),
    [
        (DEAD, [], True),
        (DEAD, [UNHEARD], True),
        (DEAD, [HEARD], False),
        (replace(DEAD, since_s=CONFIG.boot_timeout_s - 1), [], False),
        (replace(DEAD, provided=False), [], False),
        (replace(DEAD, fixed=True), [], False),
    ],
    ids=["gone", "its peers are silent", "a peer is heard", "may come back", "a person's", "kept"],
)
def test_a_node_that_stays_down_is_given_back(
    node: Node, containers: Sequence[Container], expected: bool
) -> None:
    """One that a provider made, and from which nobody is heard: it costs, and takes the place of
    the one that is to replace it."""
    actions = _planned(Desired(containers=1, nodes=1, room=4), containers, nodes=(NODES[0], node))
    assert (RetireNode(name="b") in actions) is expected
