"""The laws of the policy: whatever the snapshot and whatever is remembered, they hold."""

from __future__ import annotations

import re
from dataclasses import replace

from hypothesis import assume, given
from hypothesis import strategies as st

from scaling.boots import Boots
from scaling.config import ScalingConfig
from scaling.decision import (
    Action,
    EmptyNode,
    Park,
    RetireNode,
    SetContainers,
    StartNode,
)
from scaling.leaving import on_node
from scaling.memory import Memory
from scaling.need import drained
from scaling.plan import plan
from scaling.policy import decide
from scaling.record import Considered
from scaling.snapshot import Activity, Container, ContainerState, Demand, Node, NodeState, Snapshot
from scaling.utilization import Levels, Starved
from scaling.window import Window
from tests.scaling_scene import NOW_S, a_container, a_snapshot, carried_out, joined
from tests.simulation.scaling.order import victims

MISCOUNTED = r"\b1 (containers|nodes|parts|are|were)\b|\b(?!1\b)\d+ (container|node|part|is|was)\b"

NAMES = ("manager", "worker-1", "worker-2", "worker-3", "worker-4")
shares = st.floats(0, 1) | st.none()
demands = st.builds(
    Demand,
    ready=st.integers(0, 80) | st.integers(0, 3),
    delayed=st.integers(0, 3),
    running=st.integers(0, 12),
    arrivals_per_s=st.just(0.0) | st.floats(0, 2),
    service_s=st.none() | st.floats(0.1, 2000),
    age_s=st.floats(0, 10),
)
node_states = st.sampled_from(
    [NodeState.READY] * 6 + [each for each in NodeState if each is not NodeState.UNKNOWN]
)
configs = st.builds(
    ScalingConfig,
    containers_min=st.integers(0, 3),
    containers_max=st.integers(3, 20),
    nodes_min=st.integers(1, 2),
    nodes_max=st.integers(2, 8),
    containers_per_node=st.integers(1, 5),
    queue_low=st.integers(0, 5),
    band=st.sampled_from([0.0, 0.2, 0.5]),
    node_age_min_s=st.sampled_from([0.0, 600.0]),
)


@st.composite
def nodes(draw: st.DrawFn) -> tuple[Node, ...]:
    """Some nodes, each in any state but the one that means hold."""
    return tuple(
        Node(
            name=name,
            state=draw(node_states),
            since_s=draw(st.sampled_from([0.0, 300.0, 1000.0])),
            capacity=draw(st.integers(1, 6)),
            fixed=name == "manager",
            provided=name != "manager" and draw(st.booleans()),
            cpu=draw(shares),
            memory=draw(shares),
        )
        for name in NAMES[: draw(st.integers(1, len(NAMES)))]
    )


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    """Any snapshot that may be acted on."""
    there = draw(nodes())
    containers = tuple(
        draw(_containers(number, [node.name for node in there]))
        for number in range(1, 1 + draw(st.integers(0, 10)))
    )
    snapshot = a_snapshot(
        draw(demands),
        containers,
        there,
        leading_s=draw(st.sampled_from([20.0, 3600.0, 3600.0])),
        expandable=draw(st.booleans()),
    )
    return replace(snapshot, wanted=snapshot.wanted + draw(st.sampled_from([0, 0, 0, 1, 2])))


@st.composite
def _containers(draw: st.DrawFn, number: int, names: list[str]) -> Container:
    state = draw(st.sampled_from([ContainerState.RUNNING] * 8 + list(ContainerState)))
    if state is ContainerState.PENDING:
        return a_container(number, "", None, state=state)
    activity = draw(st.none() | st.sampled_from(Activity))
    return a_container(
        number,
        draw(st.sampled_from(names)),
        activity,
        state=state,
        running=draw(st.sampled_from([None, None, 1])),
        age_s=draw(st.sampled_from([1.0, 1.0, 30.0])),
        out_of_memory=draw(st.booleans()),
    )


