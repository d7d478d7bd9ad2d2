"""Connections to RabbitMQ: to whom, how they end, and what is noticed of it. On a real broker."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from functools import partial

import pytest
import trio

from pipeline.errors import QueueUnavailable
from pipeline.queues.rabbitmq import declaring
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.delivery import RabbitDelivery
from pipeline.queues.rabbitmq.line import Line
from pipeline.queues.rabbitmq.queue import RabbitQueue
from tests.contract.rabbitmq.rig import Connect, insist, within
from tests.servers.rabbitmq import RabbitServer


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("amqp://grapevine:wrong@127.0.0.1:{port}", "refused the user or the password"),
        ("amqp://nobody:wrong@127.0.0.1:{port}", "refused the user or the password"),
        ("amqp://grapevine:{password}@127.0.0.1:{port}/nowhere", "refused the virtual host"),
        ("amqp://grapevine:{password}@127.0.0.1:1", "Connection refused"),
        ("amqps://grapevine:{password}@127.0.0.1:{port}", "TLS failed"),
        ("amqp://grapevine:{password}@no-such-host.invalid", "127.0.0.1|ame|resol"),
    ],
)
async def test_where_nobody_lets_us_in(
    rabbit: RabbitServer, connect: Connect, rabbit_config: RabbitConfig, url: str, complaint: str
) -> None:
    """Each call says that the queue is away, why, and that nothing has happened."""
    there = url.format(password=rabbit.password, port=rabbit.port)
    queue = connect(replace(rabbit_config, url=there))
    for call in (queue.receive, queue.depth, lambda: queue.publish(b"x")):
        with pytest.raises(QueueUnavailable, match=complaint) as caught:
            await call()
        assert caught.value.definite
        assert rabbit.password not in str(caught.value)


async def test_any_of_several_hosts(
    rabbit: RabbitServer, connect: Connect, rabbit_config: RabbitConfig
) -> None:
    """One that refuses, one that is silent: the third one is used, by every peer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hosts = f"127.0.0.1:1,127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{rabbit.port}"
        url = f"amqp://{rabbit.user}:{rabbit.password}@{hosts}"
        peer = connect(replace(rabbit_config, url=url))
        await insist(30, lambda: _publish_and_receive(peer))


DECLARE_EXCHANGE = bytes([0, 40, 0, 10])
"""How AMQP numbers that method."""


