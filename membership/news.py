"""What a newer row means: the table's answers, put into the words of `changes.py`."""

from __future__ import annotations

from gossip.rows import Row, State
from membership.changes import (
    Change,
    MemberChanged,
    MemberDied,
    MemberJoined,
    MemberLeft,
    MemberRecovered,
    MemberRestarted,
    MemberSuspected,
)

PRESENT = (State.ALIVE, State.SUSPECT)


def tell(before: Row | None, row: Row, silent_s: float) -> list[Change]:
    """Return what has changed when `before` gives way to `row`, which others have told.

    A tombstone of somebody who was never known is no news: it is only kept so that nobody brings
    the dead back.
    """
    if before is None:
        changes: list[Change] = [MemberJoined(row=row)] if row.state in PRESENT else []
        if row.state is State.SUSPECT:
            changes.append(MemberSuspected(row=row, silent_s=silent_s, witnesses=0))
        return changes
    if row.epoch != before.epoch:
        return [MemberRestarted(row=row, before=before), *_now(row, State.ALIVE, silent_s)]
    if row.incarnation != before.incarnation and row.state is State.ALIVE:
        if before.state is not State.ALIVE:
            return [MemberRecovered(row=row, was=before.state)]
        return [MemberChanged(row=row)] if row.body != before.body else []
    return _now(row, before.state, silent_s)


def _now(row: Row, was: State, silent_s: float) -> list[Change]:
    if row.state is was:
        return []
    match row.state:
        case State.SUSPECT:
            if was is State.ALIVE:
                return [MemberSuspected(row=row, silent_s=silent_s, witnesses=0)]
            return [MemberRecovered(row=row, was=was)]
        case State.DEAD:
            return [MemberDied(row=row, silent_s=silent_s, witnesses=0)]
        case State.LEFT:
            return [MemberLeft(row=row)]
        case State.ALIVE:
            return []
