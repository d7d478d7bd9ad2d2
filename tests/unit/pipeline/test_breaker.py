"""The circuit breaker: who may call, and when one trial goes out."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipeline.breaker import PAUSE_BASE_S, Breaker, State

PAUSE_MAX_S = 2.0


def opened(seed: int = 1) -> Breaker:
    """A breaker that has just opened, at 0."""
    breaker = Breaker(random.Random(seed), pause_max_s=PAUSE_MAX_S)
    breaker.failed(0.0)
    breaker.failed(0.0)
    return breaker


def begin_trial(breaker: Breaker) -> float:
    """Begin the trial as soon as it is due, and return when that is."""
    due = breaker.trial_due_at
    assert breaker.begin_trial(due)
    return due


def state(breaker: Breaker) -> State:
    """Where it is now: mypy would take an earlier assertion for a lasting truth."""
    return breaker.state


def test_one_failure_is_not_an_outage() -> None:
    """A pooled connection that broke fails one call; two in a row open it."""
    breaker = Breaker(random.Random(1), pause_max_s=PAUSE_MAX_S)
    breaker.failed(0.0)
    breaker.answered()
    breaker.failed(1.0)
    assert state(breaker) is State.CLOSED

    breaker.failed(1.1)
    assert state(breaker) is State.OPEN


def test_one_trial_at_a_time() -> None:
    """Not before the pause is over, and to whoever asks first; the others are refused."""
    breaker = opened()
    due = breaker.trial_due_at
    assert not breaker.begin_trial(due - 0.001)
    assert breaker.begin_trial(due)
    assert state(breaker) is State.HALF_OPEN
    assert not breaker.begin_trial(due + 100)
    assert breaker.trial_due_at == math.inf


def test_an_answered_trial_closes_it_on_trial() -> None:
    """Calls go out again, and the first one that fails opens it for a longer pause."""
    breaker = opened()
    for pauses in range(2, 8):
        now = begin_trial(breaker)
        breaker.trial_answered()
        assert state(breaker) is State.CLOSED
        breaker.failed(now)
        assert state(breaker) is State.OPEN
        assert breaker.trial_due_at - now <= min(PAUSE_MAX_S, PAUSE_BASE_S * 2 ** (pauses - 1))


def test_an_answered_call_makes_all_well() -> None:
    """The next outage begins with the shortest pause again."""
    breaker = opened()
    for _ in range(8):
        now = begin_trial(breaker)
        breaker.trial_failed(now)
    now = begin_trial(breaker)
    breaker.trial_answered()
    breaker.answered()
    breaker.failed(now)
    assert state(breaker) is State.CLOSED
    breaker.failed(now)
    assert breaker.trial_due_at - now <= PAUSE_BASE_S


def test_a_cancelled_trial_is_anybodys() -> None:
    """Nobody waits for the outcome of a trial that will have none."""
    breaker = opened()
    now = begin_trial(breaker)
    breaker.trial_abandoned(now)
    assert state(breaker) is State.OPEN
    assert breaker.begin_trial(now)


def test_an_answer_during_a_trial_counts_more() -> None:
    """A call that was on its way is answered; the trial's failure is then one failure of many."""
    breaker = opened()
    now = begin_trial(breaker)
    breaker.answered()
    assert state(breaker) is State.CLOSED
    breaker.trial_failed(now)
    assert state(breaker) is State.CLOSED


def test_who_has_waited_long_enough_opens_it() -> None:
    """Patience that ends says more than a count of failures."""
    breaker = Breaker(random.Random(1), pause_max_s=PAUSE_MAX_S)
    breaker.trip(5.0)
    assert state(breaker) is State.OPEN
    due = breaker.trial_due_at
    breaker.trip(100.0)
    assert breaker.trial_due_at == due


@pytest.mark.parametrize("pauses", range(1, 12))
def test_pauses_grow_and_are_spread(pauses: int) -> None:
    """Exponential with full jitter up to the limit, and never nothing."""
    ceiling_s = min(PAUSE_MAX_S, PAUSE_BASE_S * 2 ** (pauses - 1))
    drawn = []
    for seed in range(200):
        breaker = opened(seed)
        now = 0.0
        for _ in range(pauses - 1):
            now = begin_trial(breaker)
            breaker.trial_failed(now)
        drawn.append(breaker.trial_due_at - now)
    assert min(drawn) >= PAUSE_BASE_S / 2 - 1e-9
    assert max(drawn) <= ceiling_s + 1e-9
    spread = ceiling_s - PAUSE_BASE_S / 2
    assert min(drawn) <= PAUSE_BASE_S / 2 + 0.1 * spread
    assert max(drawn) >= ceiling_s - 0.1 * spread


class Breaking(RuleBasedStateMachine):
    """Calls and trials in any order: what the breaker promises at any time."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(random.Random(3), pause_max_s=PAUSE_MAX_S)
        self.now = 0.0
        self.trials = 0
        self.failures = 0  # with no answer between them

    @rule(seconds=st.floats(0, 3))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def answer(self) -> None:
        self.breaker.answered()
        self.failures = 0
        assert self.breaker.state is State.CLOSED

    @rule()
    def fail(self) -> None:
        was = self.breaker.state
        self.breaker.failed(self.now)
        self.failures += 1
        if was is not State.CLOSED or self.failures >= 2:
            assert self.breaker.state is not State.CLOSED

    @rule()
    def give_up(self) -> None:
        self.breaker.trip(self.now)
        assert self.breaker.state is not State.CLOSED

    @rule()
    def try_it(self) -> None:
        was, due = self.breaker.state, self.breaker.trial_due_at
        begun = self.breaker.begin_trial(self.now)
        assert begun == (was is State.OPEN and self.now >= due)
        self.trials += begun

    @precondition(lambda self: self.trials)
    @rule(outcome=st.sampled_from(["answered", "failed", "abandoned"]))
    def end_trial(self, outcome: str) -> None:
        was = self.breaker.state
        self.trials -= 1
        match outcome:
            case "answered":
                self.breaker.trial_answered()
                self.failures = 0
                assert self.breaker.state is State.CLOSED
            case "failed":
                self.breaker.trial_failed(self.now)
                self.failures += 1
                assert was is State.CLOSED or self.breaker.state is State.OPEN
            case _:
                self.breaker.trial_abandoned(self.now)

    @invariant()
    def never_two_trials(self) -> None:
        assert self.trials <= 1

    @invariant()
    def a_trial_is_always_near(self) -> None:
        """While it is open and nobody tries, somebody may within the longest pause."""
        if self.breaker.state is State.OPEN:
            assert self.breaker.trial_due_at - self.now <= PAUSE_MAX_S
        else:
            assert self.breaker.trial_due_at == math.inf


TestBreaking = Breaking.TestCase
