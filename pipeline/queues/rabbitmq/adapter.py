"""pika's connection on a trio stream.

pika keeps the protocol apart from the loop: `Connection` is given bytes and calls hooks that send
bytes and start timers. Its own adapters are for asyncio and for threads of their own, which would
carry every call across a thread; this is one for trio, with three tasks: read, write, and a timer
each. The hooks begin with an underscore although adapters are meant to have them, so the version of
pika is pinned to the series they were read in.

pika looks for silence only once in a heartbeat and five seconds, so it may take two of these to
notice that nobody is there. The reader here waits no longer than a heartbeat for the next bytes.
What is in the socket already is seen before a deadline is, so a process that was stopped itself
does not mistake its own sleep for the broker's.

Messages are read leniently. What clients write into headers is their own business and may be legal
though pika cannot read it (a time in milliseconds lies in the year 55840). pika would end the
connection; the message would come again, end the next one, and at last lie dead where each look at
it does the same. Here it comes without its properties.
"""

from __future__ import annotations

import logging
import math
import ssl
import struct
from collections.abc import Callable
from typing import Any

import trio
from pika import spec
from pika.connection import Connection, Parameters
from pika.exceptions import (
    AMQPError,
    AMQPHeartbeatTimeout,
    ConnectionClosedByClient,
    InvalidFrameError,
    StreamLostError,
)
from pika.frame import Frame, Header, ProtocolHeader

from pipeline.queues.rabbitmq.answer import Answer

log = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 16


class TrioConnection(Connection):
    """One AMQP connection; `run` speaks it over a stream until it is over.

    Args:
        parameters: pika's; host and port in them are not used.
        on_blocked: Called with the broker's reason when it takes no more messages from this
            connection, and with None when it does again.
    """

    def __init__(self, parameters: Parameters, on_blocked: Callable[[str | None], None]) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._tasks: trio.Nursery | None = None
        self._output = bytearray()
        self._has_output = trio.Event()
        self.opened: Answer[None] = Answer()
        self.over: Exception | None = None
        super().__init__(
            parameters,
            on_open_callback=lambda _: self.opened.give(None),
            on_open_error_callback=self._note_over,
            on_close_callback=self._note_over,
            internal_connection_workflow=False,
        )
        self.add_on_connection_blocked_callback(
            lambda _, frame: on_blocked(str(frame.method.reason))
        )
        self.add_on_connection_unblocked_callback(lambda _, __: on_blocked(None))

    async def run(self, stream: trio.abc.Stream) -> None:
        """Speak over a stream that is connected, until either side ends it; `over` says why.

        Cancelling it ends the connection at once.
        """
        reason: Exception | None = None
        try:
            async with trio.open_nursery() as self._tasks:
                self._on_stream_connected()
                self._tasks.start_soon(self._read, stream)
                self._tasks.start_soon(self._write, stream)
        except* Exception as errors:
            reason = _understood(errors)
        finally:
            self._tasks = None
            if self._error is None and reason is None:
                reason = ConnectionClosedByClient(0, "it was given up")
            self._on_stream_terminated(reason)

    def _note_over(self, _: object, reason: Exception) -> None:
        self.over = reason
        self.opened.fail(reason)

    async def _read(self, stream: trio.abc.Stream) -> None:
        while True:
            with trio.move_on_after(self._silence_s) as silence:
                data = await stream.receive_some(CHUNK_BYTES)
            if silence.cancelled_caught:
                raise AMQPHeartbeatTimeout(f"it was silent for {self._silence_s:g} s")
            if not data:
                raise StreamLostError("it closed the connection")
            self._on_data_available(bytes(data))

    @property
    def _silence_s(self) -> float:
        """How long nothing may be heard. The broker sends at least two heartbeats in that time."""
        heartbeat_s = self.params.heartbeat
        return heartbeat_s if self.is_open and isinstance(heartbeat_s, int) else math.inf

    async def _write(self, stream: trio.abc.Stream) -> None:
        while True:
            await self._has_output.wait()
            self._has_output = trio.Event()
            data, self._output = self._output, bytearray()
            await stream.send_all(data)

    async def _wait_for_timer(
        self, delay_s: float, timer: trio.CancelScope, callback: Callable[[], Any]
    ) -> None:
        with timer:
            await trio.sleep(delay_s)
        if not timer.cancel_called:
            callback()

    # What pika calls.

    def _read_frame(self) -> tuple[int, Frame | ProtocolHeader | None]:
        try:
            return super()._read_frame()
        except InvalidFrameError:
            raise
        except Exception:  # whatever may come of reading what anybody has written
            lenient = _read_header(self._frame_buffer)
            if lenient is None:
                raise
            log.warning("a message's properties cannot be read", extra={"action": "do_without"})
            return lenient

    def _adapter_call_later(self, delay: float, callback: Callable[[], Any]) -> trio.CancelScope:
        timer = trio.CancelScope()
        try:
            if self._tasks is not None:
                self._tasks.start_soon(self._wait_for_timer, delay, timer, callback)
        except RuntimeError:  # its tasks have just ended, and nobody has been told yet
            timer.cancel()
        return timer

    def _adapter_remove_timeout(self, timeout_id: object) -> None:
        assert isinstance(timeout_id, trio.CancelScope)
        timeout_id.cancel()

    def _adapter_add_callback_threadsafe(self, callback: Callable[..., Any]) -> None:
        self._token.run_sync_soon(callback)

    def _adapter_connect_stream(self) -> None:
        raise AssertionError("the stream is connected by whoever calls run()")

    def _adapter_disconnect_stream(self) -> None:
        if self._tasks is not None:
            self._tasks.cancel_scope.cancel()

    def _adapter_emit_data(self, data: bytes) -> None:
        self._output += data
        self._has_output.set()


def _read_header(data: bytes) -> tuple[int, Header] | None:
    """Read what introduces a message's body, without its properties; and how many bytes it is."""
    kind, channel, size = struct.unpack_from(">BHL", data)
    if kind != spec.FRAME_HEADER:
        return None
    _class, _weight, body_size = struct.unpack_from(">HHQ", data, spec.FRAME_HEADER_SIZE)
    properties = spec.BasicProperties()  # type: ignore[no-untyped-call] # pika's has no annotations
    length = spec.FRAME_HEADER_SIZE + size + spec.FRAME_END_SIZE
    return length, Header(channel, body_size, properties)


def _understood(errors: BaseExceptionGroup[Exception]) -> Exception:
    """What ended it. Several tasks may fail of one cause, and any of them tells it."""
    error: Exception | BaseExceptionGroup[Exception] = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    cause = error.__cause__
    if isinstance(error, trio.BrokenResourceError) and not isinstance(cause, ssl.SSLError):
        # In pika's words, so that pika concludes from the moment what may be the matter.
        return StreamLostError(cause.strerror if isinstance(cause, OSError) else "it was cut")
    if isinstance(error, (AMQPError, OSError, trio.BrokenResourceError)):
        return error
    log.error("what RabbitMQ sent makes no sense", exc_info=error)
    return StreamLostError(f"what it sent makes no sense: {error!r}")
