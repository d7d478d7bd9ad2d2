"""Escalations: an attempt's last event gets its whole story, and a notice for the administrators.

The peer that escalates knows its own attempt; the others are rows of the ledger. So the story is
told here, where the event is written, in the transaction that ends the claim: after it nobody can
see an escalation without its story, nor one of which nobody would be told. A notice that is sent
first and recorded then is sent twice or lost when its sender dies; an outbox is neither.

A notice is taken for a while and told then, so it may be told twice when its teller dies between
the two, and never not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from pipeline.events import ContainerErrorEscalation, Record
from pipeline.ledger.connections import Connection
from pipeline.ledger.locked_task import write_events
from pipeline.ledger.queries import QUERIES
from pipeline.notices import Notice

STORY_MAX = 20
"""How many attempts a story tells: of more, the newest."""

MESSAGE_CHARACTERS_MAX = 500
"""Of each attempt's message; the attempt's own row has all of it."""


def write_ending(connection: Connection, records: Sequence[Record]) -> None:
    """Write the events of a claim's end; call it after `LockedTask.end_claim`."""
    for record in records:
        event = record.event
        if isinstance(event, ContainerErrorEscalation):
            story = _story(connection, event.task_id, event.part)
            write_events(connection, [replace(record, event=replace(event, story=story))])
            _notify(connection, record)
        else:
            write_events(connection, [record])


def take_notices(
    connection: Connection, limit: int, for_s: float, pause_s: float
) -> Sequence[Notice]:
    """Take the oldest that nobody has, unless a pause is to be kept."""
    if pause_s > 0:
        connection.execute(QUERIES["take_notices_in_turn"])
    values = {"limit": limit, "for_s": for_s, "pause_s": pause_s}
    return [Notice(**row) for row in connection.execute(QUERIES["take_notices"], values)]


def notices_told(connection: Connection, ids: Sequence[int]) -> None:
    """Never give these out again."""
    connection.execute(QUERIES["tell_notices"], {"ids": list(ids)})


def list_escalations(connection: Connection, limit: int) -> Sequence[Notice]:
    """What waits for a person, whether the administrators were told of it or not."""
    return [
        Notice(**row) for row in connection.execute(QUERIES["list_escalations"], {"limit": limit})
    ]


def _story(connection: Connection, task_id: UUID, part: int) -> tuple[dict[str, Any], ...]:
    values = {"task_id": task_id, "part": part, "limit": STORY_MAX}
    rows = connection.execute(QUERIES["read_story"], values).fetchall()
    return tuple(
        {
            **row,
            "message": _cut(row["message"]),
            "ended_at": row["ended_at"].isoformat(timespec="milliseconds"),
        }
        for row in rows
    )


def _cut(message: str) -> str:
    if len(message) <= MESSAGE_CHARACTERS_MAX:
        return message
    return message[: MESSAGE_CHARACTERS_MAX - 1] + "…"


def _notify(connection: Connection, record: Record) -> None:
    stamp = record.stamp
    values = {"peer_uid": stamp.peer_uid, "epoch": stamp.epoch, "sequence": stamp.sequence}
    connection.execute(QUERIES["insert_notice"], values)
