"""The wake-up: the one message the pipeline sends and receives.

It is a hint that a part may be waiting; the ledger decides. So it is small, and a lost, repeated or
reordered one does no harm. A client that cannot reach the ledger puts the whole task into it, and
the first peer that reads it records the task.

The contract is in README.md for people and in message.schema.json for machines; tests hold the
three together. A field that this version does not know is refused, not passed over: it is a
misspelt one in nearly every case, and a task that quietly runs without its priority or with another
ladder is worse than a message set aside with the reason. What a client wants to send along for its
own use belongs in the message's headers, where nobody looks. So whoever adds a field raises the
version, and sends it when every peer knows it.
"""

from __future__ import annotations

import difflib
import json
import re
import reprlib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeVar
from uuid import UUID

from pipeline.errors import BadMessage, BadRequest
from pipeline.media.ladder import TEXT_LENGTH_MAX, Ladder, parse_ladder
from pipeline.ports import Submission
from pipeline.tasks import Priority, Strictness

VERSION = 1
BYTES_MAX = 64 * 1024
PART_MAX = 999_999
SOURCE_LENGTH_MAX = 1100
"""A key of S3's 1,024 bytes with the longest name of a bucket before it."""
TITLE_LENGTH_MAX = 200
ATTEMPTS_MAX = 100
WHY_LENGTH_MAX = 150
"""Of what is passed on from elsewhere and may quote the stranger at length."""

Choice = TypeVar("Choice", bound=StrEnum)

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_S3 = re.compile(r"s3://[^/]{3,63}/[^/].*", re.DOTALL)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

_FIELDS = ("v", "task_id", "part", "task")
_TASK_FIELDS = ("source", "ladder", "title", "strictness", "priority", "attempts_max")


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeUp:
    """Look at this part of this task.

    Args:
        submission: The task itself, to be recorded first; None when its row exists.
    """

    task_id: UUID
    part: int = 0
    submission: Submission | None = None


def encode(wake_up: WakeUp) -> bytes:
    """Encode as `{"v": 1, "task_id": "…"}`, with `part` where it is not the first.

    A submission is left out: when a peer wakes another one, the task's row exists.
    """
    fields: dict[str, object] = {"v": VERSION, "task_id": str(wake_up.task_id)}
    if wake_up.part:
        fields["part"] = wake_up.part
    return json.dumps(fields, separators=(",", ":")).encode()


# What a stranger wrote is quoted shortened, in length and in depth.
shown = reprlib.repr


def decode_untrusted(
    body: bytes, *, priority: Priority = Priority.NORMAL, attempts_max: int = 4
) -> WakeUp:
    """Decode what may come from anybody.

    Args:
        priority: Of a whole task that names none: the one its message was published with.
        attempts_max: The threshold of a whole task that names none.

    Raises:
        BadMessage: Whatever is wrong with it; nothing else is ever raised.
    """
    if len(body) > BYTES_MAX:
        raise BadMessage(f"the message has {len(body)} bytes, and {BYTES_MAX} is the limit")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"the message is not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise BadMessage("the message is not a JSON object")
    version = fields.get("v", VERSION)
    if type(version) is not int or version != VERSION:
        raise BadMessage(f"message version {shown(version)} is unknown; this peer speaks {VERSION}")
    _refuse_unknown(fields, _FIELDS, "the message has")
    task_id = _task_id(fields)
    if "task" not in fields:
        return WakeUp(task_id=task_id, part=_whole(fields, "part", 0, 0, PART_MAX))
    if "part" in fields:
        raise BadMessage('the message has "task" and "part": a whole task has no parts yet')
    submission = _submission(task_id, fields["task"], priority, attempts_max)
    return WakeUp(task_id=task_id, submission=submission)


def _task_id(fields: Mapping[str, Any]) -> UUID:
    value = fields.get("task_id")
    if not isinstance(value, str):
        raise BadMessage('the message has no "task_id", the task\'s UUID as a text')
    if _UUID.fullmatch(value) is None:
        raise BadMessage(f"task_id {shown(value)} is not a UUID, such as 8-4-4-4-12 hex digits")
    return UUID(value)


def _submission(task_id: UUID, task: Any, priority: Priority, attempts_max: int) -> Submission:
    if not isinstance(task, dict):
        raise BadMessage('"task" is not a JSON object with "source" and "ladder"')
    _refuse_unknown(task, _TASK_FIELDS, '"task" has')
    source = _source(task)
    return Submission(
        task_id=task_id,
        source=source,
        title=_text(task, "title", TITLE_LENGTH_MAX, default=_name_of(source)),
        ladder=_ladder(task),
        strictness=_choice(task, "strictness", Strictness, Strictness.STRICT),
        priority=_choice(task, "priority", Priority, priority),
        attempts_max=_whole(task, "attempts_max", attempts_max, 1, ATTEMPTS_MAX),
    )


def _source(task: Mapping[str, Any]) -> str:
    source = _text(task, "source", SOURCE_LENGTH_MAX)
    if source.startswith("/"):
        raise BadMessage('"source" begins with a slash: keys are relative, leave it away')
    if "://" in source and _S3.fullmatch(source) is None:
        raise BadMessage(
            f'"source" {shown(source)} is neither s3://bucket/key nor a key of the peers\' store'
        )
    return source


def _name_of(source: str) -> str:
    return source.rstrip("/").rpartition("/")[2][:TITLE_LENGTH_MAX] or source[:TITLE_LENGTH_MAX]


def _ladder(task: Mapping[str, Any]) -> Ladder:
    text = _text(task, "ladder", TEXT_LENGTH_MAX)
    try:
        return parse_ladder(text)
    except BadRequest as error:
        why = str(error)
        why = why if len(why) <= WHY_LENGTH_MAX else f"{why[:WHY_LENGTH_MAX]}…"
        raise BadMessage(f'"ladder": {why}') from error


def _text(
    fields: Mapping[str, Any], name: str, length_max: int, *, default: str | None = None
) -> str:
    value = fields.get(name, default)
    if value is None and name not in fields:
        raise BadMessage(f'"task" has no "{name}"')
    if not isinstance(value, str) or not 0 < len(value) <= length_max:
        raise BadMessage(f'"{name}" {shown(value)} is not a text of 1 to {length_max} characters')
    if _CONTROL.search(value):
        raise BadMessage(f'"{name}" {shown(value)} has a control character')
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadMessage(f'"{name}" {shown(value)} is not valid Unicode') from error
    return value


def _whole(fields: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = fields.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise BadMessage(f'"{name}" {shown(value)} is not a whole number from {least} to {most}')
    return value


def _choice(
    fields: Mapping[str, Any], name: str, kind: Callable[[Any], Choice], default: Choice
) -> Choice:
    value = fields.get(name, default)
    known = [member.value for member in type(default)]
    if not isinstance(value, str) or value not in known:
        listed = ", ".join(known)
        raise BadMessage(f'"{name}" {shown(value)} is unknown{_nearest(value, known)} ({listed})')
    return kind(value)


def _refuse_unknown(fields: Mapping[str, Any], known: Collection[str], where: str) -> None:
    for name in fields:
        if name not in known:
            raise BadMessage(
                f"{where} a field {shown(name)}, which version {VERSION} does not know"
                f"{_nearest(name, known)}"
            )


def _nearest(word: object, known: Collection[str]) -> str:
    """Name the most similar known word, if one is."""
    if not isinstance(word, str) or len(word) > 40:
        return ""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f'; did you mean "{close[0]}"?' if close else ""
