"""The budget: never more than the rate allows, and the urgent before the rest."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossip.budget import RESERVES, Budget, Priority, sent_bytes

RATE = 8000.0
BURST = 32_000.0

URGENT, HEARTBEAT, CONTROL, SYNC, LOAD = Priority


def test_the_burst_can_be_spent_at_once() -> None:
    """After a silence, down to the reserve of the class and no further."""
    for priority, share in zip(Priority, RESERVES, strict=True):
        budget = Budget(RATE, BURST)
        count = 0
        while budget.take(0.0, 100, priority):
            count += 1
        assert count * 100 == pytest.approx(BURST * (1 - share), abs=100), priority
        assert budget.spent[priority] == count * 100
        assert budget.refused[priority] == 1


def test_the_less_urgent_leave_something_to_the_more_urgent() -> None:
    """However much the lower classes would send, each higher one still finds its part."""
    budget = Budget(RATE, BURST)
    spent = []
    for priority in reversed(Priority):
        while budget.take(0.0, 100, priority):
            pass
        spent.append(budget.spent[priority])
    assert spent == [25_600, 1600, 1600, 1600, 1600]


def test_what_does_not_fit_costs_nothing() -> None:
    """A datagram that is refused is not sent; a smaller one may be."""
    budget = Budget(RATE, 1000.0)
    assert not budget.take(0.0, 1001, URGENT)
    assert budget.take(0.0, 1000, URGENT)
    assert not budget.take(0.0, 1, URGENT)
    assert budget.spent == [1000, 0, 0, 0, 0]


@pytest.mark.parametrize("priority", Priority)
def test_the_lowest_class_gets_what_the_rate_leaves_over(priority: Priority) -> None:
    """In the long run each class alone can use the whole rate: a reserve is not a tax."""
    budget = Budget(RATE, BURST)
    for step in range(40 * 100):
        budget.take(step * 0.01, 1228, priority)
    in_the_beginning = BURST * (1 - RESERVES[priority])
    assert budget.spent[priority] - in_the_beginning == pytest.approx(RATE * 40, rel=0.01)


def test_alerts_are_paid_for_while_loads_use_up_the_rate() -> None:
    """A cluster that is busy telling loads has 20 % of the burst for what is urgent, at any time,
    and heartbeats never wait for loads."""
    budget = Budget(RATE, BURST)
    for step in range(1000):
        while budget.take(step * 0.1, 1228, LOAD):
            pass
        assert budget.take(step * 0.1, 100, HEARTBEAT)
    alerts = 0
    while budget.take(100.0, 128, URGENT):
        alerts += 1
    assert alerts * 128 == pytest.approx(0.2 * BURST, abs=1100)


def test_a_clock_that_stands_still_or_goes_back_fills_nothing() -> None:
    """Only time that has passed brings bytes, and it brings them once."""
    budget = Budget(RATE, 1000.0)
    assert budget.take(10.0, 1000, URGENT)
    assert not budget.take(10.0, 1, URGENT)
    assert not budget.take(9.0, 1, URGENT)
    assert not budget.take(10.0, 1, URGENT)
    assert budget.take(10.125, 1000, URGENT)
    assert not budget.take(10.125, 1, URGENT)


@pytest.mark.parametrize(
    ("host", "bytes_"), [("127.0.0.1", 128), ("::1", 148), ("2001:db8::7946", 148)]
)
def test_headers_count(host: str, bytes_: int) -> None:
    """The budget is of what the network carries: 20 or 40 bytes of IP, and 8 of UDP."""
    assert sent_bytes(100, host) == bytes_


@given(
    st.lists(
        st.tuples(
            st.floats(0, 20) | st.just(0.0), st.integers(0, 1300), st.sampled_from(list(Priority))
        ),
        max_size=300,
    ),
    st.floats(10, 20_000),
    st.floats(0, 50_000),
)
def test_no_window_exceeds_the_rate(
    calls: list[tuple[float, int, Priority]], rate: float, burst: float
) -> None:
    """Between any two moments no more is spent than burst_bytes + T * bytes_per_s."""
    budget = Budget(rate, burst)
    times = list(accumulate(pause_s for pause_s, _, _ in calls))
    spent = [
        (now, size)
        for now, (_, size, priority) in zip(times, calls, strict=True)
        if budget.take(now, size, priority)
    ]
    assert sum(budget.spent) == sum(size for _, size in spent)
    # What of the past still weighs: the largest excess over the rate of any window that ends now.
    excess = 0.0
    last = 0.0
    for now, size in spent:
        excess = max(0.0, excess - (now - last) * rate) + size
        last = now
        assert excess <= burst * (1 + 1e-9) + 1e-6
