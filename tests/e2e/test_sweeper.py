"""The sweeper on a real ledger and queue: what fell between two chairs is put back on one."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from pipeline.events import TaskReceived
from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from pipeline.messages import decode_untrusted
from pipeline.ports import TaskQueue
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.queue import RabbitQueue
from pipeline.queues.rabbitmq.topology import DELIVERIES_MAX
from pipeline.sweeper import Sweeper
from pipeline.tasks import Claim, Priority, TaskState


@pytest.fixture
async def queue(database: Database) -> AsyncIterator[EmbeddedQueue]:
    """A queue of this test's own."""
    queue = EmbeddedQueue(database)
    yield queue
    await queue.aclose()


@pytest.fixture
def sweeper(ledger: PostgresLedger, queue: EmbeddedQueue) -> Sweeper:
    """One that takes every silence for a lost wake-up."""
    return Sweeper(sweep=ledger, queue=queue, rng=random.Random(0), unannounced_s=0.0)


async def received(queue: TaskQueue) -> UUID:
    """Take the next message, and return which task it is about."""
    with trio.fail_after(5):
        delivery = await queue.receive()
    await delivery.ack()
    return decode_untrusted(delivery.body).task_id


async def claim(ledger: PostgresLedger, peer: Any, task_id: UUID) -> Claim:
    record = peer.record(TaskReceived(task_id=task_id, attempt=0))
    claim = await ledger.claim(task_id, 0, peer.holder, uuid4(), record)
    assert isinstance(claim, Claim)
    return claim


async def test_a_task_that_nobody_was_woken_for(
    sweeper: Sweeper, queue: EmbeddedQueue, task_id: UUID
) -> None:
    """Its client died between the row and the message: the wake-up is sent, and only once."""
    await sweeper.sweep()
    await sweeper.sweep()

    assert await received(queue) == task_id
    depth = await queue.depth()
    assert (depth.ready, depth.unacknowledged, depth.delayed) == (0, 0, 0)


async def test_a_wake_up_that_the_queue_has_lost(
    ledger: PostgresLedger, queue: EmbeddedQueue, task_id: UUID
) -> None:
    """Purged, say. While the queue is empty what is due is announced again, once in a while; and
    never while anything waits in it."""
    make_sweeper = partial(
        Sweeper,
        sweep=ledger,
        queue=queue,
        rng=random.Random(0),
        unannounced_s=0.0,
        look_interval_s=0.0,
    )
    patient, sweeper = make_sweeper(forgotten_s=3600.0), make_sweeper(forgotten_s=0.3)
    await patient.sweep()
    assert await received(queue) == task_id  # and its peer forgets it

    await patient.sweep()
    assert (await queue.depth()).ready == 0, "it may be on its way"
    with trio.fail_after(5):
        while not (await queue.depth()).ready:
            await sweeper.sweep()
            await trio.sleep(0.02)
    await trio.sleep(0.35)  # longer than `forgotten_s`: that nothing happens, only time tells
    await sweeper.sweep()
    assert (await queue.depth()).ready == 1
    assert await received(queue) == task_id


async def test_a_wake_up_that_the_broker_has_set_aside(
    rabbit_config: RabbitConfig, ledger: PostgresLedger, task_id: UUID
) -> None:
    """Because each of its many holders lost its line, for reasons of their own. The part is
    announced again, however many of another priority wait; and people can read what happened."""
    queue, flapping = RabbitQueue(rabbit_config), RabbitQueue(rabbit_config)
    sweeper = Sweeper(
        sweep=ledger,
        queue=queue,
        rng=random.Random(0),
        unannounced_s=0.0,
        forgotten_s=0.5,
        look_interval_s=0.0,
    )
    await sweeper.sweep()
    with trio.fail_after(30):
        for _ in range(DELIVERIES_MAX + 1):
            await flapping.receive()
            await flapping.aclose()
        while not (depth := await queue.depth()).dead:  # noqa: ASYNC110 - the broker tells nobody
            await trio.sleep(0.05)
        assert "delivered 21 times" in depth.dead_reason
        await queue.publish(b"a line of others", priority=Priority.LOW)

        while Priority.NORMAL not in await queue.waiting():
            await sweeper.sweep()
            await trio.sleep(0.05)
    assert await received(queue) == task_id
    assert (await ledger.show_task(str(task_id))).state is TaskState.QUEUED
    await queue.aclose()


async def test_a_task_whose_holder_went_silent(
    sweeper: Sweeper,
    queue: EmbeddedQueue,
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: Any,
    let_leases_run_out: Callable[[], None],
) -> None:
    """Its part is queued again, counted as a crash, said in an event, and somebody is woken."""
    await claim(ledger, make_peer("frozen"), task_id)
    let_leases_run_out()

    await sweeper.sweep()

    assert await received(queue) == task_id
    report = await ledger.show_task(str(task_id))
    assert (report.state, dict(report.failures)) == (TaskState.QUEUED, {"crash": 1})
    [*_, event] = await ledger.list_events(task_id=task_id, type=None, after_id=0, limit=10)
    assert event.type == "ContainerErrorRetry"
    assert "frozen" in event.data["message"]


async def test_a_task_that_kills_its_peers(
    sweeper: Sweeper,
    queue: EmbeddedQueue,
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: Any,
    let_leases_run_out: Callable[[], None],
) -> None:
    """It is escalated at the threshold instead of going round the cluster for ever."""
    peer = make_peer("victim")
    for _ in range(3):
        await claim(ledger, peer, task_id)
        let_leases_run_out()
        await sweeper.sweep()

    report = await ledger.show_task(str(task_id))
    assert report.state is TaskState.ESCALATED
    assert report.error is not None
    assert report.error.code == "lease_expired"
    events = await ledger.list_events(task_id=task_id, type=None, after_id=0, limit=100)
    assert [event.type for event in events] == [
        *["TaskReceived", "ContainerErrorRetry"] * 2,
        *["TaskReceived", "ContainerErrorEscalation"],
    ]


async def test_a_claim_that_is_alive_is_left_alone(
    sweeper: Sweeper,
    queue: EmbeddedQueue,
    ledger: PostgresLedger,
    task_id: UUID,
    make_peer: Any,
) -> None:
    """Sweeping takes nothing from anybody who renews."""
    held = await claim(ledger, make_peer("busy"), task_id)

    await sweeper.sweep()
    await ledger.renew(held, None)

    depth = await queue.depth()
    assert (depth.ready, depth.unacknowledged, depth.delayed) == (0, 0, 0)
