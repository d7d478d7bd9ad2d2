"""What the leader is told of one machine's containers, and whom it may let go."""

from __future__ import annotations

import pytest

from scaling.local.containers import Found, Record
from scaling.local.sight import LocalSight, failed, sight
from scaling.local.victims import victims
from scaling.local.wanted import Wanted, WantedNode, closed
from scaling.snapshot import Activity, ContainerState, NodeState, PeerSight

NAMES = ("worker-1", "worker-2", "worker-3")
STATE = {state.value: state for state in ContainerState}


def found(
    name: str, slot: int, node: str = "worker-1", *, alive: bool = True, pid: int = 7,
    kept: bool = False, told: bool = False,
) -> Found:  # fmt: skip
    record = Record(id=name, name=name, slot=slot, node=node, kept=kept)
    return Found(record=record, alive=alive, pid=pid, told_s=(1.0,) if told else ())


def wanted(containers: int, *nodes: WantedNode) -> Wanted:
    return Wanted(
        place="here",
        containers=containers,
        nodes=nodes or (WantedNode(name="worker-1", since_s=40.0, changed=3),),
        changed=2,
        version=3,
        term=5,
        now_s=100.0,
    )


def seen(want: Wanted, *there: Found, **work: PeerSight) -> LocalSight:
    return sight(want, there, work, NAMES, capacity=4)


def peer(activity: Activity, running: int = 0, remaining_s: float | None = None) -> PeerSight:
    return PeerSight(
        uid="00",
        activity=activity,
        slots=1,
        running=running,
        remaining_s=remaining_s,
        cpu=0.5,
        memory=0.5,
        age_s=0.0,
    )


def test_containers() -> None:
    """Each is shown once, in its slot and state; what is missing is pending, and what was told to
    end, or is wanted by nobody, is stopping."""
    look = seen(
        wanted(5),
        found("mine", 1, kept=True),
        found("runs", 2),
        found("starts", 3, pid=0),
        found("fell", 4, alive=False),
        found("told", 5, told=True),
        found("gone", 6, alive=False, told=True),
    )
    assert [(each.id, each.slot, each.node, each.state.value) for each in look.containers] == [
        ("mine", 1, "worker-1", "running"),
        ("runs", 2, "worker-1", "running"),
        ("starts", 3, "worker-1", "starting"),
        ("fell", 4, "worker-1", "failed"),
        ("told", 5, "worker-1", "stopping"),
        ("6.pending", 6, "", "pending"),
        ("7.pending", 7, "", "pending"),
    ]
    assert (look.wanted, look.term, look.version) == (6, 5, "2 worker-1@3")
    assert look.kept == {"mine"}
    assert not look.trouble


def test_nodes() -> None:
    """In service, emptying while somebody is there, then empty; all others are on standby. A node
    with a peer that a person has started is fixed."""
    nodes = (
        WantedNode(name="worker-1", since_s=40.0),
        WantedNode(name="worker-2", since_s=70.0, emptying=True),
        WantedNode(name="worker-3", since_s=90.0, emptying=True),
    )
    look = seen(wanted(0, *nodes), found("mine", 1, kept=True), found("b", 2, "worker-2"))
    assert [(each.name, each.state, each.since_s, each.fixed) for each in look.nodes] == [
        ("worker-1", NodeState.READY, 60.0, True),
        ("worker-2", NodeState.EMPTYING, 30.0, False),
        ("worker-3", NodeState.EMPTY, 10.0, False),
    ]
    assert [each.state for each in seen(wanted(0)).nodes] == [
        NodeState.READY,
        NodeState.STANDBY,
        NodeState.STANDBY,
    ]


def test_a_failure_is_told_once() -> None:
    """At the look after which it has ended; not at the next one, nor at a leader's first."""
    want = wanted(2)
    before = seen(want, found("a", 1), found("b", 2))
    after = seen(want, found("a", 1), found("b", 2, alive=False))
    assert [each.id for each in failed(before, after)] == ["b"]
    assert failed(after, after) == ()
    assert failed(None, after) == ()


def test_what_was_closed_is_left_alone() -> None:
    """No leader starts again what a person has ended by leaving."""
    look = seen(closed(wanted(3), NAMES[:1]), found("a", 1))
    assert "no peer is left" in look.trouble
    assert look.wanted == 0


@pytest.mark.parametrize(
    ("count", "expected"),
    [(6, ()), (5, ("6.pending",)), (2, ("6.pending", "parked", "idle-2", "idle-1"))],
)
def test_who_has_the_least_work_goes_first(count: int, expected: tuple[str, ...]) -> None:
    """Who does not exist, then who is parked and idle, then who is idle, the last node first; who
    works longest goes last, and who was started by a person never."""
    nodes = (
        WantedNode(name="worker-1", since_s=0.0),
        WantedNode(name="worker-2", since_s=0.0),
    )
    there = (
        found("mine", 1, kept=True),
        found("idle-1", 2),
        found("idle-2", 3, "worker-2"),
        found("parked", 4),
        found("busy", 5, "worker-2"),
    )
    look = seen(
        wanted(5, *nodes),
        *there,
        mine=peer(Activity.IDLE),
        parked=peer(Activity.PARKED),
        busy=peer(Activity.BUSY, 1, 30.0),
        **{"idle-1": peer(Activity.IDLE), "idle-2": peer(Activity.IDLE)},
    )
    assert victims(look, count) == expected
    everybody = victims(look, 0)
    assert everybody[-1] == "busy"
    assert "mine" not in everybody


def test_who_chooses_is_the_last_of_its_equals() -> None:
    """Without the leader nobody scales for a moment. But nobody who works ends before it."""
    idle = peer(Activity.IDLE)
    look = seen(
        wanted(3),
        *(found(name, at) for at, name in enumerate(("busy", "one", "leader"), 1)),
        busy=peer(Activity.BUSY, 1, 5.0),
        one=idle,
        leader=idle,
    )
    assert victims(look, 0, "one") == ("leader", "one", "busy")
    assert victims(look, 0, "leader") == ("one", "leader", "busy")


def test_of_those_who_work_the_one_that_is_done_first() -> None:
    """One that nobody has heard of yet goes before them, one that does not say goes last."""
    there = [found(name, at) for at, name in enumerate(("long", "short", "silent", "unheard"), 1)]
    look = seen(
        wanted(4),
        *there,
        long=peer(Activity.PARKED, 1, 90.0),
        short=peer(Activity.BUSY, 1, 5.0),
        silent=peer(Activity.BUSY, 1, None),
    )
    assert victims(look, 0) == ("unheard", "short", "long", "silent")
