"""What is done to a cluster is undone, also when what it was done to is gone. The lab is played."""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import trio

from deploy.lab.containers import Container
from deploy.lab.engine import Done
from deploy.lab.errors import LabError
from deploy.lab.stack import Stack
from tests.chaos.cluster.faults import UNDO_TRIES, Breaker
from tests.chaos.cluster.run import unproven
from tests.chaos.cluster.schedule import Fault, Kind, Lane, Schedule
from tests.chaos.cluster.timeline import FILE, Timeline, read_timeline

LEADER = "t-seed.node-2"


def container(service: str, node: str) -> Container:
    name = f"{service}.{node}"
    return Container(
        service=service,
        name=name,
        task=f"t-{name}",
        task_name=name,
        node=node,
        id=f"c-{name}",
        pid=1,
        healthy=True,
        frozen=False,
    )


@dataclass
class Played:
    """A stack and its lab, which put down what they are told to do.

    Args:
        refuses: What they are told and cannot do.
    """

    done: list[str] = field(default_factory=list)
    refuses: Sequence[str] = ()
    running: list[Container] = field(
        default_factory=lambda: [
            container("peer", "node-1"),
            container("peer", "node-2"),
            container("postgres", "node-1"),
            container("seed", "node-1"),
            container("seed", "node-2"),
        ]
    )
    replicas: Iterator[int] = field(default_factory=lambda: iter([3, 3, 4]))

    @property
    def lab(self) -> Any:
        names = ("cut", "heal", "kill", "start", "kill_engine", "set_loss")
        does = {name: lambda *what, name=name: self._do(name, *what) for name in names}
        plan = SimpleNamespace(members=[SimpleNamespace(name="node-2")])
        engine = SimpleNamespace(post=lambda path, t: self._do(path))
        return SimpleNamespace(
            **does, manager=self._manager, plan=plan, engine=lambda _node: engine
        )

    def containers(self) -> list[Container]:
        return self.running

    def services(self) -> dict[str, Any]:
        return {"peer": {"Spec": {"Mode": {"Replicated": {"Replicas": next(self.replicas)}}}}}

    def table(self, asked: Container) -> list[dict[str, Any]]:
        return [{"container": one.task, "leader": one.task == LEADER} for one in self.running]

    def freeze(self, one: Container) -> None:
        self._do("freeze", one.name)

    def thaw(self, one: Container) -> None:
        self._do("thaw", one.name)

    def kill(self, one: Container, number: int) -> None:
        self._do("kill", one.name, signal.Signals(number).name)

    def execute(self, one: Container, *argv: str) -> Done:
        self._do(argv[0], one.name)
        return Done(0, "", "")

    def _manager(self) -> Any:
        node = {"ID": "n", "Description": {"Hostname": "node-2"}, "Version": {"Index": 1}}
        return SimpleNamespace(
            get=lambda _path: [{**node, "Spec": {"Role": "manager"}}],
            post=lambda _path, spec, version: self._do(spec["Availability"]),
        )

    def _do(self, *what: object) -> None:
        order = " ".join(map(str, what))
        self.done.append(order)
        if order in self.refuses:
            raise LabError(f"no {order}")


@pytest.fixture
def played() -> Played:
    return Played()


@pytest.fixture
def breaker(played: Played, tmp_path: Path) -> Breaker:
    timeline = Timeline(tmp_path / FILE)
    burst = lambda: played.done.append("burst")  # noqa: E731 - a line of a test
    return Breaker(stack=cast(Stack, played), timeline=timeline, burst=burst, data="node-1")


def fault(lane: Lane, kind: Kind, **more: Any) -> Fault:
    return replace(Fault(lane=lane, kind=kind, at_s=0.0, lasts_s=0.05), **more)


async def do(breaker: Breaker, *faults: Fault, chaos_s: float = 60.0) -> list[str]:
    """Do them, and say what the timeline tells of them."""
    schedule = Schedule(seed=1, chaos_s=chaos_s, ends_s=2 * chaos_s, faults=faults)
    with trio.fail_after(20):
        await breaker.run(schedule)
    return [entry["what"] for entry in read_timeline(breaker.timeline.file)]


@pytest.mark.parametrize(
    ("lane", "kind", "target", "done"),
    [
        (Lane.NODES, Kind.CUT, "node-2", ["cut node-2", "heal node-2"]),
        (Lane.NODES, Kind.POWER, "node-2", ["kill node-2", "start node-2"]),
        (Lane.NODES, Kind.ENGINE, "node-2", ["kill_engine node-2", "start node-2"]),
        (Lane.NODES, Kind.DRAIN, "node-2", ["drain", "active"]),
        (Lane.NETWORK, Kind.LOSS, "", ["set_loss 30", "set_loss 0"]),
        (Lane.PEERS, Kind.KILL_PEER, "", ["kill peer.node-1 SIGKILL"]),
        (Lane.PEERS, Kind.FREEZE_LONG, "", ["freeze peer.node-1", "thaw peer.node-1"]),
        (Lane.PEERS, Kind.FILL_DISK, "", ["sh peer.node-1", "rm peer.node-1"]),
        (Lane.PEERS, Kind.KILL_LEADER, "", ["kill seed.node-2 SIGKILL"]),
        (Lane.SERVICES, Kind.KILL_SERVICE, "postgres", ["kill postgres.node-1 SIGKILL"]),
        (Lane.SERVICES, Kind.RESTART_SERVICE, "postgres", ["/containers/c-postgres.node-1/stop"]),
    ],
)
async def test_each_fault_is_done_and_undone(
    breaker: Breaker, played: Played, lane: Lane, kind: Kind, target: str, done: list[str]
) -> None:
    """In this order, with its beginning and end on the timeline and what was hit put down."""
    told = await do(breaker, fault(lane, kind, target=target))
    assert played.done == done
    assert told == ["begins", "ends"]
    assert len(breaker.hits) == 1


