"""Names to numeric addresses, and which of its own addresses a machine would send from.

A name may stand for many peers (`tasks.peer` in an overlay network), for other ones a minute later,
and for none while the cluster starts. So nothing is cached, and a failure is a sentence in the
answer and no exception: the caller tries again, with what the other names gave.
"""

from __future__ import annotations

import errno
import socket
from collections.abc import Awaitable, Callable
from typing import NamedTuple

import trio

from gossip.addresses import HostPort, canonical, is_link_local, is_wildcard
from gossip.rows import Address

ADDRESSES_MAX = 64
"""Of one name: whoever has more peers than that finds the others through these."""

LOOKUP_TIMEOUT_S = 2.0
"""A name server that needs longer is as good as none: there are other seeds, and other tries."""

SOMEWHERE = ("192.0.2.1", 9)
"""An address that documentation uses. Nothing is sent there; the route to it is asked for."""


class Resolved(NamedTuple):
    """What a name stands for now.

    Args:
        addresses: Sorted, without repeats, at most `ADDRESSES_MAX`.
        failure: Why there are none, as a sentence without its full stop; "" when there are some.
    """

    addresses: tuple[Address, ...]
    failure: str = ""


Resolve = Callable[[HostPort, float], Awaitable[Resolved]]
"""As `resolve` below: the seed, and how long to wait, in seconds."""


async def resolve(seed: HostPort, timeout_s: float) -> Resolved:
    """Look a name up: IPv4 and IPv6, qualified or not, whatever the system's resolver knows.

    A lookup that takes longer goes on in its thread for as long as the resolver lets it; nobody
    waits for it.
    """
    if canonical(seed.host) is not None:
        return Resolved(((seed.host, seed.port),))
    try:
        with trio.fail_after(timeout_s):
            found = await trio.socket.getaddrinfo(seed.host, seed.port, type=trio.socket.SOCK_DGRAM)
    except trio.TooSlowError:
        return Resolved((), f"{seed.host}: no answer from the name server in {timeout_s:g} s")
    except (OSError, UnicodeError) as error:
        return Resolved((), f"{seed.host}: {getattr(error, 'strerror', None) or error}")
    hosts = {canonical(str(address[0])) for *_, address in found}
    usable = sorted(host for host in hosts if host is not None and not is_link_local(host))
    if not usable:
        what = "addresses of a single link only" if found else "no address"
        return Resolved((), f"{seed.host}: stands for {what}")
    return Resolved(tuple((host, seed.port) for host in usable[:ADDRESSES_MAX]))


def source_address_towards(address: Address) -> str | None:
    """Return the address of this machine that datagrams to another one would come from.

    The system's routing table answers; nothing is sent. A container in several networks has
    several addresses, and this is the one that the other side can answer to.

    Returns:
        None when there is no route, or none of that family.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            host = canonical(str(probe.getsockname()[0]))
    except OSError:
        return None
    return None if host is None or is_wildcard(host) else host


def is_own(host: str) -> bool:
    """This machine, or this container, has that numeric address now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        return error.errno not in {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EINVAL}
    return True
