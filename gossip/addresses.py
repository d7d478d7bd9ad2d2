"""Addresses as people write them: `host`, `host:port`, `[v6]:port`.

What is parsed here may be a name; it becomes numeric addresses in `resolving`, again at every try.
An `Address`, which travels between peers and which datagrams are sent to, is always numeric, in
its shortest form, and an IPv4 address never in IPv6 clothes: so that equal ones compare equal.

Rejected: URLs (there is only one protocol), and IPv6 addresses without brackets, where nobody can
tell the port from the last group.
"""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

from gossip.errors import BadAddress
from gossip.rows import Address

DEFAULT_PORT = 7946
"""Where peers listen unless told otherwise: Serf's port, which firewalls may know already."""

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9_.])?")
"""A host name. With underscores, which DNS forbids and container networks use."""

_EXAMPLES = "write host, host:port or [IPv6]:port, such as tasks.peer or 10.0.0.5:7946"


class HostPort(NamedTuple):
    """Where a peer is: a name, or a numeric address, and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return format_address(self)


def parse_address(
    text: str, *, default_port: int = DEFAULT_PORT, any_port: bool = False
) -> HostPort:
    """Read one address.

    Args:
        default_port: For a text without one.
        any_port: Accept port 0, which means that the system shall choose: to listen only.

    Raises:
        BadAddress: The text is none; the message says why.
    """
    stripped = text.strip()
    if "://" in stripped:
        raise _bad(text, "it is a URL; leave out what comes before and after the host and port")
    host, port_text = _split(text, stripped)
    if port_text is None:
        port = default_port
    elif port_text.isascii() and port_text.isdecimal() and int(port_text[:6]) <= 65535:
        port = int(port_text)
    else:
        raise _bad(text, f"{port_text!r} is no port: that is a number up to 65535")
    if port == 0 and not any_port:
        raise _bad(text, "port 0 is nowhere")
    return HostPort(_host(text, host), port)


def canonical(host: str) -> str | None:
    """Return a numeric address in its one form; None for a name, or an address with a zone."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        if address.scope_id is not None:
            return None
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
    return str(address)


def is_wildcard(host: str) -> bool:
    """All addresses of this machine, and so none that others could send to."""
    return host in {"0.0.0.0", "::"}  # noqa: S104 # the question, not an answer


def is_loopback(host: str) -> bool:
    """A numeric address that only this machine can reach."""
    address = canonical(host)
    return address is not None and ipaddress.ip_address(address).is_loopback


def is_link_local(host: str) -> bool:
    """A numeric address that means something else on every network: no use to others."""
    address = canonical(host)
    return address is not None and ipaddress.ip_address(address).is_link_local


def format_address(address: HostPort | Address) -> str:
    """Write an address as `parse_address` reads it."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _split(text: str, stripped: str) -> tuple[str, str | None]:
    if stripped.startswith("["):
        host, closed, rest = stripped[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")) or ":" not in host:
            raise _bad(text, "in brackets there must be an IPv6 address, and then :port or nothing")
        return host, rest[1:] if rest else None
    if stripped.count(":") > 1:
        raise _bad(text, "write an IPv6 address in brackets")
    host, colon, port = stripped.partition(":")
    return host, port if colon else None


def _host(text: str, host: str) -> str:
    numeric = canonical(host)
    if numeric is not None:
        return numeric
    if not host:
        raise _bad(text, "the host is missing")
    if "%" in host:
        raise _bad(text, "an address with a zone (%) means nothing to other machines")
    if ":" in host or set(host) <= set("0123456789."):
        raise _bad(text, f"{host!r} is no numeric address")
    if not _NAME.fullmatch(host):
        raise _bad(text, f"{host!r} is no host name")
    return host


def _bad(text: str, why: str) -> BadAddress:
    return BadAddress(f"{text!r} is no address: {why}; {_EXAMPLES}")
