"""Addresses as people write them, and what they mean."""

from __future__ import annotations

import pytest

from gossip.addresses import (
    DEFAULT_PORT,
    HostPort,
    canonical,
    format_address,
    is_link_local,
    is_loopback,
    is_wildcard,
    parse_address,
)
from gossip.errors import BadAddress


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("10.0.0.5", HostPort("10.0.0.5", DEFAULT_PORT)),
        ("10.0.0.5:80", HostPort("10.0.0.5", 80)),
        (" 10.0.0.5:65535\n", HostPort("10.0.0.5", 65535)),
        ("tasks.peer", HostPort("tasks.peer", DEFAULT_PORT)),
        ("peer-1.example.org.:7000", HostPort("peer-1.example.org.", 7000)),
        ("my_stack_peer:7000", HostPort("my_stack_peer", 7000)),
        ("localhost", HostPort("localhost", DEFAULT_PORT)),
        ("[::1]", HostPort("::1", DEFAULT_PORT)),
        ("[2001:DB8:0::5]:7000", HostPort("2001:db8::5", 7000)),
        ("[::ffff:10.0.0.5]:7000", HostPort("10.0.0.5", 7000)),
    ],
)
def test_an_address_is_understood(text: str, expected: HostPort) -> None:
    """Names stay names; numeric addresses come in their one form; the port has a default."""
    assert parse_address(text) == expected
    assert parse_address(str(parse_address(text))) == expected


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the host is missing"),
        (":7946", "the host is missing"),
        ("host:", "'' is no port"),
        ("host:http", "'http' is no port"),
        ("host:65536", "'65536' is no port"),
        ("host:" + "9" * 5000, "is no port"),
        ("host:-1", "'-1' is no port"),
        ("host:٣", "is no port"),
        ("host:0", "port 0 is nowhere"),
        ("udp://host:7946", "it is a URL"),
        ("::1", "write an IPv6 address in brackets"),
        ("2001:db8::1:7946", "write an IPv6 address in brackets"),
        ("[::1", "in brackets there must be an IPv6 address"),
        ("[::1]7946", "in brackets there must be an IPv6 address"),
        ("[host]:7946", "in brackets there must be an IPv6 address"),
        ("[::g]:7946", "'::g' is no numeric address"),
        ("[fe80::1%eth0]:7946", "zone"),
        ("10.0.0.256", "'10.0.0.256' is no numeric address"),
        ("10.0.5", "'10.0.5' is no numeric address"),
        ("a host", "'a host' is no host name"),
        ("user@host", "'user@host' is no host name"),
        ("-host", "'-host' is no host name"),
        ("höst", "'höst' is no host name"),
        ("h" * 254, "is no host name"),
    ],
)
def test_what_is_no_address_is_said(text: str, why: str) -> None:
    """The error names the text, what is wrong with it, and what a right one looks like."""
    with pytest.raises(BadAddress) as caught:
        parse_address(text)

    message = str(caught.value)
    assert repr(text) in message
    assert why in message
    assert "such as tasks.peer or 10.0.0.5:7946" in message


def test_port_zero_is_for_listening_only() -> None:
    """Whoever listens may let the system choose; nobody can send to port 0."""
    assert parse_address("127.0.0.1:0", any_port=True) == HostPort("127.0.0.1", 0)


@pytest.mark.parametrize(
    ("host", "form", "wildcard", "loopback", "link_local"),
    [
        ("0.0.0.0", "0.0.0.0", True, False, False),
        ("::", "::", True, False, False),
        ("127.0.3.4", "127.0.3.4", False, True, False),
        ("::1", "::1", False, True, False),
        ("::ffff:127.0.0.1", "127.0.0.1", False, True, False),
        ("10.0.0.5", "10.0.0.5", False, False, False),
        ("169.254.1.1", "169.254.1.1", False, False, True),
        ("fe80::1", "fe80::1", False, False, True),
        ("fe80::1%eth0", None, False, False, False),
        ("2001:DB8::0", "2001:db8::", False, False, False),
        ("localhost", None, False, False, False),
    ],
)
def test_what_an_address_is_good_for(
    host: str, form: str | None, wildcard: bool, loopback: bool, link_local: bool
) -> None:
    """Wildcards, loopback and link-local addresses are told apart from those others can use."""
    assert canonical(host) == form
    assert (is_wildcard(host), is_loopback(host), is_link_local(host)) == (
        wildcard,
        loopback,
        link_local,
    )


def test_an_address_is_written_as_it_is_read() -> None:
    """IPv6 in brackets, so that the port can be told."""
    assert format_address(("::1", 7946)) == "[::1]:7946"
    assert format_address(("10.0.0.5", 7946)) == "10.0.0.5:7946"
