"""One UDP socket, drained by the hundred: datagrams with the time at which the kernel had them.

Trio waits until the socket is readable, and then everything is read by plain non-blocking calls:
per datagram that costs a fifth of trio's own `recvfrom`, and the whole burst is in one's hands
before a timer is looked at. Sending never waits and never fails: a datagram that the kernel does
not take is a datagram that was lost, which the protocol above is made for; it is counted.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import time
from collections import Counter
from contextlib import suppress
from types import TracebackType
from typing import NamedTuple, Self

import trio

from gossip.addresses import canonical, format_address
from gossip.config import DATAGRAM_BYTES_MAX
from gossip.errors import CannotListen
from gossip.receive_clock import ReceiveClock
from gossip.rows import Address

RECEIVE_BUFFER_BYTES = 4 * 1024 * 1024
"""What waits while the process does not run: some seconds of everything that a peer is sent."""

DRAIN_MAX = 512
"""Datagrams in one drain; handling so many takes some tens of milliseconds."""

# Linux's numbers, as asm-generic/socket.h has them; Python names none of them.
_SO_RCVBUFFORCE = 33
_SO_TIMESTAMPNS = 35
_SO_RXQ_OVFL = 40

_TIMESPEC = struct.Struct("@ll")
_COUNT = struct.Struct("@I")
_ANCILLARY_BYTES = socket.CMSG_SPACE(_TIMESPEC.size) + socket.CMSG_SPACE(_COUNT.size)
_MAPPED = "::ffff:"


class Received(NamedTuple):
    """One datagram.

    Args:
        source: Numeric; IPv4 as IPv4, also on a socket for both.
        received_at: When the kernel had it; seconds on `time.monotonic`'s clock.
    """

    datagram: bytes
    source: Address
    received_at: float


class UdpEndpoint:
    """An open socket. To be closed, or used as a context manager.

    Attributes:
        address: Where it listens; the port that the system chose, where it was asked to.
        receive_buffer_bytes: What the kernel gave.
        read_up_to: What came before this moment (monotonic seconds) has been read.
    """

    def __init__(self, listening: socket.socket) -> None:
        self._socket = listening
        self._dual = listening.family == socket.AF_INET6
        self._counts: Counter[str] = Counter()
        self._overflows = 0
        self._clock = ReceiveClock(*_both_clocks())
        self.read_up_to = self._clock.now
        host, port = listening.getsockname()[:2]
        self.address: Address = (canonical(host) or host, port)
        # Linux reports twice what it was asked for: its own bookkeeping is in it.
        self.receive_buffer_bytes = listening.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2

    @classmethod
    def open(
        cls, listen: Address, *, receive_buffer_bytes: int = RECEIVE_BUFFER_BYTES
    ) -> UdpEndpoint:
        """Open a socket.

        Args:
            listen: A numeric address of this machine, or a wildcard; port 0 means any. `::`
                listens to IPv4 as well.

        Raises:
            CannotListen: The message says why.
        """
        family = socket.AF_INET6 if ":" in listen[0] else socket.AF_INET
        try:
            listening = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            raise _cannot_listen(listen, error) from error
        try:
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            listening.bind(listen)
            _enlarge(listening, receive_buffer_bytes)
            for option in (_SO_TIMESTAMPNS, _SO_RXQ_OVFL):
                listening.setsockopt(socket.SOL_SOCKET, option, 1)
            return cls(listening)
        except OSError as error:
            listening.close()
            raise _cannot_listen(listen, error) from error
        except BaseException:
            listening.close()
            raise

    async def wait_readable(self) -> None:
        """Wait until there is something to drain."""
        await trio.lowlevel.wait_readable(self._socket)

    def drain(self, max: int = DRAIN_MAX) -> list[Received]:
        """Read what is waiting, oldest first, but no more than `max`: see `read_up_to`.

        Datagrams longer than any peer sends are left out and counted, and so are those from where
        no peer could be answered. The kernel's complaints (of an address where nobody listens, say)
        are counted, and reading goes on.
        """
        self._clock.sample(*_both_clocks())
        received: list[Received] = []
        # Not only what is returned is counted: a flood of what is dropped must end, too.
        for _ in range(max):
            try:
                datagram, ancillary, flags, source = self._socket.recvmsg(
                    DATAGRAM_BYTES_MAX + 1, _ANCILLARY_BYTES
                )
            except BlockingIOError:
                self._clock.emptied()
                self.read_up_to = self._clock.now
                break
            except OSError as error:
                self._count_error("receive", error)
                self.read_up_to = self._clock.now  # as far as anybody can tell
                continue
            self.read_up_to = self._clock.received_at(self._read(ancillary))
            address = plain_source(source[0], source[1])
            if flags & socket.MSG_TRUNC or len(datagram) > DATAGRAM_BYTES_MAX:
                self._counts["dropped_oversize"] += 1
            elif address is None:
                self._counts["dropped_source"] += 1
            else:
                received.append(Received(datagram, address, self.read_up_to))
        self._counts["udp_received"] += len(received)
        return received

    def send(self, address: Address, datagram: bytes) -> None:
        """Send one datagram, or count why not."""
        if not self.reaches(address):
            self._counts["udp_send_EAFNOSUPPORT"] += 1
            return
        try:
            self._socket.sendto(datagram, self._mapped(address))
        except OSError as error:
            self._count_error("send", error)
        else:
            self._counts["udp_sent"] += 1
            self._counts["udp_sent_bytes"] += len(datagram)

    def reaches(self, address: Address) -> bool:
        """The socket speaks that address's family."""
        return self._dual or ":" not in address[0]

    def counters(self) -> dict[str, int]:
        """Return what was counted since it was opened.

        `udp_received`, `udp_sent`, `udp_sent_bytes` (payload); `dropped_oversize`;
        `dropped_source`, from port 0 or with a zone; `dropped_overflow`, what the kernel threw away
        because nobody read; `udp_send_EAGAIN` and the like, by the error's name; `clock_jumps`.
        """
        return {
            **self._counts,
            "dropped_overflow": self._overflows,
            "clock_jumps": self._clock.jumps,
        }

    def close(self) -> None:
        """Close the socket; whoever waits for it gets a `trio.ClosedResourceError`."""
        if self._socket.fileno() >= 0:
            if trio.lowlevel.in_trio_run():
                trio.lowlevel.notify_closing(self._socket)
            self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self, ancillary: list[tuple[int, int, bytes]]) -> int | None:
        """Take the counter of overflows, and return the stamp."""
        stamp_ns = None
        for level, kind, content in ancillary:
            if level != socket.SOL_SOCKET:
                continue
            if kind == _SO_TIMESTAMPNS and len(content) == _TIMESPEC.size:
                seconds, nanoseconds = _TIMESPEC.unpack(content)
                stamp_ns = seconds * 1_000_000_000 + nanoseconds
            elif kind == _SO_RXQ_OVFL and len(content) == _COUNT.size:
                # 32 bits that wrap around; a peer that loses four billion has other worries.
                self._overflows = _COUNT.unpack(content)[0]
        return stamp_ns

    def _mapped(self, address: Address) -> Address:
        if self._dual and ":" not in address[0]:
            return (_MAPPED + address[0], address[1])
        return address

    def _count_error(self, doing: str, error: OSError) -> None:
        name = errno.errorcode.get(error.errno or 0, "unknown")
        self._counts[f"udp_{doing}_{name}"] += 1


