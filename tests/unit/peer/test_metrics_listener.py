"""The small HTTP server: what it answers, and what it does not let itself be talked into."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress

import pytest
import trio
from trio.testing import MockClock

from gossip.addresses import HostPort, is_loopback, parse_address
from peer.metrics import listener
from peer.metrics.listener import TEXT, Listener, Page


async def page() -> Page:
    await trio.lowlevel.checkpoint()
    return Page(200, TEXT, b"well\n")


async def broken() -> Page:
    await trio.lowlevel.checkpoint()
    raise RuntimeError("a mistake")


async def slow() -> Page:
    await trio.sleep(listener.REQUEST_WITHIN_S + 5)
    return await page()


PAGES = {"/page": page, "/broken": broken, "/slow": slow}


@asynccontextmanager
async def serving() -> AsyncIterator[HostPort]:
    """A server on any free port of this machine."""
    server = Listener(HostPort("127.0.0.1", 0), PAGES)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        yield parse_address(server.address)
        nursery.cancel_scope.cancel()
    assert not server.address


async def answer(address: HostPort, request: bytes, *, ends: bool = True) -> bytes:
    """Send something; return everything that comes until the other side hangs up."""
    stream = await trio.open_tcp_stream(address.host, address.port)
    async with stream:
        received = b""
        with suppress(trio.BrokenResourceError):  # it may hang up with something of ours unread
            await stream.send_all(request)
            if ends:
                await stream.send_eof()
            async for chunk in stream:
                received += chunk
        return received


def get(path: str, *more: str, method: str = "GET") -> bytes:
    lines = (f"{method} {path} HTTP/1.1", "Host: peer", *more)
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


@pytest.mark.parametrize(
    ("request_", "status", "content"),
    [
        (get("/page"), 200, b"well\n"),
        (get("/page?x=1"), 200, b"well\n"),
        (b"GET /page HTTP/1.0\r\n\r\n", 200, b"well\n"),
        (get("/page", method="HEAD"), 200, b""),
        (get("/page", method="DELETE"), 405, b"only GET"),
        (get("/page", "Content-Length: 0", method="POST"), 405, b"only GET"),
        (get("/"), 404, b"known are /page"),
        (get("/../page"), 404, b"no such page"),
        (get("//page"), 404, b"no such page"),
        (get("/%70age"), 404, b"no such page"),
        (get("http://elsewhere/page"), 404, b"no such page"),
        (get("/broken"), 500, b"an internal error"),
    ],
)
async def test_each_request_gets_its_answer(request_: bytes, status: int, content: bytes) -> None:
    """Pages by their exact names, to be read and nothing else; a mistake in one is a 500."""
    async with serving() as address:
        head, _, body = (await answer(address, request_)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert content in body
    assert bool(content) == bool(body)
    assert b"Cache-Control: no-store" in head


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # somebody speaks TLS
        b"GET /page\r\n\r\n",
        b"GET /page HTTP/1.1\r\n\r\n",  # no host
        b"GET /page HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /page HTTP/1.1\r\nHost: a\r\n folded: x\r\nno colon\r\n\r\n",
        b"GET /page HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"GET /page HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"GET /page HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"GET /page HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 2 * listener.HEAD_BYTES_MAX + b"\r\n\r\n",
        b"GET /" + b"x" * 2 * listener.HEAD_BYTES_MAX,
        b"\x00" * 2 * listener.HEAD_BYTES_MAX,
    ],
)
async def test_what_is_no_request_is_refused(request_: bytes) -> None:
    """It gets a 4xx or 501, or nothing, the connection ends, and the next one is served."""
    async with serving() as address:
        refused = await answer(address, request_)
        assert not refused or refused.split()[1][:1] == b"4" or refused.split()[1] == b"501"
        assert b"well" not in refused
        assert b" 200 " in await answer(address, get("/page"))


async def test_a_body_is_not_read_and_ends_the_connection() -> None:
    """What somebody sends behind a request is never taken for a second request."""
    smuggled = get("/page", "Content-Length: 40", method="POST") + get("/broken")
    async with serving() as address:
        received = await answer(address, smuggled)
    assert received.count(b"HTTP/1.1 ") == 1
    assert received.startswith(b"HTTP/1.1 405")


async def test_one_connection_serves_many_requests() -> None:
    """Prometheus keeps its connection; requests may also come together."""
    async with serving() as address:
        received = await answer(address, get("/page") * 3 + get("/page", "Connection: close"))
    assert received.count(b"HTTP/1.1 200") == 4


async def test_a_connection_that_says_nothing_is_closed(autojump_clock: MockClock) -> None:
    """Neither an idle connection nor a request without an end, or a page that is never made, holds
    on to one of the places for long."""
    async with serving() as address:
        began = trio.current_time()
        assert await answer(address, b"", ends=False) == b""
        assert trio.current_time() - began == pytest.approx(listener.IDLE_S, abs=1)
        for request in (b"GET /page HTTP/1.1\r\nHos", get("/slow")):
            began = trio.current_time()
            assert await answer(address, request, ends=False) == b""
            assert trio.current_time() - began <= listener.REQUEST_WITHIN_S + 1


async def test_strangers_do_not_keep_the_health_check_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When they hold all places, the next of them is sent away at once, and whoever asks from this
    machine is answered."""
    monkeypatch.setattr(listener, "CONNECTIONS_MAX", 2)
    own = False
    monkeypatch.setattr(listener, "_is_own", lambda _stream: own)
    async with serving() as address, AsyncExitStack() as held:
        for _ in range(2):
            stream = await held.enter_async_context(await trio.open_tcp_stream(*address))
            await stream.send_all(get("/page"))
            assert b" 200 " in await stream.receive_some()
        with trio.fail_after(listener.REQUEST_WITHIN_S):
            assert await answer(address, get("/page")) == b""
            own = True
            assert b" 200 " in await answer(address, get("/page"))


async def test_a_name_can_be_listened_on() -> None:
    """It stands for its addresses; the one that is told is one of them."""
    server = Listener(HostPort("localhost", 0), PAGES)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.run)
        told = parse_address(server.address)
        assert is_loopback(told.host)
        assert b"well" in await answer(told, get("/page"))
        nursery.cancel_scope.cancel()


async def test_an_address_that_is_taken_is_tried_again(
    caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """The peer works without its metrics, says so once with what to do, and serves them as soon as
    whoever has the address is gone."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = HostPort("127.0.0.1", other.getsockname()[1])
        server = Listener(taken, PAGES)
        serving = trio.Event()

        async def serve() -> None:
            await nursery.start(server.run)
            serving.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serve)
            with trio.move_on_after(10 * listener.TRY_AGAIN_S):
                await serving.wait()
            assert not serving.is_set()
            assert not server.address
            other.close()
            with trio.fail_after(2 * listener.TRY_AGAIN_S):
                await serving.wait()
            assert parse_address(server.address) == taken
            nursery.cancel_scope.cancel()
    (said,) = (line for line in caplog.records if line.levelno == logging.ERROR)
    assert "each its own port" in said.__dict__["error"]
    assert said.__dict__["advice"] == "see peer.metrics_listen"
