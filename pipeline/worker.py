"""The worker: takes wake-ups off the queue and sees each claim to exactly one end.

`take_work` fills free slots; `Reception` makes a claim of a message; an `Attempt` is the straight
line of steps; `_hold` renews the claim beside it and stops it when the claim is gone. Everything
that can go wrong with one task ends in `_settle`, the only error boundary: a failed task never
takes the peer with it.

Who owns the part is decided by the ledger alone, by the claim's token. The worker never asks itself
whether it is still the holder; it finds at its next write that it is not. That is why a frozen or
cut-off worker can wake up at any line here and do no harm.

New work is taken while all three dependencies answer (`Patience`), the cluster does not object and
this peer trusts itself (`Hold`). What is being worked on goes on in any case.

The rejected alternative, one task per step joined by channels, would keep slots busier by a few
milliseconds, and would make "which claim is this, and who may still write for it" a question.
"""

from __future__ import annotations

import logging
import random
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import UUID

import trio

from pipeline.attempt import Attempt, Job, Means
from pipeline.context import working_on
from pipeline.errors import ClaimLost, PipelineError, QueueUnavailable, StepError
from pipeline.events import Recordable, Recorder, WorkloadProcessingFinished
from pipeline.hold import LEAVE_TO_OTHERS_S, Hold, MayTake, always
from pipeline.patience import LEDGER, QUEUE, STORE, Patience
from pipeline.ports import (
    ClaimLedger,
    Delivery,
    ObjectStore,
    Release,
    TaskQueue,
    Transcoder,
    Witnesses,
)
from pipeline.probes import probes
from pipeline.quarantine import ConductRules
from pipeline.reception import Answers, Reception, always_answers
from pipeline.redelivery import RENEW_S
from pipeline.retry import RetryPolicy
from pipeline.scrutiny import Diary, Scrutiny
from pipeline.shortage import ContainerMemory
from pipeline.slots import Slots
from pipeline.tasks import Claim, Failure, Holder, Progress
from pipeline.ticket import Ticket
from pipeline.verdict import FailedAttempt, judge

log = logging.getLogger(__name__)

