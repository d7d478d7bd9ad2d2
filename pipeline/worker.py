"""The worker: takes wake-ups off the queue and carries each claim from its source to its outputs.

Two loops and one straight line. `take_work` fills free slots; `_attempt` is the straight line of
steps, each ended by an event in the ledger; `_hold` renews the claim beside it and stops it when
the claim is gone. Everything that can go wrong with one task ends in `_settle`, the only error
boundary: a failed task never takes the peer with it.

Who owns the part is decided by the ledger alone, by the claim's token. The worker never asks itself
whether it is still the holder; it finds at its next write that it is not. That is why a frozen or
cut-off worker can wake up at any line here and do no harm.

The rejected alternative, one task per step joined by channels, would keep slots busier by a few
milliseconds, and would make "which claim is this, and who may still write for it" a question.
"""

from __future__ import annotations

import logging
import random
import shutil
import traceback
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

import trio

from pipeline.errors import (
    BadMessage,
    ClaimLost,
    LedgerUnavailable,
    PipelineError,
    PullFailed,
    PushFailed,
    QueueUnavailable,
    StepError,
    StoreUnavailable,
    Unavailable,
)
from pipeline.events import (
    ContainerErrorEscalation,
    ContainerErrorRetry,
    Record,
    Recordable,
    Recorder,
    TaskDetailsRetrieved,
    TaskReceived,
    TranscodedVideoUploaded,
    VideoFilePulled,
    VideoTranscoded,
    WorkloadProcessingFinished,
    WorkloadProcessingStarted,
)
from pipeline.messages import decode_untrusted
from pipeline.ports import (
    ClaimLedger,
    Delivery,
    ObjectStore,
    Order,
    Release,
    TaskQueue,
    Transcoded,
    Transcoder,
)
from pipeline.retry import Escalate, RetryPolicy
from pipeline.tasks import Busy, Claim, Failure, Holder, Progress, Settled, Task

log = logging.getLogger(__name__)

T = TypeVar("T")

# How much of the overall bar the steps around ffmpeg get. On one machine they are almost nothing;
# a bar that stands still at 0 % or 100 % would be the worse lie.
PULLED_FRACTION = 0.02
TRANSCODED_FRACTION = 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """How a worker works.

    Args:
        slots: How many parts it works on at once.
        scratch: A private directory; each claim gets a workspace in it, removed when it ends.
        progress_interval_s: How often progress is written, at most.
        patience_s: The longest pause between two tries while a dependency is away.
        cleanup_s: How long giving a claim back may take when the peer stops.
    """

    slots: int
    scratch: Path
    progress_interval_s: float = 1.0
    patience_s: float = 2.0
    cleanup_s: float = 5.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError("worker: slots must be at least 1")


@dataclass(slots=True, kw_only=True)
class Job:
    """One claim that is being worked on, as `peerctl status` shows it."""

    claim: Claim
    title: str = ""
    progress: Progress | None = None
    started: bool = False
    """WorkloadProcessingStarted was said, so its end must be said too."""
    committed: bool = False
    """Its outputs are the task's: they must never be touched again."""
    given_up: bool = False
    """The ledger knows that this worker has ended the claim without outputs."""
    lost: str | None = None
    """Why somebody else has ended it."""

    def note_lost(self, error: ClaimLost) -> None:
        """Remember why the claim is gone. A commit whose answer got lost is a commit."""
        if error.committed:
            self.committed = True
        else:
            self.lost = error.reason


