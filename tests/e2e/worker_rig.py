"""A ledger, a queue and a store, and workers that share them; only ffmpeg is a script."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import trio

from pipeline.errors import (
    StepError,
)
from pipeline.hold import MayTake, always
from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from pipeline.media.ladder import parse_ladder
from pipeline.messages import WakeUp, encode
from pipeline.ports import Inspection, Order, Submission, Transcoded
from pipeline.queues.embedded import EmbeddedQueue
from pipeline.reception import Answers, always_answers
from pipeline.retry import RetryPolicy
from pipeline.scrutiny import Diary
from pipeline.shortage import ContainerMemory
from pipeline.stores.directory import DirectoryStore
from pipeline.tasks import Claim, Product, ProductKind, Progress, TaskReport, TaskState
from pipeline.worker import Worker, WorkerConfig

OUTPUT = b"a rendition"
PATIENCE_S = 10.0

Script = Callable[[Order], Awaitable[None]]
Report = Callable[[Progress], None]


async def nothing_special(_: Order) -> None:
    """Let the scripted transcoder do what it does by default: succeed."""


class ScriptedTranscoder:
    """Makes one small file. Each attempt first runs the next line of its script."""

    def __init__(self, *script: Script) -> None:
        self._script = list(script)
        self.orders: list[Order] = []

    async def inspect(self, order: Order) -> Inspection:
        self.orders.append(order)
        assert order.source.read_bytes() == b"a video"
        return Inspection(video={"width": 640}, renditions=("360p",))

    async def transcode(self, order: Order, _inspection: Inspection, report: Report) -> Transcoded:
        report(Progress(step="transcode", fraction=0.5))
        await (self._script.pop(0) if self._script else nothing_special)(order)
        (order.output / "360p.mp4").write_bytes(OUTPUT)
        product = Product(kind=ProductKind.RENDITION, name="360p.mp4", size=len(OUTPUT))
        return Transcoded(products=(product,), warnings=("a warning",), cpu_seconds=0.1)


class FrozenLedger:
    """The ledger of a worker that is frozen in the middle of its work: no renewal comes any more.

    A worker that merely waits would renew a lease that a test has let run out.
    """

    def __init__(self, ledger: PostgresLedger) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ledger, name)

    async def renew(self, _claim: Claim, _progress: Progress | None) -> None:
        await trio.sleep_forever()


class Rig:
    """A ledger, a queue and a store, and workers that share them."""

    def __init__(self, directory: Path, url: str, database: Database, ledger: PostgresLedger):
        self.directory = directory
        self.url = url
        self.database = database
        self.ledger = ledger
        self.queue = EmbeddedQueue(database)
        self.store = DirectoryStore(directory / "store")

    async def submit(self, **changes: Any) -> UUID:
        """Store a source, record its task and wake somebody."""
        submission = replace(self.submission(), **changes)
        (self.directory / "upload").write_bytes(b"a video")
        await self.store.push(self.directory / "upload", submission.source)
        await self.ledger.submit(submission)
        await self.wake(submission.task_id)
        return submission.task_id

    def submission(self) -> Submission:
        task_id = uuid4()
        source, ladder = f"sources/{task_id}/source.mp4", parse_ladder("web")
        return Submission(
            task_id=task_id, source=source, title="clip.mp4", ladder=ladder, attempts_max=3
        )

    async def wake(self, task_id: UUID) -> None:
        await self.queue.publish(encode(WakeUp(task_id=task_id)))

    @asynccontextmanager
    async def working(
        self,
        transcoder: ScriptedTranscoder,
        peer: Any,
        *,
        store: Any = None,
        ledger: Any = None,
        queue: Any = None,
        slots: int = 2,
        may_take: MayTake = always,
        answers: Answers = always_answers,
        memory: ContainerMemory | None = None,
        diary: Diary | None = None,
        **changes: Any,
    ) -> AsyncIterator[Worker]:
        """Run a worker; it is told to stop, without a grace, at the end.

        Args:
            changes: To its configuration.
        """
        scratch = self.directory / f"scratch-{peer.holder.peer_name}"
        scratch.mkdir(exist_ok=True)
        worker = Worker(
            replace(self.config(scratch, slots), **changes),
            ledger=ledger or self.ledger,
            queue=queue or self.queue,
            store=store or self.store,
            transcoder=transcoder,
            holder=peer.holder,
            recorder=peer.record,
            rng=random.Random(1),
            may_take=may_take,
            answers=answers,
            witnesses=self.ledger,
            memory=memory,
            diary=diary,
        )
        async with trio.open_nursery() as jobs:
            async with trio.open_nursery() as intake:
                intake.start_soon(worker.take_work, jobs)
                yield worker
                intake.cancel_scope.cancel()
            jobs.cancel_scope.cancel()
        assert list(scratch.iterdir()) == [], "every workspace is removed"

    def config(self, scratch: Path, slots: int) -> WorkerConfig:
        """How the rig's workers work: impatient with everything but the store."""
        return WorkerConfig(
            slots=slots,
            scratch=scratch,
            store_patience_s=10.0,
            progress_interval_s=0.05,
            retry=RetryPolicy(base_s=0.01, max_s=0.02),
        )

    async def settled(self, task_id: UUID, *states: TaskState) -> TaskReport:
        """Wait until a task is in one of these states, or at any end of its way."""
        wanted = states or (TaskState.DONE, TaskState.ESCALATED, TaskState.CANCELLED)
        with trio.fail_after(PATIENCE_S):
            while True:
                report = await self.ledger.show_task(str(task_id))
                if report.state in wanted:
                    return report
                await trio.sleep(0.01)

    async def first_failure(self, tasks: Sequence[UUID]) -> None:
        """Wait until one of them has failed once."""
        with trio.fail_after(PATIENCE_S):
            while True:
                reports = [await self.ledger.show_task(str(task)) for task in tasks]
                if any(report.failures for report in reports):
                    return
                await trio.sleep(0.01)

    async def story(self, task_id: UUID) -> list[str]:
        """The types of a task's events, in order."""
        rows = await self.ledger.list_events(task_id=task_id, type=None, after_id=0, limit=1000)
        return [row.type for row in rows]

    async def queue_is_empty(self) -> None:
        """Wait until no message is anywhere; the last acknowledgement follows the commit."""
        with trio.fail_after(PATIENCE_S):
            while True:
                depth = await self.queue.depth()
                if (depth.ready, depth.unacknowledged, depth.delayed) == (0, 0, 0):
                    return
                await trio.sleep(0.01)

    async def message_is_put_back(self) -> None:
        """Wait until a message waits for its time to come."""
        with trio.fail_after(PATIENCE_S):
            while True:
                if (await self.queue.depth()).delayed:
                    return
                await trio.sleep(0.01)

    async def stored(self, task_id: UUID) -> list[str]:
        """The keys of everything visible below a task."""
        return [found.key for found in await self.store.list(f"tasks/{task_id}")]


GOOD_WAY = [
    "TaskReceived",
    "TaskDetailsRetrieved",
    "VideoFilePulled",
    "WorkloadProcessingStarted",
    "VideoTranscoded",
    "TranscodedVideoUploaded",
    "WorkloadProcessingFinished",
]
FAILED_TRANSCODE = [*GOOD_WAY[:4], "WorkloadProcessingFinished"]


def failing(error: StepError | Exception) -> Script:
    async def fail(_: Order) -> None:
        raise error

    return fail


async def until(condition: Callable[[], object]) -> None:
    """Wait for what announces nothing: how a worker stands to itself, or to a dependency."""
    with trio.fail_after(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - see above
            await trio.sleep(0.01)