LOOK_S = 30.0
"""How often ledger and store are looked at that nobody uses: people see in an idle cluster, too,
what is away, and who takes the first task that comes has seen that its disk was not unmounted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """How a worker works.

    Args:
        slots: How many parts it works on at once; with 0 it takes none.
        scratch: A private directory; each claim gets a workspace in it, removed when it ends.
        progress_interval_s: How often progress is written, at most.
        patience_s: The longest pause between two tries while a dependency is away.
        store_patience_s: How long a pull or a push waits for the store before the attempt fails:
            an encode of an hour is not thrown away for a minute's outage.
        cleanup_s: How long giving a claim and its message back may take when the peer stops.
        handover_s: How long a message stays unacknowledged while its part is worked on; after that
            the lease alone carries the task (`ticket`). Well below the queue's own limit, which is
            30 minutes in RabbitMQ.
        attempts_max: The threshold of a task that comes by a message and names none.
    """

    slots: int
    scratch: Path
    progress_interval_s: float = 1.0
    patience_s: float = 2.0
    store_patience_s: float = 120.0
    cleanup_s: float = 3.0
    handover_s: float = 900.0
    attempts_max: int = 4
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    quarantine: ConductRules = field(default_factory=ConductRules)

    def __post_init__(self) -> None:
        if self.slots < 0:
            raise ValueError("worker: slots must be at least 0")
        if self.handover_s <= 0:
            raise ValueError("worker: handover_s must be above 0")


class Cleanup:
    """The time for what must be done although a job was cancelled: once for all of its steps, or a
    ledger and a queue that both hang would each be waited for."""

    def __init__(self, within_s: float) -> None:
        self._within_s = within_s
        self._until: float | None = None

    def scope(self) -> trio.CancelScope:
        """The first one begins the time, and each later one gets the rest of it."""
        if self._until is None:
            self._until = trio.current_time() + self._within_s
        return trio.CancelScope(deadline=self._until, shield=True)


class Unmeasured:
    """A `ContainerMemory` of which nobody says anything."""

    limit_bytes: int | None = None

    def kills(self) -> int | None:
        """None is known of."""
        return None


class Worker:
    """Works on parts until it is told to stop.

    Args:
        holder: Who it is; `holder` may be set, and later claims are made under the new one.
        rng: Draws the retries' jitter.
        may_take: Says why no new work must be taken, while there is a reason in the cluster.
        answers: Whether the holder of a part, given up by the queue, still answers.
        witnesses: Who knows what other peers made of the tasks that failed here.
        memory: Of the container that this worker and its encoders are in.
        diary: Where it is kept for the next life that this peer does not trust itself.
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
        answers: Answers = always_answers,
        witnesses: Witnesses | None = None,
        memory: ContainerMemory | None = None,
        diary: Diary | None = None,
    ) -> None:
        self._config = config
        self._ledger = ledger
        self._queue = queue
        self._store = store
        self.holder = holder
        self._record = recorder
        self._rng = rng
        self._patience = Patience(probes(ledger, queue, store), rng, pause_max_s=config.patience_s)
        self._means = Means(
            ledger=ledger,
            store=store,
            transcoder=transcoder,
            record=recorder,
            patience=self._patience,
            store_patience_s=config.store_patience_s,
            memory=memory if memory is not None else Unmeasured(),
        )
        self._scrutiny = Scrutiny(
            config.quarantine,
            witnesses,
            self._patience,
            uid=lambda: self.holder.peer_uid,
            diary=diary,
        )
        self._taking = Hold(may_take, self._scrutiny)
        self._reception = Reception(
            ledger=ledger,
            patience=self._patience,
            hold=self._taking,
            holder=lambda: self.holder,
            recorder=recorder,
            answers=answers,
            attempts_max=config.attempts_max,
        )
        self._slots = Slots(config.slots)
        self._jobs: dict[UUID, Job] = {}

    @property
    def jobs(self) -> tuple[Job, ...]:
        """What is being worked on now."""
        return tuple(self._jobs.values())

    @property
    def slots(self) -> int:
        """How many it works on at once; fewer than it was told to after memory has run out."""
        return self._slots.count

    @property
    def trouble(self) -> Mapping[str, str]:
        """What keeps it from taking work, each with one sentence: dependencies that do not answer
        (`ledger`, `queue`, `store`), the `cluster`, and its own conduct (`quarantine`)."""
        return {**self._patience.trouble, **self._taking.trouble}

    @property
    def breakers(self) -> Mapping[str, str]:
        """`ledger`, `queue` and `store`, each `closed`, `open` or `half-open`."""
        return self._patience.breakers

    @property
    def quarantined(self) -> str | None:
        """Why this peer has stopped taking work: it fails what others finish."""
        return self._scrutiny.quarantined

    def heard(self, dependency: str) -> AbstractContextManager[None]:
        """Count the outcome of a call to a dependency that somebody else makes in this block.

        A peer that is idle calls nobody, and should know all the same that it could not work.
        """
        return self._patience.heard(dependency)

    def release(self) -> None:
        """Trust this peer again, whatever it has failed: a person says so."""
        self._scrutiny.release()

    async def watch(self) -> None:
        """Notice also while no work wants it that a dependency is back, or not there any more, and
        use slots again that were withheld, until cancelled. (The queue is waited at anyway.)"""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._patience.watch)
            nursery.start_soon(self._slots.watch)
            while True:
                await trio.sleep(LOOK_S)
                for dependency in (LEDGER, STORE):
                    await self._patience.look(dependency)

    async def take_work(self, jobs: trio.Nursery) -> None:
        """Fill free slots from the queue until cancelled; work goes on in `jobs`.

        None is taken before the store was seen: it may be away, or not be the cluster's.
        """
        await self._patience.look(STORE)
        while True:
            await self._slots.acquire()
            try:
                delivery = await self._receive()
            except BaseException:
                self._slots.release()
                raise
            # No checkpoint between here and the nursery: a delivery is in somebody's hands always.
            may_take = not self._patience.trouble and self._taking.reason is None
            trial = may_take and self._scrutiny.begin()
            jobs.start_soon(partial(self._work_on, delivery, may_take=may_take, trial=trial))

    async def _receive(self) -> Delivery:
        while True:
            await self._taking.wait()
            await self._patience.wait_until_well()
            if self._taking.reason is None:
                # Not insisted upon: what to wait for may be another reason by then.
                with suppress(QueueUnavailable):
                    return await self._patience.once(QUEUE, self._queue.receive)

    async def _work_on(self, delivery: Delivery, *, may_take: bool, trial: bool) -> None:
        ticket, failure = Ticket(delivery, self._queue, self._patience), None
        cleanup = Cleanup(self._config.cleanup_s)
        try:
            if may_take:
                with self._reception.serving(ticket) as token:
                    if (claim := await self._reception.claim(ticket, token)) is not None:
                        with working_on(claim):
                            failure = await self._settle(claim, ticket, cleanup, trial=trial)
            else:  # there was nothing in the way when it began to wait for a message
                await ticket.put_back(LEAVE_TO_OTHERS_S)
        finally:
            if trial:
                self._scrutiny.end_trial()
            if not ticket.ended:  # stopping: somebody else shall have it at once
                with cleanup.scope():
                    await ticket.put_back(0.0)
            self._leave_slot(failure)

    def _leave_slot(self, failure: StepError | None) -> None:
        """Give the slot to the next one, or to nobody for now where its container was too full."""
        if failure is None or failure.memory_bytes is None:
            self._slots.release()
        elif self._slots.withhold():
            log.warning(
                "one part fewer at a time: memory ran out",
                extra={"action": "withhold", "slots": self.slots},
            )

    async def _settle(
        self, claim: Claim, ticket: Ticket, cleanup: Cleanup, *, trial: bool
    ) -> StepError | None:
        """Work on a claim and end it, and its ticket, in exactly one way; return what failed."""
        job = self._jobs[claim.token] = Job(claim=claim)
        workspace = self._config.scratch / str(claim.token)
        began = trio.current_time()
        try:
            failure = await self._work_and_hold(job, ticket, workspace)
            seconds = trio.current_time() - began
            if job.committed:
                self._scrutiny.note_success()
                log.info("task done", extra=_about(job, "done", seconds=round(seconds, 3)))
                await ticket.done()
            elif job.lost is not None:
                await self._lose(job, ticket)
            elif failure is not None:
                self._scrutiny.note_failure(claim.task_id, failure, trial=trial)
                await self._fail(job, failure, ticket, seconds)
            return failure
        finally:
            with cleanup.scope():
                if not job.ended:
                    await self._hand_back(job, ticket, trio.current_time() - began)
                await trio.to_thread.run_sync(_remove_tree, workspace)
            del self._jobs[claim.token]

    async def _work_and_hold(self, job: Job, ticket: Ticket, workspace: Path) -> StepError | None:
        """Run the attempt while the claim is held; return what failed, if anything did."""
        failure: StepError | None = None
        async with trio.open_nursery() as holding:
            holding.start_soon(self._hold, job, holding.cancel_scope)
            holding.start_soon(self._hand_over, job, ticket)
            failure = await Attempt(job, workspace, self._means).run()
            holding.cancel_scope.cancel()
        return failure

    async def _hold(self, job: Job, attempt: trio.CancelScope) -> None:
        """Renew the claim, and publish progress, until it is lost or the attempt is over.

        While the ledger is away nobody can take the part over either: the encode goes on.
        """
        renew_s = min(job.claim.lease_s / 5, RENEW_S)
        written: Progress | None = None
        renewed = trio.current_time()
        while True:
            due_s = max(0.0, renewed + renew_s - trio.current_time())
            await trio.sleep(min(self._config.progress_interval_s, due_s))
            if job.progress is written and trio.current_time() - renewed < renew_s:
                continue

            async def renew() -> Progress | None:
                progress = job.progress
                await self._ledger.renew(job.claim, progress)
                return progress

            try:
                written = await self._patience.insist(LEDGER, renew)
            except ClaimLost as error:
                job.note_lost(error)
                attempt.cancel()
                return
            renewed = trio.current_time()

    async def _hand_over(self, job: Job, ticket: Ticket) -> None:
        """Let the lease alone carry the task when its message has been kept for long."""
        await trio.sleep(self._config.handover_s)
        await ticket.hand_over()
        log.info("message handed over to the lease", extra=_about(job, "hand_over"))

    async def _lose(self, job: Job, ticket: Ticket) -> None:
        """End the ticket of a claim that somebody else has ended: who takes part has another."""
        log.warning("claim lost", extra=_about(job, "claim_lost", why=job.lost))
        await ticket.done()
        await self._discard(job)

    async def _fail(self, job: Job, error: StepError, ticket: Ticket, seconds: float) -> None:
        """Record a failed attempt, and let the queue bring the part again where that can help."""
        claim = job.claim
        failed = FailedAttempt(
            task_id=claim.task_id,
            part=claim.part,
            attempt=claim.attempt,
            failure=Failure(
                stage=error.stage,
                code=error.code,
                message=error.message,
                log_tail=error.log_tail,
                memory_bytes=error.memory_bytes,
            ),
            failures=claim.failures.get(error.stage, 0) + 1,
            attempts_max=claim.attempts_max,
            permanent=error.permanent,
        )
        verdict = judge(failed, self._config.retry, self._rng)
        retry_in_s = verdict.release.retry_in_s
        if retry_in_s is not None:
            await self._secure(job, ticket, retry_in_s)
        await self._release(job, verdict.release, verdict.outcome, seconds, verdict.event)
        if job.lost is not None:
            await self._lose(job, ticket)
            return
        log.warning(
            "attempt failed", extra=_about(job, verdict.outcome, code=error.code, why=str(error))
        )
        if retry_in_s is None:
            await ticket.done()
        else:
            await ticket.put_back(retry_in_s)
        await self._discard(job)

    async def _secure(self, job: Job, ticket: Ticket, delay_s: float) -> None:
        """Wait for the queue with the claim held: else it would run out while that is away, and
        what failed here would be told as a crash."""
        async with trio.open_nursery() as holding:
            holding.start_soon(self._hold, job, holding.cancel_scope)
            await ticket.secure(delay_s)
            holding.cancel_scope.cancel()

    async def _hand_back(self, job: Job, ticket: Ticket, seconds: float) -> None:
        """Give the part to somebody else, free of charge: this peer is stopping."""
        with suppress(PipelineError):
            await ticket.secure(0.0)
            release = Release(failure=None, retry_in_s=0.0)
            await self._release(job, release, "handed_back", seconds)
            log.info("handed back", extra=_about(job, "hand_back"))
        await ticket.put_back(0.0)
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
        call = partial(self._ledger.release, job.claim, release, records)
        try:
            await self._patience.insist(LEDGER, call)
            job.given_up = True
        except ClaimLost as error:
            job.note_lost(error)

    async def _discard(self, job: Job) -> None:
        """Remove what this attempt uploaded and nobody will ever see; a leftover does no harm.

        Only when the ledger has said that the claim ended without outputs: while that is unknown
        they may just have become the task's.
        """
        if not job.committed and job.ended:
            with suppress(PipelineError):
                await self._patience.once(STORE, partial(self._store.remove, job.claim.prefix))


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
