"""What each command of the control socket does.

Every handler takes the request's arguments as they came, checks them against a small structure
(unknown or wrong ones are the caller's mistake, said in one sentence), and answers with plain data.
The work itself is the ledger's, the queue's and the store's; nothing is decided here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID, uuid4

import msgspec
import trio
from msgspec import Meta

from peer.control import Command, SendItem
from peer.events import EVENT_KINDS
from peer.intake import Intake, new_place
from peer.protocol import STOPPED, Copied, ShownTask
from peer.showing import batches, shown_task, without_outputs
from pipeline.errors import BadRequest, QueueUnavailable
from pipeline.media.ladder import parse_ladder
from pipeline.messages import WakeUp, encode
from pipeline.ports import EventRow, ObjectStore, Submission, Sweep, TaskDesk, TaskQueue
from pipeline.tasks import Strictness, TaskReport, TaskState

COMMANDS = ("submit", "tasks", "task", "outputs", "watch", "events", "retry", "cancel")
"""What `Requests` answers, known before there is one: a peer that starts refuses them by name."""

LOOK_INTERVAL_S = 0.5
FOLLOW_LIMIT = 1000
"""Events of one look; more than that in half a second are shown by the next one."""

Limit = Annotated[int, Meta(ge=1, le=10_000)]
A = TypeVar("A", bound=msgspec.Struct)


class _Submit(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    path: str
    ladder: str = "web"
    strictness: Strictness = Strictness.STRICT
    attempts_max: Annotated[int, Meta(ge=1, le=100)] | None = None
    task_id: UUID | None = None


class _Tasks(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    state: TaskState | None = None
    limit: Limit = 100


class _Which(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    id: str


class _Why(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    id: str
    reason: Annotated[str, Meta(max_length=2000)] = ""


class _Events(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    task_id: str | None = None
    type: str | None = None
    limit: Limit = 100
    follow: bool = False


class Requests:
    """The commands of one peer.

    Args:
        attempts_max: The threshold of a task that does not bring its own.
    """

    def __init__(
        self,
        *,
        desk: TaskDesk,
        sweep: Sweep,
        queue: TaskQueue,
        store: ObjectStore,
        attempts_max: int,
    ) -> None:
        self._desk = desk
        self._intake = Intake(desk, store)
        self._sweep = sweep
        self._queue = queue
        self._store = store
        self._attempts_max = attempts_max

    def commands(self) -> Mapping[str, Command]:
        """Every command by its name."""
        return {
            "submit": self._submit,
            "tasks": self._tasks,
            "task": self._task,
            "outputs": self._outputs,
            "watch": self._watch,
            "events": self._events,
            "retry": self._retry,
            "cancel": self._cancel,
        }

    async def _submit(self, arguments: Mapping[str, Any], send_item: SendItem) -> Any:
        asked = _read(_Submit, arguments)
        ladder = parse_ladder(asked.ladder)
        path = Path(asked.path)
        task_id = asked.task_id or uuid4()
        if asked.task_id is not None and await self._intake.knows(task_id):
            return {"task_id": task_id}
        size = await trio.to_thread.run_sync(_regular_file_size, path)
        submission = Submission(
            task_id=task_id,
            source=new_place(task_id, path),
            title=_printable(path.name),
            ladder=ladder,
            strictness=asked.strictness,
            attempts_max=asked.attempts_max or self._attempts_max,
        )

        async def report(copied: int) -> None:
            await send_item(Copied(copied=copied, size=size))

        await self._intake.take(path, submission, report)
        await self._wake(task_id, 0)
        return {"task_id": task_id}

    async def _wake(self, task_id: UUID, part: int) -> None:
        """Publish a wake-up; where that fails the sweeper will do it, so nobody need know."""
        try:
            await self._queue.publish(encode(WakeUp(task_id=task_id, part=part)))
        except QueueUnavailable:
            return
        await self._sweep.announced(task_id, part)

    async def _tasks(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        asked = _read(_Tasks, arguments)
        reports = await self._desk.list_tasks(asked.state, asked.limit)
        return [_without_log(report) for report in reports]

    async def _task(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        report = await self._desk.show_task(_read(_Which, arguments).id)
        events = await self._desk.list_events(task_id=report.id, type=None, after_id=0, limit=1000)
        return await self._shown(report, events)

    async def _outputs(self, arguments: Mapping[str, Any], send_item: SendItem) -> Any:
        report = await self._desk.show_task(_read(_Which, arguments).id)
        told = batches(report.outputs, self._store.url)
        while batch := await trio.to_thread.run_sync(next, told, None):
            await send_item(batch)
        return {"id": report.id, "files": len(report.outputs)}

    async def _watch(self, arguments: Mapping[str, Any], send_item: SendItem) -> Any:
        wanted = _read(_Which, arguments).id
        sent: TaskReport | None = None
        while True:
            report = without_outputs(await self._desk.show_task(wanted))
            if report.state in STOPPED:
                return await self._shown(report)
            if report != sent:
                await send_item(await self._shown(report))
                sent = report
            await trio.sleep(LOOK_INTERVAL_S)

    async def _events(self, arguments: Mapping[str, Any], send_item: SendItem) -> Any:
        asked = _read(_Events, arguments)
        if asked.type is not None and asked.type not in EVENT_KINDS:
            raise BadRequest(f"no event {asked.type!r}; known are {', '.join(sorted(EVENT_KINDS))}")
        task_id = (await self._desk.show_task(asked.task_id)).id if asked.task_id else None
        after_id, limit = 0, asked.limit
        while True:
            rows = await self._desk.list_events(
                task_id=task_id,
                type=asked.type,
                after_id=after_id,
                limit=limit,
                follow=asked.follow,
            )
            for row in rows:
                await send_item(row)
                after_id = row.id
            if not asked.follow:
                return {}
            limit = FOLLOW_LIMIT
            await trio.sleep(LOOK_INTERVAL_S)

    async def _retry(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        asked = _read(_Why, arguments)
        task_id = (await self._desk.show_task(asked.id)).id
        for part in await self._desk.retry(task_id, asked.reason):
            await self._wake(task_id, part)
        return await self._shown(await self._desk.show_task(str(task_id)))

    async def _cancel(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        asked = _read(_Why, arguments)
        task_id = (await self._desk.show_task(asked.id)).id
        await self._desk.cancel(task_id, asked.reason)
        return await self._shown(await self._desk.show_task(str(task_id)))

    async def _shown(self, report: TaskReport, events: Sequence[EventRow] = ()) -> ShownTask:
        """In a thread: to sum a hundred thousand segments takes a while."""
        return await trio.to_thread.run_sync(shown_task, report, self._store.url, events)


def _read(structure: type[A], arguments: Mapping[str, Any]) -> A:
    """Check arguments; raises `msgspec.ValidationError`, whose message names the field."""
    return msgspec.convert(dict(arguments), structure)


def _regular_file_size(path: Path) -> int:
    if not path.is_absolute():
        raise BadRequest(f"{path} is not an absolute path; the peer has a directory of its own")
    try:
        found = path.stat()
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # a NUL, or half a character
        raise BadRequest(f"{str(path)!r} is not a path: {error}") from error
    if not stat.S_ISREG(found.st_mode):
        raise BadRequest(f"{path} is not a regular file")
    if not os.access(path, os.R_OK):
        raise BadRequest(f"the peer may not read {path}")
    return found.st_size


def _without_log(report: TaskReport) -> TaskReport:
    """What the tool said is told of a single task; in a list it would be most of it."""
    error = report.error and replace(report.error, log_tail="")
    return replace(report, error=error)


def _printable(name: str) -> str:
    """Make a file's name safe to show: it may hold anything, terminal commands too."""
    text = os.fsencode(name).decode("utf-8", "replace")
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)[:200]
