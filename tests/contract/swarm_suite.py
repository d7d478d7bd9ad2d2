"""What must hold of the Swarm driver on any Swarm: the fake one, and a real one of three nodes.

`test_swarm_orchestrator` runs these on the fake, whose time is virtual; tests/swarm runs the same
on real engines. So the fake is held to what the real one does, sentence by sentence.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import pytest
import trio

from scaling.ports import Conflict, Orchestrator, Superseded
from scaling.snapshot import ContainerState, Node, NodeState
from scaling.swarm.client import Managers
from scaling.swarm.config import SwarmConfig
from scaling.swarm.orchestrator import SwarmOrchestrator
from scaling.swarm.sight import SwarmSight

MIB = 1024 * 1024
TERM = 7
OTHER_TERM = 8
PATIENCE_S = 60.0


class World(Protocol):
    """**Protocol**: a Swarm of one manager and two workers, in a test's hands."""

    config: SwarmConfig
    workers: Sequence[str]

    def deploy(
        self,
        replicas: int,
        *,
        per_node_max: int = 0,
        work_s: float = 0.0,
        grace_s: float = 30.0,
        memory_bytes: int = 0,
    ) -> None:
        """Run our service, as `docker stack deploy` would: what is not given is not in its spec."""
        ...

    def service(self) -> dict[str, Any]:
        """Our service's spec, as it is stored."""
        ...

    def update(self, version: str) -> None:
        """Have all containers replaced, one at a time, as `docker service update` does."""
        ...

    def roll_back(self) -> None:
        """As `docker service rollback` does."""
        ...

    def label(self, node: str, value: str | None) -> None:
        """Set our label of a node, or remove it."""
        ...

    def set_availability(self, node: str, availability: str) -> None:
        """As a person does."""
        ...

    def running(self) -> set[str]:
        """The ids of what really runs, on all nodes."""
        ...

    def kill(self, container: str) -> None:
        """`kill -9` a container's main process."""
        ...

    def cut(self, node: str) -> None:
        """Cut a node's line."""
        ...

    def heal(self, node: str) -> None:
        """Mend it."""
        ...

    def clock(self) -> float:
        """Seconds, of the kind that this Swarm lives in."""
        ...

    async def let_pass(self, seconds: float) -> None:
        """Let time pass."""
        ...


class Leader:
    """A driver of the world's, with the patience that its time needs."""

    def __init__(self, world: World, managers: Managers, **options: Any) -> None:
        self.world = world
        self.port: Orchestrator
        self.port = self.driver = SwarmOrchestrator(
            managers, world.config, leader="a test", clock=world.clock, **options
        )

    async def until(
        self, condition: Callable[[SwarmSight], bool], within_s: float = PATIENCE_S
    ) -> SwarmSight:
        """Look until it is so."""
        deadline = self.world.clock() + within_s
        while True:
            sight = await self.driver.observe()
            if condition(sight):
                return sight
            assert self.world.clock() < deadline, f"not within {within_s} s: {sight}"
            await self.world.let_pass(0.1)

    async def run(self, count: int) -> SwarmSight:
        """Look until so many run, and nothing else is left."""
        return await self.until(lambda sight: _running(sight) == len(sight.containers) == count)


def _running(sight: SwarmSight) -> int:
    return sum(each.state is ContainerState.RUNNING for each in sight.containers)


def _ids(sight: SwarmSight, *states: ContainerState) -> set[str]:
    return {each.id for each in sight.containers if not states or each.state in states}


def _node(sight: SwarmSight, name: str) -> Node:
    return next(node for node in sight.nodes if node.name == name)


def _states(sight: SwarmSight) -> dict[str, NodeState]:
    return {node.name: node.state for node in sight.nodes}


@pytest.fixture
def managers(world: World) -> Any:
    """A client of the world's managers."""
    managers = Managers(world.config)
    yield managers
    managers.close()


@pytest.fixture
def leader(world: World, managers: Managers) -> Leader:
    """A driver that hears no peers."""
    return Leader(world, managers)


@pytest.fixture
def in_service(world: World) -> None:
    """Both workers are in service."""
    for worker in world.workers:
        world.label(worker, world.config.pool)


