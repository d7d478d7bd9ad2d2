"""How messages come, wait, come back and die on RabbitMQ, beyond what every queue promises
(`tests/contract/test_queue.py`)."""

from __future__ import annotations

import struct
from dataclasses import replace
from itertools import pairwise

import pika.data
import pytest
import trio

from pipeline.errors import QueueUnavailable
from pipeline.queues.rabbitmq import receiver
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.delays import DELAYS_MS
from pipeline.queues.rabbitmq.delivery import RabbitDelivery
from pipeline.queues.rabbitmq.line import Line
from pipeline.queues.rabbitmq.queue import RabbitQueue
from pipeline.queues.rabbitmq.receiver import Taken
from pipeline.queues.rabbitmq.topology import DELIVERIES_MAX, LEFT_MS, Topology
from pipeline.tasks import Priority
from tests.contract.rabbitmq.rig import Connect, eventually, insist, post, within
from tests.servers.rabbitmq import RabbitServer


async def test_a_strangers_message(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology
) -> None:
    """What anybody publishes to a queue by its name is received like everything else, whatever is
    in its headers."""
    await queue.prepare()
    headers: dict[str, object] = {"x-delivery-count": "many", LEFT_MS: "soon", "other": {"a": [1]}}
    post(rabbit, topology.queue_of(Priority.HIGH), "hello", headers)
    delivery = await within(5, queue.receive)
    assert (delivery.body, delivery.priority) == (b"hello", Priority.HIGH)
    assert not delivery.redelivered


class Raw(bytes):
    """A header's value as it is sent, type and all."""


