"""One attempt at one claim: the straight line from its details to the commit.

Each step ends with its event in the ledger, fenced by the claim's token; so an attempt that is not
the holder's any more finds out at its next step, whatever happened to it in between, and ends.

What fails counts under the stage it failed in: the pull, the transcoding (with inspection and
verification) or the push; each has a counter of its own. While the ledger is away the attempt goes
on where its events can be kept for later, and its commit waits.
"""

from __future__ import annotations

import errno
import logging
import traceback
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import trio

from pipeline.errors import (
    BadRequest,
    ClaimLost,
    LedgerUnavailable,
    PipelineError,
    PullFailed,
    PushFailed,
    Stage,
    StepError,
    StoreUnavailable,
    TranscodeFailed,
)
from pipeline.events import (
    Recordable,
    Recorder,
    TaskDetailsRetrieved,
    TranscodedVideoUploaded,
    VideoFilePulled,
    VideoTranscoded,
    WorkloadProcessingFinished,
    WorkloadProcessingStarted,
)
from pipeline.patience import LEDGER, STORE, Patience
from pipeline.ports import (
    ClaimLedger,
    ObjectStore,
    Order,
    Transcoded,
    Transcoder,
)
from pipeline.shortage import KILLED, OUT_OF_MEMORY, ContainerMemory
from pipeline.tasks import Claim, Progress, Task

log = logging.getLogger(__name__)

# How much of the overall bar the steps around ffmpeg get. On one machine they are almost nothing;
# a bar that stands still at 0 % or 100 % would be the worse lie.
PULLED_FRACTION = 0.02
TRANSCODED_FRACTION = 0.97

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
"""What the system says when this machine's disk, or this user's share of it, is used up."""


@dataclass(slots=True, kw_only=True)
class Job:
    """One claim that is being worked on, and what is known of its end."""

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

    @property
    def ended(self) -> bool:
        """The claim is over, in whichever way."""
        return self.committed or self.given_up or self.lost is not None

    def note_lost(self, error: ClaimLost) -> None:
        """Remember why the claim is gone. A commit whose answer got lost is a commit."""
        if error.committed:
            self.committed = True
        else:
            self.lost = error.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """What an attempt works with.

    Args:
        store_patience_s: How long a pull or a push waits for a store that is away.
        memory: Of the container; tells who was ended for lack of it.
    """

    ledger: ClaimLedger
    store: ObjectStore
    transcoder: Transcoder
    record: Recorder
    patience: Patience
    store_patience_s: float
    memory: ContainerMemory