@pytest.mark.usefixtures("in_service")
async def test_scaling_up_restarts_nobody(world: World, leader: Leader) -> None:
    """The containers of a stack-deployed service go on when more are added, and its spec stays as
    it was but for the number, the term, the leader and the reasons."""
    world.deploy(2)
    before = world.service()
    seen = await leader.run(2)
    old = _ids(seen)
    await leader.driver.set_containers(5, seen=seen, term=TERM, reasons=["a queue", "of videos"])
    seen = await leader.run(5)
    await world.let_pass(2.0)
    assert old < _ids(await leader.driver.observe())
    assert (seen.wanted, seen.term) == (5, TERM)
    after = world.service()
    labels = after.pop("Labels")
    assert labels.pop("grapevine.term") == str(TERM)
    assert labels.pop("grapevine.leader") == "a test"
    assert labels.pop("grapevine.reason") == "a queue; of videos"
    before["Mode"]["Replicated"]["Replicas"] = 5
    assert (labels, after) == (before.pop("Labels"), before)


@pytest.mark.usefixtures("in_service")
async def test_victims_are_those_that_swarm_ends(world: World, leader: Leader) -> None:
    """Whoever is told to stop was predicted, however the containers lie on the nodes, and also
    when several go at once."""
    rounds = 30
    chance = random.Random(5)
    world.deploy(6, work_s=0.3)
    seen = await leader.run(6)
    for _ in range(rounds):
        if len(seen.containers) < 3:
            await leader.driver.set_containers(
                chance.randint(6, 12), seen=seen, term=TERM, reasons=()
            )
            seen = await leader.until(lambda now: _running(now) == now.wanted)
        count = len(seen.containers) - chance.choice([1, 1, 1, 2])
        predicted = leader.driver.victims(seen, count)
        assert len(predicted) == len(seen.containers) - count
        before = _ids(seen)
        await leader.driver.set_containers(count, seen=seen, term=TERM, reasons=())
        seen = await leader.run(count)
        assert before - _ids(seen) == set(predicted)


async def test_victims_are_foretold_where_nodes_came_one_by_one(
    world: World, leader: Leader
) -> None:
    """Above twelve containers Swarm's sort does not keep the order of equals, and where nodes came
    one after the other (as they do when a cluster grows) that decides who goes."""
    first, second = world.workers
    each = 9
    world.label(first, world.config.pool)
    world.deploy(each)
    seen = await leader.run(each)
    world.label(second, world.config.pool)
    await leader.driver.set_containers(2 * each, seen=seen, term=TERM, reasons=())
    seen = await leader.run(2 * each)
    for count in range(2 * each - 1, 11, -1):
        (predicted,) = leader.driver.victims(seen, count)
        before = _ids(seen)
        await leader.driver.set_containers(count, seen=seen, term=TERM, reasons=())
        seen = await leader.run(count)
        assert before - _ids(seen) == {predicted}


@pytest.mark.usefixtures("in_service")
async def test_a_victim_finishes_its_work(world: World, leader: Leader) -> None:
    """Who is told to stop counts as stopping until its work is done, and then not at all."""
    world.deploy(3, work_s=3.0)
    seen = await leader.run(3)
    (victim,) = leader.driver.victims(seen, 2)
    await leader.driver.set_containers(2, seen=seen, term=TERM, reasons=())
    seen = await leader.until(lambda now: _ids(now, ContainerState.STOPPING) == {victim})
    began_s = world.clock()
    assert victim in world.running()
    seen = await leader.until(lambda now: len(now.containers) == 2)
    assert world.clock() - began_s >= 2.0
    assert victim not in world.running()
    assert leader.driver.failures(seen, await leader.driver.observe()) == ()


