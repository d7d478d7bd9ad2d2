"""Containers that are processes: real ones, on a real ledger, whoever begins and ends them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from peer.scale.ledger import ScalingDatabase
from pipeline.ledger.database import Database
from pipeline.ledger.queries import Queries
from scaling.local.containers import Found, Launch, Record, living
from scaling.local.orchestrator import LocalOrchestrator
from scaling.local.records import Records, machine_clock_s
from scaling.local.register import Register
from scaling.local.sight import LocalSight
from scaling.local.steps import Rules
from scaling.local.tender import Tender
from scaling.ports import Conflict, OrchestratorUnavailable, Superseded
from scaling.snapshot import ContainerState, NodeState, PeerSight

RULES = Rules(capacity=2, grace_s=30.0)
NODES = ("worker-1", "worker-2", "worker-3")
WITHIN_S = 20.0

CONTAINER = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
print("here", flush=True)
while True:
    time.sleep(0.05)
"""
"""What stands in for a peer: it ends when it is told to. (With `signal.pause` it might not: the
handler of a signal that comes just before it runs after it.)"""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """Where the containers are; none is left, whatever a test has done."""
    path = tmp_path / "containers"
    yield path
    records = Records(path)
    for each in living(records.look()).values():
        if each.pid != os.getpid():
            records.kill(each)
    assert _wait(lambda: all(_is_me(each) for each in living(records.look()).values()))


def _is_me(found: Found) -> bool:
    return found.pid == os.getpid()


def _wait(condition: Callable[[], object]) -> bool:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def start(record: Record) -> Launch:
    return Launch(command=[sys.executable, "-c", CONTAINER, record.id])


def record(slot: int = 1) -> Record:
    return Record(id=f"worker-1.{slot}-abc/é", name=f"worker-1.{slot}", slot=slot, node="worker-1")


def begun(records: Records, each: Record) -> Found:
    """Begin one, and come back when it listens to signals."""
    records.begin(each, start(each))
    log = records.log(each.name)
    assert _wait(lambda: "here" in log.read_text() and _of(records, each).pid)
    return _of(records, each)


def _of(records: Records, each: Record) -> Found:
    return next(found for found in records.look() if found.record.id == each.id)


# -- processes and their files -----------------------------------------------------------------


def test_a_container_belongs_to_nobody(directory: Path) -> None:
    """It is found by anybody, in a session of its own, and is nobody's child here."""
    records = Records(directory)
    found = begun(records, record())
    assert found.alive
    assert found.record == record()
    assert os.getsid(found.pid) not in (os.getsid(0), found.pid)
    stat = Path(f"/proc/{found.pid}/stat").read_text().rpartition(")")[2].split()
    assert int(stat[1]) != os.getpid()
    assert Records(directory).look() == [found]


def test_it_is_told_and_ends(directory: Path) -> None:
    """SIGTERM, once, and written down; then the kernel says that it has ended."""
    records = Records(directory)
    found = begun(records, record())
    records.tell(found, machine_clock_s())
    assert _wait(lambda: not _of(records, record()).alive)
    assert len(_of(records, record()).told_s) == 1
    records.forget(record().id)
    assert records.look() == []


def test_it_outlives_whoever_began_it(directory: Path) -> None:
    """Also one who is killed right after: everything is known of it by then."""
    program = (
        "import sys; from pathlib import Path; "
        "from scaling.local.records import Records, Record, Launch; "
        "Records(Path(sys.argv[1])).begin("
        "Record(id='x', name='x', slot=1, node='worker-1'), "
        "Launch(command=[sys.executable, '-c', sys.argv[2]])); "
        "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(directory), CONTAINER], check=False, timeout=WITHIN_S
    )
    assert ended.returncode == -signal.SIGKILL
    assert _wait(
        lambda: [each.alive and each.pid > 0 for each in Records(directory).look()] == [True]
    )


def test_one_that_has_not_said_who_it_is_is_not_told(directory: Path) -> None:
    """Nothing is sent, which for process 0 would be to all of us; nor written, or the next look
    would believe that it was."""
    records = Records(directory)
    found = begun(records, record())
    early = replace(found, pid=0)
    records.tell(early, machine_clock_s())
    records.kill(early)
    assert Records(directory).look() == [found]


def test_no_signal_reaches_a_stranger(directory: Path) -> None:
    """A file whose process has ended names a process id that may be anybody's by now."""
    records = Records(directory)
    found = begun(records, record())
    records.kill(found)
    assert _wait(lambda: not _of(records, record()).alive)
    with subprocess.Popen([sys.executable, "-c", CONTAINER], stdout=subprocess.PIPE) as stranger:
        try:
            assert stranger.stdout is not None
            stranger.stdout.readline()
            taken = Found(record=record(), alive=True, pid=stranger.pid)
            records.tell(taken, machine_clock_s())
            records.kill(taken)
            with pytest.raises(subprocess.TimeoutExpired):
                stranger.wait(0.2)
        finally:
            stranger.kill()


