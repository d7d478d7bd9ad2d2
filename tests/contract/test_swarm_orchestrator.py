"""The Swarm driver on the fake Swarm: the common suite, and what no real Swarm does on request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import docker
import pytest
import trio
from docker.types import ServiceMode

from scaling.ports import Conflict, OrchestratorUnavailable
from scaling.providers.join import Join
from scaling.snapshot import ContainerState, NodeState
from scaling.swarm.client import Managers
from scaling.swarm.config import SwarmConfig
from scaling.swarm.containers import FRESH_S
from scaling.swarm.intents import SwarmIntents
from scaling.swarm.lease import SwarmLease
from scaling.swarm.orchestrator import SwarmOrchestrator
from tests.contract.swarm_suite import *  # noqa: F403  the suite's tests become this module's
from tests.contract.swarm_suite import TERM, Leader
from tests.contract.swarm_suite_joining import *  # noqa: F403  and these
from tests.contract.swarm_suite_lease import *  # noqa: F403  and these
from tests.servers.fake_swarm import FakeSwarm
from tests.servers.fake_swarm_engine import Hooks
from tests.servers.fake_swarm_records import NANO, Json

SERVICE = "grapevine_peer"


class FakeWorld:
    """A manager and two workers that are not there."""

    workers: Sequence[str] = ("node-2", "node-3")

    def __init__(self, swarm: FakeSwarm) -> None:
        self.swarm = swarm
        swarm.add_manager("node-1")
        for worker in self.workers:
            swarm.add_worker(worker)
        self.config = SwarmConfig(managers=swarm.managers, service=SERVICE)
        self._work_s = 0.0

    def deploy(
        self,
        replicas: int,
        *,
        per_node_max: int = 0,
        work_s: float = 0.0,
        grace_s: float = 30.0,
        memory_bytes: int = 0,
        condition: str = "any",
    ) -> None:
        self.swarm.work_s = work_s
        template: Json = {
            "ContainerSpec": {"Image": "peer:1", "StopGracePeriod": int(grace_s * NANO)},
            "RestartPolicy": {"Condition": condition, "Delay": NANO},
            "Placement": {"Constraints": [self.config.constraint]},
        }
        if per_node_max:
            template["Placement"]["MaxReplicas"] = per_node_max
        if memory_bytes:
            template["Resources"] = {"Limits": {"MemoryBytes": memory_bytes}}
        self.swarm.create_service(SERVICE, replicas, **template)

    def service(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.swarm.service(SERVICE)["Spec"]
        return spec

    def update(self, version: str) -> None:
        self.swarm.update_service(SERVICE, [f"VERSION={version}"], Parallelism=1, Monitor=NANO)

    def roll_back(self) -> None:
        self.swarm.roll_back(SERVICE)

    def label(self, node: str, value: str | None) -> None:
        self.swarm.label(node, **{self.config.label: value})

    def set_availability(self, node: str, availability: str) -> None:
        self.swarm.set_availability(node, availability)

    def running(self) -> set[str]:
        return {container.id for container in self.swarm.containers()}

    def kill(self, container: str) -> None:
        self.swarm.end(container, 137)

    def cut(self, node: str) -> None:
        self.swarm.cut(node)

    def heal(self, node: str) -> None:
        self.swarm.heal(node)

    def leave(self, worker: str) -> None:
        self.swarm.leave(worker)

    def join(self, worker: str, join: Join) -> None:
        self.swarm.join(worker, token=join.token, addresses=join.addresses)

    def clock(self) -> float:
        return self.swarm.now_s

    async def let_pass(self, seconds: float) -> None:
        self.swarm.advance(seconds)


@pytest.fixture
def world() -> Iterator[FakeWorld]:
    with FakeSwarm() as swarm:
        yield FakeWorld(swarm)


@pytest.mark.usefixtures("in_service")
def test_the_fake_restarts_all_when_the_sdk_scales(world: FakeWorld) -> None:
    """The fake has the fault that the driver is made around: docker-py's own `scale` writes the
    engine's defaults back, and every container is replaced."""
    world.swarm.create_service(
        SERVICE, 2, Placement={"Constraints": [world.config.constraint]}
    )  # fmt: skip
    world.swarm.advance(5.0)
    before = world.running()
    client = docker.APIClient(base_url=world.swarm.managers[0], version="auto")
    found = client.inspect_service(SERVICE)  # type: ignore[no-untyped-call]  # it has no types
    client.update_service(  # what docker.models.services.Service.scale does
        found["ID"],
        found["Version"]["Index"],
        mode=ServiceMode("replicated", 3),
        fetch_current_spec=True,
    )
    client.close()
    world.swarm.advance(60.0)
    assert len(world.running()) == 3
    assert not before & world.running()


