"""What gossip says has happened: two of the seventeen events.

Both happen many times a second, too often for a row each. They are counted where they happen, and
once a minute the ledger gets one row of each type with the counts; the same type serves for one
occurrence and for a minute of them, so that whoever reads it meets one shape. One row for each
sender was the alternative: a thousand peers, each of which merges with two hundred others in a
minute, would write three thousand rows a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True, kw_only=True)
class HeartbeatReceived:
    """A heartbeat of another peer arrived.

    Args:
        sender_uid: 16 hexadecimal digits, as in every event's envelope. Of several senders, the one
            before whose heartbeat the silence was longest.
        sender_epoch: The sender's start that the heartbeat belongs to.
        senders: How many there were.
        count: How many heartbeats this tells of.
        silent_s: The longest silence before one of them, in seconds.
    """

    kind: ClassVar[str] = "HeartbeatReceived"
    sender_uid: str
    sender_epoch: int
    senders: int = 1
    count: int = 1
    silent_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipTableMerged:
    """What another peer knows was merged into this peer's table.

    Args:
        sender_uid: 16 hexadecimal digits, as in every event's envelope. Of several senders, the one
            that brought most news.
        rows_received: How many rows were in what arrived.
        rows_changed: How many of them were newer than what this peer had.
        senders: How many there were.
        count: How many merges this tells of.
    """

    kind: ClassVar[str] = "GossipTableMerged"
    sender_uid: str
    rows_received: int
    rows_changed: int
    senders: int = 1
    count: int = 1


GossipEvent = HeartbeatReceived | GossipTableMerged
