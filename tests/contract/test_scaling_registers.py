"""The lease and the claims on machines: one suite over both places where they are kept.

In the ledger's database (real), and in a Swarm's configs (the fake; tests/swarm has the same facts
on a real one). Time is moved, and never waited for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import psycopg
import pytest
import trio

from peer.scale.ledger import QUERIES, ScalingDatabase
from pipeline.ledger.database import Database
from scaling.intents import Intents
from scaling.ledger.intents import LedgerIntents
from scaling.ledger.lease import LedgerLease
from scaling.ports import Lease
from scaling.swarm.client import Managers
from scaling.swarm.config import SwarmConfig
from scaling.swarm.intents import SwarmIntents
from scaling.swarm.lease import SwarmLease
from tests.servers.fake_swarm import FakeSwarm

LEASE_S = 10.0


class Register(Protocol):
    """**Protocol**: where leases and claims are kept; time passes only on request."""

    def lease(self) -> Lease:
        """One contender's."""
        ...

    def intents(self) -> Intents:
        """One leader's."""
        ...

    def let_pass(self, seconds: float) -> None:
        """Let time pass."""
        ...


class InLedger:
    """Time passes by moving what the row says."""

    def __init__(self, database: Database, url: str) -> None:
        self._database, self._url = ScalingDatabase(database), url

    def lease(self) -> Lease:
        return LedgerLease(self._database, QUERIES, scope="local", lease_s=LEASE_S)

    def intents(self) -> Intents:
        return LedgerIntents(self._database, QUERIES, scope="local")

    def let_pass(self, seconds: float) -> None:
        with psycopg.connect(self._url) as connection:
            connection.execute(
                "UPDATE scaling_leases SET expires_at = expires_at - make_interval(secs => %s)",
                [seconds],
            )


class InSwarm:
    """Time passes in the fake."""

    def __init__(self, swarm: FakeSwarm, managers: Managers, config: SwarmConfig) -> None:
        self._swarm, self._managers, self._config = swarm, managers, config

    def lease(self) -> Lease:
        return SwarmLease(self._managers, self._config, clock=lambda: self._swarm.now_s)

    def intents(self) -> Intents:
        return SwarmIntents(self._managers, self._config)

    def let_pass(self, seconds: float) -> None:
        self._swarm.advance(seconds)


@pytest.fixture
def in_ledger(database: Database, ledger_url: str) -> InLedger:
    return InLedger(database, ledger_url)


@pytest.fixture
def in_swarm() -> Iterator[InSwarm]:
    with FakeSwarm() as swarm:
        swarm.add_manager("node-1")
        config = SwarmConfig(managers=swarm.managers, service="peers", lease_s=LEASE_S)
        managers = Managers(config)
        yield InSwarm(swarm, managers, config)
        managers.close()


@pytest.fixture(params=["in_ledger", "in_swarm"])
def register(request: pytest.FixtureRequest) -> Register:
    found: Register = request.getfixturevalue(request.param)
    return found


async def take_over(register: Register, lease: Lease, holder: str) -> int:
    """Ask for it until it has run out for whoever holds it."""
    for _ in range(30):
        term = await lease.keep(holder)
        if term is not None:
            return term
        register.let_pass(1.0)
    raise AssertionError("nobody ever gets it")


async def test_one_of_two_leads(register: Register) -> None:
    """Who renews keeps it under one term, however long; who falls silent loses it to the other one,
    under a later term, and learns that."""
    one, other = register.lease(), register.lease()
    term = await one.keep("one")
    assert term is not None
    for _ in range(6):
        register.let_pass(LEASE_S / 2)
        assert await one.keep("one") == term
        assert await other.keep("other") is None
    later = await take_over(register, other, "other")
    assert later > term
    assert await one.keep("one") is None


async def test_a_lease_lasts_as_long_as_it_says(register: Register) -> None:
    """Nobody else gets it while its holder may believe in it."""
    one, other = register.lease(), register.lease()
    assert await one.keep("one") is not None
    assert await other.keep("other") is None
    register.let_pass(LEASE_S / 2)
    assert await other.keep("other") is None


async def test_a_database_clock_that_was_set_back(in_ledger: InLedger) -> None:
    """A holder who has died since would keep everybody out for as long as the clock was set back;
    a clock that was corrected by seconds takes nothing from one that lives."""
    one, other = in_ledger.lease(), in_ledger.lease()
    term = await one.keep("one")
    assert term is not None
    in_ledger.let_pass(-LEASE_S / 2)
    assert await other.keep("other") is None
    in_ledger.let_pass(-3600.0)
    assert await other.keep("other") == term + 1
    assert await one.keep("one") is None


async def test_what_is_given_up_is_free_at_once(register: Register) -> None:
    """By its holder; nobody gives up what is another's."""
    one, other = register.lease(), register.lease()
    term = await one.keep("one")
    await other.give_up("other")
    assert await other.keep("other") is None
    await one.give_up("one")
    await one.give_up("one")
    later = await other.keep("other")
    assert later is not None
    assert term is not None
    assert later > term
    await one.give_up("one")
    assert await other.keep("other") == later


async def test_a_holder_that_was_started_anew_has_another_term(register: Register) -> None:
    """It knows nothing of what its former life has begun; and it need not wait for itself."""
    term = await register.lease().keep("one")
    again = await register.lease().keep("one")
    assert term is not None
    assert again is not None
    assert again > term


async def test_no_term_is_given_twice(register: Register) -> None:
    """Whatever many contenders do at once: give up, take over, come anew."""
    terms: list[int] = []

    async def contend(name: str) -> None:
        lease = register.lease()
        for _ in range(3):
            term = await lease.keep(name)
            if term is not None:
                terms.append(term)
                await lease.give_up(name)

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(contend, f"peer-{number}")
    assert terms
    assert len(terms) == len(set(terms))


async def test_a_name_is_claimed_once(register: Register) -> None:
    """A claim is one leader's until he gives it up or another takes it over; an old listing changes
    nothing, also not when the name was claimed anew."""
    intents = register.intents()
    assert await intents.claim("pool-1", term=3)
    assert not await intents.claim("pool-1", term=4)
    (old,) = await intents.list()
    assert await intents.adopt(old, term=5)
    assert not await intents.adopt(old, term=6)
    assert not await intents.release(old)
    (new,) = await intents.list()
    assert (new.name, new.term) == ("pool-1", 5)
    assert await intents.release(new)
    assert not await intents.release(new)
    assert await intents.claim("pool-1", term=6)
    assert not await intents.release(new), "another claim of that name is another claim"


async def test_a_name_is_claimed_by_one_of_many(register: Register) -> None:
    """Of those who claim at once one gets it, and of those who adopt it, too."""
    got: list[bool] = []

    async def claim(term: int) -> None:
        got.append(await register.intents().claim("pool-1", term=term))

    async with trio.open_nursery() as nursery:
        for term in range(1, 6):
            nursery.start_soon(claim, term)
    assert sorted(got) == [False] * 4 + [True]
    (intent,) = await register.intents().list()
    adopted: list[bool] = []

    async def adopt(term: int) -> None:
        adopted.append(await register.intents().adopt(intent, term=term))

    async with trio.open_nursery() as nursery:
        for term in range(11, 16):
            nursery.start_soon(adopt, term)
    assert sorted(adopted) == [False] * 4 + [True]
