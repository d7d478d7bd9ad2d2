"""The socket keeps its promises on the real kernel: families, stamps, drops, and no exceptions."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import trio
import trio.testing

from gossip.config import DATAGRAM_BYTES_MAX
from gossip.errors import CannotListen
from gossip.rows import Address
from gossip.udp import Received, UdpEndpoint

Open = Callable[..., UdpEndpoint]

WITHIN_S = 5.0


@pytest.fixture
def open_endpoint() -> Iterator[Open]:
    """Open endpoints, on loopback and any port unless told otherwise; all are closed at the end."""
    with ExitStack() as stack:

        def do(host: str = "127.0.0.1", **options: int) -> UdpEndpoint:
            return stack.enter_context(UdpEndpoint.open((host, 0), **options))

        yield do


async def drained(endpoint: UdpEndpoint, count: int) -> list[Received]:
    """Wait for so many datagrams."""
    received: list[Received] = []
    with trio.fail_after(WITHIN_S):
        while len(received) < count:
            await endpoint.wait_readable()
            received += endpoint.drain()
    return received


def hold_up(seconds: float) -> None:
    """Keep the whole loop from running, as a busy machine does."""
    time.sleep(seconds)


def has_ipv6() -> bool:
    """Whether this machine has IPv6 at all."""
    try:
        UdpEndpoint.open(("::1", 0)).close()
    except CannotListen:
        return False
    return True


# In CI what is missing is a failure, and these fail without it.
ipv6 = pytest.mark.skipif(
    not has_ipv6() and not os.environ.get("CI"), reason="this machine has no IPv6"
)


@pytest.mark.parametrize("host", ["127.0.0.1", pytest.param("::1", marks=ipv6)])
async def test_a_datagram_arrives_whole_with_its_source(open_endpoint: Open, host: str) -> None:
    """What was sent is received as it was, from the address that the sender listens on."""
    here, there = open_endpoint(host), open_endpoint(host)
    there.send(here.address, b"x" * DATAGRAM_BYTES_MAX)
    there.send(here.address, b"")

    received = await drained(here, 2)

    assert [(one.datagram, one.source) for one in received] == [
        (b"x" * DATAGRAM_BYTES_MAX, there.address),
        (b"", there.address),
    ]
    assert there.counters()["udp_sent_bytes"] == DATAGRAM_BYTES_MAX


@ipv6
async def test_a_dual_stack_socket_speaks_both_and_shows_ipv4_as_ipv4(open_endpoint: Open) -> None:
    """A peer that listens on [::] hears and answers IPv4 peers under their own addresses."""
    both, four, six = open_endpoint("::"), open_endpoint("127.0.0.1"), open_endpoint("::1")
    port = both.address[1]
    four.send(("127.0.0.1", port), b"four")
    six.send(("::1", port), b"six")
    received = await drained(both, 2)
    for one in received:
        both.send(one.source, b"to " + one.datagram)

    sources = {one.datagram: one.source for one in received}
    assert sources == {b"four": four.address, b"six": six.address}
    assert (await drained(four, 1))[0][:2] == (b"to four", ("127.0.0.1", port))
    assert (await drained(six, 1))[0][:2] == (b"to six", ("::1", port))


@ipv6
def test_a_family_that_the_socket_does_not_speak_is_known(open_endpoint: Open) -> None:
    """An IPv4 socket reaches no IPv6 address, and says so; one for both reaches both."""
    four, both = open_endpoint("127.0.0.1"), open_endpoint("::")
    addresses: list[Address] = [("127.0.0.1", 1), ("::1", 1)]

    assert [four.reaches(address) for address in addresses] == [True, False]
    assert [both.reaches(address) for address in addresses] == [True, True]


async def test_stamps_are_the_kernels_not_the_readers(open_endpoint: Open) -> None:
    """A reader that was held up for 0.3 s learns when each datagram came, not when it read it."""
    here, there = open_endpoint(), open_endpoint()
    # The kernel begins to stamp a moment after the first socket has asked for it.
    with trio.fail_after(WITHIN_S):
        while True:
            there.send(here.address, b"is it on?")
            hold_up(0.005)
            if time.monotonic() - (await drained(here, 1))[0].received_at > 0.004:
                break

    sent_at = []
    for _ in range(3):
        sent_at.append(time.monotonic())
        there.send(here.address, b"x")
        hold_up(0.1)
    received = here.drain()

    # 2 ms: between the clocks there may be a process switch.
    for one, at in zip(received, sent_at, strict=True):
        assert at - 0.002 <= one.received_at < at + 0.09
    assert [one.received_at for one in received] == sorted(one.received_at for one in received)


async def test_what_is_oversize_is_left_out_and_counted(open_endpoint: Open) -> None:
    """A datagram longer than peers send does not come through, not even its beginning."""
    here, there = open_endpoint(), open_endpoint()
    for size in (DATAGRAM_BYTES_MAX + 1, 60_000, 10):
        there.send(here.address, b"x" * size)

    received = await drained(here, 1)

    assert [len(one.datagram) for one in received] == [10]
    assert here.counters()["dropped_oversize"] == 2


async def test_reading_goes_on_after_an_address_where_nobody_listens(open_endpoint: Open) -> None:
    """The kernel's complaint about one receiver does not keep others from being heard."""
    here, there, gone = open_endpoint(), open_endpoint(), open_endpoint()
    gone.close()
    for _ in range(3):
        here.send(gone.address, b"anybody?")
    there.send(here.address, b"me")

    assert [one.datagram for one in await drained(here, 1)] == [b"me"]
    assert here.drain() == []


