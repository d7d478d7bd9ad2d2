"""A service does what it was asked, and the answer gets lost: nobody knows whether it was done.

Whatever the peer does then (it asks again), the work is not done again, and there is one result.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from uuid import uuid4

import pytest
import trio

from pipeline.queues.rabbitmq.topology import DELIVERIES_MAX
from tests.chaos.services.gates import Detour, Gate, GatedQueue, Gates, Place
from tests.chaos.services.neighbourhood import Neighbourhood
from tests.chaos.services.peer import NEVER_S, settings
from tests.chaos.services.places import hand_in, plan_of, went_otherwise
from tests.chaos.services.relay import Relay
from tests.chaos.services.rig import Rig, insist
from tests.chaos.services.small import SOURCE_BYTES, DigestTranscoder

pytestmark = pytest.mark.slow

SETTLED_WITHIN_S = 60.0
WORKING_WITHIN_S = 20.0
HANDOVER_S = 0.2

TASKS = 24
SEVERAL_PARTS = 18 * 1024 * 1024
"""Of a source; each of its three outputs is then uploaded in two parts."""


async def test_an_answer_gets_lost_at_every_step(rig: Rig) -> None:
    """At each step one call is made, and fails as if its answer had got lost: to claim, to write an
    event, to commit, to give up, to publish, put back, set aside and acknowledge, to push and to
    remove. No task takes another way than without that, nor more attempts."""
    plans = {name: plan_of(name) for name in ("one", "long", "leaving")}
    plans["one"] = {
        # What is pulled or transcoded is a file of one's own, and no answer that could get lost.
        task_id: place
        for task_id, place in plans["one"].items()
        if place not in (Gate.PULL, Gate.TRANSCODE)
    }
    lossy = {name: Gates(lost=plan) for name, plan in plans.items()}
    one = rig.peer("one", 1, slots=4, forgotten_s=NEVER_S)
    long = rig.peer("long", 2, slots=2, handover_s=HANDOVER_S, forgotten_s=NEVER_S)
    leaving = rig.peer("leaving", 3, slots=2, forgotten_s=NEVER_S)
    transcoder, town = DigestTranscoder(), Neighbourhood()
    async with town.working(leaving, transcoder, gates=lossy["leaving"]):
        await hand_in(rig, plans["leaving"])
        with trio.fail_after(WORKING_WITHIN_S):
            for task_id in plans["leaving"]:
                await lossy["leaving"].wait_passed(task_id, Gate.TRANSCODE)
    async with town.working(long, transcoder, gates=lossy["long"]):
        await hand_in(rig, plans["long"])
        await rig.wait_until_settled(SETTLED_WITHIN_S)
    async with town.working(one, transcoder, gates=lossy["one"]) as peer:
        await hand_in(rig, plans["one"])
        await rig.wait_until_settled(SETTLED_WITHIN_S)
        nonsense = await rig.take_dead_letters()
        await rig.wait_until_quiet()
        assert peer.spooling.spooled == 0
    trails = await rig.conclude()
    assert went_otherwise(trails, transcoder.begun, *plans.values()) == {}
    assert [plans["one"][task_id] for task_id in nonsense] == [Detour.DEAD_LETTER]
    assert all(gates.are_all_lost for gates in lossy.values()), "a call was never made"


async def test_the_answer_to_a_submission_gets_lost(rig: Rig) -> None:
    """Whoever hands a task in hears of none of its three calls that it was done, and makes each
    twice: it is one task, done once, and its two messages are gone."""
    task_id, transcoder = uuid4(), DigestTranscoder()
    lossy = GatedQueue(rig.queue, Gates(lost={task_id: Detour.PUBLISH}))
    for _ in range(2):
        await rig.record(task_id)
    await rig.wake(task_id, queue=lossy)
    for _ in range(2):
        await insist(partial(rig.ledger.announced, task_id, 0))
    async with Neighbourhood().working(rig.peer("one", 1), transcoder):
        await rig.wait_until_settled(SETTLED_WITHIN_S)
        await rig.wait_until_quiet()
    trails = await rig.conclude()
    assert went_otherwise(trails, transcoder.begun, {task_id: Gate.RECEIVED}) == {}


PUBLISH, GET, ACK = (
    re.compile(re.escape(struct.pack(">HH", 60, number))) for number in (40, 70, 80)
)
"""How AMQP says these, in the frames of its class `basic`."""
COMMIT = re.compile(b"COMMIT")
COMPLETE = re.compile(rb"POST \S+uploadId=")

LINES = {
    # To which requests answers get lost, to every how many, and the size of the sources.
    "the ledger commits": ("ledger", COMMIT, 7, SOURCE_BYTES),
    "the queue confirms": ("queue", PUBLISH, 4, SOURCE_BYTES),
    "the queue delivers": ("queue", GET, 9, SOURCE_BYTES),
    "the queue is acknowledged": ("queue", ACK, 5, SOURCE_BYTES),
    "the store makes an upload whole": ("store", COMPLETE, 2, SEVERAL_PARTS),
}


@asynccontextmanager
async def losing(
    rig: Rig, service: str, request: re.Pattern[bytes], every: int
) -> AsyncIterator[Relay]:
    """A line to a service on which answers get lost, and the connection with them.

    Not more of them than a message may come back: what a peer has in its hands comes back with each
    line, and one time more would make it dead. (What happens to its task then: tests/e2e/
    test_sweeper.py.) The quicker the peer is, the more it asks while it works on one task.
    """
    relay = Relay(getattr(rig.site.ports, service))
    relay.lose_answers(request, every=every, at_most=DELIVERIES_MAX)
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        yield relay
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("name", LINES)
async def test_a_line_loses_answers(rig: Rig, name: str) -> None:
    """On a peer's line to a service again and again a request arrives and is done, and its answer
    gets lost together with the connection: every task is done by its first attempt, or, where that
    fails for a reason of its own, by its second one, and nothing is transcoded more often."""
    service, request, every, size = LINES[name]
    count = TASKS if size < SEVERAL_PARTS else TASKS // 6
    ways: list[Place] = [Gate.RECEIVED, Detour.RETRY]
    plan = {uuid4(): place for place in itertools.islice(itertools.cycle(ways), count)}
    gates, transcoder, town = Gates(ways=plan), DigestTranscoder(takes_s=0.1), Neighbourhood()
    async with losing(rig, service, request, every) as relay:
        ports = replace(rig.site.ports, **{service: relay.port})
        of_site = settings(rig.site, "one", 1, rig.directory, ports)
        one = replace(of_site, forgotten_s=NEVER_S)
        other = rig.peer("other", 2, slots=1, forgotten_s=NEVER_S)
        async with (
            town.working(one, transcoder, gates=gates),
            town.working(other, transcoder, gates=gates),
        ):
            await hand_in(rig, plan, size=size)
            await rig.wait_until_settled(SETTLED_WITHIN_S)
            await rig.wait_until_quiet()
        assert relay.lost > 1, "hardly an answer got lost"
    trails = await rig.conclude()
    assert went_otherwise(trails, transcoder.begun, plan) == {}
