"""Patience: callers that wait behind a breaker, and the one trial that is made for all of them."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing

from pipeline.errors import (
    BadRequest,
    ClaimLost,
    LedgerUnavailable,
    PipelineError,
    PullFailed,
    StoreUnavailable,
)
from pipeline.patience import LEDGER, PROBE_S, STORE, Patience


class Service:
    """Something that is away until it is back; counts who asks for what, and how many at once."""

    def __init__(self) -> None:
        self.away = False
        self.calls = 0
        self.probes = 0
        self.probing = 0
        self.probing_most = 0
        self.probe_s = 0.01

    async def call(self) -> str:
        await trio.lowlevel.checkpoint()
        self.calls += 1
        if self.away:
            raise LedgerUnavailable("it is away", definite=True)
        return "an answer"

    async def probe(self) -> None:
        self.probes += 1
        self.probing += 1
        self.probing_most = max(self.probing_most, self.probing)
        try:
            await trio.sleep(self.probe_s)
        finally:
            self.probing -= 1
        if self.away:
            raise LedgerUnavailable("it is still away", definite=True)

    def patience(self) -> Patience:
        return Patience({LEDGER: self.probe}, random.Random(1), pause_max_s=2.0)


async def open_breaker(patience: Patience, service: Service) -> None:
    service.away = True
    with pytest.raises(LedgerUnavailable):
        await patience.insist(LEDGER, service.call, within_s=0.0)
    assert patience.breakers == {LEDGER: "open"}


async def test_a_moments_failure_is_repeated(autojump_clock: trio.testing.MockClock) -> None:
    """One failure opens nothing and is nobody's trouble."""
    assert autojump_clock.rate == 0
    service = Service()
    patience = service.patience()
    service.away = True

    async def call() -> str:
        try:
            return await service.call()
        finally:
            assert not patience.trouble
            service.away = False

    assert await patience.insist(LEDGER, call) == "an answer"
    assert (service.calls, service.probes) == (2, 0)
    assert patience.breakers == {LEDGER: "closed"}