@pytest.mark.usefixtures("in_service")
async def test_a_tombstone_never_counts(world: FakeWorld, leader: Leader) -> None:
    """Where a service does not restart what ends with 0, such a slot is no container; Swarm may
    take it first when it scales down, and then nobody is a victim."""
    world.deploy(4, condition="on-failure")
    seen = await leader.run(4)
    gone = seen.containers[-1]
    world.swarm.end(gone.id, 0)
    seen = await leader.run(3)
    assert seen.wanted == 4
    assert leader.driver.victims(seen, 3) == ()
    await leader.driver.set_containers(3, seen=seen, term=TERM, reasons=())
    await leader.run(3)
    (warning,) = [w for w in await leader.driver.warnings() if "exit code 0" in w]
    assert "condition to any" in warning


@pytest.mark.usefixtures("in_service")
async def test_a_victim_is_another_when_the_tombstones_node_is_not_the_fullest(
    world: FakeWorld, leader: Leader
) -> None:
    """Swarm keeps nodes even before it minds what has ended: a running one goes, as foretold."""
    world.deploy(5, condition="on-failure")
    seen = await leader.run(5)
    fewer = min(world.workers, key=lambda name: sum(c.node == name for c in seen.containers))
    world.swarm.end(next(c.id for c in seen.containers if c.node == fewer), 0)
    seen = await leader.run(4)
    (predicted,) = leader.driver.victims(seen, 4)
    await leader.driver.set_containers(4, seen=seen, term=TERM, reasons=())
    seen = await leader.run(3)
    assert predicted not in world.running()


@pytest.mark.usefixtures("in_service")
async def test_drain_stops_first_and_starts_after_a_minute_at_most(
    world: FakeWorld, leader: Leader
) -> None:
    """Why nothing is ever drained that is not empty: for a minute there is a container less."""
    _first, second = world.workers
    world.deploy(2, work_s=80.0, grace_s=100.0)
    await leader.run(2)
    world.swarm.set_availability(second, "drain")
    began_s = world.clock()
    await leader.until(
        lambda now: sum(c.state is ContainerState.RUNNING for c in now.containers) == 1
    )
    await leader.until(
        lambda now: sum(c.state is ContainerState.RUNNING for c in now.containers) == 2, 100.0
    )
    assert 60.0 <= world.clock() - began_s < 65.0


@pytest.mark.usefixtures("in_service")
async def test_a_provided_node_is_shut_then_forgotten(world: FakeWorld, leader: Leader) -> None:
    """An empty node of a provider gets nothing more to do; when its machine is gone, the Swarm
    forgets it; and to do that once more is fine."""
    first, second = world.workers
    world.deploy(0)
    seen = await leader.driver.observe()
    seen = replace(
        seen, nodes=tuple(replace(n, provided=n.name == second) for n in seen.nodes)
    )  # the controller has it from the provider
    await leader.driver.empty(second, seen=seen, term=TERM)
    seen = await leader.driver.observe()
    (node,) = (node for node in seen.nodes if node.name == second)
    assert (node.state, node.provided) == (NodeState.EMPTY, True)
    await leader.driver.retire(second, seen=seen, term=TERM)
    assert world.swarm.node(second)["Spec"]["Availability"] == "drain"
    seen = await leader.driver.observe()
    await leader.driver.retire(second, seen=seen, term=TERM)
    world.swarm.kill(second)
    world.swarm.advance(20.0)
    seen = await leader.driver.observe()
    assert {n.name: n.state for n in seen.nodes}[second] is NodeState.EMPTY
    await leader.driver.retire(second, seen=seen, term=TERM)
    seen = await leader.driver.observe()
    assert [n.name for n in seen.nodes] == [first]
    await leader.driver.retire(second, seen=seen, term=TERM)