class Worker:
    """Works on parts until it is told to stop.

    Args:
        rng: Draws the retries' jitter.
    """

    def __init__(
        self,
        config: WorkerConfig,
        *,
        ledger: ClaimLedger,
        queue: TaskQueue,
        store: ObjectStore,
        transcoder: Transcoder,
        holder: Holder,
        recorder: Recorder,
        rng: random.Random,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._queue = queue
        self._store = store
        self._transcoder = transcoder
        self._holder = holder
        self._record = recorder
        self._rng = rng
        self._slots = trio.Semaphore(config.slots)
        self._jobs: dict[UUID, Job] = {}
        self._trouble: dict[str, str] = {}

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What is being worked on now."""
        return tuple(self._jobs.values())

    @property
    def trouble(self) -> Mapping[str, str]:
        """Dependencies that could not be reached when last tried, each with one sentence."""
        return dict(self._trouble)

    async def take_work(self, jobs: trio.Nursery) -> None:
        """Fill free slots from the queue until cancelled; work goes on in `jobs`."""
        while True:
            await self._slots.acquire()
            try:
                delivery = await self._patiently(self._queue.receive)
            except BaseException:
                self._slots.release()
                raise
            # No checkpoint between here and the nursery: a delivery is in somebody's hands always.
            jobs.start_soon(self._work_on, delivery)

    async def _work_on(self, delivery: Delivery) -> None:
        try:
            await self._take(delivery)
        except QueueUnavailable as error:
            # The ledger has been told everything; the queue will deliver again and be told then.
            log.warning("delivery not ended", extra={"action": "delivery", "error": str(error)})
        finally:
            self._slots.release()

    async def _take(self, delivery: Delivery) -> None:
        """From a delivery to a claim, or to the reason why there is none."""
        try:
            wake_up = decode_untrusted(delivery.body)
        except BadMessage as error:
            log.warning("bad message set aside", extra={"action": "dead_letter", "why": str(error)})
            await delivery.dead_letter(str(error))
            return
        token = uuid4()
        received = self._record(TaskReceived(task_id=wake_up.task_id, part=wake_up.part, attempt=0))
        answer: Claim | Busy | Settled | None = None
        try:
            answer = await self._patiently(
                lambda: self._ledger.claim(
                    wake_up.task_id, wake_up.part, self._holder, token, received
                )
            )
        finally:
            if answer is None:  # stopping: somebody else shall have it at once
                with trio.move_on_after(self._config.cleanup_s, shield=True):
                    await delivery.put_back(0.0)
        match answer:
            case Busy():
                await delivery.put_back(answer.look_again_s)
            case Settled():
                await delivery.ack()
            case Claim():
                await self._settle(answer, delivery)

    async def _settle(self, claim: Claim, delivery: Delivery) -> None:
        """Work on a claim and end it, and its delivery, in exactly one way."""
        job = self._jobs[claim.token] = Job(claim=claim)
        workspace = self._config.scratch / str(claim.token)
        began = trio.current_time()
        try:
            failure = await self._work_and_hold(job, workspace)
            if job.committed:
                log.info("task done", extra=_about(job, "done", s=trio.current_time() - began))
                await delivery.ack()
                await self._discard_earlier(claim)
            elif job.lost is not None:
                log.warning("claim lost", extra=_about(job, "claim_lost", why=job.lost))
                await self._discard(job)
                await delivery.ack()
            elif failure is not None:
                await self._fail(job, failure, delivery, trio.current_time() - began)
        finally:
            with trio.move_on_after(self._config.cleanup_s, shield=True):
                if not job.committed and not job.given_up and job.lost is None:
                    await self._hand_back(job, delivery, trio.current_time() - began)
                await trio.to_thread.run_sync(_remove_tree, workspace)
            del self._jobs[claim.token]

    async def _work_and_hold(self, job: Job, workspace: Path) -> StepError | None:
        """Run the attempt while the claim is held; return what failed, if anything did."""
        failure: StepError | None = None
        async with trio.open_nursery() as holding:
            holding.start_soon(self._hold, job, holding.cancel_scope)
            try:
                await self._attempt(job, workspace)
            except ClaimLost as error:
                job.note_lost(error)
            except StepError as error:
                failure = error
            except Exception as error:
                failure = _unexpected(error)
            holding.cancel_scope.cancel()
        return failure

    async def _hold(self, job: Job, attempt: trio.CancelScope) -> None:
        """Renew the claim, and publish progress, until it is lost or the attempt is over."""
        written: Progress | None = None
        renewed = trio.current_time()
        while True:
            await trio.sleep(min(self._config.progress_interval_s, job.claim.lease_s / 5))
            due = trio.current_time() - renewed >= job.claim.lease_s / 5
            if job.progress is written and not due:
                continue
            progress = job.progress
            try:
                await self._ledger.renew(job.claim, progress)
            except ClaimLost as error:
                job.note_lost(error)
                attempt.cancel()
                return
            except LedgerUnavailable as error:
                # Nobody can take the part over without the ledger either: the encode goes on.
                self._note_trouble(error)
            else:
                self._trouble.pop(LedgerUnavailable.dependency, None)
                written, renewed = progress, trio.current_time()

    async def _attempt(self, job: Job, workspace: Path) -> None:
        """The straight line: details, pull, inspect, transcode, push, commit."""
        claim = job.claim
        task = await self._retrieve_details(claim)
        job.title = task.title
        order = await self._pull(job, task, workspace)
        inspection = await self._transcoder.inspect(order)
        started = WorkloadProcessingStarted(
            task_id=claim.task_id,
            part=claim.part,
            video=inspection.video,
            renditions=inspection.renditions,
        )
        await self._advance(claim, started)
        job.started = True
        began = trio.current_time()

        def report(progress: Progress) -> None:
            span = TRANSCODED_FRACTION - PULLED_FRACTION
            job.progress = _rescaled(progress, PULLED_FRACTION + span * progress.fraction)

        transcoded = await self._transcoder.transcode(order, inspection, report)
        made = VideoTranscoded(
            task_id=claim.task_id,
            part=claim.part,
            renditions=inspection.renditions,
            seconds=round(trio.current_time() - began, 3),
            cpu_seconds=round(transcoded.cpu_seconds, 3),
        )
        await self._advance(claim, made)
        await self._push(job, order, transcoded)
        seconds = round(trio.current_time() - began, 3)
        finished = self._record(
            WorkloadProcessingFinished(
                task_id=claim.task_id, part=claim.part, outcome="done", seconds=seconds
            )
        )
        warnings = (*inspection.warnings, *transcoded.warnings)
        await self._patiently(
            lambda: self._ledger.finish(claim, transcoded.products, warnings, finished)
        )
        job.committed = True

    async def _retrieve_details(self, claim: Claim) -> Task:
        record: Record | None = None

        def retrieved(task: Task) -> Record:
            nonlocal record  # one fact, one stamp, however often the write is repeated
            record = record or self._record(
                TaskDetailsRetrieved(
                    task_id=task.id, part=claim.part, source=task.source, ladder=task.ladder.name
                )
            )
            return record

        return await self._patiently(lambda: self._ledger.retrieve_details(claim, retrieved))

    async def _pull(self, job: Job, task: Task, workspace: Path) -> Order:
        job.progress = Progress(step="pull", fraction=0.0)
        began = trio.current_time()
        order = Order(
            source=workspace / "in" / "source",
            output=workspace / "out",
            ladder=task.ladder,
            strictness=task.strictness,
        )
        try:
            for directory in (order.source.parent, order.output):
                directory.mkdir(parents=True, mode=0o700)
            size = await self._store.pull(task.source, order.source)
        except StoreUnavailable as error:
            raise PullFailed(error.message, code="store_unavailable") from error
        except OSError as error:
            raise PullFailed(f"no workspace for the task: {error}", code="workspace") from error
        job.progress = Progress(step="inspect", fraction=PULLED_FRACTION)
        pulled = VideoFilePulled(
            task_id=task.id,
            part=job.claim.part,
            size=size,
            seconds=round(trio.current_time() - began, 3),
        )
        await self._advance(job.claim, pulled)
        return order

    async def _push(self, job: Job, order: Order, transcoded: Transcoded) -> None:
        claim, total = job.claim, sum(product.size for product in transcoded.products)
        pushed = 0
        for product in transcoded.products:
            try:
                await self._store.push(
                    order.output / product.name, f"{claim.prefix}/{product.name}", give=True
                )
            except StoreUnavailable as error:
                raise PushFailed(error.message, code="store_unavailable") from error
            pushed += product.size
            fraction = TRANSCODED_FRACTION + (1 - TRANSCODED_FRACTION) * pushed / max(1, total)
            job.progress = Progress(step="push", fraction=fraction)
        uploaded = TranscodedVideoUploaded(
            task_id=claim.task_id,
            part=claim.part,
            prefix=claim.prefix,
            files=len(transcoded.products),
            size=total,
        )
        await self._advance(claim, uploaded)

    async def _advance(self, claim: Claim, event: Recordable) -> None:
        record = self._record(event)
        await self._patiently(lambda: self._ledger.advance(claim, record))

    async def _fail(self, job: Job, error: StepError, delivery: Delivery, seconds: float) -> None:
        """Record a failed attempt, and let the queue bring the part again where that can help."""
        claim = job.claim
        failures = claim.failures.get(error.stage, 0) + 1
        decision = self._config.retry.decide(
            permanent=error.permanent,
            failures=failures,
            attempts_max=claim.attempts_max,
            rng=self._rng,
        )
        event: ContainerErrorRetry | ContainerErrorEscalation
        if isinstance(decision, Escalate):
            retry_in_s, outcome = None, "escalated"
            event = ContainerErrorEscalation(
                task_id=claim.task_id,
                part=claim.part,
                attempt=claim.attempt,
                stage=error.stage,
                code=error.code,
                message=error.message,
                failures=failures,
                attempts_max=claim.attempts_max,
                reason=decision.why,
            )
        else:
            retry_in_s, outcome = decision.after_s, "retry"
            event = ContainerErrorRetry(
                task_id=claim.task_id,
                part=claim.part,
                attempt=claim.attempt,
                stage=error.stage,
                code=error.code,
                message=error.message,
                failures=failures,
                attempts_max=claim.attempts_max,
                retry_in_s=round(decision.after_s, 3),
            )
        failure = Failure(
            stage=error.stage, code=error.code, message=error.message, log_tail=error.log_tail
        )
        await self._release(
            job, Release(failure=failure, retry_in_s=retry_in_s), outcome, seconds, event
        )
        log.warning("attempt failed", extra=_about(job, outcome, code=error.code, why=str(error)))
        if retry_in_s is None:
            await delivery.ack()
        else:
            await delivery.put_back(retry_in_s)
        await self._discard(job)

    async def _hand_back(self, job: Job, delivery: Delivery, seconds: float) -> None:
        """Give the part to somebody else, free of charge: this peer is stopping."""
        with suppress(PipelineError):
            release = Release(failure=None, retry_in_s=0.0)
            await self._release(job, release, "handed_back", seconds)
            log.info("handed back", extra=_about(job, "hand_back"))
        with suppress(QueueUnavailable):
            await delivery.put_back(0.0)
        await self._discard(job)

    async def _release(
        self, job: Job, release: Release, outcome: str, seconds: float, *events: Recordable
    ) -> None:
        said = list(events)
        if job.started:
            finished = WorkloadProcessingFinished(
                task_id=job.claim.task_id,
                part=job.claim.part,
                outcome=outcome,
                seconds=round(seconds, 3),
            )
            said.insert(0, finished)
        records = [self._record(event) for event in said]
        try:
            await self._patiently(lambda: self._ledger.release(job.claim, release, records))
            job.given_up = True
        except ClaimLost as error:
            job.note_lost(error)

    async def _discard(self, job: Job) -> None:
        """Remove what this attempt uploaded and nobody will ever see; a leftover does no harm.

        Only when the ledger has said that the claim ended without outputs: while that is unknown
        they may just have become the task's.
        """
        if not job.committed and (job.given_up or job.lost is not None):
            with suppress(PipelineError):
                await self._store.remove(job.claim.prefix)

    async def _discard_earlier(self, claim: Claim) -> None:
        """Remove what attempts before this one left behind when their peers died."""
        with suppress(PipelineError):
            for attempt in range(1, claim.attempt):
                await self._store.remove(claim.prefix_of(attempt))

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Repeat a call that is safe to repeat for as long as its dependency is away."""
        pause_s = 0.05
        seen: set[str] = set()
        while True:
            try:
                answer = await call()
            except Unavailable as error:
                self._note_trouble(error)
                seen.add(error.dependency)
                await trio.sleep(pause_s * self._rng.uniform(0.5, 1.0))
                pause_s = min(self._config.patience_s, pause_s * 2)
            else:
                for dependency in seen:
                    self._trouble.pop(dependency, None)
                return answer

    def _note_trouble(self, error: Unavailable) -> None:
        if error.dependency not in self._trouble:
            log.warning(
                "waiting for a dependency",
                extra={"action": "wait", "dependency": error.dependency, "error": str(error)},
            )
        self._trouble[error.dependency] = error.message


def _rescaled(progress: Progress, fraction: float) -> Progress:
    return Progress(
        step=progress.step,
        fraction=fraction,
        frames=progress.frames,
        frames_total=progress.frames_total,
        speed=progress.speed,
        eta_s=progress.eta_s,
        renditions=progress.renditions,
    )


def _unexpected(error: Exception) -> StepError:
    """Anything else is a bug, or a world that nobody thought of: it fails this task alone."""
    lines = traceback.format_exception(error)
    failed = StepError(
        f"unexpected {type(error).__name__}: {error}",
        code="unexpected",
        log_tail="".join(lines)[-4096:],
    )
    log.error("unexpected error", extra={"action": "unexpected"}, exc_info=error)
    return failed


def _about(job: Job, action: str, **more: object) -> dict[str, object]:
    return {
        "action": action,
        "task": str(job.claim.task_id),
        "part": job.claim.part,
        "attempt": job.claim.attempt,
        **more,
    }


def _remove_tree(path: Path) -> None:
    shutil.rmtree(path, ignore_errors=True)
