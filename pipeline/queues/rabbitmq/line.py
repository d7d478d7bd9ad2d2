"""One connection to one broker, with a channel on it, and the one reason why it ended.

Whatever cannot be relied on any more (a channel that the broker closed, a consumer it cancelled, an
answer that does not come) ends the whole line. That is more than is needed and can be said in one
sentence: what a line holds goes back to the queue when the line is lost, and a lost line never
comes back.

Its tasks run in the background of the program (trio's system tasks), not in the nursery of whoever
happened to need it first: a task that is cancelled must still be able to give a message back.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial

import trio
from pika import ConnectionParameters, PlainCredentials
from pika.exceptions import ConnectionClosedByClient

from pipeline.queues.rabbitmq.adapter import TrioConnection
from pipeline.queues.rabbitmq.answer import Answer
from pipeline.queues.rabbitmq.channel import Channel
from pipeline.queues.rabbitmq.complaints import GivenUp, explain
from pipeline.queues.rabbitmq.config import Endpoint, RabbitConfig

log = logging.getLogger(__name__)

CONNECT_S = 5.0
"""For a connection, TLS, the login and a channel, together."""
CLOSE_S = 1.5
"""For a good-bye that is answered; a peer that was told twice to end has eight seconds in all."""


_ON_PURPOSE = (GivenUp, ConnectionClosedByClient)


class Line:
    """Opened by `open`, once.

    Args:
        endpoint: The broker it goes to.
        purpose: What it is for, as the broker's own tools show it.
    """

    def __init__(self, config: RabbitConfig, endpoint: Endpoint, purpose: str) -> None:
        self.endpoint = endpoint
        self.lost: Exception | None = None
        self.blocked: str | None = None
        self._config = config
        self._life = trio.CancelScope()
        self._ended = trio.Event()
        self._connection = TrioConnection(
            _parameters(config, endpoint, purpose), self._note_blocked
        )
        self._opened: Answer[None] = self._connection.opened
        self._channel: Channel | None = None

    @property
    def channel(self) -> Channel:
        """Its own, for as long as it lives."""
        assert self._channel is not None
        return self._channel

    @property
    def version(self) -> str:
        """The broker's."""
        return str((self._connection.server_properties or {}).get("version", ""))

    async def open(self, *, prefetch: int | None, confirm: bool) -> None:
        """Connect, log in and open the channel; raise what keeps it from that."""
        trio.lowlevel.spawn_system_task(self._live)
        try:
            with trio.fail_after(CONNECT_S):
                await self._opened.wait()
                self._channel = Channel(self._connection, self.lose)
                await self._channel.open(prefetch=prefetch, confirm=confirm)
        except BaseException as error:
            self.lose(error if isinstance(error, Exception) else GivenUp("it was not waited for"))
            raise

    def lose(self, reason: Exception) -> None:
        """Give it up, for a reason; the first one is kept."""
        if self.lost is None:
            self.lost = reason
            if self._channel is not None and not isinstance(reason, _ON_PURPOSE):
                why = f"{self.endpoint}: {explain(reason)}"
                log.warning("lost RabbitMQ", extra={"action": "reconnect", "why": why})
        self._life.cancel()

    def call_later(self, delay_s: float, callback: Callable[[], object]) -> trio.CancelScope:
        """Call something unless the line is lost by then, or what is returned is cancelled."""
        return self._connection._adapter_call_later(delay_s, callback)

    @asynccontextmanager
    async def throw_away_channel(self) -> AsyncIterator[Channel]:
        """A channel for what may fail: whatever closes it, the line lives on."""
        channel = Channel(self._connection, lambda _: None)
        try:
            await channel.open()
            yield channel
        finally:
            channel.close()

    async def aclose(self) -> None:
        """Say goodbye, so that everything said before is heard, and end it."""
        with trio.move_on_after(CLOSE_S):
            if self._connection.is_open:
                self._connection.close()
                await self._ended.wait()
        self.lose(GivenUp("it was closed"))
        with trio.CancelScope(shield=True):
            await self._ended.wait()

    async def _live(self) -> None:
        stream: trio.abc.Stream | None = None
        try:
            with self._life:
                stream = await _connect(self._config, self.endpoint)
                await self._connection.run(stream)
        except Exception as error:  # nobody else could take it
            self.lose(error)
        finally:
            self.lose(self._connection.over or GivenUp("it was given up"))
            assert self.lost is not None
            self._opened.fail(self.lost)
            if stream is not None:
                with suppress(Exception), trio.CancelScope(shield=True):
                    await trio.aclose_forcefully(stream)
            self._ended.set()

    def _note_blocked(self, reason: str | None) -> None:
        """A broker that runs out of memory or disk reads no more from whoever publishes."""
        self.blocked = reason and f"it takes no messages at the moment: {reason}"
        if self.blocked is not None:
            log.warning("RabbitMQ takes no messages", extra={"action": "wait", "why": reason})
            if self._channel is not None:
                self._channel.refuse(self.blocked)


async def _connect(config: RabbitConfig, endpoint: Endpoint) -> trio.abc.Stream:
    stream = await trio.open_tcp_stream(endpoint.host, endpoint.port)
    if not config.broker.secure:
        return stream
    try:
        context = await trio.to_thread.run_sync(partial(_trust, config))
        name = config.server_name or endpoint.host
        secured = trio.SSLStream(stream, context, server_hostname=name)
        await secured.do_handshake()
    except BaseException:
        await trio.aclose_forcefully(stream)
        raise
    return secured


def _trust(config: RabbitConfig) -> ssl.SSLContext:
    """Read at each connection, since certificates are renewed while peers run."""
    context = ssl.create_default_context(cafile=config.ca_file)
    if config.cert_file is not None:
        context.load_cert_chain(config.cert_file, config.key_file)
    return context


def _parameters(config: RabbitConfig, endpoint: Endpoint, purpose: str) -> ConnectionParameters:
    user, password = config.credentials
    return ConnectionParameters(
        host=endpoint.host,
        port=endpoint.port,
        virtual_host=config.broker.virtual_host,
        credentials=PlainCredentials(user, password),
        heartbeat=config.heartbeat_s,
        client_properties={"product": "Grapevine", "connection_name": f"grapevine {purpose}"},
    )
