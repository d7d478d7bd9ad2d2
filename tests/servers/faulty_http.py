"""A bad line to an HTTP server, made on purpose: a proxy that tests put before a real one.

It passes every request on as it is (the signature covers the host, so that is kept too), and spoils
those that the present `fault` is meant for: answers of its own, delays, answers that trickle, end
too early, have a wrong bit, or never come. Threads, for its users are not all async; loopback only.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO

BLOCK_BYTES = 64 * 1024
UPSTREAM_S = 60.0
STEP_S = 0.02


@dataclass(slots=True, kw_only=True)
class Exchange:
    """One request, and how much of it and of its answer went through, in bytes of their bodies."""

    method: str
    target: str
    headers: Mapping[str, str]
    received: int = 0
    sent: int = 0
    status: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to a request and its answer; offsets are in the bodies.

    Args:
        only: The requests that it is meant for.
        times: How many of these it meets; None: all.
        status: The proxy answers this itself and asks nobody.
        code: With `status`: the S3 error in the answer's body; empty: no body.
        headers: Added to the answer, or put in the place of those of that name.
        delay_s: Before the answer is passed on.
        drip_bytes_per_s: As fast as the answer's body comes, a few bytes at a time.
        drip_head_bytes_per_s: The same for its status and headers.
        cut_at: The connection is closed in good order after so many bytes.
        reset_at: It is reset there; with 0 nothing of the answer is heard, though it was done.
        flip_at: A bit of this byte of the answer is wrong.
        flip_request_at: A bit of this byte of the request is.
        cut_request_at: Both connections are closed after so many bytes of the request.
        silent: The request is swallowed and never answered.
    """

    only: Callable[[Exchange], bool] = lambda _: True
    times: int | None = None
    status: int | None = None
    code: str = "InternalError"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    drip_bytes_per_s: float | None = None
    drip_head_bytes_per_s: float | None = None
    cut_at: int | None = None
    reset_at: int | None = None
    flip_at: int | None = None
    flip_request_at: int | None = None
    cut_request_at: int | None = None
    silent: bool = False


NO_FAULT = Fault(only=lambda _: False)


class Broken(Exception):
    """One side of the exchange is gone: there is nothing more to pass on."""