def plain_source(host: str, port: int) -> Address | None:
    """Return where a datagram came from, as peers tell each other of addresses.

    None: it cannot be told, because nobody can answer there. Port 0 is what only a forger sends
    from, and an address with a zone means something on one link of this machine alone.
    """
    if not port or "%" in host:
        return None
    if host.startswith(_MAPPED) and ":" not in (mapped := host.removeprefix(_MAPPED)):
        host = mapped
    return host, port


def _both_clocks() -> tuple[int, int]:
    """Read the monotonic and the real time within 20 µs, or as close together as can be had."""
    best = (0, 0, 0)
    for attempt in range(3):
        before = time.monotonic_ns()
        realtime = time.time_ns()
        apart = time.monotonic_ns() - before
        if attempt == 0 or apart < best[0]:
            best = (apart, before + apart // 2, realtime)
        if apart < 20_000:
            break
    return best[1], best[2]


def _enlarge(listening: socket.socket, size_bytes: int) -> None:
    """Ask for a buffer of that size; who may not have it gets the most that the system allows."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size_bytes)
    if listening.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) < 2 * size_bytes:
        # Only who administers the network may exceed the system's limit.
        with suppress(PermissionError):
            listening.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size_bytes)


def _cannot_listen(listen: Address, error: OSError) -> CannotListen:
    where = f"{format_address(listen)}/udp"
    match error.errno:
        case errno.EADDRINUSE:
            what = "another program listens there; choose another port, or 0 for any that is free"
        case errno.EADDRNOTAVAIL:
            what = "this machine has no such address; 0.0.0.0 or [::] listens on all it has"
        case errno.EACCES | errno.EPERM:
            what = "that port is not allowed; choose one above 1023"
        case errno.EAFNOSUPPORT:
            what = "this machine has no IPv6; listen on 0.0.0.0"
        case _:
            what = os.strerror(error.errno) if error.errno else str(error)
    return CannotListen(f"cannot listen on {where}: {what}")
