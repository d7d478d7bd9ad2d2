"""Names to addresses, with whatever the system's resolver may do, and the machine's own ones."""

from __future__ import annotations

import socket
from collections.abc import Sequence

import pytest
import trio

from gossip.addresses import HostPort
from gossip.resolving import ADDRESSES_MAX, is_own, resolve, source_address_towards
from gossip.rows import Address

Answer = Sequence[str] | Exception


class FakeResolver(trio.abc.HostnameResolver):
    """Answers from a table; names that are not in it never get an answer."""

    def __init__(self, table: dict[str, Answer]) -> None:
        self._table = table

    async def getaddrinfo(  # type: ignore[override] # the real one's types are those of sockets
        self, host: bytes | str, port: int, *_: object
    ) -> list[object]:
        name = host.decode() if isinstance(host, bytes) else host
        if name not in self._table:
            await trio.sleep_forever()
        answer = self._table[name]
        if isinstance(answer, Exception):
            raise answer
        return [(None, None, None, "", (address, port)) for address in answer]

    async def getnameinfo(self, sockaddr: object, flags: int) -> tuple[str, str]:
        raise NotImplementedError


def answering(**table: Answer) -> None:
    """Resolve by this table until the test ends."""
    trio.socket.set_custom_hostname_resolver(FakeResolver(table))


async def test_a_name_that_stands_for_many_gives_all_of_them() -> None:
    """IPv4 and IPv6, sorted, each once, IPv4 as IPv4, without what only one link knows."""
    answering(
        peers=["10.0.0.7", "2001:DB8::1", "10.0.0.5", "::ffff:10.0.0.6", "10.0.0.5", "fe80::1"]
    )

    addresses, failure = await resolve(HostPort("peers", 7000), 1.0)

    hosts = ["10.0.0.5", "10.0.0.6", "10.0.0.7", "2001:db8::1"]
    assert addresses == tuple((host, 7000) for host in hosts)
    assert failure == ""


async def test_the_answer_is_bounded() -> None:
    """However many a name stands for, only so many are looked at."""
    answering(peers=[f"10.0.{high}.{low}" for high in range(4) for low in range(250)])

    addresses, _ = await resolve(HostPort("peers", 7000), 1.0)

    assert len(addresses) == ADDRESSES_MAX


@pytest.mark.parametrize(
    ("answer", "failure"),
    [
        (socket.gaierror(-2, "Name or service not known"), "peers: Name or service not known"),
        (OSError("broken"), "peers: broken"),
        (UnicodeError("label too long"), "peers: label too long"),
        (["fe80::1"], "peers: stands for addresses of a single link only"),
        ([], "peers: stands for no address"),
    ],
)
async def test_a_failure_is_a_sentence(answer: Answer, failure: str) -> None:
    """A name that cannot be resolved is no exception: the caller tries again later."""
    answering(peers=answer)

    assert await resolve(HostPort("peers", 7000), 1.0) == ((), failure)


async def test_a_resolver_that_never_answers_is_not_waited_for(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The lookup ends in time, and says that it was the name server."""
    answering()

    assert await resolve(HostPort("peers", 7000), 2.0) == (
        (),
        "peers: no answer from the name server in 2 s",
    )
    assert trio.current_time() == pytest.approx(2.0)


async def test_a_numeric_address_asks_nobody() -> None:
    """It stands for itself, though no resolver works."""
    answering()

    assert await resolve(HostPort("10.0.0.5", 7000), 1.0) == ((("10.0.0.5", 7000),), "")


async def test_the_systems_resolver_is_asked() -> None:
    """`localhost` is known everywhere, without any network."""
    addresses, failure = await resolve(HostPort("localhost", 7000), 5.0)

    assert failure == ""
    assert set(addresses) <= {("127.0.0.1", 7000), ("::1", 7000)}
    assert addresses


@pytest.mark.parametrize(
    ("towards", "source"),
    [
        (("127.0.0.1", 9), "127.0.0.1"),
        (("127.0.3.4", 9), "127.0.0.1"),
        (("255.255.255.255", 9), None),
    ],
)
def test_the_source_address_is_what_the_route_says(towards: Address, source: str | None) -> None:
    """The answer is an address of this machine; None where it cannot be told, never an error."""
    assert source_address_towards(towards) == source


@pytest.mark.parametrize(("host", "own"), [("127.0.0.1", True), ("192.0.2.1", False)])
def test_a_machine_knows_its_own_addresses(host: str, own: bool) -> None:
    """192.0.2.0/24 belongs to documentation, and so to no machine."""
    assert is_own(host) is own
