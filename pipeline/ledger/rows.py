"""Between the pipeline's values and what PostgreSQL stores.

Names of files, titles and ffmpeg's words come from anybody. PostgreSQL's text and jsonb take no
NUL, no half of a surrogate pair and no NaN, and would refuse the whole transaction for one of them;
so each is replaced on the way in, here and nowhere else.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar, cast

import msgspec

from pipeline.errors import Stage
from pipeline.events import Record
from pipeline.ledger.parts import Part
from pipeline.media.ladder import ladder_from_json
from pipeline.ports import Due, EventRow
from pipeline.tasks import (
    AttemptReport,
    Failure,
    Intervention,
    OutputReport,
    PartState,
    Priority,
    ProductKind,
    Strictness,
    Task,
)

T = TypeVar("T")
Row = Mapping[str, Any]


def text(value: str) -> str:
    """Replace what PostgreSQL's text cannot hold."""
    return value.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def to_json(value: object) -> str:
    """Encode dataclasses, enums, UUIDs, … as JSON that jsonb can hold."""
    plain = msgspec.to_builtins(value, enc_hook=str, str_keys=True)
    return json.dumps(_storable(plain), ensure_ascii=False, allow_nan=False)


def from_json(value: object, kind: type[T]) -> T | None:
    """The inverse of `to_json` for a column that may be NULL."""
    return None if value is None else msgspec.convert(value, kind)


def task_of(row: Row) -> Task:
    """A row of `tasks`, as its worker needs it."""
    return Task(
        id=row["id"],
        source=row["source"],
        title=row["title"],
        ladder=ladder_from_json(row["ladder"]),
        strictness=Strictness(row["strictness"]),
        attempts_max=row["attempts_max"],
        priority=Priority(row["priority"]),
    )


def failures_of(row: Row) -> dict[Stage, int]:
    """The column `failures`: counts by stage."""
    return {Stage(stage): count for stage, count in row["failures"].items()}


def part_of(row: Row) -> Part:
    """A row of `parts`."""
    return Part(
        part=row["part"],
        state=PartState(row["state"]),
        attempt=row["attempt"],
        failures=failures_of(row),
        due_in_s=row["due_in_s"],
        token=row["token"],
        announced=row["announced"],
        error=from_json(row["error"], Failure),
    )


def due_of(row: Row) -> Due:
    """The columns of `parts` that name one which waits."""
    return Due(task_id=row["task_id"], part=row["part"], priority=Priority(row["priority"]))


def event_values(record: Record) -> dict[str, Any]:
    """An event in its envelope, as the values of a row.

    The fields `task_id` and `part`, where an event has them, are columns; the rest is its data.
    """
    stamp, event = record.stamp, record.event
    # Recordable promises a dataclass, which a Protocol cannot say.
    data = {field.name: getattr(event, field.name) for field in fields(cast(Any, event))}
    return {
        "at": stamp.at,
        "type": event.kind,
        "task_id": data.pop("task_id", None),
        "part": data.pop("part", None),
        "peer_uid": stamp.peer_uid,
        "epoch": stamp.epoch,
        "sequence": stamp.sequence,
        "container": text(stamp.container),
        "node": text(stamp.node),
        "data": to_json(data),
    }


def event_of(row: Row) -> EventRow:
    """A row of `events`."""
    return EventRow(**row)


def output_of(row: Row) -> OutputReport:
    """A row of `outputs`."""
    return OutputReport(**{**row, "kind": ProductKind(row["kind"])})


def attempt_of(row: Row) -> AttemptReport:
    """A row of `claims`."""
    return AttemptReport(**{**row, "error": from_json(row["error"], Failure)})


def intervention_of(row: Row) -> Intervention:
    """A row of `interventions`."""
    return Intervention(**{**row, "error": from_json(row["error"], Failure)})


def _storable(value: Any) -> Any:
    match value:
        case str():
            return text(value)
        case dict():
            return {text(key): _storable(item) for key, item in value.items()}
        case list() | tuple():
            return [_storable(item) for item in value]
        case float() if not math.isfinite(value):
            return None
        case _:
            return value