@pytest.mark.usefixtures("in_service")
async def test_a_node_is_emptied_before_it_leaves(world: World, managers: Managers) -> None:
    """Successors start elsewhere while the old containers finish; the node is empty when their
    peers are not heard any more, then on standby, and can be taken in again."""
    first, second = world.workers
    heard: set[str] = set()
    leader = Leader(world, managers, heard=lambda: heard)
    world.deploy(4, work_s=4.0)
    seen = await leader.run(4)
    heard |= _ids(seen)
    await leader.driver.observe()
    old = {each.id for each in seen.containers if each.node == second}
    assert old
    await leader.driver.empty(second, seen=seen, term=TERM)
    seen = await leader.until(lambda now: _running(now) == 4)
    assert {each.node for each in seen.containers if each.state is ContainerState.RUNNING} == {
        first
    }
    assert _ids(seen, ContainerState.STOPPING) == old == seen.evacuating
    assert old <= world.running(), "successors run before the old ones have ended"
    assert _node(seen, second).state is NodeState.EMPTYING
    with pytest.raises(Conflict, match="not empty"):
        await leader.driver.retire(second, seen=seen, term=TERM)

    await leader.until(lambda now: not old & world.running())
    seen = await leader.driver.observe()
    assert _node(seen, second).state is NodeState.EMPTYING, "Swarm does not tell that they ended"
    departed = Leader(world, managers, departed=lambda: old)
    seen = await departed.driver.observe()
    assert _node(seen, second).state is NodeState.EMPTY, "a new leader has it from the cluster"

    heard -= old
    seen = await leader.driver.observe()
    assert _node(seen, second).state is NodeState.EMPTY
    assert _ids(seen, ContainerState.STOPPING) == set()

    await leader.driver.retire(second, seen=seen, term=TERM)
    seen = await leader.driver.observe()
    assert _node(seen, second).state is NodeState.STANDBY
    await leader.driver.take_in(second, seen=seen, term=TERM)
    seen = await leader.driver.observe()
    assert _node(seen, second).state is NodeState.READY
    assert {each.node for each in seen.containers} == {first}, "nothing moves to a node taken in"


@pytest.mark.usefixtures("in_service")
async def test_an_emptied_node_is_empty_after_the_grace(world: World, leader: Leader) -> None:
    """Where no peer was ever heard, the grace of the service bounds how long it counts."""
    _first, second = world.workers
    world.deploy(2, grace_s=1.0)
    seen = await leader.run(2)
    began_s = world.clock()
    await leader.driver.empty(second, seen=seen, term=TERM)
    await leader.until(lambda now: _states(now)[second] is NodeState.EMPTY)
    assert world.clock() - began_s >= 15.0


@pytest.mark.usefixtures("in_service")
async def test_a_paused_node_keeps_what_it_has_until_it_is_emptied(
    world: World, leader: Leader
) -> None:
    """A node that a person paused is cordoned and gets nothing new; it can be emptied."""
    first, second = world.workers
    world.deploy(2)
    seen = await leader.run(2)
    world.set_availability(second, "pause")
    seen = await leader.driver.observe()
    assert _states(seen) == {first: NodeState.READY, second: NodeState.CORDONED}
    with pytest.raises(Conflict, match="cordoned"):
        await leader.driver.take_in(second, seen=seen, term=TERM)
    await leader.driver.set_containers(4, seen=seen, term=TERM, reasons=())
    seen = await leader.run(4)
    assert sum(each.node == second for each in seen.containers) == 1
    await leader.driver.empty(second, seen=seen, term=TERM)
    await leader.until(
        lambda now: sum(each.node == first and each.state is ContainerState.RUNNING
                        for each in now.containers) == 4
    )  # fmt: skip


@pytest.mark.usefixtures("in_service")
async def test_of_two_who_saw_the_same_one_writes(world: World, leader: Leader) -> None:
    """A change of what was changed meanwhile is refused, and nothing is written."""
    _first, second = world.workers
    world.deploy(2)
    seen = await leader.run(2)
    await leader.driver.set_containers(3, seen=seen, term=TERM, reasons=())
    with pytest.raises(Conflict):
        await leader.driver.set_containers(9, seen=seen, term=TERM, reasons=())
    seen = await leader.run(3)
    await leader.driver.empty(second, seen=seen, term=TERM)
    with pytest.raises(Conflict):
        await leader.driver.empty(second, seen=seen, term=TERM)
    assert (await leader.driver.observe()).wanted == 3


@pytest.mark.usefixtures("in_service")
async def test_two_who_write_at_once_do_not_both_win(world: World, leader: Leader) -> None:
    """Of writes over one version exactly one is done, whatever their order in the network."""
    world.deploy(1)
    seen = await leader.run(1)
    won: list[int] = []

    async def write(count: int) -> None:
        try:
            await leader.driver.set_containers(count, seen=seen, term=TERM, reasons=())
        except Conflict:
            return
        won.append(count)

    async with trio.open_nursery() as nursery:
        for count in range(2, 6):
            nursery.start_soon(write, count)
    assert [(await leader.driver.observe()).wanted] == won