async def test_a_provided_node_that_stays_down_is_forgotten(
    world: FakeWorld, leader: Leader
) -> None:
    """Marked as leaving it is empty, whatever it took with it, and is removed from the Swarm."""
    _, second = world.workers
    world.label(second, world.config.pool)
    world.deploy(0)
    world.swarm.kill(second)
    world.swarm.advance(60.0)
    seen = await leader.driver.observe()
    seen = replace(
        seen, nodes=tuple(replace(n, provided=n.name == second) for n in seen.nodes)
    )  # the controller has it from the provider
    assert {n.name: n.state for n in seen.nodes}[second] is NodeState.DOWN
    await leader.driver.empty(second, seen=seen, term=TERM)
    seen = await leader.driver.observe()
    assert {n.name: n.state for n in seen.nodes}[second] is NodeState.EMPTY
    await leader.driver.retire(second, seen=seen, term=TERM)
    seen = await leader.driver.observe()
    assert second not in [n.name for n in seen.nodes]


async def test_a_node_that_joins_under_a_name_of_ours_is_on_standby(
    world: FakeWorld, leader: Leader
) -> None:
    """Nobody labels a node that a provider has made: its name says whose it is. Of a name's old and
    new machine the living one counts; two that live under one name are trouble."""
    world.deploy(0)
    world.swarm.add_worker("grapevine-4")
    world.swarm.add_worker("grapevine-x")
    world.swarm.add_worker("other-4")
    assert [(n.name, n.state) for n in (await leader.driver.observe()).nodes] == [
        ("grapevine-4", NodeState.STANDBY)
    ]
    world.swarm.kill("grapevine-4")
    world.swarm.advance(20.0)
    world.swarm.add_worker("grapevine-4")
    seen = await leader.driver.observe()
    assert [(n.name, n.state) for n in seen.nodes] == [("grapevine-4", NodeState.STANDBY)]
    assert seen.trouble == ""
    world.swarm.add_worker("grapevine-4b")
    world.swarm._node("grapevine-4b").name = "grapevine-4"
    assert (
        "two nodes of the Swarm are called grapevine-4" in (await leader.driver.observe()).trouble
    )


async def test_a_node_set_aside_by_a_person_is_nobodys_capacity(
    world: FakeWorld, leader: Leader
) -> None:
    """On standby, and drained: it neither counts as serving nor can be taken in, and it stays."""
    world.deploy(0)
    world.swarm.add_worker("grapevine-4")
    world.set_availability("grapevine-4", "drain")
    (node,) = (await leader.driver.observe()).nodes
    assert (node.name, node.state, node.fixed) == ("grapevine-4", NodeState.DOWN, True)
    world.set_availability("grapevine-4", "active")
    (node,) = (await leader.driver.observe()).nodes
    assert (node.state, node.fixed) == (NodeState.STANDBY, False)


async def test_managers_and_what_a_person_keeps_stay(world: FakeWorld, leader: Leader) -> None:
    """They may be in service, and are never emptied."""
    first, _ = world.workers
    world.deploy(0)
    world.label("node-1", world.config.pool)
    world.swarm.label(first, **{world.config.label: world.config.pool, "grapevine.keep": "true"})
    seen = await leader.driver.observe()
    assert [(node.name, node.fixed) for node in seen.nodes] == [("node-1", True), (first, True)]
    for name in ("node-1", first):
        with pytest.raises(Conflict, match="is not emptied"):
            await leader.driver.empty(name, seen=seen, term=TERM)
    with pytest.raises(Conflict, match="has no node"):
        await leader.driver.empty("nowhere", seen=seen, term=TERM)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"Mode": {"Global": {}}}, "is not replicated"),
        ({"TaskTemplate": {"ContainerSpec": {"Image": "peer:1"}}}, "add the placement constraint"),
    ],
    ids=["global", "unbound"],
)
async def test_a_service_that_cannot_be_scaled_is_trouble(
    world: FakeWorld, leader: Leader, change: Json, sentence: str
) -> None:
    """It is said what to change in the stack; the doctor says it, too."""
    world.deploy(1)
    world.swarm._service(SERVICE).spec.update(change)
    seen = await leader.driver.observe()
    assert sentence in seen.trouble
    with pytest.raises(OrchestratorUnavailable, match=sentence):
        await leader.driver.set_containers(2, seen=seen, term=TERM, reasons=())
    assert sentence in (await leader.driver.warnings())[0]


