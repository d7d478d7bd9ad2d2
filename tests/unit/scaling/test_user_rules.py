"""Every line of the two autoscaling workflows, in their own words, against the policy and the plan.

features.md scales by the queue's length and the ratio of containers to nodes, workflows.md by the
average CPU. Executable scenarios of the same sentences run the whole controller elsewhere; here is
that the pure part alone makes them true.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from scaling.config import ScalingConfig
from scaling.decision import Action, EmptyNode, Park, RetireNode, SetContainers, StartNode, Unpark
from scaling.memory import Memory
from scaling.snapshot import Activity, Container, ContainerState, NodeState, PeerSight
from tests.scaling_scene import (
    CONFIG,
    a_container,
    a_demand,
    a_node,
    a_snapshot,
    carried_out,
    codes,
    consider,
    containers_on,
    joined,
    watched,
)

BUSY, PARKED = Activity.BUSY, Activity.PARKED

# -- features.md: Dynamic Scaling Based on Queue Size


@pytest.mark.parametrize("ready", [2, 3, 7, 10])
def test_a_queue_within_the_range_changes_nothing(ready: int) -> None:
    """ "if the queue length is within the range / Then the system configuration remains the
    same"."""
    snapshot = a_snapshot(
        a_demand(ready, running=5),
        containers_on({"a": 3, "b": 2}, BUSY),
        [a_node("a"), a_node("b")],
    )
    decision, actions, _ = consider(snapshot)
    assert actions == ()
    assert decision.desired.containers == 5
    assert decision.desired.nodes == 2
    assert codes(decision)[0] == "queue_in_range"


@pytest.mark.parametrize("service_s", [2.0, 60.0, 600.0])
def test_too_high_at_the_threshold_a_node_and_a_container_on_it(service_s: float) -> None:
    """ "queue length is too high / And the ratio of containers to nodes is above a pre-defined
    threshold / Then start up a new node / And start up a new container on that node"."""
    snapshot = a_snapshot(
        a_demand(11, running=4, service_s=service_s), containers_on({"a": 4}, BUSY), [a_node("a")]
    )
    decision, actions, memory = consider(snapshot)
    started = [action.name for action in actions if isinstance(action, StartNode)]
    assert started[0] == "worker-1"
    assert not [action for action in actions if isinstance(action, SetContainers)]
    assert codes(decision)[0] == "queue_high"
    there = joined(carried_out(snapshot, actions))
    _, actions, _ = consider(there, memory=memory)
    assert isinstance(actions[0], SetContainers)
    there = carried_out(there, actions)
    assert any(container.node == "worker-1" for container in there.containers)
    assert sum(container.node == "a" for container in there.containers) == 4


@pytest.mark.parametrize("service_s", [2.0, 60.0, 600.0])
def test_too_high_below_the_threshold_a_container(service_s: float) -> None:
    """ "if the ratio of containers to nodes is below the threshold / Then start up a new
    container"."""
    snapshot = a_snapshot(
        a_demand(11, running=2, service_s=service_s), containers_on({"a": 2}, BUSY), [a_node("a")]
    )
    decision, actions, _ = consider(snapshot)
    counts = [action.count for action in actions if isinstance(action, SetContainers)]
    assert len(counts) == 1
    assert 3 <= counts[0] <= 4
    assert codes(decision)[0] == "queue_high"


def test_too_low_above_the_threshold_a_container_finishes_and_is_shut_down() -> None:
    """ "queue length is too low / And the ratio of containers to nodes is above a pre-defined
    threshold / Then stop sending work to a container / And shut down the container when it
    finishes its current work"."""
    nodes = [a_node("a", fixed=True), a_node("b", fixed=True)]
    containers = [
        *(a_container(number, "a", BUSY) for number in (1, 2, 3, 4)),
        *(a_container(number, "b", BUSY) for number in (5, 6, 7, 8)),
    ]
    # Six are needed: the ratio stays above what one node could hold.
    snapshot = a_snapshot(a_demand(0, running=8, arrivals_per_s=0.09), containers, nodes)
    memory = watched(snapshot)
    _, actions, memory = consider(snapshot, memory=memory)
    assert actions == (Park(uid=f"{4:016x}"), Park(uid=f"{8:016x}"))
    # They are parked, and the one at the head of the orchestrator's order still works.
    parked = {
        4: a_container(4, "a", PARKED),
        8: a_container(8, "b", PARKED, running=1),
    }
    working = [parked.get(each.slot, each) for each in containers]
    _, actions, memory = consider(
        a_snapshot(snapshot.demand, working, nodes, now_s=snapshot.now_s + 5), memory=memory
    )
    assert actions == ()
    finished = [replace(each, peer=_idle(each)) if each.slot == 8 else each for each in working]
    _, actions, memory = consider(
        a_snapshot(snapshot.demand, finished, nodes, now_s=snapshot.now_s + 10), memory=memory
    )
    assert actions == (SetContainers(count=6),)


def _idle(container: Container) -> PeerSight:
    assert container.peer is not None
    return replace(container.peer, running=0)