@pytest.mark.usefixtures("in_service")
async def test_a_later_term_ends_the_earlier_one(world: World, leader: Leader) -> None:
    """When a later leader has written, an earlier one is told so, and nothing is written."""
    _first, second = world.workers
    world.deploy(2)
    seen = await leader.run(2)
    await leader.driver.set_containers(3, seen=seen, term=OTHER_TERM, reasons=())
    seen = await leader.run(3)
    with pytest.raises(Superseded, match="leads no more"):
        await leader.driver.set_containers(9, seen=seen, term=TERM, reasons=())
    for change in (leader.driver.empty, leader.driver.take_in, leader.driver.retire):
        with pytest.raises(Superseded, match="leads no more"):
            await change(second, seen=seen, term=TERM)
    now = await leader.driver.observe()
    assert (now.wanted, now.term, now.version) == (3, OTHER_TERM, seen.version)


async def test_the_number_is_left_alone_while_the_service_is_updated(
    world: World, leader: Leader
) -> None:
    """A person's update is one, and a rollback: until it is over no number is written, whatever was
    seen before, and nodes are taken in all the same. Our own writes are none, so the way back is
    to where the update began."""
    first, second = world.workers
    world.label(first, world.config.pool)
    world.label(second, f"{world.config.pool}:standby")
    world.deploy(1, work_s=2.0)
    before = await leader.run(1)
    await leader.driver.set_containers(2, seen=before, term=TERM, reasons=())
    before = await leader.run(2)
    assert before.update == ""
    template = world.service()["TaskTemplate"]

    world.update("2")
    seen = await leader.until(lambda now: now.update != "")
    assert "is being updated" in seen.update
    for look in (before, seen):
        with pytest.raises(Conflict, match="is being updated"):
            await leader.driver.set_containers(3, seen=look, term=TERM, reasons=())
    await leader.driver.take_in(second, seen=seen, term=TERM)
    seen = await leader.until(lambda now: now.update == "")
    assert (seen.wanted, _states(seen)[second]) == (2, NodeState.READY)
    assert not _ids(before) & _ids(await leader.run(2))
    assert world.service()["TaskTemplate"] != template

    world.roll_back()
    seen = await leader.until(lambda now: now.update != "")
    assert "is being rolled back (manually requested rollback)" in seen.update
    with pytest.raises(Conflict, match="is being rolled back"):
        await leader.driver.set_containers(3, seen=seen, term=TERM, reasons=())
    await leader.until(lambda now: now.update == "")
    assert world.service()["TaskTemplate"] == template
    seen = await leader.run(2)
    await leader.driver.set_containers(3, seen=seen, term=TERM, reasons=())
    assert (await leader.run(3)).update == ""


@pytest.mark.usefixtures("in_service")
async def test_what_no_node_has_room_for_is_pending(world: World, leader: Leader) -> None:
    """With a limit for each node, containers above it wait, and are the first to go."""
    world.deploy(2, per_node_max=1)
    seen = await leader.run(2)
    assert {node.capacity for node in seen.nodes} == {1}
    await leader.driver.set_containers(3, seen=seen, term=TERM, reasons=())
    seen = await leader.until(lambda now: bool(_ids(now, ContainerState.PENDING)))
    waiting = _ids(seen, ContainerState.PENDING)
    assert {each.node for each in seen.containers if each.id in waiting} == {""}
    assert set(leader.driver.victims(seen, 2)) == waiting
    assert _running(seen) == 2
    await leader.driver.set_containers(2, seen=seen, term=TERM, reasons=())
    await leader.run(2)


@pytest.mark.usefixtures("in_service")
@pytest.mark.parametrize("memory_bytes", [0, 64 * MIB], ids=["unlimited", "limited"])
async def test_a_killed_container_is_a_failure_and_is_replaced(
    world: World, leader: Leader, memory_bytes: int
) -> None:
    """A failure is told once, with its reason; it is shown until its successor runs. Killed is
    taken for out of memory only where memory is limited."""
    world.deploy(2, memory_bytes=memory_bytes)
    before = await leader.run(2)
    killed = before.containers[0]
    world.kill(killed.id)
    seen = await leader.until(lambda now: bool(_ids(now, ContainerState.FAILED)))
    (failed,) = (each for each in seen.containers if each.state is ContainerState.FAILED)
    assert (failed.id, failed.node, failed.slot) == (killed.id, killed.node, killed.slot)
    assert failed.out_of_memory is bool(memory_bytes)
    (failure,) = leader.driver.failures(before, seen)
    assert (failure.id, failure.node, failure.exit_code) == (killed.id, killed.node, 137)
    assert failure.out_of_memory is bool(memory_bytes)
    assert "137" in failure.reason
    after = await leader.run(2)
    assert leader.driver.failures(seen, after) == ()
    assert killed.id not in _ids(after)
    (again,) = leader.driver.failures(None, after)
    assert (again.id, again.out_of_memory) == (failure.id, failure.out_of_memory)


