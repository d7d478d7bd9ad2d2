"""A snapshot joins what orchestrator, gossip, provider and ledger say, and invents nothing."""

from __future__ import annotations

from dataclasses import replace

from scaling.assembly import Machines, Observed, assembled
from scaling.config import ScalingConfig
from scaling.memory import Memory
from scaling.placing import place
from scaling.plan import finished
from scaling.ports import Machine, Sight, Workload
from scaling.snapshot import (
    Activity,
    Container,
    ContainerState,
    Demand,
    Node,
    NodeState,
    PeerSight,
    Snapshot,
)

CONFIG = ScalingConfig(containers_per_node=3)
DEMAND = Demand(ready=5, delayed=0, running=1, arrivals_per_s=0.1, service_s=60.0, age_s=1.0)


def peer(uid: str, **changes: object) -> PeerSight:
    sight = PeerSight(
        uid=uid,
        activity=Activity.BUSY,
        slots=1,
        running=1,
        remaining_s=None,
        cpu=0.8,
        memory=0.4,
        age_s=1.0,
    )
    return replace(sight, **changes)  # type: ignore[arg-type]  # whatever a test says


def container(id: str, node: str, state: ContainerState = ContainerState.RUNNING) -> Container:
    return Container(id=id, slot=1, node=node, state=state)


SIGHT = Sight(
    containers=(
        container("a", "n1"),
        container("b", "n1"),
        container("c", "n2"),
        container("d", "n2", ContainerState.STOPPING),
    ),
    nodes=(
        Node(name="n1", state=NodeState.READY, since_s=9.0, capacity=3, fixed=True),
        Node(name="n2", state=NodeState.READY, since_s=9.0, capacity=3),
    ),
    wanted=3,
    version="1",
    term=2,
)
OBSERVED = Observed(
    now_s=100.0,
    sight=SIGHT,
    trouble="",
    workload=Workload(demand=DEMAND, remaining_s={"aa": 12.5, "bb": None}),
    workload_s=97.0,
    peers={
        "a": peer("aa"),
        "b": peer("bb", cpu=0.4),
        "d": peer("dd", cpu=0.0),
        "gone": peer("ee"),
    },
    peers_s=99.0,
    quorate=True,
    machines=Machines(booting={}, expandable=False),
)


def snapshot(**changes: object) -> Snapshot:
    observed = replace(OBSERVED, **changes)  # type: ignore[arg-type]  # whatever a test says
    return assembled(observed, CONFIG, leading_s=30.0, term=2)


def test_containers_are_joined_with_their_peers() -> None:
    """By id. Who is heard and does not run is nothing; who runs and is not heard has no peer."""
    found = {each.id: each for each in snapshot().containers}
    assert set(found) == {"a", "b", "c", "d"}
    assert found["c"].peer is None
    assert not found["c"].working
    assert found["a"].working
    assert found["a"].peer is not None
    assert found["a"].peer.uid == "aa"


def test_what_is_left_of_the_work_comes_from_the_ledger() -> None:
    """For who works; unknown stays unknown, and who is idle has nothing left."""
    idle = peer("cc", running=0, activity=Activity.IDLE)
    found = [*snapshot().containers[:2], *snapshot(peers={"a": idle}).containers[:1]]
    left_s = {each.peer.uid: each.peer.remaining_s for each in found if each.peer is not None}
    assert left_s == {"aa": 12.5, "bb": None, "cc": 0.0}
    (known, *_), (unknown, *_) = snapshot().containers, snapshot(workload=None).containers
    assert known.peer == peer("aa", remaining_s=12.5, age_s=2.0)
    assert unknown.peer == peer("aa", remaining_s=None, age_s=2.0)


