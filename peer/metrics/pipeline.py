"""What a peer works on, what became of it, and what it works with, as metric families."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from prometheus_client.metrics_core import Metric

from peer.metrics.attempts import ANSWERS, FAILING, OUTCOMES, VERDICTS, Attempts
from peer.metrics.families import counter, gauge, histogram, one_of
from peer.status import DEPENDENCIES
from pipeline.attempt import Job
from pipeline.breaker import State
from pipeline.ports import Depth

JOB_STEPS: Final = ("claimed", "pull", "inspect", "transcode", "verify", "push")
"""What a job is at; `claimed`: it has not begun with anything yet."""


def slot_families(jobs: Sequence[Job], *, slots: int, configured: int) -> Iterator[Metric]:
    """How much is being worked on."""
    yield gauge(
        "grapevine_slots",
        "Parts that this peer works on at once, at most; fewer for a while where memory ran out.",
        slots,
    )
    yield gauge("grapevine_slots_configured", "The setting peer.slots.", configured)
    steps = Counter(job.progress.step if job.progress else "claimed" for job in jobs)
    yield gauge(
        "grapevine_jobs",
        "Parts that are being worked on, by their step.",
        {(step,): steps[step] for step in JOB_STEPS},
        ["step"],
    )
    speeds = [job.progress.speed for job in jobs if job.progress and job.progress.speed]
    yield gauge(
        "grapevine_encode_speed_ratio",
        "Seconds of video encoded in one second now, by all encodes of this peer together.",
        sum(speeds),
    )


def attempt_families(attempts: Attempts) -> Iterator[Metric]:
    """What became of what was worked on."""
    yield counter(
        "grapevine_claims_total",
        "How often a part was asked for, by the ledger's answer.",
        {(answer,): attempts.answers[answer] for answer in ANSWERS.values()},
        ["answer"],
    )
    yield counter(
        "grapevine_attempts_total",
        "Attempts that have ended here, by how. lost: somebody else has ended its claim.",
        {(outcome,): attempts.ended[outcome] for outcome in OUTCOMES},
        ["outcome"],
    )
    yield counter(
        "grapevine_attempt_failures_total",
        "Attempts that failed here, by stage, and by whether the part is tried again.",
        {
            (stage.value, verdict): attempts.failures[stage.value, verdict]
            for stage in FAILING
            for verdict in VERDICTS
        },
        ["stage", "verdict"],
    )
    yield histogram(
        "grapevine_step_duration_seconds",
        "How long the steps took that came to their end.",
        attempts.steps,
        "step",
    )
    yield histogram(
        "grapevine_attempt_duration_seconds",
        "How long attempts took from claim to end, whichever that was.",
        attempts.lasted,
    )
    for name, said, value in (
        ("grapevine_pulled_bytes_total", "Bytes of sources fetched.", attempts.pulled_bytes),
        ("grapevine_pushed_bytes_total", "Bytes of outputs stored.", attempts.pushed_bytes),
        (
            "grapevine_encode_seconds_total",
            "Time of encodes that came to their end, verification included.",
            attempts.encode_s,
        ),
        (
            "grapevine_encode_cpu_seconds_total",
            "Processor time of the same.",
            attempts.encode_cpu_s,
        ),
        (
            "grapevine_encoded_media_seconds_total",
            "How long the videos are that they encoded; each once, however many renditions.",
            attempts.media_s,
        ),
    ):
        yield counter(name, said, value)


def event_families(stamped: Counter[str], kinds: Sequence[str]) -> Iterator[Metric]:
    """How often each of the seventeen events was said by this peer."""
    yield counter(
        "grapevine_events_total",
        "Events that this peer has put its stamp on; the ledger may have refused some.",
        {(kind,): stamped[kind] for kind in kinds},
        ["type"],
    )


def queue_families(depth: Depth | None) -> Iterator[Metric]:
    """What waits in the queue, the same whichever peer says it.

    Args:
        depth: As it was last looked at; None where that failed, or has not been done yet.
    """
    if depth is None:
        return
    counts = {"ready": depth.ready, "delayed": depth.delayed, "dead": depth.dead}
    if depth.unacknowledged is not None:
        counts["unacknowledged"] = depth.unacknowledged
    yield gauge(
        "grapevine_queue_messages",
        "Messages in the queue, at most 10 s ago. The same from each peer: take the maximum.",
        {(state,): count for state, count in counts.items()},
        ["state"],
    )


def dependency_families(breakers: Mapping[str, str], *, spooled: int) -> Iterator[Metric]:
    """How what the peer works with is."""
    states = [state.value for state in State]
    yield gauge(
        "grapevine_breaker_state",
        "1 for the state of each dependency's breaker: closed is well.",
        {
            (name, state): value
            for name in DEPENDENCIES
            for (state,), value in one_of(breakers.get(name, ""), states).items()
        },
        ["dependency", "state"],
    )
    yield gauge("grapevine_spooled_events", "Events that wait on disk for the ledger.", spooled)
