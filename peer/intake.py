"""Taking a video in: into the store, then into the ledger.

A source without a task is only a lost file, a task without its source is a failure; hence the
order. The same task may be handed in again, because nobody knew whether the first time had worked:
`peerctl` names the task and repeats it when its peer dies. So every copy gets a place of its own.
No repeat can then touch the source of a task that exists, the first one recorded wins, and a copy
that no task names is removed by whoever made it. (One that a *killed* peer made stays.)
"""

from __future__ import annotations

import secrets
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import trio

from pipeline.errors import LedgerUnavailable, NoSuchTask, PipelineError
from pipeline.ports import ObjectStore, ReportCopied, Submission, TaskDesk

REPEAT_AFTER_S = (0.2, 0.5, 1.0, 2.0)
"""Waits between the tries to record a task that may be recorded already."""

CLEANUP_S = 5.0


class Intake:
    """Stores and records what people hand in."""

    def __init__(self, desk: TaskDesk, store: ObjectStore) -> None:
        self._desk = desk
        self._store = store

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
