"""The address that a peer gives to others: configured, listened on, or found out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest

from gossip.addresses import HostPort
from gossip.errors import BadAddress, CannotListen
from gossip.resolving import Resolve, Resolved, source_address_towards
from gossip.rows import Address
from gossip.udp import UdpEndpoint
from membership import advertising
from membership.advertising import Advertising, corrected
from tests.missing import do_without

OWN: Address = ("10.0.0.5", 7946)


def resolving(table: Mapping[str, Sequence[str]]) -> Resolve:
    async def resolve(seed: HostPort, timeout_s: float) -> Resolved:
        del timeout_s
        hosts = table.get(seed.host, [])
        failure = "" if hosts else f"{seed.host}: not known"
        return Resolved(tuple((host, seed.port) for host in hosts), failure)

    return resolve


@pytest.fixture
def everywhere() -> Iterator[UdpEndpoint]:
    """A socket on all of the machine's IPv4 addresses."""
    with UdpEndpoint.open(("0.0.0.0", 0)) as endpoint:
        yield endpoint


@pytest.mark.parametrize(
    ("what", "own", "observed", "settled", "taken"),
    [
        ("the same", OWN, OWN, False, False),
        ("a first correction", OWN, ("10.9.0.5", 7946), False, True),
        ("another network later", OWN, ("10.9.0.5", 7946), True, False),
        ("a translated port", OWN, ("203.0.113.5", 40000), False, False),
        ("the same host's other port", OWN, ("10.0.0.5", 40000), False, False),
        ("a neighbour's short way", OWN, ("127.0.0.1", 7946), False, False),
        ("loopback was a guess", ("127.0.0.1", 7946), OWN, True, True),
        ("loopback to loopback", ("127.0.0.1", 7946), ("127.0.0.2", 7946), False, False),
    ],
)
def test_what_others_see_is_taken_when_it_helps(
    what: str, own: Address, observed: Address, settled: bool, taken: bool
) -> None:
    """A guess is corrected once; after that it is kept; what others could not use never is
    taken."""
    answer = corrected(own, observed, settled=settled)

    assert answer == (observed if taken else None), what


async def test_a_configured_address_is_believed(everywhere: UdpEndpoint) -> None:
    """It is resolved if it is a name, gets the listening port if it has none, and stays."""
    resolve = resolving({"me.example": ["198.51.100.7"]})
    port = everywhere.address[1]

    chosen = Advertising(everywhere, HostPort("me.example", 0), (), resolve)
    with_port = Advertising(everywhere, HostPort("me.example", 99), (), resolve)

    assert await chosen.find() == ("198.51.100.7", port)
    assert await with_port.find() == ("198.51.100.7", 99)
    assert chosen.correct(("198.51.100.7", port), ("10.0.0.9", port)) is None


async def test_a_configured_name_that_stands_for_nothing_is_an_error(
    everywhere: UdpEndpoint,
) -> None:
    """A peer that nobody could reach does not start; the message says what to do."""
    nowhere = Advertising(everywhere, HostPort("nowhere", 99), (), resolving({}))

    with pytest.raises(
        BadAddress, match=r"cannot advertise nowhere:99: nowhere: not known; .*numeric"
    ):
        await nowhere.find()


async def test_whoever_listens_on_one_address_has_that_one() -> None:
    """Nothing is looked up, and nothing that others see changes it."""
    with UdpEndpoint.open(("127.0.0.3", 0)) as endpoint:
        found = Advertising(endpoint, None, [HostPort("seed", 1)], resolving({}))

        assert await found.find() == endpoint.address
        assert found.correct(endpoint.address, ("10.0.0.9", endpoint.address[1])) is None