def test_who_works_by_the_ledgers_word_works() -> None:
    """A park travels by another way than the load, and may be heard before what was begun just
    before it: a container that looks parked and idle would be ended in the middle of its work."""
    parked = peer("aa", running=0, activity=Activity.PARKED)
    found = snapshot(peers={"a": parked}).containers[0]
    assert found.peer == replace(parked, running=1, remaining_s=12.5, age_s=2.0)
    assert not finished(found, CONFIG)
    nothing = Workload(demand=DEMAND, remaining_s={})
    assert finished(snapshot(peers={"a": parked}, workload=nothing).containers[0], CONFIG)


def test_a_look_that_took_long_makes_peers_older() -> None:
    """They were looked at before the orchestrator had answered."""
    found = snapshot(peers_s=100.0 - CONFIG.stale_s).containers[0].peer
    assert found is not None
    assert found.age_s == 1.0 + CONFIG.stale_s


def test_nodes_average_over_those_that_work_there() -> None:
    """Not over who is told to end, nor over who was not heard for long: nobody says then."""
    n1, n2 = snapshot().nodes
    assert (n1.cpu, n1.memory) == (0.6, 0.4)
    assert (n2.cpu, n2.memory) == (None, None)
    old = peer("aa", age_s=CONFIG.stale_s + 1)
    assert snapshot(peers={"a": old}).nodes[0].cpu is None


def test_machines_on_their_way_are_nodes() -> None:
    """Those that have not joined; of those that have, the provider can destroy its own."""
    machines = Machines(
        machines=(
            Machine(name="n2", state=NodeState.READY),
            Machine(name="worker-7", state=NodeState.BOOTING),
        ),
        booting={"worker-7": 42.0, "n1": 3.0},
        expandable=True,
    )
    found = snapshot(machines=machines)
    assert found.expandable
    n1, n2, coming = found.nodes
    assert (n1.provided, n2.provided) == (False, True)
    assert coming == Node(
        name="worker-7", state=NodeState.BOOTING, since_s=42.0, capacity=3, provided=True
    )


def test_a_machine_that_is_going_keeps_its_name() -> None:
    """It is neither joined nor on its way: a new node of its name would wait until it is gone,
    which may be for ever."""
    machines = Machines(
        machines=(Machine(name="worker-1", state=NodeState.DOWN),), booting={}, expandable=True
    )
    found = snapshot(machines=machines)
    assert found.nodes[2:] == (
        Node(name="worker-1", state=NodeState.DOWN, since_s=0.0, capacity=0, provided=True),
    )
    placing = place(found, replace(CONFIG, pool="worker"), Memory(), containers=9)
    assert placing.starting == ("worker-2",)


def test_a_node_whose_machine_is_going_is_not_taken_back() -> None:
    """It is empty, and joined; how long its end takes is for its provider to say. Somebody else is
    started in its place."""
    empty = Node(name="n3", state=NodeState.EMPTY, since_s=9.0, capacity=3)
    machines = Machines(
        machines=(Machine(name="n3", state=NodeState.BOOTING),), booting={}, expandable=True
    )
    seen = replace(SIGHT, nodes=(*SIGHT.nodes, empty))

    def starting(machines: Machines) -> tuple[str, ...]:
        found = snapshot(sight=seen, machines=machines)
        return place(found, replace(CONFIG, pool="worker"), Memory(), containers=7).starting

    assert starting(machines) == ("n3",)
    assert starting(replace(machines, going={"n3"})) == ("worker-1",)


def test_demand_is_as_old_as_it_is() -> None:
    """Its own age, and how long ago it was counted; None when nobody could count."""
    found = snapshot().demand
    assert found is not None
    assert found.age_s == 4.0
    assert snapshot(workload=None).demand is None


def test_an_update_is_told() -> None:
    """As the orchestrator says it."""
    assert snapshot().update == ""
    assert snapshot(sight=replace(SIGHT, update="it is updated")).update == "it is updated"


def test_trouble_is_told_with_what_was_seen_before() -> None:
    """The last look stays for people to see; the newest trouble counts."""
    away = snapshot(trouble="no manager answers")
    assert (away.trouble, away.wanted) == ("no manager answers", 3)
    assert snapshot(sight=replace(SIGHT, trouble="twins")).trouble == "twins"
