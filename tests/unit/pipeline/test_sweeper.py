"""What is decided over a part whose holder is gone, and whom the sweeper wakes."""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from pipeline.errors import LedgerUnavailable, QueueUnavailable, Stage
from pipeline.events import ContainerErrorEscalation, ContainerErrorRetry
from pipeline.ports import Depth, Due, Expired
from pipeline.retry import RetryPolicy
from pipeline.standing import Death, Life
from pipeline.sweeper import Sweeper, expiry
from pipeline.tasks import Priority

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
        (
            replace(EXPIRED, unheard=True),
            "peer_unheard",
            "peer ada lost its line to the queue and does not answer",
        ),
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
        pytest.param(0.0, 1, 0.0, 0.0, id="the first crash: at once"),
        pytest.param(0.0, 2, 1.0, 4.0, id="the second: the usual delay"),
        pytest.param(1.5, 2, 0.0, 2.5, id="what is left of it"),
        pytest.param(6.2, 2, 0.0, 0.0, id="it has passed already"),
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


class Ledger:
    """The ledger as the sweeper sees it; `asked` is with which times it was asked what is due."""

    sweep_interval_s = 3.0

    def __init__(self) -> None:
        self.expired: list[Expired] = []
        self.due: list[Due] = []
        self.asked: list[tuple[float, float, Sequence[Priority]]] = []
        self.announced_parts: list[tuple[UUID, int]] = []

    async def expire_leases(self) -> Sequence[Expired]:
        expired, self.expired = self.expired, []
        return expired

    async def unannounced(
        self,
        older_than_s: float,
        forgotten_s: float,
        quiet: Collection[Priority] = tuple(Priority),
    ) -> Sequence[Due]:
        self.asked.append((older_than_s, forgotten_s, list(quiet)))
        due, self.due = self.due, []
        return due

    async def announced(self, task_id: UUID, part: int, *, again: bool = False) -> None:
        assert again, "whoever was to wake somebody first may have done it"
        self.announced_parts.append((task_id, part))

    async def record(self, records: Sequence[Any]) -> None:
        raise AssertionError("sweeping records nothing itself")


class Queue:
    """A queue in which something waits, or not, as a test sets it."""

    def __init__(self) -> None:
        self.looks = 0
        self.waits: Collection[Priority] = ()
        self.is_away = False
        self.published: list[tuple[Any, Priority]] = []

    async def publish(
        self, body: bytes, *, delay_s: float = 0.0, priority: Priority = Priority.NORMAL
    ) -> None:
        assert delay_s == 0.0
        if self.is_away:
            raise QueueUnavailable("gone", definite=True)
        self.published.append((json.loads(body), priority))

    async def waiting(self) -> Collection[Priority]:
        self.looks += 1
        if self.is_away:
            raise QueueUnavailable("gone", definite=True)
        return self.waits

    async def depth(self) -> Depth:
        raise AssertionError("sweeping counts nothing")

    async def receive(self) -> Any:
        raise AssertionError("sweeping takes nothing")


@pytest.fixture
def ledger() -> Ledger:
    """Nothing is due."""
    return Ledger()


@pytest.fixture
def queue() -> Queue:
    """Nothing is in it."""
    return Queue()


@pytest.fixture
def sweeper(ledger: Ledger, queue: Queue) -> Sweeper:
    """With its usual times."""
    return Sweeper(sweep=ledger, queue=queue, rng=random.Random(0))


async def test_a_wake_up_goes_out_with_its_priority(
    sweeper: Sweeper, ledger: Ledger, queue: Queue
) -> None:
    """Of what was taken from its holder as of what was never announced, and is noted as sent."""
    ledger.expired = [replace(EXPIRED, priority=Priority.HIGH)]
    ledger.due = [Due(task_id=UUID(int=2), part=3, priority=Priority.LOW)]
    await sweeper.sweep()

    assert queue.published == [
        ({"v": 1, "task_id": str(UUID(int=1))}, Priority.HIGH),
        ({"v": 1, "task_id": str(UUID(int=2)), "part": 3}, Priority.LOW),
    ]
    assert ledger.announced_parts == [(UUID(int=1), 0), (UUID(int=2), 3)]


async def test_what_did_not_get_out_is_not_noted(
    sweeper: Sweeper, ledger: Ledger, queue: Queue
) -> None:
    """A later sweep finds it."""
    ledger.expired = [EXPIRED]
    queue.is_away = True
    with pytest.raises(QueueUnavailable):
        await sweeper.sweep()
    assert ledger.announced_parts == []


@pytest.mark.parametrize(
    ("waits", "quiet"),
    [
        ([], list(Priority)),
        ([Priority.LOW], [Priority.HIGH, Priority.NORMAL]),
        (list(Priority), []),
    ],
)
async def test_the_forgotten_are_looked_for_where_nothing_waits_for_its_turn(
    sweeper: Sweeper,
    ledger: Ledger,
    queue: Queue,
    waits: list[Priority],
    quiet: list[Priority],
) -> None:
    """Whatever is due of a priority then has no wake-up any more, however busy another is."""
    queue.waits = waits
    await sweeper.sweep()
    assert ledger.asked == [(3.0, 20.0, quiet)]


async def test_the_queue_is_not_asked_at_every_sweep(
    sweeper: Sweeper, ledger: Ledger, queue: Queue, autojump_clock: MockClock
) -> None:
    """Every peer sweeps every few seconds, and a broker has other things to do."""
    with trio.move_on_after(60):
        await sweeper.run()
    assert 15 <= len(ledger.asked) <= 25
    assert 3 <= queue.looks <= 5
    assert sum(bool(quiet) for *_, quiet in ledger.asked) == queue.looks


async def test_an_outage_does_not_end_it(
    sweeper: Sweeper, ledger: Ledger, queue: Queue, autojump_clock: MockClock
) -> None:
    """Whatever is away, it looks again."""
    tried = 0

    async def fail() -> Any:
        nonlocal tried
        tried += 1
        raise LedgerUnavailable("gone", definite=True)

    ledger.expire_leases = fail  # type: ignore[method-assign]  # a ledger that went away
    with trio.move_on_after(30):
        await sweeper.run()
    assert tried >= 7
