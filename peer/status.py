"""What a peer says of itself: to the others once a second, to people when they ask.

Pure: the worker's own words in, what is told out. A peer that has no worker yet waits for its
ledger, and says so in the same places.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

from peer.protocol import Running
from peer.work import Work
from pipeline.attempt import Job

DEPENDENCIES = ("ledger", "queue", "store")
QUARANTINE = "quarantine"
CLOSED = "closed"

State = Literal["starting", "working", "draining", "parked", "waiting", "quarantined"]


class Working(Protocol):
    """**Protocol**: what is asked of the worker; see `pipeline.worker.Worker`."""

    @property
    def jobs(self) -> Sequence[Job]:
        """What is being worked on now."""
        ...

    @property
    def trouble(self) -> Mapping[str, str]:
        """What keeps it from taking work, each with one sentence."""
        ...

    @property
    def breakers(self) -> Mapping[str, str]:
        """How the breaker of each dependency stands."""
        ...

    @property
    def quarantined(self) -> str | None:
        """Why it has stopped taking work, if it has."""
        ...


def state(worker: Working | None, *, draining: bool, parked: bool = False) -> State:
    """In one word; what a person has asked for comes first, then what the scaler has."""
    if draining:
        return "draining"
    if parked:
        return "parked"
    if worker is None:
        return "starting"
    if worker.quarantined is not None:
        return "quarantined"
    return "waiting" if worker.trouble else "working"


def dependencies(worker: Working | None, awaited: str | None) -> dict[str, str]:
    """`ok` or a sentence for each, and for whatever else keeps it from taking work.

    Args:
        awaited: Why the ledger could not be used when it was last tried, before there is a worker.
    """
    if worker is None:
        told = dict.fromkeys(DEPENDENCIES, "starting")
        return told | ({"ledger": awaited} if awaited else {})
    trouble = dict(worker.trouble)
    if worker.quarantined is not None:
        trouble.pop(QUARANTINE, None)  # said in a field of its own
    return dict.fromkeys(DEPENDENCIES, "ok") | trouble


def running(worker: Working | None) -> tuple[Running, ...]:
    """The parts that are being worked on."""
    return tuple(
        Running(
            task_id=str(job.claim.task_id),
            part=job.claim.part,
            attempt=job.claim.attempt,
            title=job.title,
            progress=job.progress.fraction if job.progress else None,
        )
        for job in (worker.jobs if worker is not None else ())
    )


def work(
    worker: Working | None,
    awaited: str | None,
    *,
    slots: int,
    queue: int,
    draining: bool,
    parked: bool = False,
) -> Work:
    """What the others hear of it."""
    if worker is None:
        return Work(draining=draining, parked=parked, away=("ledger",) if awaited else ())
    steps = [job.progress.step for job in worker.jobs if job.progress is not None]
    return Work(
        slots=slots,
        running=len(worker.jobs),
        encoding=steps.count("transcode"),
        queue=queue,
        draining=draining,
        parked=parked,
        away=tuple(name for name, breaker in worker.breakers.items() if breaker != CLOSED),
        quarantined=worker.quarantined is not None,
        probation=worker.quarantined is None and QUARANTINE in worker.trouble,
    )
