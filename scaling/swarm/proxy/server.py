"""The gate's own UNIX socket: HTTP/1.1, one request after the other on a connection, in bounds.

h11 reads every byte that comes and writes every byte that goes; what it does not take for HTTP ends
the connection. A request that wants to become something else than HTTP (`Upgrade`, `CONNECT`), as
Docker's own API does for `exec` and `attach`, is refused like any other, and its connection closed.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import h11
import trio

from scaling.swarm.proxy.asking import BODY_BYTES_MAX, Forbidden, Request
from scaling.swarm.proxy.engine import EngineAway, Piece
from scaling.swarm.proxy.gate import Answer, Gate, message

log = logging.getLogger(__name__)

CONNECTIONS_MAX = 64
REQUEST_S = 10.0
"""For a whole request, from its first byte."""
IDLE_S = 300.0
"""Between two requests: a leader looks every few seconds, and sooner finds out that it is alone."""
SEND_S = 30.0
"""For each piece of an answer: a caller that stops reading is let go."""
LEFT = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError)
"""What is raised when a caller goes away, or stops reading."""

HEAD_BYTES_MAX = 16 * 1024
CHUNK = 8 * 1024


@contextmanager
def listening(path: Path) -> Iterator[trio.SocketListener]:
    """Listen at a path, for this user and this group; what is there is replaced.

    It stays there at the end, and refuses connections. By then it may be another gate's: after a
    node was cut off, Swarm starts a container on it before the old one has ended, and a gate whose
    socket somebody has removed is reached by nobody.
    """
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as plain:
        before = os.umask(0o117)
        try:
            plain.bind(str(path))
        finally:
            os.umask(before)
        plain.listen(CONNECTIONS_MAX)
        yield trio.SocketListener(trio.socket.from_stdlib_socket(plain))


async def serve(gate: Gate, listener: trio.SocketListener) -> None:
    """Serve until cancelled."""
    places = trio.Semaphore(CONNECTIONS_MAX)

    async def converse(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                places.acquire_nowait()
            except trio.WouldBlock:
                log.warning("refused a connection: %s are open", CONNECTIONS_MAX)
                return
            try:
                await Conversation(gate, stream).run()
            except* LEFT:
                log.debug("a caller has left in the middle")
            except* Exception:
                # One request that we cannot cope with must not end the service of all others.
                log.exception("a request could not be answered")
            finally:
                places.release()

    await trio.serve_listeners(converse, [listener])


class Conversation:
    """One caller's connection."""

    def __init__(self, gate: Gate, stream: trio.SocketStream) -> None:
        self._gate = gate
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)

    async def run(self) -> None:
        """Answer until the caller leaves, or something is wrong with what it says."""
        while await self._one():
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return
            self._http.start_next_cycle()

    async def _one(self) -> bool:
        """Answer one request; whether there was one."""
        with suppress(h11.LocalProtocolError):  # it has said what ends its connection
            try:
                request = await self._read()
            except Forbidden as refusal:
                await self._refuse(refusal)
                return False
            except h11.RemoteProtocolError as error:
                await self._refuse(Forbidden(f"this is not HTTP: {error}", error.error_status_hint))
                return False
            if request is None:
                return False
            async with self._gate.answer(request) as answer:
                if answer.refused:
                    log.warning("refused: %s", answer.refused)
                await self._say(answer)
            return True
        return False

    async def _read(self) -> Request | None:
        """Read a whole request; None when there is none. Raises `Forbidden`."""
        with trio.move_on_after(IDLE_S) as patience:
            head = await self._next(patience)
            if not isinstance(head, h11.Request):
                return None
            headers = {name for name, _ in head.headers}
            if head.method == b"CONNECT" or b"upgrade" in headers:
                raise Forbidden("this proxy speaks HTTP only, and does not switch to anything else")
            if head.http_version not in (b"1.0", b"1.1"):
                raise Forbidden("this proxy speaks HTTP/1.1", status=505)
            if b"expect" in headers:
                raise Forbidden("send the body along with the request", status=417)
            if b"transfer-encoding" in headers:
                raise Forbidden("send the body in one piece, with its length", status=411)
            body = bytearray()
            while not isinstance(event := await self._next(patience), h11.EndOfMessage):
                if not isinstance(event, h11.Data):
                    return None
                body += event.data
                if len(body) > BODY_BYTES_MAX:
                    raise Forbidden(f"the body is longer than {BODY_BYTES_MAX} bytes", status=413)
            return Request(
                method=head.method.decode("ascii"),
                target=head.target.decode("latin-1"),
                body=bytes(body),
            )
        return None

    async def _next(self, patience: trio.CancelScope) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            data = await self._stream.receive_some(CHUNK)
            patience.deadline = min(patience.deadline, trio.current_time() + REQUEST_S)
            self._http.receive_data(data)
        return event

    async def _refuse(self, refusal: Forbidden) -> None:
        log.warning("refused: %s", refusal)
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._say(Answer(refusal.status, message(str(refusal))), last=True)

    async def _say(self, answer: Answer, *, last: bool = False) -> None:
        headers = [("Content-Type", "application/json"), ("Server", "grapevine")]
        if answer.date:
            headers.append(("Date", answer.date))
        if last or answer.more is not None:
            headers.append(("Connection", "close"))
        if answer.more is None:
            headers.append(("Content-Length", str(len(answer.body))))
        await self._send(h11.Response(status_code=answer.status, headers=headers))
        if answer.more is not None:
            await self._pass_on(answer.more)
        elif answer.body:
            await self._send(h11.Data(data=answer.body))
        await self._send(h11.EndOfMessage())

    async def _pass_on(self, more: Piece) -> None:
        """Until the engine ends it, or the caller leaves: it may be silent for hours."""
        async with trio.open_nursery() as nursery:

            async def watch() -> None:
                await self._stream.receive_some(1)  # nothing is to be said meanwhile
                nursery.cancel_scope.cancel()

            nursery.start_soon(watch)
            with suppress(EngineAway):
                while piece := await more():
                    await self._send(h11.Data(data=piece))
            nursery.cancel_scope.cancel()

    async def _send(self, event: h11.Event) -> None:
        with trio.fail_after(SEND_S):
            await self._stream.send_all(self._http.send(event) or b"")