class Attempt:
    """Works on a job in a workspace of its own.

    Args:
        workspace: A directory that does not exist yet; the caller removes it.
    """

    def __init__(self, job: Job, workspace: Path, means: Means) -> None:
        self._job = job
        self._claim = job.claim
        self._workspace = workspace
        self._means = means
        self._stage = Stage.PULL

    async def run(self) -> StepError | None:
        """Do all of it; return what failed, if anything did. How it ended is noted in the job."""
        kills = self._means.memory.kills()
        try:
            await self._run()
        except ClaimLost as error:
            self._job.note_lost(error)
        except StepError as error:
            return self._explained(error, kills)
        except Exception as error:
            return _unexpected(error, self._stage)
        return None

    def _explained(self, error: StepError, kills_before: int | None) -> StepError:
        """Tell a program that the kernel has ended for lack of memory from one that was killed.

        Its death alone says SIGKILL. The kernel counts those that it ends, in each container, just
        before it ends them; and beside it only a person kills our programs.
        """
        memory = self._means.memory
        kills = memory.kills()
        if error.code != KILLED or kills is None or kills_before is None or kills <= kills_before:
            return error
        limit = memory.limit_bytes
        allowed = f"of {limit} bytes " if limit is not None else ""
        return TranscodeFailed(
            f"The kernel ended ffmpeg because this container's memory {allowed}was used up.",
            code=OUT_OF_MEMORY,
            log_tail=error.log_tail,
            memory_bytes=limit,
        )

    async def _run(self) -> None:
        task = await self._begin()
        await self._discard_earlier()
        order = await self._pull(task)
        self._stage = Stage.TRANSCODE
        inspection = await self._means.transcoder.inspect(order)
        started = WorkloadProcessingStarted(
            task_id=task.id,
            part=self._claim.part,
            video=inspection.video,
            renditions=inspection.renditions,
        )
        await self._advance(started)
        self._job.started = True
        began = trio.current_time()
        transcoded = await self._means.transcoder.transcode(order, inspection, self._report)
        made = VideoTranscoded(
            task_id=task.id,
            part=self._claim.part,
            renditions=inspection.renditions,
            seconds=_since(began),
            cpu_seconds=round(transcoded.cpu_seconds, 3),
        )
        await self._advance(made)
        self._stage = Stage.PUSH
        await self._push(order, transcoded)
        await self._commit(transcoded, inspection.warnings, began)

    async def _begin(self) -> Task:
        """Tell what the claim brought from the ledger."""
        task = self._claim.task
        assert task is not None, "the ledger's answer brings it along"
        self._job.title = task.title
        details = TaskDetailsRetrieved(
            task_id=task.id,
            part=self._claim.part,
            source=task.source,
            ladder=task.ladder.name,
        )
        await self._advance(details)
        return task

    async def _discard_earlier(self) -> None:
        """Remove what the attempt before this one left behind if its peer died, to make room.

        It cannot be committed any more; one that still runs, frozen, cleans up after itself. Those
        before it had somebody after them, and `clearing` looks again, later, after all of them.
        """
        if self._claim.attempt == 1:
            return
        with suppress(PipelineError):
            remove = partial(
                self._means.store.remove, self._claim.prefix_of(self._claim.attempt - 1)
            )
            await self._means.patience.once(STORE, remove)

    async def _pull(self, task: Task) -> Order:
        self._job.progress = Progress(step="pull", fraction=0.0)
        began = trio.current_time()
        order = Order(
            source=self._workspace / "in" / "source",
            output=self._workspace / "out",
            ladder=task.ladder,
            strictness=task.strictness,
            shortages=self._claim.shortages,
        )
        try:
            for directory in (order.source.parent, order.output):
                directory.mkdir(parents=True, mode=0o700)
            pull = partial(self._means.store.pull, task.source, order.source)
            size = await self._means.patience.insist(
                STORE, pull, within_s=self._means.store_patience_s
            )
        except StoreUnavailable as error:
            raise PullFailed(error.message, code="store_unavailable") from error
        except BadRequest as error:
            raise PullFailed(str(error), code="bad_key", permanent=True) from error
        except OSError as error:
            code = "disk_full" if error.errno in FULL else "workspace"
            raise PullFailed(f"no workspace for the task: {error}", code=code) from error
        self._job.progress = Progress(step="inspect", fraction=PULLED_FRACTION)
        pulled = VideoFilePulled(
            task_id=task.id, part=self._claim.part, size=size, seconds=_since(began)
        )
        await self._advance(pulled)
        return order

    def _report(self, progress: Progress) -> None:
        span = TRANSCODED_FRACTION - PULLED_FRACTION
        self._job.progress = replace(progress, fraction=PULLED_FRACTION + span * progress.fraction)

    async def _push(self, order: Order, transcoded: Transcoded) -> None:
        total = sum(product.size for product in transcoded.products)
        pushed = 0
        for product in transcoded.products:
            key = f"{self._claim.prefix}/{product.name}"
            # The workspace is removed soon, and ffmpeg has ended: the store may keep the file.
            push = partial(self._means.store.push, order.output / product.name, key, give=True)
            try:
                await self._means.patience.insist(
                    STORE, push, within_s=self._means.store_patience_s
                )
            except StoreUnavailable as error:
                raise PushFailed(error.message, code="store_unavailable") from error
            pushed += product.size
            fraction = TRANSCODED_FRACTION + (1 - TRANSCODED_FRACTION) * pushed / max(1, total)
            self._job.progress = Progress(step="push", fraction=fraction)
        uploaded = TranscodedVideoUploaded(
            task_id=self._claim.task_id,
            part=self._claim.part,
            prefix=self._claim.prefix,
            files=len(transcoded.products),
            size=total,
        )
        await self._advance(uploaded)

    async def _commit(
        self, transcoded: Transcoded, warnings: tuple[str, ...], began: float
    ) -> None:
        finished = self._means.record(
            WorkloadProcessingFinished(
                task_id=self._claim.task_id,
                part=self._claim.part,
                outcome="done",
                seconds=_since(began),
            )
        )
        commit = partial(
            self._means.ledger.finish,
            self._claim,
            transcoded.products,
            (*warnings, *transcoded.warnings),
            finished,
        )
        await self._means.patience.insist(LEDGER, commit)
        self._job.committed = True

    async def _advance(self, event: Recordable) -> None:
        advance = partial(self._means.ledger.advance, self._claim, self._means.record(event))
        try:
            # Past the breaker: a ledger that keeps a spool takes it also while it is away. That it
            # was taken therefore says nothing of the ledger.
            await advance()
        except LedgerUnavailable:
            await self._means.patience.insist(LEDGER, advance)


def _since(began: float) -> float:
    return round(trio.current_time() - began, 3)


def _unexpected(error: Exception, stage: Stage) -> StepError:
    """Anything else is a bug, or a world that nobody thought of: it fails this task alone."""
    if isinstance(error, OSError) and error.errno in FULL:
        message, code = f"the disk is full: {error}", "disk_full"
    else:
        log.error("unexpected error", extra={"action": "unexpected"}, exc_info=error)
        message, code = f"unexpected {type(error).__name__}: {error}", "unexpected"
    kind = {Stage.PULL: PullFailed, Stage.PUSH: PushFailed}.get(stage, TranscodeFailed)
    return kind(message, code=code, log_tail="".join(traceback.format_exception(error))[-4096:])
