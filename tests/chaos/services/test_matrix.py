"""Every service is restarted, killed and frozen for 30 s at every step of a task.

Nine runs are the whole matrix: in each, as many tasks as there are steps are at work, each held at
another one, when the fault comes (`gates`). The steps are those of a task that goes straight on,
and those of one that fails, is handed over or handed back, comes with its message, or is nonsense
(`places`).
"""

from __future__ import annotations

import itertools
from functools import partial

import pytest
import trio

from pipeline.ledger.parts import Outcome
from pipeline.tasks import PartState
from tests.chaos.services.gates import Detour, Gate, Gates
from tests.chaos.services.neighbourhood import Neighbourhood
from tests.chaos.services.peer import NEVER_S, Settings
from tests.chaos.services.places import hand_in, plan_of, went_otherwise
from tests.chaos.services.rig import (
    Rig,
    let_it_happen,
    one_at_each_gate,
    until,
    until_out_of_trouble,
)
from tests.chaos.services.services import FREEZE, KILL, RESTART, Fault
from tests.chaos.services.small import DigestTranscoder

pytestmark = pytest.mark.slow

SERVICES = ("ledger", "queue", "store")
FAULTS = (RESTART, KILL, FREEZE)
HELD_WITHIN_S = 20.0
SETTLED_WITHIN_S = 60.0
WELL_WITHIN_S = 10.0
ASKED_WITHIN_S = 60.0
HANDOVER_S = 0.2
LONG_LEASE_S = 60.0
"""Longer than a claim is held at a gate where nobody renews it."""
CLEANUP_S = 20.0
"""More than a service takes to begin again, and less than it is frozen."""
MATRIX = [
    pytest.param(service, fault, id=f"{service}-{fault.name}")
    for service, fault in itertools.product(SERVICES, FAULTS)
]


@pytest.mark.parametrize(("service", "fault"), MATRIX)
async def test_a_service_fails_at_every_step(rig: Rig, service: str, fault: Fault) -> None:
    """Three peers hold a task at each step, another one waits for work, when a service goes away
    and comes back: no task takes another way than without that, nor more attempts, no message is
    lost that somebody must make up for, and what is delivered again is not done again."""
    await fail_at_every_step(rig, service, fault)


@pytest.mark.parametrize("fault", [RESTART, KILL], ids=lambda fault: fault.name)
async def test_the_embedded_queue_fails_at_every_step(embedded_rig: Rig, fault: Fault) -> None:
    """The same where the queue goes away together with the ledger, in whose database it is."""
    await fail_at_every_step(embedded_rig, "ledger", fault)


async def fail_at_every_step(rig: Rig, service: str, fault: Fault) -> None:
    """Let a service fail while there is a task at each step, and demand that nobody can tell; that
    a task handed in afterwards is done as well; and that the peers live on, but for the one that
    was stopping and has handed back what it could."""
    plans = {name: plan_of(name) for name in ("one", "long", "leaving")}
    gates = {name: Gates(plan) for name, plan in plans.items()}
    slots = {name: len(plan) for name, plan in plans.items()}
    peer = partial(rig.peer, forgotten_s=NEVER_S)
    one = peer("one", 1, slots=slots["one"], lease_s=LONG_LEASE_S)
    long = peer("long", 2, slots=slots["long"], handover_s=HANDOVER_S)
    leaving = peer("leaving", 3, slots=slots["leaving"], cleanup_s=CLEANUP_S)
    other = peer("other", 4, slots=4)
    transcoder, town = DigestTranscoder(), Neighbourhood()
    async with (
        trio.open_nursery() as nursery,
        town.working(one, transcoder, gates=gates["one"]) as first,
    ):
        await held(rig, gates["one"])
        async with town.working(long, transcoder, gates=gates["long"]) as second:
            await held(rig, gates["long"])
            stop = trio.Event()
            await nursery.start(work_until, stop, town, leaving, transcoder, gates["leaving"])
            await hand_in(rig, plans["leaving"])
            for task_id in plans["leaving"]:
                await gates["leaving"].wait_passed(task_id, Gate.TRANSCODE)
            async with town.working(other, transcoder) as third:
                stop.set()
                with trio.fail_after(HELD_WITHIN_S):
                    await gates["leaving"].wait_held()
                server = rig.site.services.each[service]
                await let_it_happen(server, fault, *gates.values())
                await rig.wait_until_settled(SETTLED_WITHIN_S)
                await rig.submit()
                await rig.wait_until_settled(SETTLED_WITHIN_S)
                nonsense = await rig.take_dead_letters()
                await rig.wait_until_quiet()
                for each in (first, second, third):
                    await until_out_of_trouble(each, WELL_WITHIN_S)
                    assert each.spooling.spooled == 0
    trails = await rig.conclude()
    wrong = went_otherwise(trails, transcoder.begun, *plans.values())
    if (service, fault) == ("ledger", FREEZE):
        # It is away for longer than a peer may take to stop, so the lease carries the task.
        assert wrong.pop(Detour.HAND_BACK) == ([Outcome.EXPIRED, Outcome.DONE], 1)
    assert wrong == {}
    assert [plans["one"][task_id] for task_id in nonsense] == [Detour.DEAD_LETTER]


async def held(rig: Rig, gates: Gates) -> None:
    """Hand a peer's tasks in, and wait until each stands at its gate."""
    await hand_in(rig, gates.plan)
    with trio.fail_after(HELD_WITHIN_S):
        await gates.wait_held()


async def work_until(
    stop: trio.Event,
    town: Neighbourhood,
    settings: Settings,
    transcoder: DigestTranscoder,
    gates: Gates,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Be a peer that is told to stop at that time; started when it works."""
    async with town.working(settings, transcoder, gates=gates):
        task_status.started()
        await stop.wait()


@pytest.mark.parametrize("fault", [RESTART, KILL], ids=lambda fault: fault.name)
async def test_what_is_delivered_again_is_not_done_again(rig: Rig, fault: Fault) -> None:
    """RabbitMQ comes back while a peer still works, and gives what that peer holds to another one.
    That one asks the holder of each by gossip, hears that it lives, and leaves it alone, however
    often the message comes. In the end each task was done once, and transcoded once."""
    plan = one_at_each_gate()
    gates = Gates(plan)
    town, transcoder = Neighbourhood(), DigestTranscoder()

    async def all_are_asked() -> bool:
        # Of the tasks that are claimed: one is not yet, and one not any more.
        asked = {held.token for held in town.asked}
        return len(asked) == len(plan) - len((Gate.RECEIVED, Gate.ACK))

    one = rig.peer("one", 1, slots=len(Gate))
    async with town.working(one, transcoder, gates=gates):
        for task_id in plan:
            await rig.submit(task_id)
        with trio.fail_after(HELD_WITHIN_S):
            await gates.wait_held()
        async with town.working(rig.peer("other", 2), transcoder):
            await trio.to_thread.run_sync(fault.begin, rig.site.services.queue)
            await trio.to_thread.run_sync(fault.end, rig.site.services.queue)
            await until(all_are_asked, ASKED_WITHIN_S)
            gates.open()
            await rig.wait_until_settled(SETTLED_WITHIN_S)
            await rig.wait_until_quiet()
    trails = await rig.conclude()
    assert {(trail.state, len(trail.claims)) for trail in trails.values()} == {(PartState.DONE, 1)}
    assert went_otherwise(trails, transcoder.begun, plan) == {}