async def test_many_wait_while_one_asks(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """However many callers there are, one trial at a time knocks, at most every pause; when it is
    answered they all go on at once."""
    assert autojump_clock.rate == 0
    service = Service()
    patience = service.patience()
    await open_breaker(patience, service)
    calls_before, answers = service.calls, []

    async def insist() -> None:
        answers.append(await patience.insist(LEDGER, service.call))

    for _ in range(50):
        nursery.start_soon(insist)
    await trio.sleep(60)
    assert service.calls == calls_before, "nobody knocks himself"
    assert service.probing_most == 1
    assert 30 <= service.probes <= 120
    assert patience.trouble == {LEDGER: "it is still away"}

    service.away = False
    await trio.sleep(2.1)
    assert answers == ["an answer"] * 50
    assert patience.trouble == {}


async def test_half_open_is_seen(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """While the trial is on its way people see that."""
    assert autojump_clock.rate == 0
    service = Service()
    patience = service.patience()
    await open_breaker(patience, service)
    service.probe_s = 5.0
    nursery.start_soon(patience.wait_until_well)
    await trio.sleep(1)
    assert patience.breakers == {LEDGER: "half-open"}
    service.away = False
    await trio.sleep(5)
    assert patience.breakers == {LEDGER: "closed"}


async def test_patience_that_ends(autojump_clock: trio.testing.MockClock) -> None:
    """The caller gets the error after its time, made or not made; the breaker stays open."""
    assert autojump_clock.rate == 0
    service = Service()
    patience = service.patience()
    service.away = True
    for _ in range(2):
        began = trio.current_time()
        with pytest.raises(LedgerUnavailable, match="away"):
            await patience.insist(LEDGER, service.call, within_s=7.0)
        assert 7.0 <= trio.current_time() - began <= 7.1
    assert service.calls == 2
    assert patience.breakers == {LEDGER: "open"}


async def test_a_cancelled_trial_is_made_by_another(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Whoever asked for all is stopped in the middle of it: the others do not wait for ever."""
    assert autojump_clock.rate == 0
    service = Service()
    patience = service.patience()
    await open_breaker(patience, service)
    service.away, service.probe_s = False, 5.0
    stopped = trio.CancelScope()

    async def be_stopped() -> None:
        with stopped:
            await patience.wait_until_well()

    nursery.start_soon(be_stopped)
    await trio.sleep(1)
    nursery.start_soon(patience.wait_until_well)
    await trio.sleep(1)
    stopped.cancel()
    with trio.fail_after(5.1):
        assert await patience.insist(LEDGER, service.call) == "an answer"
    assert (service.probes, service.probing_most) == (2, 1)


async def test_a_probe_that_hangs(autojump_clock: trio.testing.MockClock) -> None:
    """It has failed after a while."""
    assert autojump_clock.rate == 0
    service = Service()
    patience = service.patience()
    await open_breaker(patience, service)
    service.probe_s = 1000.0
    with trio.move_on_after(PROBE_S + 0.5):
        await patience.wait_until_well()
    assert patience.trouble == {LEDGER: "no answer within 10 s"}
    assert service.probing_most == 1


@pytest.mark.parametrize(
    ("refusal", "expected"),
    [
        (ClaimLost("it was cancelled"), "closed"),
        (BadRequest("no"), "closed"),
        (PullFailed("the disk is full", code="disk_full"), "open"),
    ],
)
async def test_refusing_is_an_answer(
    autojump_clock: trio.testing.MockClock,
    nursery: trio.Nursery,
    refusal: PipelineError,
    expected: str,
) -> None:
    """Whoever says no is there; a full disk here says nothing of anybody else."""
    assert autojump_clock.rate == 0
    service = Service()
    patience = service.patience()

    async def refuse() -> None:  # goes out before the breaker opens
        await trio.sleep(0.01)
        raise refusal

    async def ask() -> None:
        with pytest.raises(type(refusal)):
            await patience.insist(LEDGER, refuse)

    nursery.start_soon(ask)
    await trio.testing.wait_all_tasks_blocked()
    await open_breaker(patience, service)
    await trio.sleep(0.02)
    assert patience.breakers == {LEDGER: expected}


async def test_what_is_not_worth_waiting_for(autojump_clock: trio.testing.MockClock) -> None:
    """One try, and none at all while the breaker is open."""
    assert autojump_clock.rate == 0
    service = Service()
    patience = service.patience()
    assert await patience.once(LEDGER, service.call) == "an answer"
    service.away = True
    for _ in range(5):
        with pytest.raises(LedgerUnavailable, match="it is away") as caught:
            await patience.once(LEDGER, service.call)
    assert service.calls == 3
    assert caught.value.definite, "it was not even made"


async def test_a_flapping_dependency(autojump_clock: trio.testing.MockClock) -> None:
    """One that answers the probe and fails the call is asked more and more rarely."""
    assert autojump_clock.rate == 0
    service = Service()
    patience = service.patience()

    async def probe_answers() -> None:
        """Answer."""

    patience = Patience({LEDGER: probe_answers}, random.Random(1), pause_max_s=2.0)
    service.away = True
    with pytest.raises(LedgerUnavailable):
        await patience.insist(LEDGER, service.call, within_s=60.0)
    assert 30 <= service.calls <= 120


async def test_dependencies_are_apart(autojump_clock: trio.testing.MockClock) -> None:
    """What is away does not keep anybody from the others; who needs all waits for all."""
    assert autojump_clock.rate == 0
    ledger, back = Service(), trio.current_time() + 20

    async def store() -> None:
        if trio.current_time() < back:
            raise StoreUnavailable("503", definite=True)

    probes: dict[str, Callable[[], Awaitable[object]]] = {LEDGER: ledger.probe, STORE: store}
    patience = Patience(probes, random.Random(1), pause_max_s=2.0)
    with pytest.raises(StoreUnavailable):
        await patience.insist(STORE, store, within_s=1.0)
    assert patience.breakers == {LEDGER: "closed", STORE: "open"}
    assert await patience.insist(LEDGER, ledger.call) == "an answer"
    await patience.wait_until_well()
    assert back <= trio.current_time() <= back + 2


async def test_a_return_is_noticed_by_who_wants_nothing(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """A watched dependency is asked while nobody waits for it, and only until it is back."""
    assert autojump_clock.rate == 0
    service = Service()
    patience = service.patience()
    nursery.start_soon(patience.watch)
    for _ in range(2):
        await open_breaker(patience, service)
        await trio.sleep(20)
        assert patience.trouble
        service.away = False
        await trio.sleep(2 + service.probe_s)
        assert not patience.trouble
        probes = service.probes
        await trio.sleep(60)
        assert service.probes == probes
    assert service.probing_most == 1


async def test_a_call_of_somebody_else_counts() -> None:
    """Made elsewhere, and yet its outcome opens the breaker and closes it: nobody else may call."""
    service = Service()
    patience = service.patience()

    async def call() -> None:
        with patience.heard(LEDGER):
            await service.call()

    service.away = True
    while patience.breakers[LEDGER] == "closed":
        with pytest.raises(LedgerUnavailable):
            await call()
    assert patience.trouble == {LEDGER: "it is away"}
    service.away = False
    await call()
    assert patience.breakers == {LEDGER: "closed"}
    assert service.probes == 0


async def test_outcomes_from_elsewhere(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Calls that somebody else makes count as well, and who watches notices the end by itself."""
    assert autojump_clock.rate == 0
    service = Service()
    patience = service.patience()
    nursery.start_soon(patience.watch)
    service.away = True
    for _ in range(2):
        with pytest.raises(LedgerUnavailable), patience.heard(LEDGER):
            await service.call()
    assert patience.breakers == {LEDGER: "open"}
    await trio.sleep(60)
    assert patience.trouble == {LEDGER: "it is still away"}

    service.away = False
    await trio.sleep(2.1)
    assert patience.breakers == {LEDGER: "closed"}
    probes = service.probes
    await trio.sleep(60)
    assert service.probes == probes, "who answers is not asked"


async def test_a_look_before_anybody_needs_it(autojump_clock: trio.testing.MockClock) -> None:
    """What is away is known at once, and by one question; what is silent holds nobody up for
    long; and of what is known to be away nothing is asked."""
    assert autojump_clock.rate == 0
    service = Service()
    patience = service.patience()
    await patience.look(LEDGER)
    assert (service.probes, patience.breakers) == (1, {LEDGER: "closed"})

    service.probe_s = 3600.0
    began = trio.current_time()
    await patience.look(LEDGER)
    assert trio.current_time() - began == PROBE_S
    assert patience.breakers == {LEDGER: "closed"}

    service.probe_s, service.away = 0.01, True
    for _ in range(2):
        await patience.look(LEDGER)
        assert (service.probes, patience.breakers) == (3, {LEDGER: "open"})
    assert patience.trouble == {LEDGER: "it is still away"}
