"""The controller: looks, decides, puts the decision down, and carries it out, while it may.

It runs in every peer that may lead, and acts in one. What is decided is a pure function of what was
seen, so the loop needs no plan that outlives a round: a leader that dies anywhere leaves something
that the next one sees. Three things keep two leaders apart. The lease says who may act, and a
leader stops by itself before it ends. Every change carries its term, and the orchestrator refuses a
smaller one. And nothing is done that was not put down before, in an era of the journal that only
one leader has.

A round is begun every `interval_s`, and early when something has happened: what the cluster says,
what the orchestrator says, a queue that has jumped. Events make it sooner; nothing depends on them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf

import trio

from scaling.assembly import Machines, Observed, assembled
from scaling.config import ScalingConfig
from scaling.creating import Creator, Tended
from scaling.decision import Action, Decision
from scaling.executor import Executor, Then
from scaling.memory import Memory
from scaling.plan import plan
from scaling.policy import decide
from scaling.ports import (
    DemandSource,
    Entry,
    Journal,
    LedgerAway,
    Noted,
    Orchestrator,
    Peers,
    ScalingError,
    Sight,
    Superseded,
    Workload,
)
from scaling.record import Considered
from scaling.snapshot import Snapshot
from scaling.tenure import Tenure
from scaling.utilization import Levels, Starved

log = logging.getLogger(__name__)

NOTHING_SEEN = Sight(containers=(), nodes=(), wanted=0, version="", term=0)
LOOK_S = 1.0
"""How often the queue is looked at between two rounds."""
SPACING_S = 0.5
"""Between the beginnings of two rounds, whatever happens: events come in dozens."""
CONFLICTS_MAX = 3
"""How often in a row a conflict is looked at again at once: afterwards two are in each other's
way, and one of them waits."""

MakeCreator = Callable[[int, Callable[[], bool]], Creator]
"""For a term, and for whether it may still act."""
OnSight = Callable[[Sight | None, Sight], None]
"""Told of the look before and the look now; quick, and never raises."""


def unheard(before: Sight | None, after: Sight) -> None:
    """Where nobody wants to know what was seen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """Everything outside of scaling that the controller deals with.

    Args:
        make_creator: Where machines can be made.
        on_sight: Told of each look at the orchestrator.
    """

    orchestrator: Orchestrator
    demand: DemandSource
    peers: Peers
    journal: Journal
    make_creator: MakeCreator | None = None
    on_sight: OnSight = unheard


@dataclass(slots=True, kw_only=True)
class Reign:
    """What one leader knows during one term; the next one begins without it.

    Args:
        since_s: When it began.
        era: The journal's; None before it was opened.
        away: Why the last look at the orchestrator showed nothing; `sight` is then of before.
        sight_s: When `sight` was seen.
        untended: Why the machines could not be seen to the last time.
    """

    term: int
    since_s: float
    executor: Executor
    creator: Creator | None
    era: int | None = None
    memory: Memory = field(default_factory=Memory)
    sight: Sight | None = None
    sight_s: float = -inf
    away: str = ""
    workload: Workload | None = None
    workload_s: float = -inf
    tended: Tended | None = None
    tended_s: float = -inf
    untended: str = ""
    conflicts: int = 0
    paused: bool = False
    trouble: str = ""


