"""Leaders that die anywhere, and two who both believe that they lead.

The cluster is the simulator's, behind the ports; journal and claims are real, in a real database.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Awaitable, Callable
from itertools import count

import pytest
import trio

from peer.scale.ledger import QUERIES, ScalingDatabase, event_writer
from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from scaling.decision import SetContainers
from scaling.executor import Then
from scaling.ledger.intents import LedgerIntents
from scaling.ledger.journal import Decided, LedgerJournal
from tests.ledger_rig import MakePeer
from tests.scaling_cluster import Cluster, Killer, Leader, no_gate

TICK_S = 5.0
IDLE_TICK_S = 15.0
BURST_S, END_S = 40.0, 900.0
PARTS, WORK_S = 14, 45.0

MakeLeader = Callable[..., Leader]


class Stage:
    """One run: a cluster, and a scope of its own in the database."""

    def __init__(self, database: Database, make_peer: MakePeer, scope: str) -> None:
        self.cluster = Cluster()
        self._database, self._make_peer, self._scope = ScalingDatabase(database), make_peer, scope
        self.told: Counter[tuple[str, str]] = Counter()

    def journal(self) -> LedgerJournal:
        # One peer for all runs: its numbers of events go on, so none is taken for a repetition.
        return LedgerJournal(
            self._database,
            QUERIES,
            scope=self._scope,
            write_events=event_writer(self._make_peer("leader").record),
            silence_s=600.0,
        )

    def intents(self) -> LedgerIntents:
        return LedgerIntents(self._database, QUERIES, scope=self._scope)

    def leader(self, term: int, gate: Callable[[str], Awaitable[None]] = no_gate) -> Leader:
        return Leader(self.cluster, self.journal(), self.intents(), term=term, gate=gate)

    async def until(self, leader: Leader, end_s: float) -> None:
        """Let it lead through the burst, until that time."""
        cluster = self.cluster
        while cluster.now() < end_s:
            began_s, writes = cluster.now(), len(cluster.swarm.writes)
            await leader.tick()
            busy = cluster.swarm.work.ready or writes != len(cluster.swarm.writes)
            step_s = TICK_S if busy else IDLE_TICK_S
            cluster.timeline.run(began_s + step_s)
            if began_s < BURST_S <= cluster.now():
                cluster.burst(PARTS, WORK_S)

    async def check_end(self, ledger: PostgresLedger, after_id: int) -> int:
        """All is as it was before the burst, nothing was lost, and the story was told once."""
        swarm = self.cluster.swarm
        assert self.cluster.faults == []
        assert (swarm.work.done, swarm.work.redone, swarm.ended_busy) == (PARTS, 0, 0)
        assert swarm.wanted == len(swarm.tasks) == 1
        assert list(swarm.machines) == ["worker-1"]
        assert await self.intents().list() == []
        assert len(self.cluster.created) == len(set(self.cluster.created)) >= 1
        rows = await ledger.list_events(task_id=None, type=None, after_id=after_id, limit=1000)
        kinds = Counter(row.type for row in rows)
        assert kinds["ContainerScaledUp"] == kinds["ContainerScaledDown"] == 5, kinds
        nodes = Counter((row.type, row.data["worker_node"]) for row in rows if "Node" in row.type)
        assert nodes == {
            (kind, name): 1
            for name in self.cluster.created
            for kind in ("WorkerNodeScaledUp", "WorkerNodeScaledDown")
        }
        assert all(
            row.data["reasons"] and "no decision" not in row.data["reasons"][0]
            for row in rows
            if "Scaled" in row.type
        ), [row.data for row in rows]
        return max(row.id for row in rows)


@pytest.fixture
def stages(database: Database, make_peer: MakePeer) -> Callable[[], Stage]:
    numbers, peer = count(), make_peer("leader")
    return lambda: Stage(database, lambda _: peer, f"run {next(numbers)}")


async def test_a_burst_is_met_and_its_story_told(
    stages: Callable[[], Stage], ledger: PostgresLedger
) -> None:
    """One leader from beginning to end: up to the limit, a node more and more, and down again."""
    stage = stages()
    leader = stage.leader(1)
    await stage.until(leader, END_S)
    await stage.check_end(ledger, 0)
    decisions = await stage.journal().newest(1000)
    assert all(_repeats(decided) for decided in decisions)


def _repeats(decided: Decided) -> bool:
    from scaling.ledger.database import to_json  # noqa: PLC0415 - for this alone
    from scaling.record import Considered  # noqa: PLC0415

    considered = Considered.decode(to_json(decided.considered))
    return considered.repeated() == considered.decision


async def _die_at(
    stages: Callable[[], Stage], ledger: PostgresLedger, at: int, after_id: int
) -> tuple[int, list[str]]:
    """A leader dies at its gate number `at`; another one goes on a moment later."""
    stage, killer = stages(), Killer(at)
    with killer.scope:
        await stage.until(stage.leader(1, killer), END_S)
    if not killer.scope.cancelled_caught:
        return after_id, killer.passed
    stage.cluster.timeline.run(stage.cluster.now() + TICK_S)
    if stage.cluster.now() >= BURST_S and not stage.cluster.swarm.work.arrivals_s:
        stage.cluster.burst(PARTS, WORK_S)
    await stage.until(stage.leader(2), END_S + 300.0)
    return await stage.check_end(ledger, after_id), killer.passed


async def _gates(stages: Callable[[], Stage]) -> list[str]:
    """Everything that a leader passes who is not killed."""
    stage, killer = stages(), Killer(at=0)
    await stage.until(stage.leader(1, killer), END_S)
    return killer.passed


def _of_actions(passed: list[str]) -> list[int]:
    """The gates, counted from 1, of rounds in which something is done: from their look to their
    last change; the others do nothing but look."""
    changes = [
        number
        for number, name in enumerate(passed, 1)
        if name.split()[-1] not in ("observe", "note")
    ]
    found: set[int] = set()
    for number in changes:
        found.update(range(max(1, number - 3), number + 1))
    return sorted(found)


async def test_a_leader_that_dies_leaves_nothing_undone(
    stages: Callable[[], Stage], ledger: PostgresLedger
) -> None:
    """At some of the gates, from the first change to the last; the slow test takes all of them."""
    numbers = _of_actions(await _gates(stages))
    rng, after_id = random.Random(5), await _newest(ledger)
    for at in sorted(rng.sample(numbers, 8)):
        after_id, passed = await _die_at(stages, ledger, at, after_id)
        assert len(passed) == at


@pytest.mark.slow
async def test_a_leader_may_die_at_every_await_of_an_action(
    stages: Callable[[], Stage], ledger: PostgresLedger
) -> None:
    """Before and after each change of orchestrator, provider, claims and journal: the next leader
    finds what was begun, no node is made twice, no work is lost, each event is told once."""
    numbers = _of_actions(await _gates(stages))
    after_id = await _newest(ledger)
    for at in numbers:
        try:
            after_id, _ = await _die_at(stages, ledger, at, after_id)
        except AssertionError as error:
            raise AssertionError(f"killed at gate {at}") from error


async def _newest(ledger: PostgresLedger) -> int:
    rows = await ledger.list_events(task_id=None, type=None, after_id=0, limit=1000)
    return max((row.id for row in rows), default=0)


class Turns:
    """Lets one of several leaders go on at a time, chosen by a seed, from gate to gate."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._waiting: list[trio.Event] = []
        self.active = 0

    async def __call__(self, name: str) -> None:
        if name.rsplit(maxsplit=1)[-1] in ("create", "destroy", "claim", "adopt", "release"):
            return  # these go on side by side, and have tests of their own (tests/property)
        turn = trio.Event()
        self._waiting.append(turn)
        self.let_go()
        await turn.wait()

    def let_go(self) -> None:
        """Let one go on, when all that are active wait."""
        if self._waiting and len(self._waiting) == self.active:
            self._waiting.pop(self._rng.randrange(len(self._waiting))).set()

    async def together(self, *leaders: Leader) -> list[Then]:
        """One tick of all, interleaved."""
        ended: list[Then] = []

        async def tick(leader: Leader) -> None:
            ended.append(await leader.tick())
            self.active -= 1
            self.let_go()

        self.active = len(leaders)
        async with trio.open_nursery() as nursery:
            for leader in leaders:
                nursery.start_soon(tick, leader)
        return ended


