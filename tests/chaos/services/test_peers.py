"""A peer is killed, frozen for 5 s and for 60 s, and cut off, at every step of a task.

It has as many tasks in hand as there are steps, each held at another one. Peers are processes, and
all their lines go through relays that can fall silent (`crew`).
"""

from __future__ import annotations

import signal
from collections.abc import Mapping
from functools import partial
from uuid import UUID

import pytest
import trio

from pipeline.ledger.parts import Outcome
from pipeline.tasks import PartState, Step
from tests.chaos.services.crew import Crew, Member, crew_of
from tests.chaos.services.gates import Gate
from tests.chaos.services.rig import Rig, one_at_each_gate, until
from tests.chaos.trail import STEPS, Trail

pytestmark = pytest.mark.slow

SHORT_LEASE_S = 5.0
LONG_LEASE_S = 60.0
HELD_WITHIN_S = 20.0
SETTLED_WITHIN_S = 60.0
TAKEN_OVER_WITHIN_S = 40.0
SPOOLED_WITHIN_S = 20.0
UNCLAIMED = (Gate.RECEIVED,)
"""Held before it had claimed anything: nothing is taken from it but a message."""
COMMITTED = (Gate.ACK,)
"""Held when all was done but the message: there is nothing left to be taken."""


async def held_at_every_gate(rig: Rig, crew: Crew, victim: Member) -> dict[UUID, Gate]:
    """Let a peer have a task at each gate; then start the others."""
    plan = one_at_each_gate()
    await crew.start(victim, slots=len(plan), plan=plan)
    for task_id in plan:
        await rig.submit(task_id)
    with trio.fail_after(HELD_WITHIN_S):
        await victim.wait_held(len(plan))
    for member in crew.members:
        if member is not victim:
            await crew.start(member)
    return plan


def attempts(trails: Mapping[UUID, Trail], plan: Mapping[UUID, Gate]) -> dict[Gate, list[str]]:
    """How the attempts at the task of each gate ended."""
    return {
        gate: [str(claim.outcome) for claim in trails[task_id].claims]
        for task_id, gate in plan.items()
    }


def once_taken_over() -> dict[Gate, list[str]]:
    """What `attempts` are when the victim's were taken from it, and another peer did the work."""
    once = [str(Outcome.DONE)]
    twice = [str(Outcome.EXPIRED), *once]
    return {gate: once if gate in (*UNCLAIMED, *COMMITTED) else twice for gate in Gate}


async def finish(rig: Rig, crew: Crew) -> None:
    """Let all work come to its end, and stop the peers."""
    await rig.wait_until_settled(SETTLED_WITHIN_S)
    await rig.wait_until_quiet()
    await crew.stop()


def all_done(trails: Mapping[UUID, Trail]) -> bool:
    return {trail.state for trail in trails.values()} == {PartState.DONE}


async def test_a_peer_is_killed_at_every_step(rig: Rig) -> None:
    """kill -9: what it had claimed is taken over by another peer, once, long before its lease would
    have told; what it had not claimed is done by the first attempt, and what it had committed
    stays. Started again, it has nothing left to do but what comes."""
    async with crew_of(rig.site, 2, rig.directory, lease_s=LONG_LEASE_S) as crew:
        victim = crew.members[0]
        plan = await held_at_every_gate(rig, crew, victim)
        victim.signal(signal.SIGKILL)
        await victim.gone()
        await rig.wait_until_settled(TAKEN_OVER_WITHIN_S)
        await crew.start(victim)
        await rig.submit()
        await finish(rig, crew)
    trails = await rig.conclude()
    assert all_done(trails)
    assert attempts(trails, plan) == once_taken_over()


async def test_a_peer_is_frozen_for_five_seconds_at_every_step(rig: Rig) -> None:
    """SIGSTOP for much less than a lease: when it goes on, nothing has been taken from it."""
    async with crew_of(rig.site, 2, rig.directory, lease_s=LONG_LEASE_S) as crew:
        victim = crew.members[0]
        plan = await held_at_every_gate(rig, crew, victim)
        victim.signal(signal.SIGSTOP)
        await trio.sleep(5.0)
        victim.signal(signal.SIGCONT)
        await victim.open()
        await finish(rig, crew)
    trails = await rig.conclude()
    assert all_done(trails)
    assert attempts(trails, plan) == {gate: [str(Outcome.DONE)] for gate in Gate}


async def test_a_peer_is_frozen_for_a_minute_at_every_step(rig: Rig) -> None:
    """SIGSTOP for twelve leases: others finish its tasks meanwhile; when it goes on, with
    its gates open, it commits nothing, clears up after itself and works again."""
    async with crew_of(rig.site, 2, rig.directory, lease_s=SHORT_LEASE_S) as crew:
        victim = crew.members[0]
        plan = await held_at_every_gate(rig, crew, victim)
        victim.signal(signal.SIGSTOP)
        await victim.open()  # it finds them open when it goes on
        frozen_until = trio.current_time() + 60.0
        await rig.wait_until_settled(TAKEN_OVER_WITHIN_S)
        await trio.sleep_until(frozen_until)
        victim.signal(signal.SIGCONT)
        await rig.submit()
        await finish(rig, crew)
    trails = await rig.conclude()
    assert all_done(trails)
    assert attempts(trails, plan) == once_taken_over()


async def test_a_peer_is_killed_while_the_ledger_is_away(rig: Rig) -> None:
    """PostgreSQL is down, the peer goes on, and is killed with its events on its disk only. When
    both are back, the events arrive first, each in its place; then the work is done."""
    async with crew_of(rig.site, 1, rig.directory, lease_s=LONG_LEASE_S) as crew:
        (victim,) = crew.members
        plan = await held_at_every_gate(rig, crew, victim)
        # Its task stands before this event, which is then written while there is no ledger.
        pulled = next(task_id for task_id, gate in plan.items() if gate is Gate.PULLED)
        ledger = rig.site.services.ledger
        await trio.to_thread.run_sync(ledger.stop)
        await victim.open()
        await until(partial(victim.has_spooled, pulled, Gate.PULLED), SPOOLED_WITHIN_S)
        victim.signal(signal.SIGKILL)
        await victim.gone()
        await trio.to_thread.run_sync(ledger.start)
        await crew.start(victim)
        await finish(rig, crew)
    trails = await rig.conclude()
    assert all_done(trails)
    assert attempts(trails, plan) == once_taken_over()
    assert STEPS.index(trails[pulled].claims[0].step) >= STEPS.index(Step.PULLED)


async def test_a_peer_is_cut_off_at_every_step(rig: Rig) -> None:
    """No byte to or from it, and no reset: others finish its tasks. It works on what it can work
    on without being heard; when the line is whole again it commits nothing, and works again."""
    async with crew_of(rig.site, 2, rig.directory, lease_s=SHORT_LEASE_S) as crew:
        victim = crew.members[0]
        plan = await held_at_every_gate(rig, crew, victim)
        victim.cut()
        await victim.open()
        await rig.wait_until_settled(TAKEN_OVER_WITHIN_S)
        victim.mend()
        await rig.submit()
        await finish(rig, crew)
    trails = await rig.conclude()
    assert all_done(trails)
    assert attempts(trails, plan) == once_taken_over()