@pytest.mark.usefixtures("in_service")
async def test_a_failure_is_shown_although_its_successor_runs(
    world: World, leader: Leader, managers: Managers
) -> None:
    """Who looks late sees it once, and a new leader, too: it may be the first to see it."""
    world.deploy(2)
    before = await leader.run(2)
    world.kill(before.containers[0].id)
    await Leader(world, managers).until(
        lambda now: (
            _running(now) == 2 and before.containers[0].id not in _ids(now, ContainerState.RUNNING)
        )
    )  # another driver has waited for the successor
    seen = await leader.driver.observe()
    assert _ids(seen, ContainerState.FAILED) == {before.containers[0].id}
    assert _ids(await leader.driver.observe(), ContainerState.FAILED) == set()
    fresh = Leader(world, managers)
    first = await fresh.driver.observe()
    assert _ids(first, ContainerState.FAILED) == {before.containers[0].id}
    assert [each.id for each in fresh.driver.failures(None, first)] == [before.containers[0].id]
    assert _ids(await fresh.driver.observe(), ContainerState.FAILED) == set()


@pytest.mark.usefixtures("in_service")
async def test_a_lost_node_is_down_and_its_containers_unknown(world: World, leader: Leader) -> None:
    """They may go on there; Swarm replaces them. When the node is back, they are stopped."""
    first, second = world.workers
    world.deploy(2, work_s=0.5)
    before = await leader.run(2)
    (lost,) = (each.id for each in before.containers if each.node == second)
    world.cut(second)
    seen = await leader.until(lambda now: _states(now)[second] is NodeState.DOWN)
    assert _ids(seen, ContainerState.UNKNOWN) == {lost}
    assert seen.trouble == "", "the rest of the Swarm can be scaled"
    (failure,) = leader.driver.failures(before, seen)
    assert (failure.id, failure.node, failure.out_of_memory) == (lost, second, False)
    seen = await leader.until(lambda now: _running(now) == 2)
    assert {each.node for each in seen.containers if each.state is ContainerState.RUNNING} == {
        first
    }
    assert lost in world.running()
    world.heal(second)
    seen = await leader.run(2)
    assert _states(seen)[second] is NodeState.READY
    assert lost not in world.running()


@pytest.mark.usefixtures("in_service")
async def test_a_node_is_as_old_as_its_state(world: World, leader: Leader) -> None:
    """How long a node has been in its state is counted from when it was first seen in it."""
    first, second = world.workers
    world.deploy(1)
    await leader.run(1)
    since_s = _node(await leader.driver.observe(), first).since_s
    await world.let_pass(1.0)
    seen = await leader.driver.observe()
    assert _node(seen, first).since_s >= since_s + 1.0
    await leader.driver.empty(second, seen=seen, term=TERM)
    assert _node(await leader.driver.observe(), second).since_s < 1.0


async def test_only_our_nodes_are_seen(world: World, leader: Leader) -> None:
    """A Swarm has other nodes, and a manager is one of ours only when a person says so."""
    first, _second = world.workers
    world.deploy(0)
    assert (await leader.driver.observe()).nodes == ()
    world.label(first, f"{world.config.pool}:standby")
    seen = await leader.driver.observe()
    assert _states(seen) == {first: NodeState.STANDBY}
    await leader.driver.take_in(first, seen=seen, term=TERM)
    assert _states(await leader.driver.observe()) == {first: NodeState.READY}


@pytest.mark.usefixtures("in_service")
async def test_changes_that_are_made_already_write_nothing(world: World, leader: Leader) -> None:
    """To take in what is in service and to empty what is leaving is done before it began."""
    first, second = world.workers
    world.deploy(0)
    seen = await leader.driver.observe()
    await leader.driver.take_in(first, seen=seen, term=TERM)
    assert (await leader.driver.observe()).version == seen.version
    await leader.driver.empty(second, seen=seen, term=TERM)
    seen = await leader.driver.observe()
    await leader.driver.empty(second, seen=seen, term=TERM)
    await leader.driver.retire(second, seen=seen, term=TERM)
    seen = await leader.driver.observe()
    await leader.driver.retire(second, seen=seen, term=TERM)
    assert (await leader.driver.observe()).version == seen.version