@st.composite
def memories(draw: st.DrawFn) -> Memory:
    """Anything that a leader may remember; mostly one who has watched for a whole window."""
    began_s = NOW_S - draw(st.sampled_from([400.0, 400.0, 100.0]))
    window = Window()
    for at_s, value in ((began_s, 20), (NOW_S - 200, draw(st.integers(0, 9))), (NOW_S - 5, 0)):
        window = window.noting(at_s, value, span_s=300.0, gap_s=1000.0)
    return Memory(
        needs=window,
        levels=Levels(
            cpu=draw(st.sampled_from(["", "above", "below"])),
            memory=draw(st.sampled_from(["", "above"])),
            cpu_mean=draw(shares),
            memory_mean=draw(shares),
            seen_s=NOW_S - 5,
            starved=draw(st.sampled_from([(), (Starved(node="worker-1", until_s=NOW_S + 50),)])),
        ),
        boots=draw(
            st.sampled_from(
                [
                    Boots(),
                    Boots(waited_for=("worker-2",)),
                    Boots(given_up=("worker-2",), failures=2, pause_until_s=NOW_S + 60),
                ]
            )
        ),
        growing_to=draw(st.none() | st.integers(0, 20)),
        shrinking_to=draw(st.none() | st.integers(0, 6)),
        leaving=draw(st.sampled_from(["", *NAMES])),
        grown_s=draw(st.sampled_from([None, NOW_S - 5, NOW_S - 500])),
    )


def _actions(snapshot: Snapshot, config: ScalingConfig, memory: Memory) -> tuple[Action, ...]:
    decision, _ = decide(snapshot, config, memory)
    going = victims(snapshot.containers, decision.desired.containers)
    return plan(snapshot, decision, going, config)


def _disturbing(snapshot: Snapshot, actions: tuple[Action, ...]) -> list[Action]:
    return [
        action
        for action in actions
        if isinstance(action, EmptyNode | RetireNode)
        or (isinstance(action, SetContainers) and action.count < snapshot.wanted)
    ]


@given(snapshots(), configs, memories(), st.integers(1, 60))
def test_more_that_waits_never_makes_it_fewer(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory, more: int
) -> None:
    """Monotone in the backlog: with more parts waiting, at least as many containers and nodes."""
    assert snapshot.demand is not None
    less, _ = decide(snapshot, config, memory)
    demand = replace(snapshot.demand, ready=snapshot.demand.ready + more)
    greater, _ = decide(replace(snapshot, demand=demand), config, memory)
    assert greater.desired.containers >= less.desired.containers
    assert greater.desired.nodes >= less.desired.nodes


@given(snapshots(), configs, memories())
def test_what_is_wanted_stays_within_the_limits(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory
) -> None:
    """Neither fewer than the least nor more than the most, unless there are more already."""
    desired = decide(snapshot, config, memory)[0].desired
    assert desired.containers >= config.containers_min
    assert desired.containers <= max(config.containers_max, snapshot.wanted)
    if desired.starting:
        assert desired.nodes <= config.nodes_max
    if len(desired.leaving) > sum(node.state is NodeState.EMPTYING for node in snapshot.nodes):
        assert desired.nodes >= config.nodes_min
    for action in _actions(snapshot, config, memory):
        if isinstance(action, SetContainers) and action.count < snapshot.wanted:
            assert action.count >= config.containers_min


@given(snapshots(), configs, memories())
def test_reasons_are_sentences(snapshot: Snapshot, config: ScalingConfig, memory: Memory) -> None:
    """One is one, and many are many: people read them, also in the events."""
    decision, _ = decide(snapshot, config, memory)
    for reason in decision.reasons:
        assert not re.search(MISCOUNTED, reason.text), reason.text


@given(snapshots(), configs, memories())
def test_new_nodes_have_free_names(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory
) -> None:
    """Nothing is started twice: a name is that of an idle node, or nobody's."""
    states = {node.name: node.state for node in snapshot.nodes}
    starting = decide(snapshot, config, memory)[0].desired.starting
    assert len(set(starting)) == len(starting)
    for name in starting:
        assert states.get(name) in {None, NodeState.STANDBY, NodeState.EMPTY}
        assert snapshot.expandable or name in states


