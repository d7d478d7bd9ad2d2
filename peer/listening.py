"""Where a peer listens for the others, when nobody has said it: pure.

A single machine gets a socket that no other machine can reach; whoever joins other machines gets
the usual port on every network, because that is the one that firewalls and `--join host` know.
One socket speaks IPv6 and IPv4 alike, unless the system was built or started without IPv6.
"""

from __future__ import annotations

from typing import NamedTuple

from gossip.addresses import DEFAULT_PORT, HostPort, is_loopback, parse_address
from peer.config import GossipSettings

EVERY_NETWORK = ("::", "0.0.0.0")  # noqa: S104 - meant: the other peers are on other machines
THIS_MACHINE = "127.0.0.1"


class Listening(NamedTuple):
    """Where to listen.

    Args:
        addresses: The first of these that can be had; port 0 means any. One alone was asked for.
    """

    addresses: tuple[HostPort, ...]


def listening(settings: GossipSettings) -> Listening:
    """Choose by what was said, or by whom this peer shall join."""
    if settings.listen:
        return Listening((parse_address(settings.listen, any_port=True),))
    if all(stays_here(parse_address(text)) for text in settings.join):
        return Listening((HostPort(THIS_MACHINE, 0),))
    return Listening(
        tuple(HostPort(host, port) for port in (DEFAULT_PORT, 0) for host in EVERY_NETWORK)
    )


def stays_here(address: HostPort) -> bool:
    """Only this machine can reach it. Another name than `localhost` could be anything."""
    return address.host == "localhost" or is_loopback(address.host)