@pytest.mark.usefixtures("in_service")
async def test_what_failed_long_ago_is_past_for_a_new_leader(
    world: FakeWorld, leader: Leader, managers: Managers
) -> None:
    """Swarm remembers the last four of each slot for ever; a new leader tells only the fresh."""
    world.deploy(1)
    seen = await leader.run(1)
    world.swarm.end(seen.containers[0].id, 1)
    await leader.run(1)
    world.swarm.advance(FRESH_S)
    first = await Leader(world, managers).driver.observe()
    assert len(first.failures) == 1
    assert ContainerState.FAILED not in [each.state for each in first.containers]
    assert leader.driver.failures(None, first) == ()


@pytest.mark.usefixtures("in_service")
async def test_of_a_crash_loop_the_last_failure_is_shown(world: FakeWorld, leader: Leader) -> None:
    """Each failure is told once; of a slot only the newest is about to be replaced."""
    world.deploy(1)
    told = []
    seen = await leader.run(1)
    for _ in range(3):
        before = seen
        world.swarm.end(seen.containers[0].id, 1)
        seen = await leader.driver.observe()
        assert [each.state for each in seen.containers].count(ContainerState.FAILED) == 1
        told += [failure.id for failure in leader.driver.failures(before, seen)]
        seen = await leader.run(1)
    assert len(set(told)) == 3


def add_managers(world: FakeWorld) -> Managers:
    """Two more, and a client that knows all three."""
    world.swarm.add_manager("node-4")
    world.swarm.add_manager("node-5")
    return Managers(replace(world.config, managers=world.swarm.managers))


@pytest.mark.usefixtures("in_service")
async def test_while_managers_change_their_leader_nothing_is_done(world: FakeWorld) -> None:
    """For 14 seconds nobody answers, then no node is heard: both mean to hold. Then all goes on,
    by another manager, and nobody was restarted."""
    managers = add_managers(world)
    leader = Leader(world, managers)
    world.deploy(2)
    seen = await leader.run(2)
    before = world.running()
    world.swarm.kill("node-1")
    hasty = Managers(replace(world.config, managers=world.swarm.managers, timeout_s=0.2))
    with pytest.raises(OrchestratorUnavailable, match="is silent"):
        await Leader(world, hasty).driver.observe()
    with pytest.raises(OrchestratorUnavailable, match="is silent"):
        await Leader(world, hasty).driver.set_containers(3, seen=seen, term=TERM, reasons=())
    hasty.close()
    world.swarm.advance(14.2)
    seen = await leader.driver.observe()
    assert "have changed their leader" in seen.trouble
    assert {node.state for node in seen.nodes} == {NodeState.UNKNOWN}
    assert {each.state for each in seen.containers} == {ContainerState.UNKNOWN}
    world.swarm.advance(6.0)
    seen = await leader.run(2)
    assert (seen.trouble, world.running()) == ("", before)
    managers.close()