def test_a_program_that_is_none(directory: Path) -> None:
    """The container has ended at once, and its log says why."""
    records = Records(directory)
    records.begin(record(), Launch(command=["/no/such/program"]))
    assert _wait(lambda: not _of(records, record()).alive)
    assert "cannot start /no/such/program" in records.log("worker-1.1").read_text()


def test_what_is_no_record_is_left_alone(directory: Path) -> None:
    """Somebody's file of that name is neither read as one nor removed."""
    directory.mkdir()
    (directory / "notes.container").write_text("not ours")
    assert Records(directory).look() == []


def test_the_place_stays(directory: Path) -> None:
    """The ledger recognises this directory by it, also after it was moved."""
    place = Records(directory).place()
    moved = directory.rename(directory.with_name("moved"))
    assert Records(moved).place() == place
    assert Records(directory).place() != place


def test_one_at_a_time_tends(directory: Path) -> None:
    """And the next one may when that one lets go."""
    with Records(directory).tending() as ours, Records(directory).tending() as theirs:
        assert (ours, theirs) == (True, False)
    with Records(directory).tending() as ours:
        assert ours


# -- with the ledger ---------------------------------------------------------------------------


class World:
    """One peer's share of the containers of a machine.

    Args:
        own: Its container id.
    """

    def __init__(self, database: Database, directory: Path, own: str) -> None:
        self.records = Records(directory)
        self.work: dict[str, PeerSight] = {}
        self.register = Register(
            ScalingDatabase(database),
            Queries.load("scaling.local", "queries.sql"),
            scope="local",
            place=self.records.place(),
            nodes=NODES[:1],
        )
        self.tender = Tender(self.records, self.register, own=own, start=start, rules=RULES)
        self.orchestrator = LocalOrchestrator(
            self.records,
            self.register,
            nodes=NODES,
            rules=RULES,
            work=lambda: self.work,
            changed=self.tender.wake,
        )

    async def wait(self, condition: Callable[[LocalSight], object]) -> LocalSight:
        """Look until it is so."""
        with trio.fail_after(WITHIN_S):
            while True:
                sight = await self.orchestrator.observe()
                if condition(sight):
                    return sight
                await trio.sleep(0.02)

    async def wait_running(self, *nodes: str) -> LocalSight:
        """Until containers run on just these nodes, and no other is there."""
        return await self.wait(
            lambda sight: (
                sorted(
                    each.node if each.state is ContainerState.RUNNING else "-"
                    for each in sight.containers
                )
                == sorted(nodes)
            )
        )


