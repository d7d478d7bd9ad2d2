"""Requests of our own to the engine behind the gate, on its UNIX socket.

A connection for each: the engine is on this machine, and what one caller does to its connection
concerns no other. Every path is of the engine's own API version, whatever the caller spoke: an
older one would hide fields of a spec that is read to be written back.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import h11
import msgspec
import trio

ANSWER_S = 30.0
"""A manager without a quorum says so after 20 s."""
ANSWER_BYTES_MAX = 64 * 1024 * 1024
"""A task has some 3 kB, and Swarm keeps a few of the past for each slot."""
CHUNK = 64 * 1024

Piece = Callable[[], Awaitable[bytes]]
"""The next piece of an answer; empty at its end."""


class EngineAway(Exception):
    """No answer came, as a sentence."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What the engine said.

    Args:
        date: What its clock showed; the driver compares the times of tasks with it.
    """

    status: int
    body: bytes
    date: str = ""

    def json(self) -> Any:
        """Decode it."""
        return msgspec.json.decode(self.body)


class Engine:
    """One Docker engine.

    Args:
        socket: Where it listens.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._root: str | None = None

    async def ask(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
    ) -> Reply:
        """Ask, and read the whole answer. Raises `EngineAway`."""
        content = b"" if body is None else msgspec.json.encode(body)
        with trio.move_on_after(ANSWER_S):
            target = await self._target(path, query)
            async with self._exchange() as exchange:
                await exchange.send(method, target, content)
                return await exchange.reply()
        raise EngineAway("the Docker engine is silent")

    @asynccontextmanager
    async def follow(self, path: str, query: Mapping[str, str]) -> AsyncIterator[tuple[int, Piece]]:
        """Ask for an answer that does not end: its status, and its pieces. Raises `EngineAway`."""
        with trio.move_on_after(ANSWER_S) as patience:
            target = await self._target(path, query)
            async with self._exchange() as exchange:
                await exchange.send("GET", target, b"")
                head = await exchange.head()
                patience.deadline = math.inf
                yield head.status_code, exchange.piece
        if patience.cancelled_caught:
            raise EngineAway("the Docker engine is silent")

    async def _target(self, path: str, query: Mapping[str, str] | None) -> str:
        if path in ("/version", "/_ping"):
            return path
        if self._root is None:
            async with self._exchange() as exchange:
                await exchange.send("GET", "/version", b"")
                told = await exchange.reply()
            try:
                self._root = f"/v{told.json()['ApiVersion']}"
            except (msgspec.DecodeError, KeyError, TypeError) as error:
                raise EngineAway("what listens there is not a Docker engine") from error
        return f"{self._root}{path}" + (f"?{urlencode(query)}" if query else "")

    @asynccontextmanager
    async def _exchange(self) -> AsyncIterator[_Exchange]:
        try:
            stream = await trio.open_unix_socket(str(self._socket))
        except OSError as error:
            self._root = None  # the one that comes may be of another version
            raise EngineAway(f"the Docker engine takes no connection: {error}") from error
        async with stream:
            yield _Exchange(stream)


class _Exchange:
    """One request and its answer."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.CLIENT)

    async def send(self, method: str, target: str, content: bytes) -> None:
        headers = [("Host", "docker"), ("Connection", "close")]
        if content:
            headers += [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(content))),
            ]
        sent = self._http.send(h11.Request(method=method, target=target, headers=headers)) or b""
        if content:
            sent += self._http.send(h11.Data(data=content)) or b""
        sent += self._http.send(h11.EndOfMessage()) or b""
        with _troubles():
            await self._stream.send_all(sent)

    async def reply(self) -> Reply:
        head = await self.head()
        body = bytearray()
        while piece := await self.piece():
            body += piece
            if len(body) > ANSWER_BYTES_MAX:
                raise EngineAway("the Docker engine's answer is too long for this proxy")
        date = next((value for name, value in head.headers if name == b"date"), b"")
        return Reply(head.status_code, bytes(body), date.decode("ascii", "replace"))

    async def head(self) -> h11.Response:
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                return event
            if isinstance(event, h11.ConnectionClosed):
                raise EngineAway("the Docker engine has closed the connection")

    async def piece(self) -> bytes:
        event = await self._next()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def _next(self) -> Any:
        with _troubles():
            while (event := self._http.next_event()) is h11.NEED_DATA:
                self._http.receive_data(await self._stream.receive_some(CHUNK))
        return event


@contextmanager
def _troubles() -> Iterator[None]:
    try:
        yield
    except (OSError, trio.BrokenResourceError) as error:
        raise EngineAway(f"the connection to the Docker engine is lost: {error}") from error
    except h11.RemoteProtocolError as error:
        raise EngineAway(f"the Docker engine's answer breaks off: {error}") from error
