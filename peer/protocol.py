"""What `peerctl` and a peer say to each other, as values that both sides share.

The control socket carries JSON, one document a line. A connection is one request:

    ->  {"command": "tasks", "arguments": {"limit": 20}}
    <-  {"item": …}                     none or more, for commands that go on for a while
    <-  {"ok": true, "data": …}         or {"ok": false, "error": "one sentence", "kind": "failed"}

The person's side hangs up to stop a command that goes on. `--json` prints what came (lists of tasks
without the fields that a list does not fill), so a field here is a promise to scripts: fields are
added, not renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pipeline.ports import EventRow
from pipeline.tasks import OutputReport, TaskReport, TaskState

LINE_BYTES_MAX = 16 * 1024 * 1024
"""Nothing legitimate is longer. The longest is a list of ten thousand tasks, some 8 MiB; what grows
with a video's length is summed (`ShownSegments`) or sent in batches (the command `outputs`)."""

STOPPED: frozenset[TaskState] = frozenset(
    {TaskState.DONE, TaskState.ESCALATED, TaskState.CANCELLED}
)
"""States that end a `watch`: nothing more happens without a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A part that a peer is working on.

    Args:
        progress: The fraction done, 0 to 1, where known.
    """

    task_id: str
    part: int
    attempt: int
    title: str
    progress: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """The answer to `status`.

    Args:
        state: `waiting` when a dependency keeps it from taking work.
        cpu_percent: Of one processor, its ffmpegs included.
        memory_bytes: Resident, its ffmpegs included.
        dependencies: `ok`, or a sentence, for `ledger`, `queue` and `store`.
    """

    name: str
    uid: str
    epoch: int
    pid: int
    version: str
    node: str
    state: Literal["starting", "working", "draining", "waiting"]
    slots: int
    running: tuple[Running, ...]
    started_at: datetime
    data_dir: str
    cpu_percent: float
    memory_bytes: int
    dependencies: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownOutput(OutputReport):
    """An output with the place where a person finds it."""

    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownSegments:
    """All segments of one rendition or audio track.

    Args:
        size: Of all together, in bytes.
        url: The directory they lie in, with a slash at its end.
    """

    rendition: str
    files: int
    size: int
    media: Mapping[str, Any]
    url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownTask(TaskReport):
    """The answer to `task`, and an item of `watch`: everything about one task.

    Args:
        outputs: All but segments; in `watch` none before the task has come to its end.
        events: In `task` only.
    """

    outputs: tuple[ShownOutput, ...] = ()
    segments: tuple[ShownSegments, ...] = ()
    events: tuple[EventRow, ...] = ()

    @property
    def made(self) -> tuple[ShownOutput | ShownSegments, ...]:
        """Outputs and sums of segments, which both have a rendition and a size in bytes."""
        return (*self.outputs, *self.segments)


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """How much of a submitted file has been copied into the store, in bytes."""

    copied: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of `doctor`; `advice` says what to do when it is not ok.

    Args:
        note: Neither well nor wrong: something that people must know of. It is ok, too.
    """

    check: str
    ok: bool
    detail: str
    advice: str = ""
    note: bool = False
