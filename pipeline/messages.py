"""The wake-up: the one message the pipeline sends and receives.

It is a hint that a part may be waiting; the ledger decides. So it is small, and a lost, repeated or
reordered one does no harm.
"""

from __future__ import annotations

import json
import reprlib
from dataclasses import dataclass
from uuid import UUID

from pipeline.errors import BadMessage

VERSION = 1
BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WakeUp:
    """Look at this part of this task."""

    task_id: UUID
    part: int = 0


def encode(wake_up: WakeUp) -> bytes:
    """Encode as `{"v": 1, "task_id": "…"}`, with `part` where it is not the first."""
    fields: dict[str, object] = {"v": VERSION, "task_id": str(wake_up.task_id)}
    if wake_up.part:
        fields["part"] = wake_up.part
    return json.dumps(fields, separators=(",", ":")).encode()


# What a stranger wrote is quoted shortened, in length and in depth.
shown = reprlib.repr


def decode_untrusted(body: bytes) -> WakeUp:
    """Decode what may come from anybody.

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
    task_id = fields.get("task_id")
    if not isinstance(task_id, str):
        raise BadMessage('the message has no "task_id"')
    try:
        uuid = UUID(task_id)
    except ValueError as error:
        raise BadMessage(f"task_id {shown(task_id)} is not a UUID") from error
    part = fields.get("part", 0)
    if type(part) is not int or not 0 <= part < 1_000_000:
        raise BadMessage(f"part {shown(part)} is not a part's number")
    return WakeUp(task_id=uuid, part=part)
