"""What became of this peer's attempts and how long their steps took, seen from before its ledger.

Every fact of an attempt passes the ledger's port: the claim, each step, the end. An adapter that
stands there sees what was really recorded, and in one place; the worker would have to count in six.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import trio

from peer.metrics.counts import Histogram
from pipeline.errors import ClaimLost, Stage
from pipeline.events import (
    Record,
    Recordable,
    TaskDetailsRetrieved,
    TranscodedVideoUploaded,
    VideoFilePulled,
    VideoTranscoded,
    WorkloadProcessingStarted,
)
from pipeline.ports import ClaimLedger, Release, Submission
from pipeline.standing import Suspended
from pipeline.tasks import Busy, Claim, Held, Holder, Product, Progress, Settled, Unknown

ANSWERS: Final = {
    Claim: "claimed",
    Busy: "busy",
    Settled: "settled",
    Unknown: "unknown",
    Suspended: "suspended",
}
"""What may come of asking for a part, as it is told."""

OUTCOMES: Final = ("done", "retry", "escalated", "handed_back", "lost")
"""How an attempt may end. `lost`: somebody else has ended its claim."""

STEPS: Final = ("pull", "inspect", "transcode", "push", "commit")
_ENDS: Final[dict[type[Recordable], str]] = {
    VideoFilePulled: "pull",
    WorkloadProcessingStarted: "inspect",
    VideoTranscoded: "transcode",
    TranscodedVideoUploaded: "push",
}
"""Which step each event ends."""

FAILING: Final = (Stage.PULL, Stage.TRANSCODE, Stage.PUSH)
VERDICTS: Final = ("retry", "escalated")


@dataclass(slots=True)
class Attempts:
    """What was counted since the start.

    Args:
        answers: To asking for a part, by `ANSWERS`.
        ended: By `OUTCOMES`.
        failures: By stage and verdict.
        steps: Seconds, by `STEPS`; of those that came to their end.
        lasted: Seconds from claim to end.
        encode_s, encode_cpu_s: Of encodes that came to their end, verification included.
        media_s: How long the videos are that they made.
    """

    answers: Counter[str] = field(default_factory=Counter)
    ended: Counter[str] = field(default_factory=Counter)
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    steps: dict[str, Histogram] = field(
        default_factory=lambda: {step: Histogram() for step in STEPS}
    )
    lasted: Histogram = field(default_factory=Histogram)
    pulled_bytes: int = 0
    pushed_bytes: int = 0
    encode_s: float = 0.0
    encode_cpu_s: float = 0.0
    media_s: float = 0.0


@dataclass(slots=True)
class _Course:
    """One attempt under way: when it began, when its last step ended, how long its video is."""

    began_at: float
    ended_step_at: float
    media_s: float = 0.0


class CountingLedger:
    """Implements `ClaimLedger` in front of another one, and counts what that has taken.

    Args:
        clock: Seconds that never go back.
    """

    def __init__(
        self, ledger: ClaimLedger, *, clock: Callable[[], float] = trio.current_time
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._courses: dict[UUID, _Course] = {}  # of claims that have not ended, by their tokens
        self.attempts = Attempts()

    async def claim(
        self,
        task_id: UUID,
        part: int,
        holder: Holder,
        token: UUID,
        record: Record,
        *,
        submission: Submission | None = None,
        unheard: Held | None = None,
    ) -> Claim | Busy | Settled | Unknown | Suspended:
        """See `ClaimLedger`."""
        answer = await self._ledger.claim(
            task_id, part, holder, token, record, submission=submission, unheard=unheard
        )
        self.attempts.answers[ANSWERS[type(answer)]] += 1
        if isinstance(answer, Claim):
            now = self._clock()
            self._courses[token] = _Course(began_at=now, ended_step_at=now)
        return answer

    async def advance(self, claim: Claim, *steps: Record) -> None:
        """See `ClaimLedger`."""
        now = self._clock()
        try:
            await self._ledger.advance(claim, *steps)
        except ClaimLost as error:
            self._note_lost(claim, error)
            raise
        if (course := self._courses.get(claim.token)) is not None:
            for step in steps:
                self._note_step(course, step.event, now)

    async def renew(self, claim: Claim, progress: Progress | None) -> None:
        """See `ClaimLedger`."""
        try:
            await self._ledger.renew(claim, progress)
        except ClaimLost as error:
            self._note_lost(claim, error)
            raise

    async def finish(
        self,
        claim: Claim,
        products: Sequence[Product],
        warnings: Sequence[str],
        record: Record,
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        """See `ClaimLedger`."""
        try:
            await self._ledger.finish(claim, products, warnings, record, steps=steps)
        except ClaimLost as error:
            self._note_lost(claim, error)
            raise
        self._note_end(claim, "done")

    async def release(
        self,
        claim: Claim,
        release: Release,
        records: Sequence[Record],
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        """See `ClaimLedger`."""
        try:
            await self._ledger.release(claim, release, records, steps=steps)
        except ClaimLost as error:
            self._note_lost(claim, error)
            raise
        if release.failure is None:
            self._note_end(claim, "handed_back")
            return
        verdict = "escalated" if release.retry_in_s is None else "retry"
        if self._note_end(claim, verdict):
            self.attempts.failures[release.failure.stage.value, verdict] += 1

    def _note_step(self, course: _Course, event: Recordable, now: float) -> None:
        counted = self.attempts
        if (step := _ENDS.get(type(event))) is not None:
            counted.steps[step].add(now - course.ended_step_at)
        course.ended_step_at = now
        match event:
            case TaskDetailsRetrieved():
                pass
            case VideoFilePulled():
                counted.pulled_bytes += event.size
            case WorkloadProcessingStarted():
                length_s = event.video.get("duration_s")
                course.media_s = length_s if isinstance(length_s, int | float) else 0.0
            case VideoTranscoded():
                counted.encode_s += event.seconds
                counted.encode_cpu_s += event.cpu_seconds
                counted.media_s += course.media_s
            case TranscodedVideoUploaded():
                counted.pushed_bytes += event.size

    def _note_lost(self, claim: Claim, error: ClaimLost) -> None:
        """A commit whose answer got lost is a commit."""
        self._note_end(claim, "done" if error.committed else "lost")

    def _note_end(self, claim: Claim, outcome: str) -> bool:
        """Count the end of a claim once, whoever tells of it again; return whether it is news."""
        course = self._courses.pop(claim.token, None)
        if course is None:
            return False
        now = self._clock()
        if outcome == "done":
            self.attempts.steps["commit"].add(now - course.ended_step_at)
        self.attempts.ended[outcome] += 1
        self.attempts.lasted.add(now - course.began_at)
        return True
