"""What follows from a failed attempt, whoever found it: its own peer, or who saw its lease run out.

Pure but for the dice, which are passed in.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from uuid import UUID

from pipeline.events import ContainerErrorEscalation, ContainerErrorRetry
from pipeline.ports import Release
from pipeline.retry import Escalate, RetryPolicy
from pipeline.tasks import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedAttempt:
    """A failure with what it counts against.

    Args:
        failures: How often its stage has failed now, this time included.
        attempts_max: The task's threshold.
        permanent: No retry can help.
        failed_s_ago: How long ago it failed; the delay before the next attempt counts from then.
    """

    task_id: UUID
    part: int
    attempt: int
    failure: Failure
    failures: int
    attempts_max: int
    permanent: bool = False
    failed_s_ago: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """How the part goes on, and the event that says so; `outcome` is `retry` or `escalated`."""

    release: Release
    event: ContainerErrorRetry | ContainerErrorEscalation
    outcome: str


def judge(failed: FailedAttempt, policy: RetryPolicy, rng: random.Random) -> Verdict:
    """Decide between another attempt and a person."""
    decision = policy.decide(
        stage=failed.failure.stage,
        permanent=failed.permanent,
        failures=failed.failures,
        attempts_max=failed.attempts_max,
        rng=rng,
    )
    if isinstance(decision, Escalate):
        escalation = ContainerErrorEscalation(
            task_id=failed.task_id,
            part=failed.part,
            attempt=failed.attempt,
            stage=failed.failure.stage,
            code=failed.failure.code,
            message=failed.failure.message,
            failures=failed.failures,
            attempts_max=failed.attempts_max,
            reason=decision.why,
            log_tail=failed.failure.log_tail,
        )
        release = Release(failure=failed.failure, retry_in_s=None)
        return Verdict(release=release, event=escalation, outcome="escalated")
    retry_in_s = max(0.0, decision.after_s - failed.failed_s_ago)
    retry = ContainerErrorRetry(
        task_id=failed.task_id,
        part=failed.part,
        attempt=failed.attempt,
        stage=failed.failure.stage,
        code=failed.failure.code,
        message=failed.failure.message,
        failures=failed.failures,
        attempts_max=failed.attempts_max,
        retry_in_s=round(retry_in_s, 3),
    )
    release = Release(failure=failed.failure, retry_in_s=retry_in_s)
    return Verdict(release=release, event=retry, outcome="retry")