async def test_whoever_listens_everywhere_has_the_address_towards_the_seeds(
    everywhere: UdpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first seed that can be looked up, is of the socket's family and has a route decides."""
    routes = {"10.1.0.1": None, "10.2.0.1": "10.2.0.9", "10.3.0.1": "10.3.0.9"}
    monkeypatch.setattr(advertising, "source_address_towards", lambda address: routes[address[0]])
    table = {"many": ["2001:db8::1", "10.1.0.1", "10.2.0.1"], "other": ["10.3.0.1"]}
    seeds = [HostPort(name, 7946) for name in ("unknown", "many", "other")]

    found = Advertising(everywhere, None, seeds, resolving(table))

    assert await found.find() == ("10.2.0.9", everywhere.address[1])


@pytest.mark.parametrize(
    ("routes", "expected"),
    [
        ({"2001:db8::1": "2001:db8::9", "203.0.113.1": "203.0.113.9"}, "203.0.113.9"),
        ({"2001:db8::1": "2001:db8::9"}, "2001:db8::9"),
        ({advertising.SOMEWHERE_IPV6[0]: "fd00::9"}, "fd00::9"),
        ({}, "127.0.0.1"),
    ],
)
async def test_of_two_families_it_is_the_one_that_more_can_reach(
    monkeypatch: pytest.MonkeyPatch, routes: Mapping[str, str], expected: str
) -> None:
    """IPv4 where there is a route, for those who have nothing else; a machine with IPv6 alone has
    that, also before it knows anybody."""
    monkeypatch.setattr(advertising, "source_address_towards", lambda to: routes.get(to[0]))
    seeds = resolving({"both": ["2001:db8::1", "203.0.113.1"]})
    try:
        endpoint = UdpEndpoint.open(("::", 0))
    except CannotListen:
        do_without("this machine has no IPv6")
    with endpoint:
        found = Advertising(endpoint, None, [HostPort("both", 7946)], seeds)
        assert await found.find() == (expected, endpoint.address[1])


async def test_without_seeds_it_is_the_address_of_the_default_route(
    everywhere: UdpEndpoint,
) -> None:
    """Or loopback, on a machine without a network."""
    host, port = await Advertising(everywhere, None, (), resolving({})).find()

    assert host == (source_address_towards(("192.0.2.1", 9)) or "127.0.0.1")
    assert port == everywhere.address[1]


async def test_the_first_correction_settles_it(everywhere: UdpEndpoint) -> None:
    """Observers in several networks do not make a peer change its address at every join."""
    port = everywhere.address[1]
    found = Advertising(everywhere, None, (), resolving({}))
    await found.find()

    assert found.correct(("10.1.0.9", port), ("10.2.0.9", port)) == ("10.2.0.9", port)
    assert found.correct(("10.2.0.9", port), ("10.3.0.9", port)) is None


async def test_a_lost_address_is_replaced(
    everywhere: UdpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container that was moved to another network is reached there; while it has none, the old
    address is kept; and the next correction counts again."""
    port = everywhere.address[1]
    has = ["10.1.0.9"]
    monkeypatch.setattr(advertising, "is_own", lambda host: host in has)
    monkeypatch.setattr(advertising, "source_address_towards", lambda _: has[-1] if has else None)
    found = Advertising(everywhere, None, (), resolving({}))
    own = await found.find()
    assert own == ("10.1.0.9", port)
    assert await found.replaced(own) is None
    assert found.correct(own, own) is None

    has.clear()
    assert await found.replaced(own) is None
    has.append("10.2.0.9")
    assert await found.replaced(own) == ("10.2.0.9", port)
    assert found.correct(("10.2.0.9", port), ("10.3.0.9", port)) == ("10.3.0.9", port)


async def test_a_network_that_comes_late_is_found(
    everywhere: UdpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer that started before there was a network does not stay on loopback."""
    routes: list[str] = []
    monkeypatch.setattr(advertising, "source_address_towards", lambda _: routes and routes[0])
    found = Advertising(everywhere, None, (), resolving({}))
    own = await found.find()
    assert own[0] == "127.0.0.1"
    assert await found.replaced(own) is None

    routes.append("10.1.0.9")

    assert await found.replaced(own) == ("10.1.0.9", own[1])


async def test_a_translated_address_is_not_lost(
    everywhere: UdpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Others see this peer at an address that its machine never had: that one stays."""
    monkeypatch.setattr(advertising, "is_own", lambda host: host == "10.1.0.9")
    found = Advertising(everywhere, None, (), resolving({}))
    port = everywhere.address[1]

    assert await found.replaced(("10.1.0.9", port)) is None
    assert await found.replaced(("203.0.113.5", port)) is None


async def test_what_was_said_is_not_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """A configured address, or the only one that is listened on, is nobody's to replace."""
    monkeypatch.setattr(advertising, "is_own", lambda host: False)
    with UdpEndpoint.open(("127.0.0.1", 0)) as endpoint:
        for configured in (None, HostPort("198.51.100.7", 99)):
            found = Advertising(endpoint, configured, (), resolving({}))
            assert await found.replaced(("127.0.0.1", 99)) is None


async def test_an_address_from_before_the_seeds_had_names_is_looked_for_again(
    everywhere: UdpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container whose seeds are not named yet has the address of its default route; as soon as
    one is, it has the one that the seeds can answer to, though the machine has both."""
    routes = {"192.0.2.1": "172.18.0.3", "10.1.0.1": "10.1.0.9"}
    names: dict[str, Sequence[str]] = {}
    monkeypatch.setattr(advertising, "is_own", lambda host: True)
    monkeypatch.setattr(advertising, "source_address_towards", lambda to: routes.get(to[0]))
    port = everywhere.address[1]
    found = Advertising(everywhere, None, [HostPort("tasks.peer", 7946)], resolving(names))
    own = await found.find()
    assert own == ("172.18.0.3", port)
    assert not found.certain
    assert await found.replaced(own) is None

    names["tasks.peer"] = ["10.1.0.1"]

    assert await found.replaced(own) == ("10.1.0.9", port)
    assert found.certain
    assert await found.replaced(("10.1.0.9", port)) is None


async def test_what_others_have_seen_is_not_looked_for_again(
    everywhere: UdpEndpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A peer whose seeds have no names, and which somebody else has found, is content with what
    that one sees."""
    monkeypatch.setattr(advertising, "is_own", lambda host: True)
    monkeypatch.setattr(advertising, "source_address_towards", lambda _: "172.18.0.3")
    found = Advertising(everywhere, None, [HostPort("tasks.peer", 7946)], resolving({}))
    own = await found.find()
    seen = ("10.1.0.9", own[1])

    assert found.correct(own, seen) == seen

    assert found.certain
    assert await found.replaced(seen) is None


async def test_whoever_has_nothing_to_ask_is_certain(everywhere: UdpEndpoint) -> None:
    """Without seeds there is no network to prefer; what was said is not guessed at all."""
    resolve = resolving({"me": ["198.51.100.7"]})
    for configured in (None, HostPort("me", 99)):
        found = Advertising(everywhere, configured, (), resolve)
        await found.find()
        assert found.certain