TEN_MINUTES_S = 600.0


class Desired:
    """How many containers there should be, by what leaders put down before they did it.

    That is what was set last. (Who wants more nodes first, or somebody to finish his work, does not
    want another number yet.) A leader that follows another one begins with what it finds.
    """

    def __init__(self, journal: LedgerJournal) -> None:
        self._journal = journal
        self._newest = self._term = 0
        self._count = 1
        self.counts = {1}

    async def now(self) -> int:
        """Read on."""
        for decided in reversed(await self._journal.newest(20)):
            if decided.number < self._newest:
                continue
            named = {action["action"]: action for action in decided.actions}
            if SetContainers.__name__ in named:
                self._count = named[SetContainers.__name__]["count"]
            elif decided.term != self._term:
                self._count = decided.considered["snapshot"]["wanted"]
            self._newest, self._term = decided.number, decided.term
        self.counts.add(self._count)
        return self._count


async def _through_the_burst(stage: Stage, tick: Callable[[], Awaitable[object]]) -> None:
    """Let leaders act, for more than ten minutes, and look at the number after each tick: it may be
    off what was decided for one, and never longer."""
    cluster, desired, off = stage.cluster, Desired(stage.journal()), 0
    began_s = cluster.now()
    while cluster.now() < END_S:
        await tick()
        count = await desired.now()
        off = 0 if cluster.swarm.wanted == count else off + 1
        assert off <= 1, (cluster.now(), cluster.swarm.wanted, count)
        tick_s = cluster.now()
        cluster.timeline.run(tick_s + TICK_S)
        if tick_s < BURST_S <= cluster.now():
            cluster.burst(PARTS, WORK_S)
    assert cluster.now() - began_s >= TEN_MINUTES_S
    assert len(desired.counts) >= 4, "it grew and shrank meanwhile"


