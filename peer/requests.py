"""What each command of the control socket does.

Every handler takes the request's arguments as they came, checks them against a small structure
(unknown or wrong ones are the caller's mistake, said in one sentence), and answers with plain data.
The work itself is the ledger's, the queue's and the store's; nothing is decided here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar
from uuid import UUID, uuid4

import msgspec
import trio
from msgspec import Meta

from peer.control import Command, SendItem
from peer.events import EVENT_KINDS
from peer.handing_out import hand_out
from peer.intake import Intake, SizeOf, new_place
from peer.protocol import STOPPED, Adopted, Copied, ShownTask
from peer.showing import batches, shown_escalation, shown_task, without_outputs
from pipeline.errors import BadRequest, NotAllowed, QueueUnavailable, Unavailable
from pipeline.marking import MarkedStore
from pipeline.media.ladder import parse_ladder
from pipeline.messages import WakeUp, encode
from pipeline.ports import Due, EventRow, Submission, Sweep, TaskDesk, TaskQueue
from pipeline.tasks import Priority, Strictness, TaskReport, TaskState

COMMANDS = (
    "submit",
    "tasks",
    "task",
    "outputs",
    "fetch",
    "watch",
    "events",
    "escalations",
    "retry",
    "cancel",
    "queue",
    "adopt_store",
)
"""What `Requests` answers, known before there is one: a peer that starts refuses them by name."""

WAKE_WITHIN_S = 5.0
DEPTH_WITHIN_S = 10.0

LOOK_INTERVAL_S = 0.5
FOLLOW_LIMIT = 1000
"""Events of one look; more than that in half a second are shown by the next one."""

ESCALATIONS_MAX = 1000
"""Each has its story, of some kilobytes."""

Limit = Annotated[int, Meta(ge=1, le=10_000)]
A = TypeVar("A", bound=msgspec.Struct)


class _Submit(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """Either a file of this machine (`path`), or what lies in a store already (`source`)."""

    path: str | None = None
    source: str | None = None
    title: str | None = None
    ladder: str = "web"
    strictness: Strictness = Strictness.STRICT
    priority: Priority = Priority.NORMAL
    attempts_max: Annotated[int, Meta(ge=1, le=100)] | None = None
    task_id: UUID | None = None


class _Tasks(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    state: TaskState | None = None
    limit: Limit = 100


class _Escalations(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=ESCALATIONS_MAX)] = 100


class _Which(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    id: str


class _Why(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    id: str
    reason: Annotated[str, Meta(max_length=2000)] = ""


class _Adopt(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    force: bool = False


class _Events(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    task_id: str | None = None
    type: str | None = None
    limit: Limit = 100
    follow: bool = False


class Requests:
    """The commands of one peer.

    Args:
        size_of: Looks an `s3://` source up; None where the store does not speak S3.
        attempts_max: The threshold of a task that does not bring its own.
        scratch: Where files lie on their way out of the store.
    """

    def __init__(
        self,
        *,
        desk: TaskDesk,
        sweep: Sweep,
        queue: TaskQueue,
        store: MarkedStore,
        size_of: SizeOf | None = None,
        attempts_max: int,
        scratch: Path,
    ) -> None:
        self._desk = desk
        self._intake = Intake(desk, store, size_of)
        self._sweep = sweep
        self._queue = queue
        self._store = store
        self._attempts_max = attempts_max
        self._scratch = scratch

    def commands(self) -> Mapping[str, Command]:
        """Every command by its name."""
        return {
            "submit": self._submit,
            "tasks": self._tasks,
            "task": self._task,
            "outputs": self._outputs,
            "fetch": self._fetch,
            "watch": self._watch,
            "events": self._events,
            "escalations": self._escalations,
            "retry": self._retry,
            "cancel": self._cancel,
            "queue": self._depth,
            "adopt_store": self._adopt_store,
        }

    async def _submit(self, arguments: Mapping[str, Any], send_item: SendItem) -> Any:
        asked = _read(_Submit, arguments)
        if (asked.path is None) == (asked.source is None):
            raise BadRequest("say either a path of this machine or a source, not both")
        place = asked.path or asked.source or ""
        ladder = parse_ladder(asked.ladder)
        task_id = asked.task_id or uuid4()
        if asked.task_id is not None and await self._intake.knows(task_id):
            return {"task_id": task_id}
        submission = Submission(
            task_id=task_id,
            source=asked.source or new_place(task_id, Path(asked.title or place)),
            title=_printable(asked.title or Path(place).name),
            ladder=ladder,
            strictness=asked.strictness,
            attempts_max=asked.attempts_max or self._attempts_max,
            priority=asked.priority,
        )
        if asked.source is not None:
            await self._intake.take_stored(submission)
        else:
            await self._take_file(Path(place), submission, send_item)
        await self._wake(Due(task_id=task_id, part=0, priority=asked.priority))
        return {"task_id": task_id}

    async def _take_file(self, path: Path, submission: Submission, send_item: SendItem) -> None:
        size = await trio.to_thread.run_sync(_regular_file_size, path)

        async def report(copied: int) -> None:
            await send_item(Copied(copied=copied, size=size))

        await self._intake.take(path, submission, report)

    async def _wake(self, due: Due) -> None:
        """Publish a wake-up; where that fails the sweeper will do it, so nobody need know.

        The queue is not waited for long either: the task is safe, and the person wants to go on.
        """
        body = encode(WakeUp(task_id=due.task_id, part=due.part))
        with trio.move_on_after(WAKE_WITHIN_S), suppress(Unavailable):
            await self._queue.publish(body, priority=due.priority)
            await self._sweep.announced(due.task_id, due.part)

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

    async def _fetch(self, arguments: Mapping[str, Any], send_item: SendItem) -> Any:
        report = await self._desk.show_task(_read(_Which, arguments).id)
        if not report.outputs:
            raise NotAllowed(f"{report.title} is {report.state.value}: it has made nothing yet")
        await hand_out(report.outputs, self._store, self._scratch, send_item)
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

    async def _escalations(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        asked = _read(_Escalations, arguments)
        return [shown_escalation(notice) for notice in await self._desk.escalations(asked.limit)]

    async def _retry(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        asked = _read(_Why, arguments)
        task_id = (await self._desk.show_task(asked.id)).id
        for due in await self._desk.retry(task_id, asked.reason):
            await self._wake(due)
        return await self._shown(await self._desk.show_task(str(task_id)))

    async def _cancel(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        asked = _read(_Why, arguments)
        task_id = (await self._desk.show_task(asked.id)).id
        await self._desk.cancel(task_id, asked.reason)
        return await self._shown(await self._desk.show_task(str(task_id)))

    async def _depth(self, _arguments: Mapping[str, Any], _: SendItem) -> Any:
        with trio.move_on_after(DEPTH_WITHIN_S):
            return await self._queue.depth()
        raise QueueUnavailable(f"the queue did not answer in {DEPTH_WITHIN_S:g} s", definite=True)

    async def _adopt_store(self, arguments: Mapping[str, Any], _: SendItem) -> Any:
        asked = _read(_Adopt, arguments)
        if not asked.force and (running := await self._desk.list_tasks(TaskState.RUNNING, 1)):
            raise NotAllowed(
                f"tasks are being worked on ({running[0].title}, for one): their outputs would be "
                "in the other store. Drain the peers and wait until nothing runs, or use --force"
            )
        changed = await self._store.adopt()
        return Adopted(url=self._store.url(""), changed=changed)

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