def test_too_low_below_the_threshold_the_others_move_and_the_node_is_shut_down() -> None:
    """ "if the ratio of containers to nodes is below the threshold / Then stop sending work to a
    specific container / And shut down the container when it finishes its current work / And copy
    over any containers running on that node to another node / And shut down the node"."""
    nodes = [a_node("a", fixed=True, cpu=0.4), a_node("b", cpu=0.4)]
    snapshot = a_snapshot(
        a_demand(0, running=2, arrivals_per_s=0.04, service_s=60.0),
        containers_on({"a": 2, "b": 2}, BUSY),
        nodes,
    )
    seen: list[Action] = []
    memory = watched(snapshot)
    for _ in range(10):
        _, actions, memory = consider(snapshot, memory=memory)
        seen += actions
        snapshot = carried_out(snapshot, actions)
    parks = [action for action in seen if isinstance(action, Park)]
    rest = [action for action in seen if not isinstance(action, Park)]
    assert parks
    assert rest == [SetContainers(count=3), EmptyNode(name="b"), RetireNode(name="b")]
    assert [container.node for container in snapshot.containers] == ["a", "a", "a"]


def test_it_continues_to_monitor_and_adjusts_dynamically() -> None:
    """ "the system continues to monitor queue length / And dynamically adjusts nodes and
    containers accordingly": load that returns while a container finishes has it at once."""
    nodes = [a_node("a", fixed=True)]
    snapshot = a_snapshot(a_demand(0), containers_on({"a": 4}), nodes)
    _, actions, memory = consider(snapshot)
    assert len([action for action in actions if isinstance(action, Park)]) == 3
    busy = [a_container(1, "a", BUSY)] + [
        a_container(number, "a", PARKED, running=1) for number in (2, 3, 4)
    ]
    back = a_snapshot(a_demand(20, running=4), busy, nodes, now_s=snapshot.now_s + 5)
    decision, actions, _ = consider(back, memory=memory)
    assert {action.uid for action in actions if isinstance(action, Unpark)} == {
        f"{number:016x}" for number in (2, 3, 4)
    }
    assert decision.desired.containers > 4


# -- workflows.md: by the CPU utilization of worker nodes


def test_high_cpu_spins_up_an_additional_node() -> None:
    """ "If the average CPU utilization is high: Spin up additional worker nodes to handle the
    increased workload": also with a queue that is not too long, and room by number."""
    nodes = [a_node("a", cpu=0.95), a_node("b", cpu=0.9)]
    snapshot = a_snapshot(a_demand(4, running=4), containers_on({"a": 2, "b": 2}, BUSY), nodes)
    decision, actions, memory = consider(snapshot)
    assert actions == (StartNode(name="worker-1"),)
    assert codes(decision)[0] == "cpu_high"
    assert decision.desired.nodes == 3
    # It comes, and a container with it.
    there = joined(carried_out(snapshot, actions))
    _, actions, _ = consider(there, memory=memory)
    assert actions == (SetContainers(count=5),)
    there = carried_out(there, actions)
    assert [container.node for container in there.containers].count("worker-1") == 1


def test_high_cpu_without_work_that_waits_is_as_it_should_be() -> None:
    """ffmpeg takes what it gets: hot nodes alone are no increased workload."""
    nodes = [a_node("a", cpu=1.0), a_node("b", cpu=1.0)]
    demand = a_demand(0, running=8, arrivals_per_s=0.12)
    snapshot = a_snapshot(demand, containers_on({"a": 4, "b": 4}, BUSY), nodes)
    decision, actions, _ = consider(snapshot)
    assert actions == ()
    assert "cpu_high" not in codes(decision)


@pytest.mark.parametrize("ready", [0, 5])
def test_very_low_cpu_shuts_underutilised_nodes_down_to_the_least(ready: int) -> None:
    """ "If the average CPU utilization is very low: Block underutilized nodes from receiving any
    more work and shut them down underutilized after they finish their current tasks": whatever the
    queue says, as long as it is not too long."""
    nodes = [a_node("a", fixed=True, cpu=0.3), a_node("b", cpu=0.02), a_node("c", cpu=0.1)]
    containers = [
        a_container(1, "a", BUSY),
        a_container(2, "b"),
        a_container(3, "c", BUSY, remaining_s=100.0),
    ]
    demand = a_demand(ready, running=1, service_s=1.0)
    config = replace(CONFIG, containers_min=3)
    snapshot = a_snapshot(demand, containers, nodes)
    memory = watched(snapshot, config)
    decision, actions, memory = consider(snapshot, config, memory)
    assert "cpu_low" in codes(decision)
    # Blocked: the node with the least work takes no more of it.
    assert actions == (Park(uid=f"{2:016x}"),)
    assert decision.desired.leaving == ("b",)
    gone: list[str] = []
    for _ in range(12):
        _, actions, memory = consider(snapshot, config, memory)
        gone += [action.name for action in actions if isinstance(action, RetireNode)]
        snapshot = carried_out(snapshot, actions)
    assert gone == ["b", "c"]
    assert [node.name for node in snapshot.nodes] == ["a"]
    assert len(snapshot.containers) == 3


