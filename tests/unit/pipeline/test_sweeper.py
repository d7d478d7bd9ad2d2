"""What is decided over a part whose holder is gone."""

from __future__ import annotations

import random
from dataclasses import replace
from uuid import UUID

import pytest

from pipeline.errors import Stage
from pipeline.events import ContainerErrorEscalation, ContainerErrorRetry
from pipeline.ports import Expired
from pipeline.retry import RetryPolicy
from pipeline.standing import Death, Life
from pipeline.sweeper import expiry

EXPIRED = Expired(
    task_id=UUID(int=1),
    part=0,
    attempt=1,
    peer_uid="a",
    peer_name="ada",
    stage=Stage.CRASH,
    failures=1,
    attempts_max=4,
)
LIFE = Life(peer_uid="a", epoch=1, incarnation=1)


def dead(silent_s: float) -> Expired:
    return replace(EXPIRED, death=Death(life=LIFE, how="died (silent)", silent_s=silent_s))


@pytest.mark.parametrize(
    ("expired", "code", "message"),
    [
        (EXPIRED, "lease_expired", "peer ada was not heard of for longer than its lease"),
        (dead(6.0), "peer_died", "peer ada died (silent)"),
    ],
)
def test_what_is_said(expired: Expired, code: str, message: str) -> None:
    """The failure names who is gone and how that was found out, and is counted as a crash."""
    release, (event,) = expiry(RetryPolicy(), random.Random(0))(expired)

    assert release.failure is not None
    assert (release.failure.code, release.failure.message) == (code, message)
    assert release.failure.stage is Stage.CRASH
    assert isinstance(event, ContainerErrorRetry)
    assert (event.code, event.message, event.failures) == (code, message, 1)


@pytest.mark.parametrize(
    ("silent_s", "failures", "least_s", "most_s"),
    [
        pytest.param(6.2, 1, 0.0, 0.0, id="the first crash: at once"),
        pytest.param(6.2, 2, 0.0, 0.0, id="the second: its delay has passed too"),
        pytest.param(0.0, 1, 1.0, 2.0, id="known at once: the usual delay"),
        pytest.param(1.5, 1, 0.0, 0.5, id="what is left of the usual delay"),
        pytest.param(6.0, 5, 0.0, 26.0, id="after many it is worth a pause"),
    ],
)
def test_how_soon(silent_s: float, failures: int, least_s: float, most_s: float) -> None:
    """The delay counts from the last sign of life, in the release as in the event."""
    expired = replace(dead(silent_s), failures=failures, attempts_max=9)
    rng = random.Random(0)
    for _ in range(50):
        release, (event,) = expiry(RetryPolicy(), rng)(expired)
        assert release.retry_in_s is not None
        assert least_s <= release.retry_in_s <= most_s
        assert isinstance(event, ContainerErrorRetry)
        assert event.retry_in_s == round(release.retry_in_s, 3)


def test_a_task_that_kills_its_peers() -> None:
    """At the threshold a person gets it."""
    release, (event,) = expiry(RetryPolicy(), random.Random(0))(replace(dead(6.0), failures=4))

    assert release.retry_in_s is None
    assert isinstance(event, ContainerErrorEscalation)
