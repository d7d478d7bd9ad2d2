"""What gossip says has happened, kept for people: the newest of it here, counts in the ledger.

Heartbeats and merges come forty times a second. Each is kept in a ring of bounded length, which
`peerctl events --local` shows, together with what membership noticed; and it is added to a count.
Once a minute the counts become one row of each type in the ledger. While the ledger is away they go
on adding up, so an outage costs resolution and not a single count, and takes no memory.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import trio

from gossip.events import GossipEvent, GossipTableMerged, HeartbeatReceived
from gossip.rows import Address, Row
from membership.changes import Change
from peer.protocol import LocalEvent
from pipeline.errors import Unavailable
from pipeline.events import Record, Recorder

RECENT_MAX = 2000
"""How many events and changes are kept for people."""

WRITE_INTERVAL_S = 60.0

RETRY_S = 5.0
"""How soon a row is tried again that the ledger did not take."""

FLUSH_S = 1.0
"""How long the last rows of a stopping peer may take."""

_UIDS = frozenset({"uid", "old_uid", "by"})
"""The fields of changes that hold a uid; elsewhere it is 16 hexadecimal digits."""

WriteRecords = Callable[[Sequence[Record]], Awaitable[None]]
"""Writes records, safe to repeat: `Sweep.record`."""


def _now() -> datetime:
    return datetime.now(UTC)


class GossipLog:
    """Counts and keeps.

    Args:
        clock: The time of day.

    Attributes:
        changes: How many changes there were since the start, by their types' names.
        heartbeats, merges, rows_received, rows_changed: How many since the start.
    """

    def __init__(
        self,
        *,
        write: WriteRecords,
        recorder: Recorder,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._write = write
        self._record = recorder
        self._clock = clock
        self._recent: deque[tuple[datetime, GossipEvent | Change]] = deque(maxlen=RECENT_MAX)
        self._noticed = 0
        self._counts = _Counts()
        self._unwritten: list[Record] = []
        self.changes: Counter[str] = Counter()
        self.heartbeats = self.merges = self.rows_received = self.rows_changed = 0

    def note_event(self, event: GossipEvent) -> None:
        """Count and keep an event. Synchronous, cheap, never fails."""
        self._keep(event)
        self._counts.add(event)
        match event:
            case HeartbeatReceived():
                self.heartbeats += event.count
            case GossipTableMerged():
                self.merges += event.count
                self.rows_received += event.rows_received
                self.rows_changed += event.rows_changed

    def note_change(self, change: Change) -> None:
        """Keep what membership noticed, and how often; no row of the ledger comes of it.

        Synchronous, cheap, never fails.
        """
        self._keep(change)
        self.changes[type(change).__name__] += 1

    def recent(self, *, after: int = 0, limit: int = RECENT_MAX) -> list[LocalEvent]:
        """The newest `limit` of those after a number, oldest first.

        A gap between `after` and the first one's number says how many were overwritten meanwhile,
        or left out by the limit.
        """
        count = max(0, min(limit, self._noticed - after, len(self._recent)))
        found = [self._recent[-back] for back in range(count, 0, -1)]
        first = self._noticed - count + 1
        return [
            LocalEvent(number=number, at=at, type=type(noticed).__name__, data=_plain(noticed))
            for number, (at, noticed) in enumerate(found, start=first)
        ]

    async def run(self) -> None:
        """Write the counts once a minute until cancelled, and what is left by then."""
        try:
            while True:
                await trio.sleep(RETRY_S if self._unwritten else WRITE_INTERVAL_S)
                await self.write()
        finally:
            with trio.move_on_after(FLUSH_S, shield=True):
                await self.write()

    async def write(self) -> None:
        """Write what was counted since the last time; an unavailable ledger gets it later.

        What a call of unknown outcome wrote is written again as it was before anything newer, so
        that it counts once.
        """
        if not self._unwritten:
            counted, self._counts = self._counts, _Counts()
            self._unwritten = [self._record(event) for event in counted.events()]
        if not self._unwritten:
            return
        try:
            await self._write(self._unwritten)
        except Unavailable:
            return  # whoever else needs the ledger says so
        self._unwritten = []

    def _keep(self, noticed: GossipEvent | Change) -> None:
        self._recent.append((self._clock(), noticed))
        self._noticed += 1


class _Counts:
    """A minute of events: how many of each sender, and of each type the worst."""

    def __init__(self) -> None:
        self._heartbeats: Counter[str] = Counter()
        self._silence: HeartbeatReceived | None = None
        self._merges: Counter[str] = Counter()
        self._changes: Counter[str] = Counter()
        self._rows_received = 0

    def add(self, event: GossipEvent) -> None:
        """Count one more."""
        match event:
            case HeartbeatReceived():
                self._heartbeats[event.sender_uid] += event.count
                if self._silence is None or event.silent_s > self._silence.silent_s:
                    self._silence = event
            case GossipTableMerged():
                self._merges[event.sender_uid] += event.count
                self._changes[event.sender_uid] += event.rows_changed
                self._rows_received += event.rows_received

    def events(self) -> list[GossipEvent]:
        """One of each type that there was."""
        events: list[GossipEvent] = []
        if self._silence is not None:
            events.append(
                HeartbeatReceived(
                    sender_uid=self._silence.sender_uid,
                    sender_epoch=self._silence.sender_epoch,
                    senders=len(self._heartbeats),
                    count=self._heartbeats.total(),
                    silent_s=round(self._silence.silent_s, 3),
                )
            )
        if self._merges:
            ((sender_uid, _),) = self._changes.most_common(1)
            events.append(
                GossipTableMerged(
                    sender_uid=sender_uid,
                    rows_received=self._rows_received,
                    rows_changed=self._changes.total(),
                    senders=len(self._merges),
                    count=self._merges.total(),
                )
            )
        return events


def _plain(value: Any) -> dict[str, Any]:
    """The fields of an event or a change, as JSON has them; of a row only what people ask for."""
    return {
        field.name: _plain_value(field.name, getattr(value, field.name)) for field in fields(value)
    }


def _plain_value(name: str, value: Any) -> Any:
    if isinstance(value, Row):
        return {
            "uid": _hexadecimal(value.uid),
            "name": value.body.name,
            "state": value.state.name.lower(),
            "epoch": value.epoch,
            "incarnation": value.incarnation,
            "address": _address(value.body.address),
        }
    if isinstance(value, Enum):
        return value.name.lower()
    if is_dataclass(value):
        return type(value).__name__  # a key ring: nobody reads keys in a log
    if isinstance(value, int) and name in _UIDS:
        return _hexadecimal(value)
    return round(value, 3) if isinstance(value, float) else value


def _address(address: Address) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _hexadecimal(uid: int) -> str:
    return f"{uid:016x}"