def test_underutilised_nodes_finish_their_current_tasks_first() -> None:
    """A node with work is emptied only when the last of its peers has finished."""
    nodes = [a_node("a", fixed=True, cpu=0.2), a_node("b", cpu=0.1)]
    config = replace(CONFIG, containers_min=2)
    containers = [a_container(1, "a"), a_container(2, "b", PARKED, running=1)]
    snapshot = a_snapshot(a_demand(0, running=1, service_s=1.0), containers, nodes)
    memory = watched(snapshot, config)
    decision, actions, _ = consider(snapshot, config, memory)
    assert decision.desired.leaving == ("b",)
    assert actions == ()
    done = replace(snapshot, containers=(containers[0], a_container(2, "b", PARKED)))
    _, actions, _ = consider(done, config, memory)
    assert actions == (EmptyNode(name="b"),)


def test_nothing_flaps_between_the_two_rules() -> None:
    """A node is not taken away where the CPU rule would bring it back: what the others would then
    have to do counts."""
    nodes = [a_node("a", fixed=True, cpu=0.7), a_node("b", cpu=0.6)]
    snapshot = a_snapshot(
        a_demand(0, running=2, arrivals_per_s=0.03), containers_on({"a": 1, "b": 1}, BUSY), nodes
    )
    decision, actions, _ = consider(snapshot)
    assert actions == ()
    assert "cpu_elsewhere" in codes(decision)


# -- what neither rule says


def test_work_and_no_container_wakes_one() -> None:
    """With a minimum of none, one part that waits is within the range, and must not wait for
    ever."""
    config = ScalingConfig(containers_min=0)
    snapshot = a_snapshot(a_demand(1), [], [a_node("a")])
    decision, actions, _ = consider(snapshot, config)
    assert actions == (SetContainers(count=1),)
    assert codes(decision)[0] == "nobody_works"


def test_what_a_person_drains_is_replaced() -> None:
    """A peer that a person has drained is no capacity: another is asked for when work waits."""
    containers = [a_container(1, "a", Activity.DRAINING), a_container(2, "a", BUSY)]
    snapshot = a_snapshot(a_demand(5, running=1), containers, [a_node("a")])
    decision, actions, _ = consider(snapshot, replace(CONFIG, queue_high=4))
    assert "drained" in codes(decision)
    assert actions == (SetContainers(count=4),)


def test_the_container_that_ran_out_of_memory_counts_as_memorys_limit() -> None:
    """A container that FAILED for lack of memory: the event is raised, and a further container
    comes on a further node."""
    containers = [
        a_container(1, "a", BUSY),
        a_container(2, "a", None, state=ContainerState.FAILED, out_of_memory=True),
    ]
    snapshot = a_snapshot(a_demand(5, running=1), containers, [a_node("a", memory=0.5)])
    memory = watched(replace(snapshot, containers=(containers[0],)))
    decision, actions, memory = consider(snapshot, memory=memory)
    assert [(event.resource, event.direction) for event in decision.crossed] == [
        ("memory", "above")
    ]
    assert codes(decision)[0] == "memory_high"
    again, _, _ = consider(replace(snapshot, now_s=snapshot.now_s + 5), memory=memory)
    assert again.crossed == ()
    well = a_snapshot(
        a_demand(12, running=2),
        containers_on({"a": 2}, BUSY),
        [a_node("a", memory=0.5)],
        now_s=snapshot.now_s + 10,
    )
    _, actions, _ = consider(well, memory=memory)
    assert actions[0] == StartNode(name="worker-1")
    assert not [action for action in actions if isinstance(action, SetContainers)]


def test_lack_of_memory_is_noted_although_nothing_may_be_changed() -> None:
    """A new leader's first look shows it, and the next ones do not."""
    failed = a_container(1, "a", None, state=ContainerState.FAILED, out_of_memory=True)
    first = a_snapshot(a_demand(5), [failed], [a_node("a", memory=0.5)], leading_s=0.0)
    decision, actions, memory = consider(first, memory=Memory())
    assert decision.held
    assert actions == ()
    assert [(each.resource, each.direction) for each in decision.crossed] == [("memory", "above")]
    again, _, memory = consider(replace(first, leading_s=5.0), memory=memory)
    assert again.crossed == ()
    assert [each.node for each in memory.levels.starved] == ["a"]


def test_a_lost_node_is_replaced_only_while_it_is_needed() -> None:
    """What had to move and finds no place takes a further node, unless it was too much anyway."""
    nodes = [a_node("a"), a_node("b", NodeState.DOWN, since_s=30.0)]
    pending = [a_container(number, "", None, state=ContainerState.PENDING) for number in (5, 6)]
    containers = [*containers_on({"a": 4}, BUSY), *pending]
    needed = a_snapshot(a_demand(5, running=4, arrivals_per_s=0.09), containers, nodes)
    _, actions, _ = consider(needed)
    assert actions == (StartNode(name="worker-1"),)
    surplus = a_snapshot(a_demand(0, running=1), containers, nodes, leading_s=60.0)
    _, actions, _ = consider(surplus)
    assert actions == ()
