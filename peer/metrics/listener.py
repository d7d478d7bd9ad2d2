"""A small HTTP server for a few pages that are made on the spot: GET and HEAD, nothing else.

h11 reads and writes the protocol and owns no socket; what is here is the socket's part, under trio,
with a bound for everything that comes from outside: how long a request may be, how long it may
take, how many connections there are. The rejected alternative, a web framework and its server,
would bring a dozen packages for three pages, and most of them expect another loop.

To be watched is not worth stopping work: when its address cannot be had, that is said once, and
tried again.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

import h11
import trio

from gossip.addresses import HostPort, format_address, is_loopback

log = logging.getLogger(__name__)

HEAD_BYTES_MAX = 8 * 1024
READ_BYTES = 2048
"""At once: what comes in one piece is not held to be too long, however long it is."""
REQUEST_WITHIN_S = 10.0
"""From its first byte to its last, and for sending the answer."""
IDLE_S = 90.0
"""How long a connection may wait for its next request: longer than Prometheus's usual intervals."""
CONNECTIONS_MAX = 64
"""From elsewhere. This machine's own are not counted: among them is the health check, and whoever
fails that is ended, so nobody on the network may keep it out."""
TRY_AGAIN_S = 15.0

JSON = "application/json"
TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """An answer."""

    status: int
    content_type: str
    content: bytes


MakePage = Callable[[], Awaitable[Page]]


class Listener:
    """Serves pages until cancelled.

    Args:
        listen: A port of 0 is any free one.
        pages: By their paths; each is asked for its content at every request, and may wait.

    Attributes:
        address: Where it listens, as `host:port`; empty while it does not.
    """

    def __init__(self, listen: HostPort, pages: Mapping[str, MakePage]) -> None:
        self._listen = listen
        self._pages = pages
        self._connections = trio.Semaphore(CONNECTIONS_MAX)
        self.address = ""

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Listen, report started, and serve."""
        listeners = await self._open()
        try:
            self.address = format_address(listeners[0].socket.getsockname()[:2])
            log.info("serving metrics", extra={"action": "metrics", "address": self.address})
            task_status.started()
            await trio.serve_listeners(self._serve, listeners)
        finally:
            self.address = ""
            for listener in listeners:
                listener.socket.close()

    async def _open(self) -> list[trio.SocketListener]:
        """Open the sockets, however long somebody else has the address."""
        host, port = self._listen
        told = ""
        while True:
            try:
                # Of `::` the library would make a socket that hears IPv6 alone; None is everything.
                return await trio.open_tcp_listeners(port, host=None if host == "::" else host)
            except OSError as error:
                why = error.strerror or str(error)
                if error.errno == errno.EADDRINUSE:
                    why += "; another peer of this machine may have it: give each its own port"
            if why != told:
                log.error(
                    "metrics cannot be served; the peer works without",
                    extra={
                        "action": "metrics",
                        "address": format_address(self._listen),
                        "error": why,
                        "advice": "see peer.metrics_listen",
                    },
                )
            told = why
            await trio.sleep(TRY_AGAIN_S)

    async def _serve(self, stream: trio.SocketStream) -> None:
        """Answer the requests of one connection, whatever its other end does."""
        async with stream:
            counted = not _is_own(stream)
            if counted:
                try:
                    self._connections.acquire_nowait()
                except trio.WouldBlock:
                    return  # rather than wait, and hold a descriptor, for as long as others please
            try:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    await _Connection(stream, self._pages).run()
            finally:
                if counted:
                    self._connections.release()


def _is_own(stream: trio.SocketStream) -> bool:
    """Whether it comes from this machine, which in a container is that container."""
    try:
        return is_loopback(stream.socket.getpeername()[0])
    except OSError:  # it has gone already
        return False


@dataclass(slots=True)
class _Connection:
    stream: trio.SocketStream
    pages: Mapping[str, MakePage]
    state: h11.Connection = field(
        default_factory=lambda: h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
    )

    async def run(self) -> None:
        while True:
            try:
                request = await self._request()
                if request is None:
                    return
                with trio.fail_after(REQUEST_WITHIN_S):
                    page = await self._page(request)
                    await self._send(page, head=request.method == b"HEAD")
            except h11.RemoteProtocolError as error:
                if self.state.our_state in (h11.IDLE, h11.SEND_RESPONSE):
                    with trio.move_on_after(REQUEST_WITHIN_S):
                        await self._send(
                            _text(error.error_status_hint, "this is not a request"), closing=True
                        )
                return
            except trio.TooSlowError:
                return
            if self.state.our_state is not h11.DONE or self.state.their_state is not h11.DONE:
                return  # it wants to end, or sends more than anybody reads
            self.state.start_next_cycle()

    async def _request(self) -> h11.Request | None:
        """Wait for the next request; None when there is none any more.

        Raises:
            RemoteProtocolError: It is none.
            TooSlowError: Its end does not come.
        """
        if not self.state.trailing_data[0]:
            with trio.move_on_after(IDLE_S) as idle:
                self.state.receive_data(await self.stream.receive_some(READ_BYTES))
            if idle.cancelled_caught:
                return None
        with trio.fail_after(REQUEST_WITHIN_S):
            while (event := self.state.next_event()) is h11.NEED_DATA:
                self.state.receive_data(await self.stream.receive_some(READ_BYTES))
        if not isinstance(event, h11.Request):
            return None  # the connection has ended
        # Of a request without a body, as all of ours are, this is the end.
        self.state.next_event()
        return event

    async def _page(self, request: h11.Request) -> Page:
        path = request.target.partition(b"?")[0].decode("ascii", "replace")
        make = self.pages.get(path)
        if make is None:
            return _text(404, f"there is no such page; known are {', '.join(self.pages)}")
        if request.method not in (b"GET", b"HEAD"):
            return _text(405, "only GET and HEAD")
        try:
            return await make()
        except Exception:
            # A mistake in one number must not take the peer and its work with it.
            log.exception("a page could not be made", extra={"action": "metrics", "page": path})
            return _text(500, "an internal error; the peer's log has the details")

    async def _send(self, page: Page, *, head: bool = False, closing: bool = False) -> None:
        headers = [
            ("Content-Type", page.content_type),
            ("Content-Length", str(len(page.content))),
            ("Cache-Control", "no-store"),
            ("X-Content-Type-Options", "nosniff"),
        ]
        if page.status == 405:
            headers.append(("Allow", "GET, HEAD"))
        if closing:
            headers.append(("Connection", "close"))
        events: list[h11.Event] = [h11.Response(status_code=page.status, headers=headers)]
        if not head:
            events.append(h11.Data(data=page.content))
        events.append(h11.EndOfMessage())
        await self.stream.send_all(b"".join(self.state.send(event) or b"" for event in events))


def _text(status: int, said: str) -> Page:
    return Page(status, TEXT, said.encode() + b"\n")
