"""The retry policy: when it gives up, and how long it waits."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import Stage
from pipeline.retry import Escalate, Retry, RetryPolicy

POLICY = RetryPolicy(base_s=2.0, max_s=600.0)


@pytest.mark.parametrize(
    ("permanent", "failures", "attempts_max", "escalates"),
    [
        (False, 1, 4, False),
        (False, 3, 4, False),
        (False, 4, 4, True),
        (False, 5, 4, True),
        (False, 1, 1, True),
        (True, 1, 4, True),
        (True, 1, 1, True),
    ],
)
def test_escalates_at_the_threshold_or_when_no_retry_helps(
    permanent: bool, failures: int, attempts_max: int, escalates: bool
) -> None:
    """The threshold counts failures, this one included; a permanent error never waits for it."""
    decision = POLICY.decide(
        stage=Stage.TRANSCODE,
        permanent=permanent,
        failures=failures,
        attempts_max=attempts_max,
        rng=random.Random(1),
    )
    assert isinstance(decision, Escalate if escalates else Retry)


def test_the_reason_names_the_threshold() -> None:
    """A person who reads the escalation learns how often it was tried and why it was enough."""
    decision = POLICY.decide(
        stage=Stage.PUSH, permanent=False, failures=4, attempts_max=4, rng=random.Random(1)
    )
    assert decision == Escalate(why="failed 4 times, and 4 is the threshold")


@pytest.mark.parametrize(
    ("failures", "ceiling_s"),
    [(1, 2.0), (2, 4.0), (3, 8.0), (8, 256.0), (9, 512.0), (10, 600.0), (100_000, 600.0)],
)
def test_the_delay_grows_exponentially_up_to_the_limit(failures: int, ceiling_s: float) -> None:
    """Delays fill the whole range from half the base to the ceiling, and never leave it."""
    rng = random.Random(failures)
    delays = [_delay_s(POLICY, failures, rng) for _ in range(500)]
    assert min(delays) >= 1.0
    assert max(delays) <= ceiling_s
    span = ceiling_s - 1.0
    assert min(delays) < 1.0 + 0.1 * span
    assert max(delays) > ceiling_s - 0.1 * span


@given(
    base_s=st.floats(0.001, 100),
    factor=st.floats(1, 1e6),
    failures=st.integers(1, 10_000),
    seed=st.integers(0, 2**32),
)
def test_no_policy_waits_longer_than_its_limit(
    base_s: float, factor: float, failures: int, seed: int
) -> None:
    """Whatever the configuration: never a negative delay, none above the limit, no overflow."""
    policy = RetryPolicy(base_s=base_s, max_s=base_s * factor)
    delay_s = _delay_s(policy, failures, random.Random(seed))
    assert base_s / 2 <= delay_s <= policy.max_s


@pytest.mark.parametrize(
    ("failures", "attempts_max", "expected"),
    [(1, 4, Retry(after_s=0.0)), (1, 1, Escalate), (2, 4, Retry), (3, 4, Retry), (4, 4, Escalate)],
)
def test_the_first_crash_costs_no_delay(
    failures: int, attempts_max: int, expected: Retry | type[Retry | Escalate]
) -> None:
    """A peer's death is rarely the task's fault; from the second on it may be, and it waits."""
    decision = POLICY.decide(
        stage=Stage.CRASH,
        permanent=False,
        failures=failures,
        attempts_max=attempts_max,
        rng=random.Random(1),
    )
    if isinstance(expected, Retry):
        assert decision == expected
    else:
        assert isinstance(decision, expected)
        assert not isinstance(decision, Retry) or decision.after_s >= POLICY.base_s / 2


def test_the_same_seed_gives_the_same_delays() -> None:
    """The randomness is the caller's, so that a run can be repeated."""
    one, other = random.Random(7), random.Random(7)
    assert [_delay_s(POLICY, n, one) for n in range(1, 9)] == [
        _delay_s(POLICY, n, other) for n in range(1, 9)
    ]


@pytest.mark.parametrize(("base_s", "max_s"), [(0.0, 1.0), (-1.0, 1.0), (2.0, 1.0)])
def test_refuses_limits_that_contradict_each_other(base_s: float, max_s: float) -> None:
    """A base of nothing, or above the limit, is a mistake in the configuration and is said so."""
    with pytest.raises(ValueError, match="base_s must be above 0 and at most max_s"):
        RetryPolicy(base_s=base_s, max_s=max_s)


def _delay_s(policy: RetryPolicy, failures: int, rng: random.Random) -> float:
    decision = policy.decide(
        stage=Stage.PULL,
        permanent=False,
        failures=failures,
        attempts_max=failures + 1,
        rng=rng,
    )
    assert isinstance(decision, Retry)
    return decision.after_s
