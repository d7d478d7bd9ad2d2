"""What gossip says has happened: kept here for a while, counted for the ledger."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trio
import trio.testing

from gossip.events import GossipTableMerged, HeartbeatReceived
from gossip.messages import Keys, Verb
from gossip.rows import Body, Row, State
from membership.changes import (
    IdentityLost,
    KeysChanged,
    LeaderProposed,
    MemberRestarted,
    MemberSuspected,
    OrderReceived,
    Refuted,
)
from peer.gossip_log import RECENT_MAX, WRITE_INTERVAL_S, GossipLog
from pipeline.errors import LedgerUnavailable
from pipeline.events import Record, Recordable, Stamp

AT = datetime(2026, 1, 2, tzinfo=UTC)
ROW = Row(255, 7, 3, State.SUSPECT, Body(address=("fe80::1", 7946), name="ada"))


class Rig:
    """A log, and a ledger that takes what it is given unless it is away."""

    def __init__(self) -> None:
        self.written: list[Record] = []
        self.tried: list[Sequence[Record]] = []
        self.is_away = False
        numbers, seconds = itertools.count(1), itertools.count()

        def record(event: Recordable) -> Record:
            own: dict[str, Any] = {"peer_uid": "a", "epoch": 1, "container": "pid:1", "node": "n"}
            return Record(stamp=Stamp(**own, sequence=next(numbers), at=AT), event=event)

        async def write(records: Sequence[Record]) -> None:
            self.tried.append(records)
            if self.is_away:
                raise LedgerUnavailable("the ledger is away", definite=False)
            self.written.extend(records)

        self.log = GossipLog(
            write=write, recorder=record, clock=lambda: AT + timedelta(seconds=next(seconds))
        )

    @property
    def said(self) -> list[Recordable]:
        return [record.event for record in self.written]


@pytest.fixture
def rig() -> Rig:
    """A log in which nothing is."""
    return Rig()


def heartbeat(sender: str, silent_s: float = 0.5) -> HeartbeatReceived:
    return HeartbeatReceived(sender_uid=sender, sender_epoch=1, silent_s=silent_s)


def merged(sender: str, received: int, changed: int) -> GossipTableMerged:
    return GossipTableMerged(sender_uid=sender, rows_received=received, rows_changed=changed)


async def test_a_minute_is_a_row_of_each_type(rig: Rig) -> None:
    """However many senders there were: how many, the worst of them, and all of it added up."""
    for number in range(300):
        rig.log.note_event(heartbeat(f"peer {number % 3}", 1.23456 if number == 100 else 0.5))
    rig.log.note_event(merged("peer 1", 5, 0))
    rig.log.note_event(merged("peer 2", 4, 3))
    rig.log.note_event(merged("peer 1", 2, 1))

    await rig.log.write()

    assert rig.said == [
        HeartbeatReceived(
            sender_uid="peer 1", sender_epoch=1, senders=3, count=300, silent_s=1.235
        ),
        GossipTableMerged(
            sender_uid="peer 2", rows_received=11, rows_changed=4, senders=2, count=3
        ),
    ]


async def test_what_metrics_count_goes_on_over_the_minutes(rig: Rig) -> None:
    """Sums since the start, whatever has become rows meanwhile; changes by their names."""
    for _ in range(2):
        rig.log.note_event(heartbeat("a"))
        rig.log.note_event(merged("a", 5, 2))
        rig.log.note_change(LeaderProposed(uid=None))
        await rig.log.write()
    sums = (rig.log.heartbeats, rig.log.merges, rig.log.rows_received, rig.log.rows_changed)
    assert sums == (2, 2, 10, 4)
    assert rig.log.changes == {"LeaderProposed": 2}


async def test_nothing_to_say(rig: Rig) -> None:
    """A quiet minute, and one with changes only, writes nothing; nor is anything said twice."""
    await rig.log.write()
    rig.log.note_change(LeaderProposed(uid=None))
    await rig.log.write()
    assert rig.tried == []
    rig.log.note_event(heartbeat("a"))
    await rig.log.write()
    await rig.log.write()

    assert len(rig.tried) == 1


async def test_an_outage_costs_no_count(rig: Rig) -> None:
    """What may have been written is written again as it was; what came since is one row more."""
    rig.is_away = True
    for _ in range(5):
        for _ in range(10):
            rig.log.note_event(heartbeat("a"))
        await rig.log.write()
    rig.is_away = False
    await rig.log.write()
    await rig.log.write()

    assert [record.stamp.sequence for record in rig.written] == [1, 2]
    assert all(records[0] is rig.written[0] for records in rig.tried[:-1])
    counts = [event.count for event in rig.said if isinstance(event, HeartbeatReceived)]
    assert counts == [10, 40]


async def test_once_a_minute(
    rig: Rig, nursery: trio.Nursery, autojump_clock: trio.testing.MockClock
) -> None:
    """An hour is some sixty rows, and what is left at the end is written when the peer stops."""

    async def beat() -> None:
        while True:
            rig.log.note_event(heartbeat("a"))
            await trio.sleep(0.5)

    nursery.start_soon(rig.log.run)
    nursery.start_soon(beat)
    await trio.sleep(3600 + WRITE_INTERVAL_S / 2)
    assert len(rig.written) == 60
    nursery.cancel_scope.cancel()
    with trio.CancelScope(shield=True):
        await trio.testing.wait_all_tasks_blocked()

    counts = [event.count for event in rig.said if isinstance(event, HeartbeatReceived)]
    assert sum(counts) == pytest.approx(2 * (3600 + WRITE_INTERVAL_S / 2), abs=2)
    assert len(counts) == 61


@pytest.mark.parametrize(
    ("after", "limit", "expected"),
    [
        (0, 10, [1, 2, 3, 4, 5]),
        (0, 2, [4, 5]),
        (3, 10, [4, 5]),
        (5, 10, []),
        (9, 10, []),
        (0, 0, []),
    ],
)
def test_recent(rig: Rig, after: int, limit: int, expected: list[int]) -> None:
    """Events and changes in one order, numbered, from wherever the reader has come to."""
    rig.log.note_event(heartbeat("a"))
    rig.log.note_change(LeaderProposed(uid=1))
    for _ in range(3):
        rig.log.note_event(merged("a", 1, 1))

    recent = rig.log.recent(after=after, limit=limit)

    assert [event.number for event in recent] == expected
    assert [event.at for event in recent] == [AT + timedelta(seconds=n - 1) for n in expected]


def test_recent_is_bounded(rig: Rig) -> None:
    """The oldest go first, and the numbers show that something is missing."""
    for _ in range(RECENT_MAX + 10):
        rig.log.note_event(heartbeat("a"))

    recent = rig.log.recent(after=1)

    assert (len(recent), recent[0].number, recent[-1].number) == (
        RECENT_MAX,
        11,
        RECENT_MAX + 10,
    )


THE_ROW = {
    "uid": "00000000000000ff",
    "name": "ada",
    "state": "suspect",
    "epoch": 7,
    "incarnation": 3,
    "address": "[fe80::1]:7946",
}


@pytest.mark.parametrize(
    ("change", "data"),
    [
        (
            MemberSuspected(row=ROW, silent_s=2.12345, witnesses=3),
            {"row": THE_ROW, "silent_s": 2.123, "witnesses": 3},
        ),
        (MemberRestarted(row=ROW, before=ROW), {"row": THE_ROW, "before": THE_ROW}),
        (LeaderProposed(uid=255), {"uid": "00000000000000ff"}),
        (LeaderProposed(uid=None), {"uid": None}),
        (Refuted(said=State.DEAD, incarnation=2), {"said": "dead", "incarnation": 2}),
        (
            IdentityLost(old_uid=1, uid=2, epoch=3),
            {"old_uid": "0000000000000001", "uid": "0000000000000002", "epoch": 3},
        ),
        (OrderReceived(verb=Verb.DRAIN, by=16), {"verb": "drain", "by": "0000000000000010"}),
        (
            KeysChanged(keys=Keys(version=1, origin=2, primary=3, keys=((3, b"secret"),))),
            {"keys": "Keys"},
        ),
    ],
)
def test_what_people_read(rig: Rig, change: Any, data: dict[str, Any]) -> None:
    """Values that JSON has, uids as everywhere, states by name, and never a key."""
    rig.log.note_change(change)

    (event,) = rig.log.recent()

    assert (event.type, event.data) == (type(change).__name__, data)
    assert "secret" not in json.dumps(asdict(event) | {"at": None})
