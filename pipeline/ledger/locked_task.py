"""A task that this transaction alone may change, with its parts.

The lock order is the task's row, then rows of its claims; parts have no lock of their own, the
task's is theirs. Every path that changes a part starts at `LockedTask.lock`, so two of them on one
task run one after the other, and none can wait for the other in a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from pipeline.events import Record
from pipeline.ledger.connections import Connection
from pipeline.ledger.parts import Outcome, Part
from pipeline.ledger.queries import QUERIES
from pipeline.ledger.rows import Row, event_values, part_of, task_of, to_json
from pipeline.tasks import Failure, Priority, Task, TaskState, task_state


class LockedTask:
    """One task and its parts, as they are while the transaction lasts."""

    def __init__(self, connection: Connection, row: Row, parts: Iterable[Part]) -> None:
        self._connection = connection
        self._row = row
        self.id: UUID = row["id"]
        self.attempts_max: int = row["attempts_max"]
        self.priority = Priority(row["priority"])
        self.state = TaskState(row["state"])
        self.parts = {part.part: part for part in parts}

    @classmethod
    def lock(cls, connection: Connection, task_id: UUID) -> LockedTask | None:
        """Wait until nobody else changes the task; None when there is none of this id."""
        values = {"task_id": task_id}
        row = connection.execute(QUERIES["lock_task"], values).fetchone()
        if row is None:
            return None
        parts = connection.execute(QUERIES["read_parts"], values).fetchall()
        return cls(connection, row, map(part_of, parts))

    @property
    def details(self) -> Task:
        """What must be known to do the work."""
        return task_of(self._row)

    def save(self, part: Part) -> None:
        """Write a part as it is now, and what that makes of the task."""
        before = self.parts[part.part]
        delay_s = part.due_in_s if part.due_in_s != before.due_in_s else None
        values = {
            "task_id": self.id,
            "part": part.part,
            "state": part.state,
            "attempt": part.attempt,
            "failures": to_json(part.failures),
            "token": part.token,
            "error": _json_or_null(part.error),
            "announced": part.announced,
            "delay_s": delay_s,
        }
        self._connection.execute(QUERIES["save_part"], values)
        self.parts[part.part] = part
        state = task_state({number: each.state for number, each in self.parts.items()})
        if state is not self.state:
            self._connection.execute(
                QUERIES["save_task_state"], {"task_id": self.id, "state": state}
            )
            self.state = state

    def end_claim(self, token: UUID, outcome: Outcome, error: Failure | None = None) -> None:
        """Close a claim's row. Call it with the `save` of its part."""
        values = {"token": token, "outcome": outcome, "error": _json_or_null(error)}
        self._connection.execute(QUERIES["end_claim"], values)

    def explain(self, token: UUID, part: Part, attempt: int, error: Failure) -> None:
        """Say otherwise why an attempt ended; its part says so too if it was the last one."""
        values = {"token": token, "error": to_json(error)}
        self._connection.execute(QUERIES["explain_claim"], values)
        if part.attempt == attempt and part.error is not None:
            self.save(replace(part, error=error))


def lock_claim(connection: Connection, token: UUID) -> dict[str, Any] | None:
    """Read a claim, and hold off its holder; after the task's lock, or alone."""
    return connection.execute(QUERIES["lock_claim"], {"token": token}).fetchone()


def write_events(connection: Connection, records: Sequence[Record]) -> None:
    """Write events in the transaction of their change; those already there stay as they are."""
    if records:
        with connection.cursor() as cursor:
            cursor.executemany(QUERIES["insert_event"], [event_values(each) for each in records])


def _json_or_null(error: Failure | None) -> str | None:
    return None if error is None else to_json(error)