async def test_a_header_that_cannot_be_read(
    queue: RabbitQueue, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A time in milliseconds, as JavaScript writes it, is beyond the calendar. The message is
    received and put back as any other, and among the dead ones it keeps nobody from counting."""
    usual = pika.data.encode_value

    def encode(pieces: list[bytes], value: object) -> int:
        if isinstance(value, Raw):
            pieces.append(value)
            return len(value)
        return usual(pieces, value)

    monkeypatch.setattr(pika.data, "encode_value", encode)
    strange = {"sent": Raw(b"T" + struct.pack(">Q", 1_700_000_000_000))}
    line = await queue._publishing.line()
    await line.channel.publish(topology.work, "low", b"x", strange)
    delivery = await within(5, queue.receive)
    assert (delivery.body, delivery.priority, delivery.redelivered) == (b"x", Priority.LOW, False)
    await queue.aclose()  # it comes again
    delivery = await within(5, queue.receive)
    assert (delivery.body, delivery.redelivered) == (b"x", True)
    await delivery.ack()

    line = await queue._publishing.line()
    await line.channel.publish(topology.dead, "", b"x", strange)  # as the delivery limit leaves it
    depth = await queue.depth()
    assert (depth.ready, depth.dead, depth.dead_reason) == (0, 1, "")
    await queue.publish(b"good work")
    assert (await within(5, queue.receive)).body == b"good work"


async def test_a_delay_longer_than_all_queues(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of it when the message arrives is waited for then; nobody sees it before."""
    await queue.publish(b"x", delay_s=sum(DELAYS_MS) / 1000 + 0.5, priority=Priority.LOW)
    assert (await queue.depth()).delayed == 1
    post(rabbit, topology.queue_of(Priority.LOW), "rest", {LEFT_MS: 500})  # as it arrives then
    begun = trio.current_time()
    delivery = await within(5, queue.receive)
    assert (delivery.body, delivery.priority) == (b"rest", Priority.LOW)
    assert trio.current_time() - begun >= 0.5
    assert not delivery.redelivered


async def test_who_holds_what_is_known_to_the_management_api(
    rabbit: RabbitServer, connect: Connect, rabbit_config: RabbitConfig
) -> None:
    """With its address, a depth has all four numbers; a wrong one costs that number alone."""
    queue = connect(replace(rabbit_config, management_url=rabbit.management_url))
    for _ in range(3):
        await queue.publish(b"x")
    await queue.publish(b"x", delay_s=60)
    held = await within(5, queue.receive)

    async def is_known() -> bool:
        depth = await queue.depth()
        return (depth.ready, depth.unacknowledged, depth.delayed, depth.dead) == (2, 1, 1, 0)

    await eventually(is_known)
    await held.ack()
    nowhere = connect(replace(rabbit_config, management_url="http://127.0.0.1:1"))
    assert (await nowhere.depth()).unacknowledged is None


async def test_a_message_that_kills_its_holders(
    queue: RabbitQueue, connect: Connect, rabbit_config: RabbitConfig
) -> None:
    """After it came back so often it is dead, and the reason can be read; the next one is taken."""
    await queue.publish(b"poison")
    holder = connect(rabbit_config)
    for count in range(DELIVERIES_MAX + 1):
        delivery = await insist(5, holder.receive)
        assert (delivery.body, delivery.redelivered) == (b"poison", count > 0)
        await holder.aclose()

    async def is_dead() -> bool:
        return (await queue.depth()).dead == 1

    await eventually(is_dead)
    depth = await queue.depth()
    assert depth.ready == 0
    assert "delivered 21 times" in depth.dead_reason


async def test_a_delayed_message_whose_queue_is_deleted(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology
) -> None:
    """The broker keeps what has waited for its time until the next queue has confirmed it: as long
    as there is none, and until it is made anew."""
    line, delay = topology.queue_of(Priority.NORMAL), topology.delayed[-2]
    await queue.prepare()
    rabbit.manage("DELETE", f"/api/queues/%2F/{line}")
    await queue.publish(b"x", delay_s=0.5)

    async def has_found_no_queue() -> bool:
        counted = rabbit.manage("GET", f"/api/queues/%2F/{delay}")
        return bool(counted.get("messages_dlx") == 1)

    await eventually(has_found_no_queue)
    assert (await insist(10, queue.receive)).body == b"x"


async def test_what_is_put_back_may_be_put_back_for_ever(queue: RabbitQueue) -> None:
    """Only those deliveries count that nobody ended."""
    await queue.publish(b"x")
    for _ in range(2 * DELIVERIES_MAX):
        delivery = await within(5, queue.receive)
        assert not delivery.redelivered
        await delivery.put_back(0.0)
    assert (await queue.depth()).dead == 0


async def test_idle_receivers_do_not_wear_a_message_out(
    queue: RabbitQueue, connect: Connect, rabbit_config: RabbitConfig
) -> None:
    """One that many of them are offered at once beside others, and give back, never counts as
    tried in vain: each is received by somebody, as if for the first time."""
    idle = [connect(rabbit_config) for _ in range(8)]
    got: list[RabbitDelivery] = []

    async def receive(idler: RabbitQueue) -> None:
        got.append(await idler.receive())

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            for idler in idle:
                nursery.start_soon(receive, idler)
            await queue.prepare()
            await trio.sleep(0.3)  # all wait: only time tells
            async with trio.open_nursery() as publishing:
                for number in range(8):
                    publishing.start_soon(_publish, queue, number)
    assert sorted(delivery.body for delivery in got) == [b"%d" % number for number in range(8)]
    assert not any(delivery.redelivered for delivery in got)


async def _publish(queue: RabbitQueue, number: int) -> None:
    await queue.publish(b"%d" % number, priority=list(Priority)[number % 3])


async def test_what_rings_no_bell(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology
) -> None:
    """Who waits finds also what a stranger puts into a queue, and not only at the next message."""
    async with trio.open_nursery() as nursery:
        got: list[bytes] = []

        async def receive() -> None:
            got.append((await queue.receive()).body)

        nursery.start_soon(receive)
        await queue.prepare()
        await trio.sleep(0.3)  # it waits: only time tells
        nursery.cancel_scope.deadline = trio.current_time() + receiver.LOOK_S + 10
        post(rabbit, topology.queue_of(Priority.LOW), "silent", {})
    assert got == [b"silent"]


async def test_an_idle_receiver_asks_little(
    queue: RabbitQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without news it counts once a second, and takes no turn to ask the queues themselves."""
    asked: list[float] = []
    counted: list[float] = []
    ask, count = queue._receiver._ask, queue._receiver._count

    async def spied_ask(line: Line) -> Taken | None:
        asked.append(trio.current_time())
        return await ask(line)

    async def spied_count(line: Line) -> int:
        counted.append(trio.current_time())
        return await count(line)

    monkeypatch.setattr(queue._receiver, "_ask", spied_ask)
    monkeypatch.setattr(queue._receiver, "_count", spied_count)
    await queue._receiving.line()
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.receive)
            while len(counted) < 3:  # noqa: ASYNC110 - it tells nobody
                await trio.sleep(0.05)
            nursery.cancel_scope.cancel()
    assert len(asked) == 1
    assert all(later - earlier >= receiver.LOOK_S for earlier, later in pairwise(counted))


async def test_what_cannot_be_ended_is_not_stranded(
    queue: RabbitQueue,
    connect: Connect,
    rabbit_config: RabbitConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A holder that lives on but gives up ending a message: after a while others have it."""
    monkeypatch.setattr("pipeline.queues.rabbitmq.delivery.STRANDED_S", 0.3)
    other = connect(rabbit_config)
    await queue.publish(b"x")
    delivery = await within(5, queue.receive)

    async def away(*_: object) -> None:
        raise QueueUnavailable("the queue is away", definite=True)

    monkeypatch.setattr(delivery, "_send", away)
    with pytest.raises(QueueUnavailable):
        await delivery.put_back(0.0)
    again = await within(5, other.receive)
    assert (again.body, again.redelivered) == (b"x", True)
    await delivery.put_back(0.0)  # void by now, and no error
    await delivery.ack()
    await again.ack()
