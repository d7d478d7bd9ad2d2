"""The worker: takes wake-ups off the queue and sees each claim to exactly one end.

`take_work` fills free slots; an `Attempt` is the straight line of steps; `_hold` renews the claim
beside it and stops it when the claim is gone. Everything that can go wrong with one task ends in
`_settle`, the only error boundary: a failed task never takes the peer with it.

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
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID, uuid4

import trio

from pipeline.attempt import Attempt, Job, Means
from pipeline.errors import (
    BadMessage,
    ClaimLost,
    LedgerUnavailable,
    PipelineError,
    StepError,
    StoreUnavailable,
)
from pipeline.events import Recordable, Recorder, TaskReceived, WorkloadProcessingFinished
from pipeline.hold import DEPENDENCY, LEAVE_TO_OTHERS_S, Hold, MayTake, always
from pipeline.messages import decode_untrusted
from pipeline.patience import Patience
from pipeline.ports import ClaimLedger, Delivery, ObjectStore, Release, TaskQueue, Transcoder
from pipeline.retry import RetryPolicy
from pipeline.standing import Suspended
from pipeline.tasks import Busy, Claim, Failure, Holder, Progress, Settled
from pipeline.verdict import FailedAttempt, judge

log = logging.getLogger(__name__)

NOTHING = "tasks/none"
"""A prefix below which nothing lies: listing it asks the store whether it is there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """How a worker works.

    Args:
        slots: How many parts it works on at once.
        scratch: A private directory; each claim gets a workspace in it, removed when it ends.
        progress_interval_s: How often progress is written, at most.
        patience_s: The longest pause between two tries while a dependency is away.
        store_patience_s: How long a pull or a push waits for the store before the attempt fails:
            an encode of an hour is not thrown away for a minute's outage.
        cleanup_s: How long giving a claim back may take when the peer stops.
    """

    slots: int
    scratch: Path
    progress_interval_s: float = 1.0
    patience_s: float = 2.0
    store_patience_s: float = 120.0
    cleanup_s: float = 5.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        if self.slots < 1:
            raise ValueError("worker: slots must be at least 1")


