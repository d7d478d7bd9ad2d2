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
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

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
        state: `waiting` when a dependency keeps it from taking work, `quarantined` when it has
            failed what others finished.
        cpu_percent: Of one processor, its ffmpegs included.
        memory_bytes: Resident, its ffmpegs included.
        dependencies: `ok`, or a sentence, for `ledger`, `queue` and `store`; `cluster` is there
            only while it keeps the peer from taking work.
        breakers: Of the same three, `closed`, `open` (nobody calls it), or `half-open` (one call
            tries whether it is back); none before the peer works.
        quarantined: Why it takes no work until a trial goes well or a person says so.
        spooled: Events that wait on disk for the ledger.
        metrics: Where its metrics are served, as `host:port`; empty where they are not.
    """

    name: str
    uid: str
    epoch: int
    pid: int
    version: str
    node: str
    state: Literal["starting", "working", "draining", "parked", "waiting", "quarantined"]
    slots: int
    running: tuple[Running, ...]
    started_at: datetime
    data_dir: str
    cpu_percent: float
    memory_bytes: int
    dependencies: dict[str, str]
    breakers: dict[str, str] = field(default_factory=dict)
    quarantined: str | None = None
    spooled: int = 0
    metrics: str = ""


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
class FetchedFile:
    """An item of `fetch`: a file begins, of so many bytes; `name` may have directories in it."""

    name: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchedBytes:
    """An item of `fetch`: the next piece of the file that was begun last; base64 on the wire."""

    content: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedTry:
    """One failed attempt of a story; what an older version did not write is empty."""

    attempt: int
    peer: str = ""
    node: str = ""
    stage: str = ""
    code: str = ""
    message: str = ""
    ended_at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    """An item of `escalations`: a task that waits for a person, and why.

    Args:
        attempt: The last one; attempts count from the task's beginning.
        failures: How often `stage` has failed since a person last started the task.
        attempts_max: How often it may.
        reason: Why it is not tried again.
        story: The failed attempts since a person last started it, oldest first.
    """

    id: UUID
    title: str
    source: str
    escalated_at: datetime
    attempt: int
    stage: str
    code: str
    message: str
    failures: int
    attempts_max: int
    reason: str
    story: tuple[FailedTry, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """How much of a submitted file has been copied into the store, in bytes."""

    copied: int
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableLoad:
    """How busy a member is, as it last said.

    Args:
        age_s: How long ago it said so.
        cpu, memory: The share of its container's limits that is in use, 0 to 1.
        slots, running: Parts it can work on, and works on.
        queue: Messages that it last saw waiting.
        lag_s: How late its loop ran at worst in the last 10 s.
        encoding: Encoder processes that run.
    """

    age_s: float
    cpu: float
    memory: float
    slots: int
    running: int
    queue: int
    lag_s: float
    encoding: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TableMember:
    """A row of the gossip table.

    Args:
        uid: 16 hexadecimal digits.
        address: `host:port` of its UDP socket.
        age_s: How long ago it was last heard, by anybody, as far as is known here. Of the dead and
            the departed: how long ago that was declared.
        epoch, incarnation: Counts of its starts, and of what it has said of itself since.
        leader: It is the one proposed to lead.
        own: It is the peer that answers.
        flags: Any of `draining`, `quarantined`, `on probation`, `deaf`, `flapping`, `ledger away`,
            `queue away`, `store away`, and `silent` (the peer that answers should hear it, and does
            not).
        keys: The version of its key ring.
        encoders: The names of those it has, of the ones that are asked about.
        load: None before it has said anything.
    """

    uid: str
    name: str
    address: str
    state: Literal["alive", "suspect", "dead", "left"]
    age_s: float
    epoch: int
    incarnation: int
    node: str
    container: str
    version: str
    leader: bool
    own: bool
    eligible: bool
    priority: int
    keys: int
    flags: tuple[str, ...]
    encoders: tuple[str, ...]
    load: TableLoad | None = None

    @property
    def lives(self) -> bool:
        """Neither dead nor departed."""
        return self.state in ("alive", "suspect")


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipTable:
    """The answer to `table`: the cluster as one peer sees it.

    Args:
        name, uid: Of the peer that answers.
        leader, candidate: A uid: who is proposed to lead, and who would be next to be.
        quorate: At least half of the recent members are alive.
        deaf: This peer hears hardly anybody, and believes that it is its own fault.
        suspected: Others have called this peer suspect or dead and not yet taken it back.
        mass_event: So many fell silent at once that deaths are held back.
        members: By state, the living first, then by name.
    """

    name: str
    uid: str
    leader: str | None
    candidate: str | None
    quorate: bool
    deaf: bool
    suspected: bool
    mass_event: bool
    members: tuple[TableMember, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownKey:
    """One key of the ring, without the key.

    Args:
        fingerprint: 8 hexadecimal digits that tell it from others.
        primary: It seals; every key of the ring opens.
    """

    id: int
    fingerprint: str
    primary: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyHolder:
    """A living member, and the version of the key ring that it has.

    Args:
        current: It is the very ring that this answer shows.
    """

    uid: str
    name: str
    version: int
    current: bool
    own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownKeys:
    """The answer to `keys` and to every change of them.

    Args:
        version: Counts the changes of the ring, in the whole cluster.
        origin: The uid of the peer where the last one was made; empty before the first.
        keys: In the order in which they were installed; empty where gossip is plaintext.
        note: What people should know of how the ring and the settings hang together.
    """

    version: int
    origin: str
    keys: tuple[ShownKey, ...]
    holders: tuple[KeyHolder, ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """The answer to `drain`, `resume` and `leave`: which peer has heard it."""

    uid: str
    name: str
    own: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """The answer to `adopt_store`: where the cluster's store is, and whether that is news."""

    url: str
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalEvent:
    """An item of `local_events`: one thing that the peer noticed.

    Args:
        number: Rises by one with each; a gap says how many are missing.
        type: The event's or the change's name, such as `HeartbeatReceived` or `MemberSuspected`.
        data: Its fields.
    """

    number: int
    at: datetime
    type: str
    data: dict[str, Any]


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