@pytest.mark.parametrize(
    ("address", "size", "name"),
    [
        (("255.255.255.255", 9), 10, "EACCES"),
        (("127.0.0.1", 9), 70_000, "EMSGSIZE"),
        (("::1", 9), 10, "EAFNOSUPPORT"),
    ],
)
def test_what_cannot_be_sent_is_counted_by_its_reason(
    open_endpoint: Open, address: Address, size: int, name: str
) -> None:
    """Sending never raises: the protocol above lives with loss, and a person finds the reason."""
    here = open_endpoint()

    here.send(address, b"x" * size)

    counters = here.counters()
    failed = {key: count for key, count in counters.items() if key.startswith("udp_send_")}
    assert failed == {f"udp_send_{name}": 1}
    assert counters.get("udp_sent", 0) == 0


async def test_what_the_kernel_throws_away_is_counted(open_endpoint: Open) -> None:
    """Datagrams that did not fit into the buffer show in a counter, once another one arrives."""
    here, there = open_endpoint(receive_buffer_bytes=4096), open_endpoint()
    for _ in range(100):
        there.send(here.address, b"x" * 1000)
    received = len(here.drain())
    there.send(here.address, b"the last")

    received += len(await drained(here, 1))

    assert 0 < received < 100
    assert here.counters()["dropped_overflow"] == 101 - received


def test_the_buffer_is_as_large_as_asked_for_or_as_the_system_allows(open_endpoint: Open) -> None:
    """A peer gets 4 MiB where it may have them, and never less than the system's usual size."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as usual:
        usual_bytes = usual.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF) // 2

    assert usual_bytes <= open_endpoint().receive_buffer_bytes <= 4 * 1024 * 1024


async def test_a_drain_is_bounded_and_says_how_far_it_came(open_endpoint: Open) -> None:
    """What arrived before `read_up_to` has been read; an emptied socket was read up to now."""
    here, there = open_endpoint(), open_endpoint()
    for number in range(5):
        there.send(here.address, bytes([number]))
    await here.wait_readable()
    began = time.monotonic()

    first = here.drain(max=3)
    after_first = here.read_up_to
    second = here.drain(max=3)

    assert [one.datagram for one in first + second] == [bytes([number]) for number in range(5)]
    assert after_first < began <= here.read_up_to <= time.monotonic()


def test_a_taken_port_is_a_sentence(open_endpoint: Open) -> None:
    """Who cannot listen is told where, why, and what to do."""
    here = open_endpoint()
    host, port = here.address

    with pytest.raises(CannotListen, match=rf"127\.0\.0\.1:{port}/udp.*another program.*choose"):
        UdpEndpoint.open((host, port))
    with pytest.raises(CannotListen, match=r"192\.0\.2\.1:0/udp.*no such address"):
        UdpEndpoint.open(("192.0.2.1", 0))


async def test_closing_wakes_whoever_waits(open_endpoint: Open) -> None:
    """Nobody waits for ever on a socket that was closed; closing twice is no error."""
    here = open_endpoint()
    with trio.fail_after(WITHIN_S):
        async with trio.open_nursery() as nursery:

            async def wait() -> None:
                with pytest.raises(trio.ClosedResourceError):
                    await here.wait_readable()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
            here.close()
            here.close()
    assert nursery.cancel_scope.cancelled_caught is False
