"""A task as people see it, put together from its row and its parts' rows: pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pipeline.errors import BadRequest, NoSuchTask
from pipeline.ledger.line import Line
from pipeline.ledger.rows import Row, failures_of, from_json
from pipeline.media.ladder import ladder_from_json
from pipeline.tasks import (
    Failure,
    PartState,
    Priority,
    Progress,
    Strictness,
    TaskReport,
    TaskState,
)

_HEXADECIMAL = 32

PREFIX_MIN = 4
"""Digits. A shell variable that is not set, or a slip of the hand, must not name anybody's task."""


def report(task: Row, parts: Sequence[Row], line: Line | None, **more: Any) -> TaskReport:
    """Build the report of one task.

    Args:
        task: A row of `list_tasks` or `find_tasks`.
        parts: Its rows of `list_parts`, in order.
        line: Where those of them that are due stand; needed only when there are some.
        more: Further fields of the report.
    """
    failures = sum((Counter(failures_of(part)) for part in parts), Counter())
    held = [part for part in parts if part["peer_name"] is not None]
    errors = [error for part in parts if (error := from_json(part["error"], Failure))]
    place, eta_s = _expected(task, parts, line)
    return TaskReport(
        id=task["id"],
        title=task["title"],
        source=task["source"],
        ladder=ladder_from_json(task["ladder"]).name,
        state=TaskState(task["state"]),
        strictness=Strictness(task["strictness"]),
        priority=Priority(task["priority"]),
        attempt=max(part["attempt"] for part in parts),
        failures=dict(failures),
        attempts_max=task["attempts_max"],
        submitted_at=task["submitted_at"],
        finished_at=task["finished_at"],
        retry_at=min((part["retry_at"] for part in parts if part["retry_at"]), default=None),
        holder=_joined(held, "peer_name"),
        node=_joined(held, "node"),
        progress=_progress(parts),
        error=errors[0] if errors else None,
        warnings=tuple(task["warnings"]),
        place=place,
        eta_s=eta_s,
        **more,
    )


def id_range(prefix: str) -> tuple[UUID, UUID]:
    """The first and the last id that begin with `prefix`, written with hyphens or without.

    Raises:
        BadRequest: It is too short to mean one task.
        NoSuchTask: No id can begin like that.
    """
    digits = prefix.strip().lower().replace("-", "")
    if len(digits) < PREFIX_MIN:
        raise BadRequest(
            f"an id of at least {PREFIX_MIN} characters is needed; `peerctl tasks` lists them"
        )
    if len(digits) > _HEXADECIMAL or not set(digits) <= set("0123456789abcdef"):
        raise NoSuchTask(
            f"no task has the id {prefix!r}: ids look like 1f0c9a52-…; `peerctl tasks` lists them"
        )
    return UUID(digits.ljust(_HEXADECIMAL, "0")), UUID(digits.ljust(_HEXADECIMAL, "f"))


def _expected(
    task: Row, parts: Sequence[Row], line: Line | None
) -> tuple[int | None, float | None]:
    """The place in line of a task that waits, and in how many seconds it may be done.

    Its first part's place and its last part's end: a task waits until one is taken, and is done
    when all are. What runs is expected when its holders expect it, if nothing else of it waits.
    """
    if task["state"] == TaskState.QUEUED and line is not None:
        priority = Priority(task["priority"])
        places = [line.place(priority, part["due_since"]) for part in parts if part["due_since"]]
        if places:
            return min(places), line.eta_s(max(places))
    if task["state"] == TaskState.RUNNING:
        said = [from_json(part["progress"], Progress) for part in parts if _is_open(part)]
        expected = [progress.eta_s for progress in said if progress is not None]
        known = [eta_s for eta_s in expected if eta_s is not None]
        # None is open where the task was read before its last commit, and its parts after it.
        if known and len(known) == len(said):
            return None, max(known)
    return None, None


def _is_open(part: Row) -> bool:
    return bool(part["state"] != PartState.DONE)


def _joined(parts: Sequence[Row], column: str) -> str | None:
    names = dict.fromkeys(part[column] for part in parts)
    return ", ".join(names) if names else None


def _progress(parts: Sequence[Row]) -> Progress | None:
    """What the only part says; of several parts, their mean."""
    said = [from_json(part["progress"], Progress) for part in parts]
    if len(parts) == 1:
        return said[0]
    heard = [progress for progress in said if progress is not None]
    if not heard:
        return None
    done = sum(part["state"] == PartState.DONE for part in parts)
    fraction = (done + sum(progress.fraction for progress in heard)) / len(parts)
    return Progress(step=heard[0].step, fraction=fraction)