async def test_a_hit_knows_whom_it_concerns(breaker: Breaker) -> None:
    """A peer's is its container's, a node's the node's; what everybody needs is everybody's."""
    await do(
        breaker,
        fault(Lane.PEERS, Kind.KILL_PEER, draw=0.99),
        fault(Lane.NODES, Kind.CUT, target="node-2"),
        fault(Lane.NODES, Kind.CUT, target="node-1"),
        fault(Lane.SERVICES, Kind.KILL_SERVICE, target="postgres"),
        fault(Lane.NETWORK, Kind.LOSS),
    )
    concerned = sorted((hit.lane, hit.node, hit.container) for hit in breaker.hits)
    assert concerned == [
        (Lane.NETWORK, "", ""),
        (Lane.NODES, "", ""),
        (Lane.NODES, "node-2", ""),
        (Lane.PEERS, "node-2", "t-peer.node-2"),
        (Lane.SERVICES, "", ""),
    ]


async def test_the_leader_is_killed_when_a_scale_up_has_begun(
    breaker: Breaker, played: Played
) -> None:
    """After the burst, and after more containers were wanted than before."""
    told = await do(breaker, fault(Lane.PEERS, Kind.KILL_LEADER_SCALING, lasts_s=10.0))
    assert played.done == ["burst", "kill seed.node-2 SIGKILL"]
    assert told == ["scale-up", "begins", "ends"]


async def test_a_leader_that_is_still_to_come_is_waited_for(
    breaker: Breaker, played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One was killed just now, and the others have not made up their minds."""
    asked = count()

    def table(one: Container) -> list[dict[str, Any]]:
        return [] if next(asked) < 4 else Played.table(played, one)

    monkeypatch.setattr(played, "table", table)
    assert await do(breaker, fault(Lane.PEERS, Kind.KILL_LEADER)) == ["begins", "ends"]
    assert played.done == ["kill seed.node-2 SIGKILL"]


async def test_a_run_that_missed_its_faults_proves_nothing(breaker: Breaker) -> None:
    """Half of each lane's must have happened, and the others may be missed."""
    there = fault(Lane.SERVICES, Kind.KILL_SERVICE, target="postgres")
    gone = fault(Lane.SERVICES, Kind.KILL_SERVICE, target="store")
    await do(breaker, there, gone)
    drawn = Schedule(seed=1, chaos_s=60, ends_s=120, faults=[there, gone])
    assert list(unproven(drawn, breaker.hits)) == []
    (said,) = unproven(replace(drawn, faults=[there, gone, gone, gone]), breaker.hits)
    assert said == "of 4 faults that services were to have only 1 happened"


async def test_what_there_is_not_is_missed(breaker: Breaker, played: Played) -> None:
    """A service without a container is no mistake, and the lane goes on."""
    gone = fault(Lane.SERVICES, Kind.KILL_SERVICE, target="store")
    there = fault(Lane.SERVICES, Kind.KILL_SERVICE, target="postgres")
    assert await do(breaker, gone, there) == ["missed", "begins", "ends"]
    assert played.done == ["kill postgres.node-1 SIGKILL"]


async def test_what_cannot_be_undone_is_told(breaker: Breaker, played: Played) -> None:
    """After a few tries; and it counts as done: whoever was hit was hit."""
    played.refuses = ["start node-2"]
    told = await do(breaker, fault(Lane.NODES, Kind.POWER, target="node-2"))
    assert told == ["begins", *["could not be undone"] * UNDO_TRIES, "ends"]
    assert breaker.hits


async def test_what_was_half_done_to_a_node_is_undone(breaker: Breaker, played: Played) -> None:
    """Before the next one of them is drawn on: two that are away would be no majority any more."""
    played.refuses = ["kill node-2"]
    assert await do(breaker, fault(Lane.NODES, Kind.POWER, target="node-2")) == ["missed"]
    assert played.done == ["kill node-2", "set_loss 0", "heal", "start node-2", "active"]


async def test_nothing_reaches_into_the_quiet_time(breaker: Breaker, played: Played) -> None:
    """A fault that is due too late to be undone in time is left out."""
    told = await do(breaker, fault(Lane.NODES, Kind.CUT, target="node-2", lasts_s=5), chaos_s=1)
    assert told == ["left out"]
    assert not played.done


async def test_who_breaks_it_off_finds_it_undone(breaker: Breaker, played: Played) -> None:
    """What was begun when a run is cancelled is undone before the run is over."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(do, breaker, fault(Lane.NODES, Kind.CUT, target="node-2", lasts_s=30.0))
        while not played.done:  # noqa: ASYNC110 - threads tell, and wake nobody
            await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert played.done == ["cut node-2", "heal node-2"]