@pytest.mark.parametrize("seed", range(3))
async def test_two_forced_leaders(
    stages: Callable[[], Stage], ledger: PostgresLedger, seed: int
) -> None:
    """Two believe for ten minutes and more that they lead, and act side by side: no node is made
    twice, the number of containers is off what was decided for one tick at most, nobody who works
    is stopped, and the story is told once."""
    stage, turns = stages(), Turns(seed)
    after_id = await _newest(ledger)
    one, two = stage.leader(1, turns), stage.leader(2, turns)
    await _through_the_burst(stage, lambda: turns.together(one, two))
    await stage.check_end(ledger, after_id)


class Drowsy:
    """A leader that falls asleep between a look and an act, and goes on as if no time had passed.

    Not between two steps for a machine: how long it may stand still there has a limit, and tests of
    its own (tests/property).
    """

    SLEEPS = 0.4
    LONGEST_S = 200.0
    WHERE = ("observe", "before note", "before set_containers", "before empty", "before retire")

    def __init__(self, seed: int, now: Callable[[], float]) -> None:
        self._rng, self._now = random.Random(seed), now
        self._until_s = 0.0
        self._resting, self._woken = trio.Event(), trio.Event()

    async def __call__(self, name: str) -> None:
        if name in self.WHERE and self._rng.random() < self.SLEEPS:
            await self._rest(self._rng.uniform(0.0, self.LONGEST_S))

    async def lead(self, leader: Leader) -> None:
        """Tick after tick, until cancelled."""
        while True:
            await self._rest(0.0)
            await leader.tick()

    async def go_on(self) -> None:
        """Do what is left of a tick, or another one, unless it sleeps."""
        if self._now() >= self._until_s:
            self._resting = trio.Event()
            self._woken.set()
        await self._resting.wait()

    async def _rest(self, seconds: float) -> None:
        self._until_s, self._woken = self._now() + seconds, trio.Event()
        self._resting.set()
        await self._woken.wait()


@pytest.mark.parametrize("seed", range(6))
async def test_a_forced_leader_that_acts_on_what_it_saw_minutes_ago(
    stages: Callable[[], Stage], ledger: PostgresLedger, seed: int
) -> None:
    """The other one has led meanwhile: nothing of it comes true, whatever it was about to do."""
    stage = stages()
    after_id = await _newest(ledger)
    drowsy = Drowsy(seed, stage.cluster.now)
    one, two = stage.leader(1, drowsy), stage.leader(2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(drowsy.lead, one)

        async def tick() -> None:
            await drowsy.go_on()
            if stage.cluster.now() >= BURST_S + 2 * TICK_S:  # by then the first one has acted
                await two.tick()

        await _through_the_burst(stage, tick)
        nursery.cancel_scope.cancel()
    await stage.check_end(ledger, after_id)
