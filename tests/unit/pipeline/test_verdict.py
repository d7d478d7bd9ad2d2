"""What follows from a failed attempt, and what is said of it."""

from __future__ import annotations

import random
from dataclasses import replace
from uuid import UUID

import pytest

from pipeline.errors import Stage
from pipeline.events import ContainerErrorEscalation, ContainerErrorRetry
from pipeline.retry import RetryPolicy
from pipeline.tasks import Failure
from pipeline.verdict import FailedAttempt, judge

POLICY = RetryPolicy(base_s=4.0, max_s=600.0)
FAILED = FailedAttempt(
    task_id=UUID(int=1),
    part=0,
    attempt=3,
    failure=Failure(
        stage=Stage.PUSH, code="store_unavailable", message="the store is down", log_tail="503"
    ),
    failures=2,
    attempts_max=4,
)


def test_another_attempt() -> None:
    """The event names the delay that the ledger is told."""
    verdict = judge(FAILED, POLICY, random.Random(1))

    assert verdict.outcome == "retry"
    assert verdict.release.failure == FAILED.failure
    assert isinstance(verdict.event, ContainerErrorRetry)
    assert verdict.release.retry_in_s is not None
    assert 2.0 <= verdict.release.retry_in_s <= 8.0
    assert verdict.event.retry_in_s == round(verdict.release.retry_in_s, 3)
    assert (verdict.event.stage, verdict.event.failures) == (Stage.PUSH, 2)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"permanent": True}, "no retry can help"),
        ({"failures": 4}, "failed 4 times, and 4 is the threshold"),
    ],
)
def test_a_person(changes: dict[str, bool | int], reason: str) -> None:
    """The escalation says why no more tries are made, and brings the end of the tool's log."""
    verdict = judge(replace(FAILED, **changes), POLICY, random.Random(1))  # type: ignore[arg-type] # one table for fields of two types

    assert (verdict.outcome, verdict.release.retry_in_s) == ("escalated", None)
    assert isinstance(verdict.event, ContainerErrorEscalation)
    assert (verdict.event.reason, verdict.event.log_tail) == (reason, "503")


def test_the_delay_counts_from_the_failure() -> None:
    """A crash that was found late has waited already, in part or as a whole."""
    delay_s = judge(FAILED, POLICY, random.Random(1)).release.retry_in_s
    assert delay_s is not None
    for ago_s, expected in ((1.0, delay_s - 1.0), (60.0, 0.0)):
        verdict = judge(replace(FAILED, failed_s_ago=ago_s), POLICY, random.Random(1))
        assert verdict.release.retry_in_s == pytest.approx(expected)


def test_the_first_crash_is_tried_again_at_once() -> None:
    """Whoever takes a part over from a dead peer can begin."""
    crash = replace(
        FAILED,
        failure=Failure(stage=Stage.CRASH, code="peer_died", message="peer ada died"),
        failures=1,
    )
    assert judge(crash, POLICY, random.Random(1)).release.retry_in_s == 0.0