STALE = st.sampled_from(
    [
        ("no_demand", {"demand": None}),
        ("no_quorum", {"quorate": False}),
        ("trouble", {"trouble": "its own leader changes"}),
        ("settling", {"leading_s": 3.0}),
    ]
)


@given(snapshots(), configs, memories(), STALE)
def test_nothing_is_done_on_what_is_not_known(
    snapshot: Snapshot,
    config: ScalingConfig,
    memory: Memory,
    missing: tuple[str, dict[str, object]],
) -> None:
    """Without fresh data, a quorum, or an orchestrator in order: no action, nothing remembered, but
    who ran out of memory: that is shown once, and not believed of an orchestrator in trouble."""
    code, change = missing
    doubtful = replace(snapshot, **change)  # type: ignore[arg-type]  # names of its fields
    decision, after = decide(doubtful, config, memory)
    assert decision.held
    assert [reason.code for reason in decision.reasons] == [code]
    assert plan(doubtful, decision, victims(doubtful.containers, 0), config) == ()
    starved = memory.levels.starved
    assert replace(after, levels=replace(after.levels, starved=starved)) == memory
    if code == "trouble":
        assert (after, decision.crossed) == (memory, ())
    failed = {each.node for each in snapshot.containers if each.out_of_memory}
    known = {each.node for each in starved}
    assert {each.node for each in after.levels.starved} <= known | failed


@given(snapshots(), configs, memories(), st.floats(20.1, 1000))
def test_nothing_is_done_on_old_numbers(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory, age_s: float
) -> None:
    """A count of the work that is too old holds everything."""
    assert snapshot.demand is not None
    old = replace(snapshot, demand=replace(snapshot.demand, age_s=age_s))
    assert decide(old, config, memory)[0].held
    assert _actions(old, config, memory) == ()


@given(snapshots(), configs, memories())
def test_equal_inputs_give_equal_outputs_also_from_a_record(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory
) -> None:
    """A decision is repeated by its inputs, and from their JSON."""
    decision, after = decide(snapshot, config, memory)
    assert decide(snapshot, config, memory) == (decision, after)
    considered = Considered(snapshot=snapshot, config=config, memory=memory, decision=decision)
    recorded = considered.encode()
    assert Considered.decode(recorded) == considered
    assert Considered.decode(recorded).repeated() == decision
    again = Considered(snapshot=snapshot, config=config, memory=after, decision=decision)
    assert Considered.decode(again.encode()).memory == after


@given(snapshots(), configs, memories())
def test_at_most_one_action_of_a_round_disturbs_anybody(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory
) -> None:
    """Of fewer containers, a node emptied and a node retired, one at a time."""
    assert len(_disturbing(snapshot, _actions(snapshot, config, memory))) <= 1


def _may_be_stopped(container: Container) -> bool:
    """By other means than the product: nothing runs, and nothing can start to."""
    if container.state in {ContainerState.PENDING, ContainerState.FAILED}:
        return True
    peer = container.peer
    return (
        container.state is ContainerState.RUNNING
        and peer is not None
        and peer.running == 0
        and peer.age_s <= 20
        and peer.activity in {Activity.PARKED, Activity.DRAINING}
    )


@given(snapshots(), configs, memories())
def test_nobody_who_works_is_stopped(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory
) -> None:
    """Whom the orchestrator would end, and who is on a node to be emptied, is parked and idle."""
    by_id = {container.id: container for container in snapshot.containers}
    fixed = {node.name for node in snapshot.nodes if node.fixed}
    for action in _actions(snapshot, config, memory):
        if isinstance(action, SetContainers):
            going = victims(snapshot.containers, action.count)
            assert all(_may_be_stopped(by_id[name]) for name in going)
        if isinstance(action, EmptyNode):
            assert all(_may_be_stopped(each) for each in on_node(snapshot, action.name))
            assert action.name not in fixed
        if isinstance(action, RetireNode):
            assert not [
                each
                for each in on_node(snapshot, action.name)
                if each.state is ContainerState.RUNNING and not _is_not_in_service(snapshot, action)
            ]


