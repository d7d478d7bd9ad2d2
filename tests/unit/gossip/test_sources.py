"""From where a datagram may come: an address that a peer can tell others of, or nowhere."""

from __future__ import annotations

import socket
import struct

import pytest
import trio

from gossip.codec import decode_untrusted, encode
from gossip.messages import JoinOk
from gossip.rows import Address
from gossip.udp import UdpEndpoint, plain_source
from tests.missing import do_without


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("192.0.2.7", 7946, ("192.0.2.7", 7946)),
        ("2001:db8::7", 7946, ("2001:db8::7", 7946)),
        ("::ffff:192.0.2.7", 7946, ("192.0.2.7", 7946)),
        # Not mapped, whatever it begins with: the prefix of another translation.
        ("::ffff:0:192.0.2.7", 7946, ("::ffff:0:192.0.2.7", 7946)),
        ("192.0.2.7", 0, None),
        ("::ffff:192.0.2.7", 0, None),
        ("fe80::7%eth0", 7946, None),
    ],
)
def test_a_source_is_an_address_that_can_be_told(
    host: str, port: int, address: Address | None
) -> None:
    """What the kernel calls a source either fits into a message, or is no source for a peer."""
    source = plain_source(host, port)

    assert source == address
    if source is not None:
        body = encode(JoinOk(nonce=1, challenge=2, observed=source, count=1, rows=()))
        assert isinstance(decode_untrusted(body), JoinOk)


async def test_a_datagram_from_port_0_is_dropped_and_counted() -> None:
    """Linux delivers what a forger sends from port 0; the peer that was to answer would fail."""
    with UdpEndpoint.open(("127.0.0.1", 0)) as endpoint:
        port = endpoint.address[1]
        try:
            forger = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
        except PermissionError:
            do_without("only root may forge a source port")
        with forger:
            forger.sendto(struct.pack("!HHHH", 0, port, 8 + 1, 0) + b"x", ("127.0.0.1", 0))
        with trio.fail_after(5):
            await endpoint.wait_readable()

        assert endpoint.drain() == []
        assert endpoint.counters()["dropped_source"] == 1