@asynccontextmanager
async def tending(world: World) -> AsyncIterator[World]:
    """Tend the containers while the block runs."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.tender.run)
        yield world
        nursery.cancel_scope.cancel()


async def test_up_and_down(database: Database, directory: Path) -> None:
    """A node is taken in, containers begin where there is room, the chosen one ends, its node is
    emptied and put on standby; the peer that a person has started is counted, and stays."""
    async with tending(World(database, directory, "pid:1")) as world:
        orchestrator = world.orchestrator
        seen = await world.wait_running("worker-1")
        assert (seen.wanted, seen.kept) == (1, frozenset({"pid:1"}))
        await orchestrator.take_in("worker-2", seen=seen, term=1)
        await orchestrator.set_containers(3, seen=seen, term=1, reasons=())
        seen = await world.wait_running("worker-1", "worker-1", "worker-2")
        assert [node.state for node in seen.nodes] == [
            NodeState.READY,
            NodeState.READY,
            NodeState.STANDBY,
        ]
        (chosen,) = orchestrator.victims(seen, 2)
        await orchestrator.set_containers(2, seen=seen, term=1, reasons=())
        seen = await world.wait(lambda sight: len(sight.containers) == 2)
        assert chosen not in [each.id for each in seen.containers]
        await orchestrator.empty("worker-2", seen=seen, term=1)
        seen = await world.wait(
            lambda sight: (
                sight.nodes[1].state is NodeState.EMPTY
                and [each.state for each in sight.containers] == [ContainerState.RUNNING] * 2
            )
        )
        await orchestrator.retire("worker-2", seen=seen, term=1)
        seen = await world.wait_running("worker-1", "worker-1")
        assert seen.nodes[1].state is NodeState.STANDBY
    assert _wait(lambda: not living(world.records.look()))


async def test_a_crash_is_seen_and_mended(database: Database, directory: Path) -> None:
    """Shown as failed, and begun again in the same slot within the restart delay and a look."""
    async with tending(World(database, directory, "pid:1")) as world:
        seen = await world.wait_running("worker-1")
        await world.orchestrator.set_containers(2, seen=seen, term=1, reasons=())
        before = await world.wait_running("worker-1", "worker-1")
        (first,) = [each for each in before.containers if each.id != "pid:1"]
        world.records.kill(_of_id(world.records, first.id))
        began_s = time.monotonic()
        await world.wait(
            lambda sight: ContainerState.FAILED in [each.state for each in sight.containers]
        )
        after = await world.wait_running("worker-1", "worker-1")
        assert time.monotonic() - began_s < 5.0
        (second,) = [each for each in after.containers if each.id != "pid:1"]
        assert (second.slot, second.node) == (first.slot, first.node)
        assert second.id != first.id


async def test_the_next_peer_goes_on(database: Database, directory: Path) -> None:
    """A peer that is killed leaves its containers; another one finds them by the row and the files,
    takes over the tending, and begins what is missing."""
    founder, other = World(database, directory, "pid:1"), World(database, directory, "pid:2")
    async with tending(other):
        await other.wait_running("worker-1")
        seen = await other.wait(lambda sight: sight.kept == {"pid:2"})
        await other.orchestrator.set_containers(2, seen=seen, term=1, reasons=())
        first = await other.wait_running("worker-1", "worker-1")
        async with tending(founder):
            both = await founder.wait(lambda sight: sight.kept == {"pid:1", "pid:2"})
            assert both.wanted == 3
            assert {each.id for each in first.containers} < {each.id for each in both.containers}
        still = await other.wait(lambda sight: sight.kept == {"pid:2"})
        assert not still.trouble, "one whom a person has started is left"
        assert {each.id for each in still.containers} == {each.id for each in first.containers}


async def test_a_killed_founder_closes_nothing(database: Database, directory: Path) -> None:
    """Its process is gone without a word: the others go on, and are found again."""
    program = Path(__file__).with_name("local_founder.py")
    world = World(database, directory, "nobody")
    await world.register.open()
    command = [sys.executable, str(program), str(directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as founder:  # noqa: ASYNC220 - at once
        try:
            assert founder.stdout is not None
            assert await trio.to_thread.run_sync(founder.stdout.readline) == b"here\n"
            sight = await world.orchestrator.observe()
            assert sight.kept == {"founder"}
        finally:
            founder.kill()
    after = await world.wait(lambda sight: not sight.kept)
    assert (after.wanted, after.trouble) == (0, "")


async def test_what_was_seen_must_still_be_so(database: Database, directory: Path) -> None:
    """Of two leaders who saw the same one changes it; the earlier term changes nothing any more."""
    world = World(database, directory, "pid:1")
    orchestrator = world.orchestrator
    seen = await orchestrator.observe()
    await orchestrator.set_containers(2, seen=seen, term=4, reasons=())
    with pytest.raises(Conflict):
        await orchestrator.set_containers(3, seen=seen, term=4, reasons=())
    now = await orchestrator.observe()
    with pytest.raises(Superseded):
        await orchestrator.set_containers(3, seen=now, term=3, reasons=())
    with pytest.raises(Conflict, match="no node worker-9"):
        await orchestrator.take_in("worker-9", seen=now, term=4)
    assert (await orchestrator.observe()).wanted == 2


async def test_two_leaders_at_once(database: Database, directory: Path) -> None:
    """However many change the number at the same time over the same look, one does."""
    world = World(database, directory, "pid:1")
    seen = await world.orchestrator.observe()
    done: list[int] = []

    async def change(count: int) -> None:
        try:
            await world.orchestrator.set_containers(count, seen=seen, term=1, reasons=())
        except Conflict:
            return
        done.append(count)

    async with trio.open_nursery() as nursery:
        for count in range(1, 9):
            nursery.start_soon(change, count)
    assert len(done) == 1
    assert (await world.orchestrator.observe()).wanted == done[0]


async def test_the_containers_of_another_machine(
    database: Database, directory: Path, tmp_path: Path
) -> None:
    """A leader elsewhere holds, and says what to do."""
    here, elsewhere = World(database, directory, "a"), World(database, tmp_path / "else", "b")
    await here.orchestrator.observe()
    with pytest.raises(OrchestratorUnavailable, match=r"processes of \w+ on "):
        await elsewhere.orchestrator.observe()


def _of_id(records: Records, name: str) -> Found:
    found: Mapping[str, Found] = living(records.look())
    return found[name]