@pytest.fixture
async def stalled(rabbit: RabbitServer) -> AsyncIterator[int]:
    """The port of a broker that lets everybody in and then answers to nothing, but lives: as one
    does that has lost its majority, or waits for its disk."""

    async def pass_on(source: trio.SocketStream, target: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                if DECLARE_EXCHANGE in data:
                    await trio.sleep_forever()
                await target.send_all(data)
            await target.aclose()

    async def serve(client: trio.SocketStream) -> None:
        broker = await trio.open_tcp_stream("127.0.0.1", rabbit.port)
        async with broker, trio.open_nursery() as directions:
            directions.start_soon(pass_on, client, broker)
            await pass_on(broker, client)
            directions.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


async def test_a_host_that_stands_still(
    rabbit_config: RabbitConfig,
    stalled: int,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is given up although its heartbeats go on, and another host is used."""
    monkeypatch.setattr(declaring, "ANSWER_S", 0.5)
    assert rabbit_config.url is not None
    url = rabbit_config.url.replace("@", f"@127.0.0.1:{stalled},")
    peer = connect(replace(rabbit_config, url=url))
    for lifeline in (peer._publishing, peer._receiving):
        while lifeline._hosts[0].port != stalled:
            lifeline._hosts.rotate()
    # A busy broker may be given up now and then, too: it is asked for some seventy parts.
    assert (await insist(30, lambda: _publish_and_receive(peer))).body == b"x"


async def test_no_host_but_one_that_stands_still(
    rabbit_config: RabbitConfig, stalled: int, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every call ends all the same, and says why."""
    monkeypatch.setattr("pipeline.queues.rabbitmq.receiver.ANSWER_S", 0.3)
    monkeypatch.setattr("pipeline.queues.rabbitmq.queue.CALL_S", 0.3)
    alone = connect(replace(rabbit_config, url=f"{_without_host(rabbit_config)}:{stalled}"))
    with trio.fail_after(10):
        for call in (alone.receive, alone.depth, alone.prepare, lambda: alone.publish(b"x")):
            with pytest.raises(QueueUnavailable, match="does not answer") as caught:
                await call()
            assert caught.value.definite


def _without_host(config: RabbitConfig) -> str:
    assert config.url is not None
    return config.url.rpartition(":")[0]


async def test_a_count_that_is_not_answered(
    queue: RabbitQueue,
    connect: Connect,
    rabbit_config: RabbitConfig,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The line is given up, and with it what it holds: it would never say whether it is dead."""
    await queue.publish(b"x")
    await within(5, queue.receive)

    async def never(_: Line) -> dict[str, int]:
        await trio.sleep_forever()
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.queues.rabbitmq.queue.CALL_S", 0.3)
        patch.setattr(queue, "_count", never)
        with pytest.raises(QueueUnavailable, match="does not answer"):
            await queue.depth()
    again = await within(5, connect(rabbit_config).receive)
    assert (again.body, again.redelivered) == (b"x", True)


async def _publish_and_receive(queue: RabbitQueue) -> RabbitDelivery:
    await queue.publish(b"x")
    return await queue.receive()


async def test_a_channel_that_the_broker_closes(
    queue: RabbitQueue, connect: Connect, rabbit_config: RabbitConfig
) -> None:
    """As it does with one that held a message for too long: the connection stays, and nothing would
    ever come. Who waits is told at once, and what was held is somebody else's."""
    other = connect(rabbit_config)
    await queue.publish(b"held")
    held = await within(5, queue.receive)
    async with trio.open_nursery() as nursery:

        async def receive() -> None:
            with pytest.raises(QueueUnavailable, match="PRECONDITION_FAILED"):
                await queue.receive()

        nursery.start_soon(receive)
        await trio.sleep(0.2)  # it waits: only time tells
        line = await queue._receiving.line()
        line.channel.ack(999)  # nothing of that number is held
    again = await within(5, other.receive)
    assert (again.body, again.redelivered) == (b"held", True)
    await held.put_back(0.0)  # void: it is no longer his
    assert (await other.depth()).ready == 0
    await queue.publish(b"next")
    assert (await within(5, queue.receive)).body == b"next"


async def test_a_broker_without_memory(
    rabbit: RabbitServer, queue: RabbitQueue, connect: Connect, rabbit_config: RabbitConfig
) -> None:
    """It takes no messages, and says why; those it has are received and acknowledged still. What
    could not be put back is neither lost nor given out again and again."""
    for number in range(3):
        await queue.publish(b"%d" % number)
    done, kept = await within(5, queue.receive), await within(5, queue.receive)
    rabbit.control("set_vm_memory_high_watermark", "absolute", "1MB")
    try:
        # The first one is what the broker notices it by.
        with pytest.raises(QueueUnavailable, match="low on memory"):
            await within(30, partial(_publish_until_refused, queue))
        endings: list[Callable[[], Awaitable[None]]] = [
            partial(kept.put_back, 0.0),
            partial(kept.dead_letter, "no"),
        ]
        for ending in endings:
            with pytest.raises(QueueUnavailable, match="low on memory") as caught:
                await ending()
            assert caught.value.definite
        await done.ack()
        last = await within(5, connect(rabbit_config).receive)
        assert (last.body, last.redelivered) == (b"2", False)
        await last.ack()
    finally:
        rabbit.control("set_vm_memory_high_watermark", "absolute", "1GB")
    await insist(10, lambda: _end(kept))
    rest = [await within(5, queue.receive) for _ in range((await queue.depth()).ready)]
    assert {delivery.body for delivery in rest} <= {b"1", b"too much"}
    assert sum(delivery.body == b"1" for delivery in rest) == 1


async def _publish_until_refused(queue: RabbitQueue) -> RabbitDelivery:
    while True:
        await queue.publish(b"too much")


async def _end(delivery: RabbitDelivery) -> RabbitDelivery:
    await delivery.put_back(0.0)
    return delivery


async def test_a_call_that_is_cancelled_while_it_connects(queue: RabbitQueue) -> None:
    """Does not keep the next one from connecting, however impatient all of them are."""
    patience_s = 0.005
    with trio.fail_after(20):
        published = False
        while not published:
            with trio.move_on_after(patience_s):
                await queue.publish(b"x")
                published = True
            patience_s *= 1.02  # a busy broker takes longer to confirm even on an open line
    assert (await within(5, queue.receive)).body == b"x"


async def test_a_line_that_nobody_waits_for_any_more(queue: RabbitQueue) -> None:
    """It is opened all the same, and used by the next call instead of another one beside it."""
    lifeline = queue._publishing
    with trio.move_on_after(0.001):
        await lifeline.line()
    opening = lifeline._opening
    assert opening is not None
    with trio.fail_after(10):
        opened = await opening.wait()
        assert await lifeline.line() is opened
    assert opened.lost is None


async def test_closing_twice_and_going_on(queue: RabbitQueue) -> None:
    """A closed queue holds nothing; it may be closed again, and used again."""
    await queue.aclose()
    await queue.publish(b"x")
    await queue.aclose()
    await queue.aclose()
    assert (await within(5, queue.receive)).body == b"x"


async def test_closing_while_it_connects(connect: Connect, rabbit_config: RabbitConfig) -> None:
    """A host that does not answer does not keep a peer from stopping."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"amqp://127.0.0.1:{silent.getsockname()[1]}"
        queue = connect(replace(rabbit_config, url=url))
        with trio.move_on_after(0.1):
            await queue.publish(b"x")
        with trio.fail_after(2):
            await queue.aclose()


async def test_describing(rabbit: RabbitServer, queue: RabbitQueue) -> None:
    """For people: which broker, of which version, where; nothing secret."""
    assert (await queue.describe()).startswith("RabbitMQ 3.")
    assert f"127.0.0.1:{rabbit.port}" in await queue.describe()
