"""A channel whose calls can be awaited, and which says when it is no more.

pika answers by callbacks, and forgets those that are waiting when the broker closes the channel:
an exchange or a queue that does not exist, an argument that differs, a delivery that was held for
longer than the broker allows. The connection stays open then, and a consumer on such a channel
would wait for ever. Here everything that waits on a channel fails with it.

Calls are answered in their order. One that was cancelled is answered all the same, to nobody;
whoever asked for a message must therefore wait for the answer (`receiver`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from pika import spec
from pika.connection import Connection
from pika.exceptions import AMQPError, ChannelClosedByClient
from pika.spec import BasicProperties

from pipeline.queues.rabbitmq.answer import Answer
from pipeline.queues.rabbitmq.topology import DELIVERIES_MAX, LEFT_MS, REASON, REDELIVERED

T = TypeVar("T")

PERSISTENT = 2


class NotRouted(AMQPError):
    """A message came back: there is no queue for it. It is certainly not in one."""


class Refused(AMQPError):
    """The broker could not take a message; whether one of its queues did is not known."""


class ConsumerCancelled(AMQPError):
    """The broker delivers no more to a consumer: its queue was deleted, or moves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A message in this channel's hands, until it is acknowledged or the channel is closed.

    Args:
        tag: Its number on this channel.
        exchange: To which it was published, or from which the broker last moved it on.
        key: With which routing key.
        redelivered: It was in somebody's hands before, and came back by itself.
    """

    tag: int
    exchange: str
    key: str
    body: bytes
    redelivered: bool
    headers: Mapping[str, Any]

    @property
    def left_ms(self) -> int:
        """For how long it must still be delayed."""
        left = self.headers.get(LEFT_MS)
        return left if isinstance(left, int) and left > 0 else 0

    @property
    def reason(self) -> str:
        """Why it is dead, where it was set aside or came back too often."""
        if isinstance(reason := self.headers.get(REASON), str):
            return reason
        if self.headers.get("x-first-death-reason") == "delivery_limit":
            return (
                f"it was delivered {DELIVERIES_MAX + 1} times, and each time its holder died or"
                " lost its connection"
            )
        return ""


class Channel:
    """Opened by `open`. Errors are pika's.

    Args:
        on_lost: Called with the reason when it cannot be used any more, unless `close` was called.
    """

    def __init__(self, connection: Connection, on_lost: Callable[[Exception], None]) -> None:
        self._lost: Exception | None = None
        self._on_lost = on_lost
        self._waiting: set[Answer[Any]] = set()
        self._unconfirmed: dict[int, Answer[None]] = {}
        self._unconfirmed_by_id: dict[str, Answer[None]] = {}
        self._published = 0
        self._getting: Answer[Message | None] | None = None
        self._opened: Answer[None] = self.expect()
        self._pika = connection.channel(None, lambda _: self._opened.give(None))
        self._pika.add_on_close_callback(self._note_closed)
        self._pika.add_on_cancel_callback(self._note_cancelled)

    async def open(self, *, prefetch: int | None = None, confirm: bool = False) -> None:
        """Wait until it is open.

        Args:
            prefetch: How many messages each of its consumers may hold.
            confirm: `publish` is going to be called.
        """
        await self.wait(self._opened)
        self._pika.add_callback(self._note_empty, [spec.Basic.GetEmpty], one_shot=False)
        if prefetch is not None:
            await self._call(self._pika.basic_qos, prefetch_count=prefetch)
        if confirm:
            self._pika.add_on_return_callback(self._note_returned)
            await self._call(self._pika.confirm_delivery, ack_nack_callback=self._note_confirmed)

    def close(self) -> None:
        """Close it; what it held goes back to the queues. It may be closed already."""
        if self._pika.is_open:
            self._pika.close()

    async def declare_exchange(
        self, name: str, kind: str, arguments: Mapping[str, str | int]
    ) -> None:
        """Make it, or find that it is there as asked for."""
        method = self._pika.exchange_declare
        given = dict(arguments)
        await self._call(method, exchange=name, exchange_type=kind, durable=True, arguments=given)

    async def find_exchange(self, name: str) -> None:
        """Find that it is there; otherwise the broker closes the channel."""
        await self._call(self._pika.exchange_declare, exchange=name, passive=True)

    async def declare_queue(self, name: str, arguments: Mapping[str, str | int]) -> None:
        """Make a quorum queue, or find that it is there as asked for."""
        quorum = {"x-queue-type": "quorum", **arguments}
        await self._call(self._pika.queue_declare, queue=name, durable=True, arguments=quorum)

    async def bind(self, source: str, target: str, key: str, *, to_exchange: bool) -> None:
        """Let messages with such a key pass to a queue, or to another exchange."""
        if to_exchange:
            method = self._pika.exchange_bind
            await self._call(method, destination=target, source=source, routing_key=key)
        else:
            await self._call(self._pika.queue_bind, queue=target, exchange=source, routing_key=key)

    async def count(self, queue: str) -> int:
        """How many messages wait in a queue."""
        declared = await self._call(self._pika.queue_declare, queue=queue, passive=True)
        return int(declared.message_count)

    async def publish(
        self, exchange: str, key: str, body: bytes, headers: Mapping[str, Any]
    ) -> None:
        """Return when all queues that get the message have it safely.

        Raises:
            NotRouted: There is none.
            Refused: One could not take it.
        """
        confirmed: Answer[None] = self.expect()
        name = uuid4().hex
        properties = BasicProperties(  # type: ignore[no-untyped-call] # pika's has no annotations
            delivery_mode=PERSISTENT, message_id=name, headers=dict(headers)
        )
        self._pika.basic_publish(exchange, key, body, properties, mandatory=True)
        self._published += 1
        number = self._published
        self._unconfirmed[number] = self._unconfirmed_by_id[name] = confirmed
        try:
            await self.wait(confirmed)
        finally:
            self._unconfirmed.pop(number, None)
            self._unconfirmed_by_id.pop(name, None)

    def tell(self, exchange: str) -> None:
        """Publish an empty message to whatever queue hears it; nobody needs to know."""
        self._pika.basic_publish(exchange, "", b"")
        self._published += 1  # the broker confirms it, too

    def refuse(self, reason: str) -> None:
        """Let nobody wait any longer for what was published: the broker has stopped reading."""
        for answer in self._unconfirmed.values():
            answer.fail(Refused(reason))

    def get(self, queue: str) -> Answer[Message | None]:
        """Ask for the first message; the answer is None when none waits. One call at a time."""
        assert self._getting is None
        answer = self._getting = self.expect()
        self._pika.basic_get(queue, self._note_got)
        return answer

    async def consume(
        self, queue: str, consumer: str, on_message: Callable[[Message], None]
    ) -> None:
        """Let messages come until `cancel`, which may follow also where this was cancelled."""

        def deliver(_: object, method: Any, properties: BasicProperties, body: bytes) -> None:
            on_message(_message(method, properties, body))

        await self._call(
            self._pika.basic_consume,
            queue=queue,
            on_message_callback=deliver,
            consumer_tag=consumer,
        )

    async def cancel(self, consumer: str) -> None:
        """Let no more messages come. Those that do before the answer go back at once."""
        await self._call(self._pika.basic_cancel, consumer_tag=consumer)

    def stop(self, consumer: str) -> None:
        """As `cancel`, without waiting for the answer."""
        self._pika.basic_cancel(consumer_tag=consumer, callback=lambda _: None)

    def ack(self, tag: int) -> None:
        """Take a message off its queue for good; the broker does not answer."""
        self._pika.basic_ack(tag)

    def give_back(self, tag: int) -> None:
        """Give a message back to its queue at once; the broker counts that as a try in vain."""
        self._pika.basic_nack(tag, requeue=True)

    def expect(self) -> Answer[Any]:
        """An answer that fails when the channel is lost before it is given."""
        if self._lost is not None:
            raise self._lost
        answer: Answer[Any] = Answer()
        self._waiting.add(answer)
        return answer

    async def wait(self, answer: Answer[T]) -> T:
        """Wait for an answer that was expected. Nobody else will."""
        try:
            return await answer.wait()
        finally:
            self.forget(answer)

    def forget(self, answer: Answer[Any]) -> None:
        """Nobody waits for this answer any more."""
        self._waiting.discard(answer)

    async def _call(self, method: Callable[..., object], **arguments: object) -> Any:
        """Call a method of pika's that the broker answers, and return the answer."""
        answer = self.expect()
        method(callback=lambda frame: answer.give(frame.method), **arguments)
        return await self.wait(answer)

    # What pika calls.

    def _note_got(self, _: object, method: Any, properties: BasicProperties, body: bytes) -> None:
        self._give_got(_message(method, properties, body))

    def _note_empty(self, _: object) -> None:
        self._give_got(None)

    def _give_got(self, message: Message | None) -> None:
        answer, self._getting = self._getting, None
        assert answer is not None
        self._waiting.discard(answer)
        answer.give(message)

    def _note_returned(
        self, _: object, method: Any, properties: BasicProperties, __: bytes
    ) -> None:
        """A message came back. Its confirmation follows, and changes nothing any more."""
        if (answer := self._unconfirmed_by_id.get(str(properties.message_id))) is not None:
            answer.fail(NotRouted(f"{method.reply_text}: {method.exchange} {method.routing_key}"))

    def _note_confirmed(self, frame: Any) -> None:
        """Of several messages at once, where the broker says `multiple`."""
        number, is_good = frame.method.delivery_tag, isinstance(frame.method, spec.Basic.Ack)
        first = min(self._unconfirmed, default=number) if frame.method.multiple else number
        for each in range(first, number + 1):
            if (answer := self._unconfirmed.get(each)) is not None:
                if is_good:
                    answer.give(None)
                else:
                    answer.fail(Refused("the broker could not take the message"))

    def _note_cancelled(self, _: object) -> None:
        self._lose(ConsumerCancelled("the broker delivers no more from a queue: was it deleted?"))

    def _note_closed(self, _: object, reason: Exception) -> None:
        self._lose(reason)

    def _lose(self, reason: Exception) -> None:
        if self._lost is not None:
            return
        self._lost = reason
        waiting, self._waiting = self._waiting, set()
        for answer in waiting:
            answer.fail(reason)
        if not isinstance(reason, ChannelClosedByClient):
            self._on_lost(reason)


def _message(method: Any, properties: BasicProperties, body: bytes) -> Message:
    headers = properties.headers or {}
    count = headers.get("x-delivery-count", 0)
    came_back = isinstance(count, int) and count > 0
    return Message(
        tag=method.delivery_tag,
        exchange=method.exchange,
        key=method.routing_key,
        body=body,
        redelivered=bool(method.redelivered or came_back or headers.get(REDELIVERED)),
        headers=headers,
    )