class Controller:
    """Keeps the right number of containers and nodes, while this peer leads.

    Args:
        name: The peer's, for people who read decisions.
        dry_run: Decide and put down, and do nothing.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        world: World,
        config: ScalingConfig,
        *,
        name: str,
        dry_run: bool = False,
        clock: Callable[[], float] = trio.current_time,
    ) -> None:
        self._world, self._config = world, config
        self._name, self._dry_run, self._clock = name, dry_run, clock
        self._nudged = trio.Event()

    def nudge(self) -> None:
        """Begin the next round early: something has happened. From trio's thread; cheap."""
        self._nudged.set()

    async def run(self, tenure: Tenure) -> None:
        """Govern whenever this peer may, until cancelled. The tenure runs beside it."""
        while True:
            term = tenure.term
            if term is None:
                self._nudged = trio.Event()
                await self._wait_for_nudge(self._config.interval_s)
                continue
            await self.govern(term, tenure)

    async def govern(self, term: int, tenure: Tenure) -> None:
        """Act for one term, until it is over."""
        log.info("leading the scaling", extra={"action": "lead", "term": term})
        reign = self.begin(term, lambda: tenure.may_act(term))
        async with trio.open_nursery() as nursery:
            if reign.creator is not None:
                nursery.start_soon(self._keep_tending, reign)
            while tenure.may_act(term):
                began_s = self._clock()
                self._nudged = trio.Event()
                try:
                    then = await self.round(reign)
                except Superseded as error:
                    then = Then.STEP_DOWN
                    self._say(reign, str(error))
                if then is Then.STEP_DOWN:
                    tenure.step_down(self._config.interval_s)
                    break
                reign.conflicts = reign.conflicts + 1 if then is Then.LOOK_AGAIN else 0
                if not 0 < reign.conflicts <= CONFLICTS_MAX:
                    await self._rest(reign, began_s)
            nursery.cancel_scope.cancel()
        log.info("leading the scaling no more", extra={"action": "lead", "term": term})

    def begin(self, term: int, may_act: Callable[[], bool]) -> Reign:
        """Begin a term, knowing nothing."""
        make, world = self._world.make_creator, self._world
        creator = None if make is None else make(term, may_act)
        executor = Executor(
            world.orchestrator,
            world.peers,
            creator,
            term=term,
            may_act=may_act,
        )
        return Reign(term=term, since_s=self._clock(), executor=executor, creator=creator)

    async def round(self, reign: Reign) -> Then:
        """Look, decide, put it down, do it.

        Raises:
            Superseded: A later leader has begun.
        """
        try:
            if reign.era is None:
                reign.era, levels = await self._world.journal.begin(reign.term)
                reign.memory = replace(reign.memory, levels=self._inherited(levels))
            observed = await self._look(reign)
            snapshot = assembled(
                observed,
                self._config,
                leading_s=self._clock() - reign.since_s,
                term=reign.term,
            )
            decision, memory = decide(snapshot, self._config, reign.memory)
            actions = self._plan(observed, snapshot, decision)
            considered = Considered(
                snapshot=snapshot, config=self._config, memory=reign.memory, decision=decision
            )
            noted = await self._note(
                reign,
                reign.era,
                considered,
                actions=actions,
                levels=memory.levels,
                observed=observed,
            )
        except LedgerAway as error:
            # What is not put down is not done; and it is decided again from the same memory.
            self._say(reign, str(error))
            return Then.HOLD
        reign.memory, reign.paused = memory, noted.paused
        self._say(reign, snapshot.trouble)
        if not noted.acting or decision.held:
            return Then.GO_ON
        return await self._act(reign, noted, considered, actions, seen=observed.sight)

    # -- looking -----------------------------------------------------------------------------------

    async def _look(self, reign: Reign) -> Observed:
        """Ask everybody at the same time; what does not answer is missing, and never waited for.

        The peers before the ledger: who takes no new work any more has begun whatever it works on,
        so the ledger then has it, and says so where gossip is late.
        """
        peers, peers_s = self._world.peers.sights(), self._clock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._observe, reign)
            nursery.start_soon(self._count_work, reign)
        sight, trouble = reign.sight, reign.away
        if not trouble and sight is not None and sight.term > reign.term:
            raise Superseded(
                f"term {sight.term} has written already, and this leader has term {reign.term}"
            )
        return Observed(
            now_s=self._clock(),
            sight=sight or NOTHING_SEEN,
            trouble=trouble,
            workload=reign.workload,
            workload_s=reign.workload_s,
            peers=peers,
            peers_s=peers_s,
            quorate=self._world.peers.quorate(),
            machines=self._machines(reign),
        )

    async def _observe(self, reign: Reign) -> None:
        try:
            seen = await self._world.orchestrator.observe()
        except ScalingError as error:
            reign.away = str(error)
            return
        before, reign.sight = reign.sight, seen
        reign.sight_s, reign.away = self._clock(), ""
        self._world.on_sight(before, seen)

    async def _count_work(self, reign: Reign) -> None:
        workload = await self._world.demand.workload()
        if workload is not None:
            reign.workload, reign.workload_s = workload, self._clock()

    def _machines(self, reign: Reign) -> Machines:
        """What the provider has; without a fresh answer nothing more is ordered from it."""
        tended = reign.tended
        untended = (reign.untended,) if reign.untended else ()
        if reign.creator is None or tended is None:
            return Machines(booting={}, expandable=False, troubles=untended)
        age_s = self._clock() - reign.tended_s
        return Machines(
            machines=tended.machines,
            booting={name: since_s + age_s for name, since_s in tended.booting.items()},
            going=tended.going,
            expandable=True,
            troubles=untended or tuple(finding.text for finding in tended.findings),
        )

    def _plan(
        self, observed: Observed, snapshot: Snapshot, decision: Decision
    ) -> tuple[Action, ...]:
        if decision.held:
            return ()
        wanted = decision.desired.containers
        victims = self._world.orchestrator.victims(observed.sight, wanted)
        return plan(snapshot, decision, victims, self._config)

    # -- putting down, and doing -------------------------------------------------------------------

    async def _note(
        self,
        reign: Reign,
        era: int,
        considered: Considered,
        *,
        actions: tuple[Action, ...],
        levels: Levels,
        observed: Observed,
    ) -> Noted:
        entry = Entry(
            leader=self._name,
            term=reign.term,
            considered=considered,
            actions=actions,
            dry_run=self._dry_run,
            levels=levels,
            sight=None if observed.trouble else observed.sight,
        )
        return await self._world.journal.note(era, entry)

    async def _act(
        self,
        reign: Reign,
        noted: Noted,
        considered: Considered,
        actions: tuple[Action, ...],
        *,
        seen: Sight,
    ) -> Then:
        snapshot, decision = considered.snapshot, considered.decision
        reasons = [reason.text for reason in decision.reasons]
        carried = await reign.executor.carry_out(
            actions, seen=seen, snapshot=snapshot, reasons=reasons
        )
        await self._world.peers.renew()
        if carried.outcomes:
            with suppress(LedgerAway):  # it is done, and the next look tells
                await self._world.journal.finish(noted.number, carried.outcomes)
        if carried.then is Then.HOLD:
            self._say(reign, carried.outcomes[-1].trouble)
        return carried.then

    def _inherited(self, levels: Levels) -> Levels:
        """Where CPU and memory stood for the last leader, on this one's clock.

        So that a crossing that was told is not told again. Averages begin anew.
        """
        until_s = self._clock() + self._config.down_window_s
        starved = tuple(Starved(node=each.node, until_s=until_s) for each in levels.starved)
        return Levels(cpu=levels.cpu, memory=levels.memory, starved=starved)

    # -- machines ----------------------------------------------------------------------------------

    async def _keep_tending(self, reign: Reign) -> None:
        """See to the machines, beside the rounds: a provider may take minutes for a call."""
        told = ""
        while True:
            trouble = await self.tend(reign)
            if trouble and trouble != told:
                log.warning("machines", extra={"action": "machines", "why": trouble})
            told = trouble
            await trio.sleep(self._config.interval_s)

    async def tend(self, reign: Reign) -> str:
        """See to the machines once; return why that could not be, if so."""
        creator, sight = reign.creator, reign.sight
        if creator is None or sight is None:
            return ""
        trouble, only_look = self._why_blind(reign, sight), self._dry_run or reign.paused
        try:
            tended = await _tended(creator, sight, trouble=trouble, only_look=only_look)
        except ScalingError as error:
            reign.untended = str(error)
            return reign.untended
        reign.untended = ""
        if not trouble:  # else nobody knows what boots: what was known before stands
            reign.tended, reign.tended_s = tended, self._clock()
        return ""

    def _why_blind(self, reign: Reign, sight: Sight) -> str:
        """Why what was seen last does not show how it is; empty when it does."""
        waited_s = self._clock() - reign.sight_s
        if not reign.away and waited_s > self._config.stale_s + self._config.interval_s:
            return f"the orchestrator was seen {waited_s:.0f} s ago"
        return reign.away or sight.trouble

    # -- time --------------------------------------------------------------------------------------

    async def _rest(self, reign: Reign, began_s: float) -> None:
        """Until the next round is due, something has happened, or the queue has jumped."""
        due_s = began_s + self._config.interval_s
        while not self._nudged.is_set() and (left_s := due_s - self._clock()) > 0:
            await self._wait_for_nudge(min(LOOK_S, left_s))
            if not self._nudged.is_set() and self._clock() < due_s and await self._jumped(reign):
                break
        spacing_s = min(SPACING_S, self._config.interval_s)
        await trio.sleep(max(0.0, began_s + spacing_s - self._clock()))

    async def _jumped(self, reign: Reign) -> bool:
        """Whether more waits than the range allows, and twice as much as at the last look."""
        before = reign.workload.demand.ready if reign.workload is not None else 0
        now = await self._world.demand.workload()
        return now is not None and now.demand.ready > max(self._config.queue_high, 2 * before)

    async def _wait_for_nudge(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            await self._nudged.wait()

    def _say(self, reign: Reign, trouble: str) -> None:
        """Say once what is in the way, and once that it is over."""
        if trouble and trouble != reign.trouble:
            log.warning("scaling holds", extra={"action": "hold", "why": trouble})
        elif reign.trouble and not trouble:
            log.info("scaling goes on", extra={"action": "hold"})
        reign.trouble = trouble


async def _tended(creator: Creator, sight: Sight, *, trouble: str, only_look: bool) -> Tended:
    if not only_look:
        return await creator.tend(sight.nodes, trouble=trouble)
    view = await creator.look(sight.nodes, trouble=trouble)
    decided = creator.decide(view)
    return Tended(
        machines=view.machines,
        booting=dict(decided.booting),
        going=decided.memory.doomed,
        steps=(),
        findings=decided.findings,
    )
