"""One seed, in two phases: faults and rules that must always hold; then peace, and what must come
to hold, within a bound.

After the peace has settled one healthy peer is crashed, and everybody must know it in time: so
every seed also shows that its misfortunes left nobody deaf or blind.
"""

from __future__ import annotations

import math
import time
import traceback
from dataclasses import dataclass
from typing import TextIO

from gossip.rows import State
from tests.simulation.checkers import every_rule
from tests.simulation.host import Host
from tests.simulation.settled import leaders_differ, unsettled
from tests.simulation.trace import Trace
from tests.simulation.workload import HEAL_S, Plan, draw, first_ring, heal, stage
from tests.simulation.world import Violation, World

SETTLE_S = 60.0
"""Twice the time after which seeds are asked again, which is what heals a forgotten island."""

LEADER_S = 30.0
"""A leader that was busy is fit again after 10 s, and must then be the best one for 10 s more."""

NOTICE_S = 7.6
"""The goal: a crash is known everywhere within that."""

LOSSY_NOTICE_S = 10.0
"""The same where links were bad a moment ago: their observers have learned to be patient."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one seed.

    Args:
        failure: What went wrong, with the plan, the command that repeats it and the trace's tail;
            None when nothing did.
        digest: Stands for everything that happened.
        settled_s: How long it took after the healing until all tables were equal.
        noticed_s: How long the last crash took to be known everywhere; None when none was made.
    """

    seed: int
    failure: str | None
    digest: str
    settled_s: float
    noticed_s: float | None
    virtual_s: float
    real_s: float


def command(seed: int) -> str:
    """Return what to type to see a seed again."""
    return f"python -m tests.simulation --seed {seed}"


def run_seed(seed: int, everything: TextIO | None = None) -> Outcome:
    """Run one seed. Never raises for what the cores do: the failure is in the outcome.

    Args:
        everything: Where each datagram and change is told as a line.
    """
    began = time.perf_counter()
    plan = draw(seed)
    trace = Trace(everything)
    failure = None
    settled_s, noticed_s = math.inf, None
    world = World(
        seed,
        weather=plan.weather,
        checkers=every_rule(),
        trace=trace,
        keys=first_ring() if plan.sealed else None,
    )
    try:
        stage(world, plan)
        world.run(HEAL_S)
        heal(world)
        settled_s = _settle(world)
        lossy = plan.weather.loss >= 0.1 or plan.weather.bursts is not None
        noticed_s = _crash_one(world, LOSSY_NOTICE_S if lossy else NOTICE_S)
    except Violation as violation:
        failure = str(violation)
    except Exception:  # whatever a core raises is a finding too, with its traceback
        failure = traceback.format_exc(limit=-8)
    return Outcome(
        seed=seed,
        failure=_told(plan, world, trace, failure) if failure else None,
        digest=trace.digest(),
        settled_s=settled_s,
        noticed_s=noticed_s,
        virtual_s=world.now,
        real_s=time.perf_counter() - began,
    )


def _settle(world: World) -> float:
    settled_s = world.run_until(lambda: unsettled(world) is None, SETTLE_S, step_s=0.5)
    if math.isinf(settled_s):
        raise Violation(f"not settled {SETTLE_S:.0f} s after the healing: {unsettled(world)}")
    led_s = world.run_until(lambda: leaders_differ(world) is None, LEADER_S, step_s=0.5)
    if math.isinf(led_s):
        raise Violation(f"no one leader {LEADER_S:.0f} s after settling: {leaders_differ(world)}")
    return settled_s


def _crash_one(world: World, within_s: float) -> float | None:
    """Crash somebody whom nothing bad has befallen, and wait until everybody knows it."""
    running = world.running()
    # Whoever was late once has asked to be waited for; so few are a case of their own.
    punctual = [host for host in running if not host.was_late]
    if len(running) < 5 or not punctual:
        return None
    # A partition makes deaths wait, and for some seconds more after it is healed.
    world.run(max(world.now, HEAL_S + world.config.mass_hold_s + 5.0))
    victim = punctual[0]
    world.crash(victim, for_good=True)

    def known() -> bool:
        return all(_state(world, host, victim) >= State.DEAD for host in world.running())

    noticed_s = world.run_until(known, within_s, step_s=0.05)
    if math.isinf(noticed_s):
        states = {host.name: _state(world, host, victim).name for host in world.running()}
        raise Violation(
            f"{victim.name} crashed {within_s:.1f} s ago, and not everybody knows: {states}"
        )
    return noticed_s


def _state(world: World, host: Host, subject: Host) -> State:
    for member in world.view(host).members:
        if member.row.uid == subject.uid:
            return member.state
    return State.LEFT


def _told(plan: Plan, world: World, trace: Trace, failure: str) -> str:
    text = (
        f"seed {plan.seed} at {world.now:.3f} s: {failure}\n\n{plan.words()}\n\n"
        f"the end of the trace:\n{trace.tail()}\n\nagain: {command(plan.seed)}\n"
    )
    for uid, number in world.uids.items():
        text = text.replace(str(uid), f"p{number}").replace(f"{uid:016x}", f"p{number}")
    return text