class Worker:
    """Works on parts until it is told to stop.

    Args:
        holder: Who it is; `holder` may be set, and later claims are made under the new one.
        rng: Draws the retries' jitter.
        may_take: Says why no new work must be taken, while there is a reason in the cluster.
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
        may_take: MayTake = always,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._queue = queue
        self._store = store
        self.holder = holder
        self._record = recorder
        self._rng = rng
        self._patience = Patience(rng, pause_max_s=config.patience_s)
        self._means = Means(
            ledger=ledger,
            store=store,
            transcoder=transcoder,
            record=recorder,
            patience=self._patience,
            store_patience_s=config.store_patience_s,
        )
        self._taking = Hold(may_take)
        self._slots = trio.Semaphore(config.slots)
        self._jobs: dict[UUID, Job] = {}

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What is being worked on now."""
        return tuple(self._jobs.values())

    @property
    def trouble(self) -> Mapping[str, str]:
        """What keeps it from taking work, each with one sentence: dependencies that could not be
        reached when last tried, and the cluster."""
        reason = self._taking.reason
        return {**self._patience.trouble, **({DEPENDENCY: reason} if reason else {})}

    async def take_work(self, jobs: trio.Nursery) -> None:
        """Fill free slots from the queue until cancelled; work goes on in `jobs`."""
        while True:
            await self._slots.acquire()
            try:
                await self._wait_for_store()
                await self._taking.wait()
                delivery = await self._patience.insist(self._queue.receive)
            except BaseException:
                self._slots.release()
                raise
            # No checkpoint between here and the nursery: a delivery is in somebody's hands always.
            jobs.start_soon(self._work_on, delivery)

    async def _wait_for_store(self) -> None:
        """Take no work while the store is away: it could only be failed."""
        if StoreUnavailable.dependency in self.trouble:
            await self._patience.insist(lambda: self._store.list(NOTHING))
            self._patience.note_well(StoreUnavailable.dependency)

    async def _work_on(self, delivery: Delivery) -> None:
        try:
            await self._take(delivery)
        finally:
            self._slots.release()

    async def _take(self, delivery: Delivery) -> None:
        """From a delivery to a claim, or to the reason why there is none."""
        try:
            wake_up = decode_untrusted(delivery.body)
        except BadMessage as error:
            log.warning("bad message set aside", extra={"action": "dead_letter", "why": str(error)})
            await self._patience.insist(partial(delivery.dead_letter, str(error)))
            return
        if self._taking.reason is not None:  # since it began to wait for a message
            await self._put_back(delivery, LEAVE_TO_OTHERS_S)
            return
        received = self._record(TaskReceived(task_id=wake_up.task_id, part=wake_up.part, attempt=0))
        claim = partial(
            self._ledger.claim, wake_up.task_id, wake_up.part, self.holder, uuid4(), received
        )
        answer: Claim | Busy | Settled | Suspended | None = None
        try:
            answer = await self._patience.insist(claim)
        finally:
            if answer is None:  # stopping: somebody else shall have it at once
                with trio.move_on_after(self._config.cleanup_s, shield=True):
                    await self._put_back(delivery, 0.0)
        match answer:
            case Busy():
                await self._put_back(delivery, answer.look_again_s)
            case Suspended():
                if self._taking.suspend(answer):
                    log.warning("no work for now", extra={"action": "hold", "why": answer.why})
                await self._put_back(delivery, LEAVE_TO_OTHERS_S)
            case Settled():
                await self._patience.insist(delivery.ack)
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
                seconds = round(trio.current_time() - began, 3)
                log.info("task done", extra=_about(job, "done", seconds=seconds))
                await self._patience.insist(delivery.ack)
            elif job.lost is not None:
                log.warning("claim lost", extra=_about(job, "claim_lost", why=job.lost))
                await self._discard(job)
                await self._patience.insist(delivery.ack)
            elif failure is not None:
                await self._fail(job, failure, delivery, trio.current_time() - began)
        finally:
            with trio.move_on_after(self._config.cleanup_s, shield=True):
                if not job.ended:
                    await self._hand_back(job, delivery, trio.current_time() - began)
                await trio.to_thread.run_sync(_remove_tree, workspace)
            del self._jobs[claim.token]

    async def _work_and_hold(self, job: Job, workspace: Path) -> StepError | None:
        """Run the attempt while the claim is held; return what failed, if anything did."""
        failure: StepError | None = None
        async with trio.open_nursery() as holding:
            holding.start_soon(self._hold, job, holding.cancel_scope)
            failure = await Attempt(job, workspace, self._means).run()
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
                self._patience.note_trouble(error)
            else:
                self._patience.note_well(LedgerUnavailable.dependency)
                written, renewed = progress, trio.current_time()

    async def _fail(self, job: Job, error: StepError, delivery: Delivery, seconds: float) -> None:
        """Record a failed attempt, and let the queue bring the part again where that can help."""
        claim = job.claim
        failed = FailedAttempt(
            task_id=claim.task_id,
            part=claim.part,
            attempt=claim.attempt,
            failure=Failure(
                stage=error.stage, code=error.code, message=error.message, log_tail=error.log_tail
            ),
            failures=claim.failures.get(error.stage, 0) + 1,
            attempts_max=claim.attempts_max,
            permanent=error.permanent,
        )
        verdict = judge(failed, self._config.retry, self._rng)
        await self._release(job, verdict.release, verdict.outcome, seconds, verdict.event)
        log.warning(
            "attempt failed", extra=_about(job, verdict.outcome, code=error.code, why=str(error))
        )
        await self._discard(job)
        if verdict.release.retry_in_s is None:
            await self._patience.insist(delivery.ack)
        else:
            await self._put_back(delivery, verdict.release.retry_in_s)

    async def _hand_back(self, job: Job, delivery: Delivery, seconds: float) -> None:
        """Give the part to somebody else, free of charge: this peer is stopping."""
        with suppress(PipelineError):
            release = Release(failure=None, retry_in_s=0.0)
            await self._release(job, release, "handed_back", seconds)
            log.info("handed back", extra=_about(job, "hand_back"))
        await self._put_back(delivery, 0.0)
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
            await self._patience.insist(partial(self._ledger.release, job.claim, release, records))
            job.given_up = True
        except ClaimLost as error:
            job.note_lost(error)

    async def _put_back(self, delivery: Delivery, delay_s: float) -> None:
        await self._patience.insist(partial(delivery.put_back, delay_s))

    async def _discard(self, job: Job) -> None:
        """Remove what this attempt uploaded and nobody will ever see; a leftover does no harm.

        Only when the ledger has said that the claim ended without outputs: while that is unknown
        they may just have become the task's.
        """
        if not job.committed and job.ended:
            with suppress(PipelineError):
                await self._store.remove(job.claim.prefix)


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
