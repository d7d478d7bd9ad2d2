"""pika's connection on trio, without a broker."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from pika import ConnectionParameters
from pika.exceptions import AMQPHeartbeatTimeout, StreamLostError

from pipeline.queues.rabbitmq.adapter import TrioConnection


def make() -> TrioConnection:
    return TrioConnection(ConnectionParameters(heartbeat=1), lambda _: None)


async def test_a_timer() -> None:
    """Calls in its time, and not when it was taken back."""
    connection, called = make(), []
    async with trio.open_nursery() as connection._tasks:
        connection._adapter_call_later(0.01, lambda: called.append("first"))
        taken_back = connection._adapter_call_later(0.02, lambda: called.append("second"))
        connection._adapter_remove_timeout(taken_back)
    assert called == ["first"]


async def test_a_timer_on_a_connection_that_just_ends() -> None:
    """Its tasks are over, and those who use it are not told yet: no error, and no call."""
    connection, called = make(), []
    async with trio.open_nursery() as connection._tasks:
        pass
    connection._adapter_call_later(0.0, lambda: called.append("late"))
    connection._tasks = None
    connection._adapter_call_later(0.0, lambda: called.append("later"))
    await trio.sleep(0.01)
    assert called == []


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (b"", "it closed the connection"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100, None),
        (b"\x01" + b"\xff" * 100, None),
        (b"\x01\x00\x00\x00\x00\x00\x04\xff\xff\xff\xff\xce", None),
    ],
    ids=["nothing", "http", "rubbish", "unknown"],
)
async def test_who_is_no_broker(said: bytes, complaint: str | None) -> None:
    """Whatever somebody sends and then closes: the connection is over, with a reason, and nothing
    else happens."""
    ours, theirs = trio.testing.memory_stream_pair()
    connection = make()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run, ours)
        assert (await theirs.receive_some(8)).startswith(b"AMQP")
        if said:
            await theirs.send_all(said)
        await theirs.aclose()
    assert connection.over is not None
    assert connection.is_closed
    with pytest.raises(type(connection.over)):
        await connection.opened.wait()
    assert complaint is None or complaint in str(connection.over)


async def test_cancelling_ends_it() -> None:
    """At once; and whoever waits for its opening is told."""
    ours, _theirs = trio.testing.memory_stream_pair()
    connection = make()
    with trio.move_on_after(0.01) as scope:
        await connection.run(ours)
    assert scope.cancelled_caught
    assert connection.over is not None
    assert not isinstance(connection.over, (StreamLostError, AMQPHeartbeatTimeout))
