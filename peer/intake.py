"""Taking a video in: into the store, unless it lies there already, then into the ledger.

A source without a task is only a lost file, a task without its source is a failure; hence the
order. The same task may be handed in again, because nobody knew whether the first time had worked:
`peerctl` names the task and repeats it when its peer dies. So every copy gets a place of its own.
No repeat can then touch the source of a task that exists, the first one recorded wins, and a copy
that no task names is removed by whoever made it. (One that a *killed* peer made stays.)
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import trio

from pipeline.errors import BadRequest, LedgerUnavailable, NoSuchTask, PipelineError
from pipeline.ports import ObjectStore, ReportCopied, Submission, TaskDesk
from pipeline.stores.locations import is_location, parse_location

REPEAT_AFTER_S = (0.2, 0.5, 1.0, 2.0)
"""Waits between the tries to record a task that may be recorded already."""

CLEANUP_S = 5.0


SizeOf = Callable[[str], Awaitable[int]]
"""The size in bytes of what lies at `s3://bucket/key`; raises `PullFailed` where nothing does."""


class Intake:
    """Stores and records what people hand in.

    Args:
        size_of: Looks an `s3://` source up; None where the store does not speak S3.
    """

    def __init__(self, desk: TaskDesk, store: ObjectStore, size_of: SizeOf | None = None) -> None:
        self._desk = desk
        self._store = store
        self._size_of = size_of

    async def knows(self, task_id: UUID) -> bool:
        """Whether the task is recorded already, so that there is nothing left to do."""
        return await self._source_of(task_id) is not None

    async def take(self, path: Path, submission: Submission, report: ReportCopied) -> None:
        """Copy the video to `submission.source`, a place of `new_place`, and record the task.

        Cancelled before the task is recorded, it leaves nothing.

        Raises:
            PushFailed: The video could not be stored. Nothing is left of it.
            Unavailable: Nothing is left either, if it is definite; otherwise the task may exist.
        """
        kept = False
        try:
            await self._store.push(path, submission.source, report=report)
            await trio.lowlevel.checkpoint_if_cancelled()
            # Only the answer tells whether it happened, so from here on nobody stops it.
            with trio.CancelScope(shield=True):
                await self._record(submission)
                kept = await self._is_named(submission)
        except LedgerUnavailable as error:
            kept = not error.definite
            raise
        finally:
            if not kept:
                with trio.move_on_after(CLEANUP_S, shield=True), suppress(PipelineError):
                    await self._store.remove(submission.source)

    async def take_stored(self, submission: Submission) -> None:
        """Record a task whose source lies in a store already; nothing is copied.

        It is looked up first: a slip in its name should be told to whoever made it, not to the
        administrators.

        Raises:
            BadRequest: It is no address of S3, or the store does not speak S3.
            PullFailed: Nothing lies there, or it may not be read.
            Unavailable: As `take` says it.
        """
        if not is_location(submission.source):
            raise BadRequest(f"{submission.source!r} is not of the form s3://bucket/key")
        parse_location(submission.source)
        if self._size_of is None:
            raise BadRequest(
                f"{submission.source} cannot be reached: the store of this peer is a directory; "
                "configure [store.s3], or hand in a file"
            )
        await self._size_of(submission.source)
        with trio.CancelScope(shield=True):
            await self._record(submission)

    async def _record(self, submission: Submission) -> None:
        """Write the task, again while it may or may not be there: a repeat changes nothing."""
        delays_s = list(REPEAT_AFTER_S)
        unsure = False
        while True:
            try:
                return await self._desk.submit(submission)
            except LedgerUnavailable as error:
                unsure = unsure or not error.definite
                if not unsure:
                    raise
                if not delays_s:
                    raise LedgerUnavailable(
                        f"{error.message}; task {submission.task_id} may be recorded all the "
                        "same: look with peerctl task before you hand it in again",
                        definite=False,
                    ) from error
            await trio.sleep(delays_s.pop(0))

    async def _is_named(self, submission: Submission) -> bool:
        """Whether the task was recorded with this copy; in doubt it was."""
        try:
            return await self._source_of(submission.task_id) == submission.source
        except LedgerUnavailable:
            return True

    async def _source_of(self, task_id: UUID) -> str | None:
        try:
            return (await self._desk.show_task(str(task_id))).source
        except NoSuchTask:
            return None


def new_place(task_id: UUID, path: Path) -> str:
    """A key that no other copy has, not even of the same task."""
    return f"sources/{task_id}/{secrets.token_hex(4)}/source{_safe_suffix(path)}"


def _safe_suffix(path: Path) -> str:
    """Keep a file's ending for people who look into the store; ffmpeg never sees it."""
    suffix = path.suffix.lower()
    return suffix if suffix[1:].isalnum() and suffix.isascii() and len(suffix) <= 8 else ""