class FaultyProxy:
    """Listens on 127.0.0.1 before an HTTP server, while its context lasts.

    Args:
        upstream: The server's port on 127.0.0.1.
        tls: With it the proxy speaks TLS; upstream it never does.
    """

    def __init__(self, upstream: int, *, tls: ssl.SSLContext | None = None) -> None:
        self._upstream = upstream
        self._tls = tls
        self._lock = threading.Lock()
        self._fault, self._left = NO_FAULT, 0.0
        self._closing = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._connections: set[socket.socket] = set()
        self.exchanges: list[Exchange] = []
        """All so far, in the order in which their heads came."""

    @property
    def port(self) -> int:
        """Where it listens."""
        port: int = self._listener.getsockname()[1]
        return port

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def fault(self) -> Fault:
        """What goes wrong now."""
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        with self._lock:
            self._fault = fault
            self._left = float("inf") if fault.times is None else fault.times

    def heal(self) -> None:
        """Nothing goes wrong any more."""
        self.fault = NO_FAULT

    def cut(self) -> None:
        """Reset every connection there is; new ones are taken."""
        for connection in list(self._connections):
            _reset(connection)
            # Wakes the thread that is at it, which then closes it.
            _close(connection)

    def count(self, method: str, part_of_target: str = "") -> int:
        """How many such requests there were so far."""
        return sum(e.method == method and part_of_target in e.target for e in self.exchanges)

    def __enter__(self) -> FaultyProxy:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()

    def _start(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self._start(self._serve, connection)

    def _serve(self, plain: socket.socket) -> None:
        """Pass on requests from one connection until either side has enough."""
        client = plain
        with contextlib.suppress(OSError, Broken):
            plain.settimeout(UPSTREAM_S)
            if self._tls is not None:
                client = self._tls.wrap_socket(plain, server_side=True)
            self._connections.add(client)
            with client.makefile("rb") as requests:
                while not self._closing.is_set() and self._exchange(client, requests):
                    pass
        self._connections.discard(client)
        client.close()

    def _exchange(self, client: socket.socket, requests: BinaryIO) -> bool:
        """Pass one request on, and its answer back; False when the connection ends with it."""
        start, headers = _read_head(requests)
        method, target, _ = start.split(" ", 2)
        exchange = Exchange(method=method, target=target, headers=headers)
        self.exchanges.append(exchange)
        fault = self._take_fault(exchange)
        if fault.silent or fault.status is not None:
            for block in _read_body(requests, headers):
                exchange.received += len(block)
            if fault.silent:
                self._closing.wait(UPSTREAM_S)
                return False
            self._pause(fault.delay_s)
            return _answer(client, exchange, fault)
        with socket.create_connection(("127.0.0.1", self._upstream), UPSTREAM_S) as upstream:
            self._connections.add(upstream)
            try:
                # A server may answer before it has heard everything, and listen no more.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self._send(upstream, start, requests, exchange, fault)
                with upstream.makefile("rb") as answers:
                    return self._pass_back(client, answers, exchange, fault)
            finally:
                self._connections.discard(upstream)

    def _take_fault(self, exchange: Exchange) -> Fault:
        with self._lock:
            if self._left <= 0 or not self._fault.only(exchange):
                return NO_FAULT
            self._left -= 1
            return self._fault

    def _send(
        self,
        upstream: socket.socket,
        start: str,
        requests: BinaryIO,
        exchange: Exchange,
        fault: Fault,
    ) -> None:
        upstream.sendall(_head(start, {**exchange.headers, "Connection": "close"}))
        for read in _read_body(requests, exchange.headers):
            block = _flip(read, fault.flip_request_at, exchange.received)
            end = fault.cut_request_at
            if end is not None and exchange.received + len(block) > end:
                upstream.sendall(block[: end - exchange.received])
                raise Broken
            upstream.sendall(block)
            exchange.received += len(block)

    def _pass_back(
        self, client: socket.socket, answers: BinaryIO, exchange: Exchange, fault: Fault
    ) -> bool:
        start, headers = _read_head(answers)
        exchange.status = int(start.split(" ", 2)[1])
        self._pause(fault.delay_s)
        if fault.reset_at == 0:
            _reset(client)
            return False
        headers.pop("Connection", None)
        headers.update(fault.headers)
        sized = "Content-Length" in headers or exchange.status in (204, 304)
        if not sized:
            headers["Connection"] = "close"
        for some in self._drip(_head(start, headers), fault.drip_head_bytes_per_s):
            client.sendall(some)
        if exchange.method != "HEAD":
            for block in _read_answer(answers, headers):
                if not self._pass_block(client, block, exchange, fault):
                    return False
        return sized

    def _pass_block(
        self, client: socket.socket, block: bytes, exchange: Exchange, fault: Fault
    ) -> bool:
        """Pass a block of an answer's body on; False when the fault ends the connection."""
        block = _flip(block, fault.flip_at, exchange.sent)
        for end, give_up in ((fault.cut_at, _close), (fault.reset_at, _reset)):
            if end is not None and exchange.sent + len(block) > end:
                client.sendall(block[: end - exchange.sent])
                exchange.sent = end
                give_up(client)
                return False
        for some in self._drip(block, fault.drip_bytes_per_s):
            client.sendall(some)
            exchange.sent += len(some)
        return True

    def _drip(self, block: bytes, bytes_per_s: float | None) -> Iterator[bytes]:
        """All at once, or a few bytes at a time, as fast as that."""
        if bytes_per_s is None:
            yield block
            return
        step = max(1, int(bytes_per_s * STEP_S))
        for first in range(0, len(block), step):
            self._pause(step / bytes_per_s)
            yield block[first : first + step]

    def _pause(self, seconds: float) -> None:
        if seconds and self._closing.wait(seconds):
            raise Broken


def _answer(client: socket.socket, exchange: Exchange, fault: Fault) -> bool:
    """Answer as a server would that has an error."""
    exchange.status = fault.status
    message = f"injected by the test at {time.time():.3f}"
    body = (
        f"<?xml version='1.0'?><Error><Code>{fault.code}</Code><Message>{message}</Message></Error>"
        if fault.code and exchange.method != "HEAD"
        else ""
    ).encode()
    headers = {
        "Content-Type": "application/xml",
        "Content-Length": str(len(body)),
        **fault.headers,
    }
    client.sendall(_head(f"HTTP/1.1 {fault.status} Injected", headers) + body)
    return True


def _read_head(stream: BinaryIO) -> tuple[str, dict[str, str]]:
    lines = list(itertools.takewhile(bool, (line.rstrip(b"\r\n") for line in stream)))
    if not lines:
        raise Broken
    headers = dict(line.decode("latin-1").split(": ", 1) for line in lines[1:])
    return lines[0].decode("latin-1"), {name.title(): value for name, value in headers.items()}


def _head(start: str, headers: Mapping[str, str]) -> bytes:
    lines = [start, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


def _read_body(stream: BinaryIO, headers: Mapping[str, str]) -> Iterator[bytes]:
    left = int(headers.get("Content-Length", 0))
    while left:
        block = stream.read1(min(left, BLOCK_BYTES))  # type: ignore[attr-defined]  # buffered
        if not block:
            raise Broken
        left -= len(block)
        yield block


def _read_answer(stream: BinaryIO, headers: Mapping[str, str]) -> Iterator[bytes]:
    if "Content-Length" in headers:
        yield from _read_body(stream, headers)
    else:
        # Chunks and all, until the server closes, as it was asked to.
        yield from iter(lambda: stream.read1(BLOCK_BYTES), b"")  # type: ignore[attr-defined]


def _flip(block: bytes, at: int | None, offset: int) -> bytes:
    if at is None or not offset <= at < offset + len(block):
        return block
    spoiled = bytearray(block)
    spoiled[at - offset] ^= 1
    return bytes(spoiled)


def _close(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _reset(connection: socket.socket) -> None:
    """Let the other side see a reset once it is closed."""
    with contextlib.suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
