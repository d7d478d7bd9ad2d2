"""What people and clients ask of the ledger, as transactions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any
from uuid import UUID

from pipeline.errors import BadRequest, NoSuchTask, NotAllowed
from pipeline.ledger.connections import Connection
from pipeline.ledger.line import SAMPLES, Line, Pace
from pipeline.ledger.locked_task import LockedTask
from pipeline.ledger.parts import Outcome
from pipeline.ledger.queries import QUERIES
from pipeline.ledger.reports import id_range, report
from pipeline.ledger.rows import (
    Row,
    attempt_of,
    event_of,
    intervention_of,
    output_of,
    text,
    to_json,
)
from pipeline.media.ladder import ladder_to_json
from pipeline.ports import Due, EventRow, Submission
from pipeline.tasks import PartState, Priority, TaskReport, TaskState

_NAMED_MAX = 5
"""How many tasks are named when an abbreviated id fits several."""


def submit(connection: Connection, submission: Submission) -> None:
    """Record a task and its plan, which today is one part: the whole file."""
    if text(submission.source) != submission.source:
        # A title may be mended, a key may not: it would name another object.
        raise BadRequest(f"{submission.source!r} cannot be the key of a source")
    values = {
        "id": submission.task_id,
        "title": text(submission.title),
        "source": submission.source,
        "ladder": to_json(ladder_to_json(submission.ladder)),
        "strictness": submission.strictness,
        "priority": submission.priority,
        "attempts_max": submission.attempts_max,
    }
    if connection.execute(QUERIES["insert_task"], values).fetchone() is not None:
        part = {
            "task_id": submission.task_id,
            "part": 0,
            "kind": "whole",
            "priority": submission.priority,
        }
        connection.execute(QUERIES["insert_part"], part)


def list_tasks(connection: Connection, state: TaskState | None, limit: int) -> Sequence[TaskReport]:
    """The newest tasks, without what is told only of one."""
    values = {"state": state, "limit": limit}
    tasks = connection.execute(QUERIES["list_tasks"], values).fetchall()
    parts = _parts(connection, [task["id"] for task in tasks])
    line = _line(connection, [part for each in parts.values() for part in each])
    return [report(task, parts[task["id"]], line) for task in tasks]


def show_task(connection: Connection, prefix: str) -> TaskReport:
    """One task with all that is known of it."""
    first, last = id_range(prefix)
    values: dict[str, Any] = {"first": first, "last": last, "limit": _NAMED_MAX + 1}
    found = connection.execute(QUERIES["find_tasks"], values).fetchall()
    if not found:
        what = "has the id" if first == last else "has an id that begins with"
        raise NoSuchTask(f"no task {what} {prefix!r}; `peerctl tasks` lists them")
    if len(found) > 1:
        names = ", ".join(str(task["id"]) for task in found[:_NAMED_MAX])
        more = ", …" if len(found) > _NAMED_MAX else ""
        raise NoSuchTask(f"several tasks' ids begin with {prefix!r}: {names}{more}")
    task = found[0]
    values = {"task_id": task["id"]}
    outputs = connection.execute(QUERIES["list_outputs"], values)
    attempts = connection.execute(QUERIES["list_attempts"], values)
    interventions = connection.execute(QUERIES["list_interventions"], values)
    parts = _parts(connection, [task["id"]])[task["id"]]
    return report(
        task,
        parts,
        _line(connection, parts),
        outputs=tuple(map(output_of, outputs)),
        attempts=tuple(map(attempt_of, attempts)),
        interventions=tuple(map(intervention_of, interventions)),
    )


def list_events(
    connection: Connection,
    *,
    task_id: UUID | None,
    type: str | None,
    after_id: int,
    limit: int,
    follow: bool,
) -> Sequence[EventRow]:
    """The newest events, or those that follow an id."""
    values = {
        "task_id": task_id,
        "type": type,
        "after_id": after_id,
        "limit": limit,
        "follow": follow,
    }
    query = QUERIES["list_events_after" if after_id else "list_newest_events"]
    return [event_of(row) for row in connection.execute(query, values)]


def retry(connection: Connection, task_id: UUID, reason: str) -> Sequence[Due]:
    """Queue what a person lets start again, and say which parts are queued now."""
    task = _lock(connection, task_id)
    if task.state not in (TaskState.ESCALATED, TaskState.CANCELLED):
        raise NotAllowed(
            f"task {task_id} is {task.state}; only an escalated or cancelled one can be retried"
        )
    _intervene(connection, task, "retry", reason)
    resumable = (PartState.QUEUED, PartState.ESCALATED, PartState.CANCELLED)
    for part in list(task.parts.values()):
        if part.state in resumable:
            task.save(part.resumed())
    return [
        Due(task_id=task.id, part=part.part, priority=task.priority)
        for part in task.parts.values()
        if part.state is PartState.QUEUED
    ]


def cancel(connection: Connection, task_id: UUID, reason: str) -> None:
    """Stop every part that is not done; a repeat changes nothing."""
    task = _lock(connection, task_id)
    if task.state is TaskState.DONE:
        raise NotAllowed(f"task {task_id} is already done; there is nothing to cancel")
    if task.state is TaskState.CANCELLED:
        return
    _intervene(connection, task, "cancel", reason)
    for part in list(task.parts.values()):
        if part.token is not None:
            task.end_claim(part.token, Outcome.CANCELLED)
        if part.state is not PartState.DONE:
            task.save(part.cancelled())


def _lock(connection: Connection, task_id: UUID) -> LockedTask:
    task = LockedTask.lock(connection, task_id)
    if task is None:
        raise NoSuchTask(f"there is no task {task_id}")
    return task


def _intervene(connection: Connection, task: LockedTask, action: str, reason: str) -> None:
    errors = [part.error for part in task.parts.values() if part.error is not None]
    values = {
        "task_id": task.id,
        "action": action,
        "reason": text(reason),
        "error": to_json(errors[0]) if errors else None,
    }
    connection.execute(QUERIES["insert_intervention"], values)
    connection.execute(QUERIES["drop_notices"], {"task_id": task.id})


def _parts(connection: Connection, task_ids: Sequence[UUID]) -> dict[UUID, list[dict[str, Any]]]:
    rows = connection.execute(QUERIES["list_parts"], {"task_ids": list(task_ids)})
    by_task = groupby(rows, key=lambda row: row["task_id"])
    return {task_id: list(parts) for task_id, parts in by_task}


def _line(connection: Connection, parts: Sequence[Row]) -> Line | None:
    """The line that some of these parts stand in; None when none of them does."""
    times = sorted({part["due_since"] for part in parts if part["due_since"] is not None})
    if not times:
        return None
    counts = connection.execute(QUERIES["count_line"], {"times": times}).fetchall()
    pace = connection.execute(QUERIES["read_pace"], {"limit": SAMPLES}).fetchone()
    assert pace is not None
    return Line(
        times,
        {(Priority(row["priority"]), row["slice"]): row["parts"] for row in counts},
        Pace(**pace),
    )