@pytest.mark.usefixtures("in_service")
async def test_without_a_quorum_nothing_is_done_and_said_why(world: FakeWorld) -> None:
    """Managers without a majority refuse, with a sentence about what to do; what crashes then is
    not replaced; when the majority is back it is, and the driver goes on."""
    managers = add_managers(world)
    leader = Leader(world, managers)
    world.deploy(2)
    seen = await leader.run(2)
    world.swarm.kill("node-4")
    world.swarm.kill("node-5")
    hasty = Managers(replace(world.config, managers=world.swarm.managers, timeout_s=0.2))
    with pytest.raises(OrchestratorUnavailable, match="is silent"):
        await Leader(world, hasty).driver.observe()
    hasty.close()
    world.swarm.advance(21.0)
    for attempt in (
        leader.driver.observe(),
        leader.driver.set_containers(3, seen=seen, term=TERM, reasons=()),
        SwarmLease(managers, world.config, clock=world.clock).keep("one"),
        SwarmIntents(managers, world.config).claim("grapevine-1", term=TERM),
    ):
        with pytest.raises(OrchestratorUnavailable, match="start managers until most of them run"):
            await attempt
    world.kill(seen.containers[0].id)
    world.swarm.advance(30.0)
    assert len(world.running()) == 1
    world.swarm.heal("node-4")
    world.swarm.advance(7.0)
    seen = await leader.run(2)
    await leader.driver.set_containers(3, seen=seen, term=TERM, reasons=())
    await leader.run(3)
    managers.close()


async def test_a_lease_outlives_a_silence_of_the_managers_only_if_nobody_takes_it(
    world: FakeWorld,
) -> None:
    """Who could not renew it holds it no more, and takes it anew; of several, one."""
    managers = add_managers(world)
    world.deploy(0)
    lease = SwarmLease(managers, world.config, clock=world.clock)
    term = await lease.keep("one")
    world.swarm.kill("node-1")
    with trio.move_on_after(0.2) as scope:
        await lease.keep("one")
    assert scope.cancelled_caught, "nobody answers"
    world.swarm.advance(30.0)
    other = SwarmLease(managers, world.config, clock=world.clock)
    assert await other.keep("other") is None, "he has just begun to watch"
    again = await lease.keep("one")
    assert again is not None
    assert term is not None
    assert again >= term
    managers.close()


async def test_a_holder_that_was_started_anew_leads_under_a_new_term(
    world: FakeWorld, managers: Managers
) -> None:
    """What it did in its former life may still be under way, under the former term."""
    world.deploy(0)
    first = await SwarmLease(managers, world.config, clock=world.clock).keep("one")
    assert first is not None
    assert await SwarmLease(managers, world.config, clock=world.clock).keep("one") == first + 1


async def test_a_worker_is_no_manager(world: FakeWorld) -> None:
    """Its engine says so, and the sentence names the setting; another manager is asked instead."""
    worker = world.swarm.add_worker("node-9")
    world.deploy(0)
    managers = Managers(replace(world.config, managers=(worker,)))
    with pytest.raises(OrchestratorUnavailable, match=r"is no manager .* scaling\.swarm\.managers"):
        await Leader(world, managers).driver.observe()
    managers.close()
    managers = Managers(replace(world.config, managers=(worker, *world.config.managers)))
    assert (await Leader(world, managers).driver.observe()).wanted == 0
    managers.close()


async def test_a_service_that_is_not_there(world: FakeWorld, leader: Leader) -> None:
    """The sentence names it, and the setting."""
    with pytest.raises(
        OrchestratorUnavailable, match=rf"no service {SERVICE}.*scaling\.swarm\.service"
    ):
        await leader.driver.observe()


