"""What a peer says of itself, from what its worker says."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import cast

import pytest

from peer import status
from peer.work import Work
from pipeline.attempt import Job
from pipeline.tasks import Progress

CLOSED = {"ledger": "closed", "queue": "closed", "store": "closed"}
AWAY = "cannot reach the store"
FAILS = "two of its failed tasks were finished by others"


@dataclass
class Worker:
    """A worker that says what it was told to say."""

    jobs: tuple[Job, ...] = ()
    trouble: dict[str, str] = field(default_factory=dict)
    breakers: dict[str, str] = field(default_factory=lambda: dict(CLOSED))
    quarantined: str | None = None


def job(step: str | None) -> Job:
    """A job in that step; None before it has made any progress."""
    claim = SimpleNamespace(task_id="3f", part=0, attempt=2)
    progress = Progress(step=step, fraction=0.5) if step else None
    return cast("Job", SimpleNamespace(claim=claim, title="a.mp4", progress=progress))


@pytest.mark.parametrize(
    ("worker", "draining", "word"),
    [
        (None, False, "starting"),
        (None, True, "draining"),
        (Worker(), False, "working"),
        (Worker(), True, "draining"),
        (Worker(trouble={"store": AWAY}), False, "waiting"),
        (Worker(trouble={"quarantine": FAILS}, quarantined=FAILS), False, "quarantined"),
        (Worker(trouble={"quarantine": "on probation"}), False, "waiting"),
    ],
)
def test_the_state_is_one_word(worker: Worker | None, draining: bool, word: str) -> None:
    """What a person asked for comes first, then what the peer thinks of itself, then the others."""
    assert status.state(worker, draining=draining) == word
    told = "draining" if draining else "parked"
    assert status.state(worker, draining=draining, parked=True) == told


@pytest.mark.parametrize(
    ("worker", "awaited", "told"),
    [
        (None, None, {"ledger": "starting", "queue": "starting", "store": "starting"}),
        (None, "refused", {"ledger": "refused", "queue": "starting", "store": "starting"}),
        (Worker(), None, {"ledger": "ok", "queue": "ok", "store": "ok"}),
        (
            Worker(trouble={"store": AWAY, "cluster": "cut off"}),
            None,
            {"ledger": "ok", "queue": "ok", "store": AWAY, "cluster": "cut off"},
        ),
        (
            Worker(trouble={"quarantine": "on probation"}),
            None,
            {"ledger": "ok", "queue": "ok", "store": "ok", "quarantine": "on probation"},
        ),
        (
            Worker(trouble={"quarantine": FAILS}, quarantined=FAILS),
            None,
            {"ledger": "ok", "queue": "ok", "store": "ok"},
        ),
    ],
)
def test_each_dependency_has_a_sentence(
    worker: Worker | None, awaited: str | None, told: dict[str, str]
) -> None:
    """All three always, and whatever else is in the way; a quarantine is told elsewhere."""
    assert status.dependencies(worker, awaited) == told


@pytest.mark.parametrize(
    ("worker", "awaited", "told"),
    [
        (None, None, Work(draining=True)),
        (None, "refused", Work(draining=True, away=("ledger",))),
        (
            Worker(jobs=(job("transcode"), job("pull"), job(None))),
            None,
            Work(slots=4, running=3, encoding=1, queue=9, draining=True),
        ),
        (
            Worker(breakers=CLOSED | {"queue": "open", "store": "half-open"}),
            None,
            Work(slots=4, queue=9, draining=True, away=("queue", "store")),
        ),
        (
            Worker(quarantined=FAILS),
            None,
            Work(slots=4, queue=9, draining=True, quarantined=True),
        ),
        (
            Worker(trouble={"quarantine": FAILS}, quarantined=FAILS),
            None,
            Work(slots=4, queue=9, draining=True, quarantined=True),
        ),
        (
            Worker(trouble={"quarantine": FAILS}),
            None,
            Work(slots=4, queue=9, draining=True, probation=True),
        ),
    ],
)
def test_the_others_hear_of_it(worker: Worker | None, awaited: str | None, told: Work) -> None:
    """What is away is what has a breaker that is not closed, or the ledger while it is awaited."""
    assert status.work(worker, awaited, slots=4, queue=9, draining=True) == told


def test_what_runs_is_told() -> None:
    """With its progress, where it has made any."""
    runs = status.running(Worker(jobs=(job("pull"), job(None))))
    assert [(run.task_id, run.attempt, run.title, run.progress) for run in runs] == [
        ("3f", 2, "a.mp4", 0.5),
        ("3f", 2, "a.mp4", None),
    ]
    assert status.running(None) == ()
