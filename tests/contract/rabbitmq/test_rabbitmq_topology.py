"""Exchanges and queues that differ, may not be declared, or are deleted while they are used."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
import trio

from pipeline.errors import QueueIncompatible, QueueUnavailable
from pipeline.queues.rabbitmq.adapter import TrioConnection
from pipeline.queues.rabbitmq.channel import Channel
from pipeline.queues.rabbitmq.complaints import GivenUp
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.delivery import RabbitDelivery
from pipeline.queues.rabbitmq.queue import RabbitQueue
from pipeline.queues.rabbitmq.topology import Binding, Exchange, Topology
from pipeline.tasks import Priority
from tests.contract.queue_places import use
from tests.contract.rabbitmq.rig import Connect, eventually, insist, post
from tests.servers.rabbitmq import RabbitServer


async def test_a_queue_that_differs(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology
) -> None:
    """Said with its name, what differs, and what to do; by every call."""
    name = topology.queue_of(Priority.LOW)
    arguments = {"x-queue-type": "quorum", "x-delivery-limit": 3}
    rabbit.manage("PUT", f"/api/queues/%2F/{name}", {"durable": True, "arguments": arguments})
    for call in (queue.prepare, queue.receive, queue.depth, lambda: queue.publish(b"x")):
        with pytest.raises(QueueIncompatible, match=r"x-.* (3|not set) and must be") as caught:
            await call()
        assert name in str(caught.value)
        assert "queue.prefix" in str(caught.value)


async def test_an_exchange_that_differs(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology
) -> None:
    """The same, of an exchange."""
    path = f"/api/exchanges/%2F/{topology.work}"
    rabbit.manage("PUT", path, {"type": "fanout", "durable": True})
    with pytest.raises(QueueIncompatible, match="its type is fanout and must be direct"):
        await queue.prepare()


async def test_an_exchange_without_its_way_out(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology
) -> None:
    """One that would lose what clients publish wrongly is refused, by every call and not once; and
    used as soon as a person has done what was said."""
    path = f"/api/exchanges/%2F/{topology.work}"
    rabbit.manage("PUT", path, {"type": "direct", "durable": True})
    told = r"alternate-exchange is not set and must be test-\w+\.dead\. Delete it on the management"
    for call in (queue.prepare, queue.receive, lambda: queue.publish(b"x")):
        with pytest.raises(QueueIncompatible, match=told):
            await call()
    rabbit.manage("DELETE", path)
    await queue.publish(b"x")
    assert (await insist(5, queue.receive)).body == b"x"


@pytest.mark.parametrize("key", ["", "urgent", "x.high"])
async def test_what_clients_publish_without_a_priority(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology, key: str
) -> None:
    """Is not lost although they do not ask for it back: it is with the dead letters, and why."""
    await queue.prepare()
    post(rabbit, key, "from a client", {}, topology.work)
    post(rabbit, "low", "of another", {}, topology.work)
    assert (await insist(5, queue.receive)).body == b"of another"

    depth = await queue.depth()
    assert (depth.ready, depth.dead) == (0, 1)
    expected = f"unroutable: routing key '{key}'; expected high, normal, low"
    assert depth.dead_reason == expected


class Said:
    """What peers send to the broker: how many of which methods."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._names: list[str] = []
        send = TrioConnection._send_method

        def count(to: TrioConnection, channel: int, method: Any, content: Any = None) -> None:
            self._names.append(method.NAME)
            send(to, channel, method, content)

        monkeypatch.setattr(TrioConnection, "_send_method", count)

    def declarations(self) -> Counter[str]:
        """How often each way of declaring something was used since this was asked last."""
        names, self._names = self._names, []
        return Counter(name for name in names if name.endswith(("Declare", "Bind")))