def _is_not_in_service(snapshot: Snapshot, action: RetireNode) -> bool:
    states = {node.name: node.state for node in snapshot.nodes}
    return states[action.name] in {NodeState.EMPTY, NodeState.STANDBY}


@given(snapshots(), configs, memories())
def test_a_new_leader_takes_nothing_away(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory
) -> None:
    """For one window after a change of leader nobody is parked and nothing is stopped."""
    new = replace(snapshot, leading_s=config.down_window_s - 1)
    actions = _actions(new, config, memory)
    assert not [action for action in actions if isinstance(action, Park)]
    assert not _disturbing(new, actions)


@given(snapshots(), configs, memories())
def test_the_number_is_left_alone_while_all_are_replaced(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory
) -> None:
    """Neither more nor fewer, nobody parked for it and no node emptied, and it is said; and a node
    that is started without an update is started with it."""
    updated = replace(snapshot, update="the service is being updated")
    decision, after = decide(updated, config, memory)
    assert decision.desired.containers >= snapshot.wanted
    assert [each.code for each in decision.reasons].count("update_under_way") == 1
    actions = _actions(updated, config, memory)
    assert not [each for each in actions if isinstance(each, SetContainers | Park | EmptyNode)]
    usual, _ = decide(snapshot, config, memory)
    assert set(usual.desired.starting) <= set(decision.desired.starting)
    considered = Considered(snapshot=updated, config=config, memory=memory, decision=decision)
    assert Considered.decode(considered.encode()).repeated() == decision
    assert after.shrinking_to is None


@given(snapshots(), configs, memories())
def test_what_was_asked_for_is_not_asked_for_again(
    snapshot: Snapshot, config: ScalingConfig, memory: Memory
) -> None:
    """Deciding on the state that the own actions lead to adds nothing, not even when they are
    still on their way."""
    decision, after = decide(snapshot, config, memory)
    going = victims(snapshot.containers, decision.desired.containers)
    actions = plan(snapshot, decision, going, config)
    growth = tuple(
        action
        for action in actions
        if isinstance(action, StartNode)
        or (isinstance(action, SetContainers) and action.count > snapshot.wanted)
    )
    assume(growth)
    later = carried_out(snapshot, growth, elapsed_s=0.0)
    again = _actions(later, config, after)
    assert not [action for action in again if isinstance(action, StartNode)]
    counts = [action.count for action in again if isinstance(action, SetContainers)]
    before = (memory.growing_to or 0) + drained(snapshot.containers)
    decided = max(decision.desired.containers, before)
    assert all(count <= max(later.wanted, decided) for count in counts)


@given(snapshots(), configs)
def test_it_comes_to_rest(snapshot: Snapshot, config: ScalingConfig) -> None:
    """Under one and the same demand the own actions lead to a state that is left alone."""
    config = replace(config, down_window_s=20.0, node_age_min_s=0.0, wait_s=1e6)
    memory = Memory()
    quiet = 0
    for _ in range(200):
        decision, memory = decide(snapshot, config, memory)
        going = victims(snapshot.containers, decision.desired.containers)
        actions = plan(snapshot, decision, going, config)
        snapshot = joined(carried_out(_healthy(snapshot), actions))
        quiet = 0 if actions else quiet + 1
        if quiet == 20:
            break
    assert quiet == 20
    assert decision.desired.containers <= max(config.containers_max, snapshot.wanted)


def _healthy(snapshot: Snapshot) -> Snapshot:
    """Whoever works is done when he is parked; whatever stops has stopped; what started runs."""
    containers = []
    for each in snapshot.containers:
        if each.state is ContainerState.STOPPING:
            continue
        peer = each.peer
        if peer is not None:
            running = peer.running if peer.activity is Activity.BUSY else 0
            peer = replace(peer, running=running, age_s=1.0)
        elif each.state is not ContainerState.PENDING:
            peer = a_container(each.slot, each.node).peer
        state = each.state
        if state not in {ContainerState.PENDING, ContainerState.RUNNING}:
            state = ContainerState.RUNNING
        containers.append(replace(each, state=state, peer=peer))
    return replace(snapshot, containers=tuple(containers))