async def test_a_service_that_is_removed_between_two_reads(
    world: FakeWorld, leader: Leader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for the tasks of a service that is gone, an engine answers 404: a trouble to hold in,
    like any other, and nothing that only the caller of one read could judge."""
    world.deploy(1)
    found = world.swarm._answer_services

    def for_the_last_time(method: str, path: list[str], *more: Any) -> Any:
        answer = found(method, path, *more)
        world.swarm._engine.remove_service(world.swarm._service(SERVICE))
        return answer

    monkeypatch.setattr(world.swarm, "_answer_services", for_the_last_time)
    with pytest.raises(OrchestratorUnavailable, match=r"answered 404: service .* not found"):
        await leader.driver.observe()


async def test_a_claim_that_was_being_given_up_does_not_stand_in_the_way(
    world: FakeWorld, managers: Managers
) -> None:
    """Somebody crashed between marking it as released and removing it."""
    intents = SwarmIntents(managers, world.config)
    assert await intents.claim("grapevine-1", term=3)
    (config,) = world.swarm._configs.values()
    config.spec["Labels"]["grapevine.released"] = "true"
    assert await intents.list() == []
    assert await intents.claim("grapevine-1", term=4)
    assert [(each.name, each.term) for each in await intents.list()] == [("grapevine-1", 4)]


async def test_names_longer_than_swarms_are_claimed_once(
    world: FakeWorld, managers: Managers
) -> None:
    """A config's name has 64 letters at most; two that differ only after them are two."""
    intents = SwarmIntents(managers, world.config)
    long = "x" * 60
    assert await intents.claim(f"{long}-1", term=4)
    assert await intents.claim(f"{long}-2", term=4)
    assert not await intents.claim(f"{long}-1", term=5)
    listed = await intents.list()
    assert [each.name for each in listed] == [f"{long}-1", f"{long}-2"]
    assert all(len(config.name) <= 64 for config in world.swarm._configs.values())
    assert await intents.release(listed[0])
    assert await intents.claim(f"{long}-1", term=5)


@pytest.mark.usefixtures("in_service")
async def test_a_cancelled_call_leaves_at_once(world: FakeWorld) -> None:
    """A manager that does not answer holds a thread, and nobody waits for it."""
    managers = add_managers(world)
    world.deploy(0)
    leader = Leader(world, managers)
    await leader.driver.observe()
    world.swarm._fail_over()
    began_s = trio.current_time()
    with trio.move_on_after(0.05) as scope:
        await leader.driver.observe()
    assert scope.cancelled_caught
    assert trio.current_time() - began_s < world.config.timeout_s / 2
    managers.close()


@pytest.mark.usefixtures("in_service")
async def test_a_test_can_play_the_peers(world: FakeWorld, leader: Leader) -> None:
    """It is told when a container starts, is told to stop, and ends; and how long that takes is its
    to say, also while it lasts."""
    told: list[tuple[str, str]] = []
    world.swarm.tell(
        Hooks(
            started=lambda container: told.append(("started", container.id)),
            told_to_stop=lambda container: told.append(("told", container.id)),
            ended=lambda container: told.append((f"ended {container.exit_code}", container.id)),
        )
    )
    world.deploy(1)
    seen = await leader.run(1)
    (only,) = (each.id for each in seen.containers)
    world.swarm.work(only, 1e6)
    await leader.driver.set_containers(0, seen=seen, term=TERM, reasons=())
    await world.let_pass(10.0)
    assert only in world.running()
    world.swarm.work(only, 0.0)
    await world.let_pass(1.0)
    assert told == [("started", only), ("told", only), ("ended 143", only)]


@pytest.mark.usefixtures("in_service")
async def test_whoever_outlasts_the_grace_is_killed(world: FakeWorld, leader: Leader) -> None:
    """And that is no failure in Swarm's eyes, for it was told to end."""
    world.deploy(2, work_s=60.0, grace_s=5.0)
    seen = await leader.run(2)
    await leader.driver.set_containers(1, seen=seen, term=TERM, reasons=())
    began_s = world.clock()
    after = await leader.run(1)
    assert 5.0 <= world.clock() - began_s <= 8.0
    assert leader.driver.failures(seen, after) == ()


async def test_time_may_run_by_the_clock() -> None:
    """A hundred times as fast, for tests in which other things have a time of their own."""
    with FakeSwarm(speed=100.0) as swarm:
        swarm.add_manager("node-1")
        world = SwarmConfig(managers=swarm.managers, service="fast")
        swarm.create_service("fast", 1)
        managers = Managers(world)
        driver = SwarmOrchestrator(managers, world, leader="a test", clock=lambda: swarm.now_s)
        states: set[ContainerState] = set()
        with trio.fail_after(5):
            while ContainerState.RUNNING not in states:
                states = {each.state for each in (await driver.observe()).containers}
        managers.close()