async def test_a_line_that_is_opened_again_asks_little(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer declares everything once. After a broker's restart it looks for the one exchange that
    says that all is there, on each of its lines."""
    said = Said(monkeypatch)
    await use(queue)
    parts = list(topology.parts())
    assert said.declarations() == {
        "Exchange.Declare": sum(isinstance(part, Exchange) for part in parts) + 1,
        "Queue.Declare": len(topology.queues),
        "Queue.Bind": sum(isinstance(part, Binding) and not part.to_exchange for part in parts),
        "Exchange.Bind": sum(isinstance(part, Binding) and part.to_exchange for part in parts),
    }
    for _ in range(3):
        for lifeline in (queue._publishing, queue._receiving):
            (await lifeline.line()).lose(GivenUp("a test"))
        await use(queue)
        assert said.declarations() == {"Exchange.Declare": 2}

    rabbit.manage("DELETE", f"/api/exchanges/%2F/{topology.marker.name}")  # as on an empty broker
    (await queue._publishing.line()).lose(GivenUp("a test"))
    await use(queue)
    assert said.declarations()["Queue.Declare"] == len(topology.queues)


async def test_each_peer_looks_for_what_differs_when_it_starts(
    rabbit: RabbitServer,
    queue: RabbitQueue,
    connect: Connect,
    rabbit_config: RabbitConfig,
    topology: Topology,
) -> None:
    """Although everything was there once, and says so."""
    await queue.prepare()
    path = f"/api/queues/%2F/{topology.queue_of(Priority.LOW)}"
    rabbit.manage("DELETE", path)
    rabbit.manage("PUT", path, {"durable": True, "arguments": {"x-queue-type": "quorum"}})
    with pytest.raises(QueueIncompatible, match=r"x-.* not set and must be"):
        await connect(rabbit_config).prepare()


async def test_a_user_who_may_not_declare(
    rabbit: RabbitServer, connect: Connect, rabbit_config: RabbitConfig
) -> None:
    """What is missing are permissions, and it is said which."""
    rabbit.manage("PUT", "/api/users/poor", {"password": "poor", "tags": ""})
    rights = {"configure": "^$", "write": ".*", "read": ".*"}
    rabbit.manage("PUT", "/api/permissions/%2F/poor", rights)
    poor = connect(replace(rabbit_config, url=f"amqp://poor:poor@127.0.0.1:{rabbit.port}"))
    with pytest.raises(QueueIncompatible, match=r"each as '\^test-\w+\\\.'"):
        await poor.prepare()


@pytest.mark.parametrize(("name", "complaint"), [("normal", "NOT_FOUND"), ("bell", "no more")])
async def test_a_receiver_whose_queue_is_deleted(
    rabbit: RabbitServer,
    rabbit_config: RabbitConfig,
    queue: RabbitQueue,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    complaint: str,
) -> None:
    """Whoever waits comes to know of it; the next call makes the queue anew."""
    waits = trio.Event()
    consume = Channel.consume

    async def spied_consume(channel: Channel, *more: Any) -> None:
        await consume(channel, *more)
        waits.set()

    monkeypatch.setattr(Channel, "consume", spied_consume)
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:

            async def receive() -> None:
                with pytest.raises(QueueUnavailable, match=complaint):
                    await queue.receive()

            nursery.start_soon(receive)
            await waits.wait()
            rabbit.manage("DELETE", f"/api/queues/%2F/{rabbit_config.prefix}.{name}")
    await queue.publish(b"x")
    assert (await insist(5, queue.receive)).body == b"x"


async def test_a_publisher_whose_queue_is_deleted(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology
) -> None:
    """A message that would be in no queue makes it anew; none is lost without a word."""
    await queue.publish(b"old")
    for name in (topology.queue_of(Priority.NORMAL), topology.delayed[-1]):
        rabbit.manage("DELETE", f"/api/queues/%2F/{name}")
    await queue.publish(b"new")
    await queue.publish(b"later", delay_s=0.2)
    assert [(await insist(5, queue.receive)).body for _ in range(2)] == [b"new", b"later"]


async def test_a_depth_whose_queue_is_deleted(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology
) -> None:
    """It is counted as empty, which it is."""
    await queue.publish(b"x")
    assert (await queue.depth()).ready == 1
    rabbit.manage("DELETE", f"/api/queues/%2F/{topology.queue_of(Priority.NORMAL)}")
    assert (await queue.depth()).ready == 0


async def test_a_bell_costs_nothing(queue: RabbitQueue) -> None:
    """Whoever publishes may ring, too, with rights that end at the prefix; were it otherwise, the
    broker would close the channel behind each message."""
    await queue.publish(b"x")
    line = await queue._publishing.line()
    for _ in range(3):  # each is confirmed after the bell of the one before
        await queue.publish(b"x")
    assert line.lost is None
    assert await queue._publishing.line() is line


@pytest.mark.parametrize("name", ["bell", "dead", "delay.250ms"])
async def test_an_exchange_that_is_deleted(
    rabbit: RabbitServer, rabbit_config: RabbitConfig, queue: RabbitQueue, name: str
) -> None:
    """What needs it fails, and makes it anew by being repeated."""
    await queue.prepare()
    rabbit.manage("DELETE", f"/api/exchanges/%2F/{rabbit_config.prefix}.{name}")

    async def set_aside() -> RabbitDelivery:
        await queue.publish(b"x", delay_s=0.2)
        delivery = await queue.receive()
        await delivery.dead_letter("a test")
        return delivery

    await insist(10, set_aside)

    async def is_dead() -> bool:
        return (await queue.depth()).dead >= 1

    await eventually(is_dead)


async def test_the_lines_exchange_is_deleted(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology
) -> None:
    """A message that would be in no queue makes it anew."""
    await queue.publish(b"old")
    rabbit.manage("DELETE", f"/api/exchanges/%2F/{topology.line}")
    await publish_insistently(queue, b"new")
    assert [(await insist(5, queue.receive)).body for _ in range(2)] == [b"old", b"new"]


async def publish_insistently(queue: RabbitQueue, body: bytes) -> None:
    with trio.fail_after(10):
        while True:
            with suppress(QueueUnavailable):
                return await queue.publish(body)


@pytest.mark.parametrize("name", ["work", "line", "dead"])
async def test_an_exchange_that_others_need(
    rabbit: RabbitServer, queue: RabbitQueue, topology: Topology, name: str
) -> None:
    """Clients, or the broker itself, as messages come to their time: it is missed whenever somebody
    looks how full the queue is."""
    await queue.publish(b"x", delay_s=0.5)
    rabbit.manage("DELETE", f"/api/exchanges/%2F/{topology.prefix}.{name}")
    await queue.depth()
    post(rabbit, "urgent", "y", {}, topology.work)
    assert (await insist(10, queue.receive)).body == b"x"
    assert (await queue.depth()).dead == 1
