"""What the tests of the queue on RabbitMQ do again and again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from pipeline.errors import QueueUnavailable
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.queues.rabbitmq.delivery import RabbitDelivery
from pipeline.queues.rabbitmq.queue import RabbitQueue
from tests.servers.rabbitmq import RabbitServer

Connect = Callable[[RabbitConfig], RabbitQueue]


async def within(seconds: float, call: Callable[[], Awaitable[RabbitDelivery]]) -> RabbitDelivery:
    """Wait for a delivery, and not longer."""
    with trio.fail_after(seconds):
        return await call()


async def insist(seconds: float, call: Callable[[], Awaitable[RabbitDelivery]]) -> RabbitDelivery:
    """As a worker does, whose patience repeats what is safe to repeat."""
    with trio.fail_after(seconds):
        while True:
            try:
                return await call()
            except QueueUnavailable:
                await trio.sleep(0.01)


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float = 30.0) -> None:
    """Wait for what the broker does in its own time."""
    give_up_at = trio.current_time() + within_s
    while True:
        if await condition():
            return
        assert trio.current_time() < give_up_at
        await trio.sleep(0.02)


def post(
    rabbit: RabbitServer,
    key: str,
    body: str,
    headers: dict[str, object],
    exchange: str = "amq.default",
) -> None:
    """Publish as a stranger with curl does; to a queue by its name, if no exchange is given."""
    message = {
        "routing_key": key,
        "payload": body,
        "payload_encoding": "string",
        "properties": {"headers": headers},
    }
    answer = rabbit.manage("POST", f"/api/exchanges/%2F/{exchange}/publish", message)
    assert answer == {"routed": True}
