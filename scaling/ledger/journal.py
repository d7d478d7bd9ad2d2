"""Decisions, events and the pause, in the ledger: one transaction a round.

The transaction locks the orchestrator's row, so two leaders write one after the other, and the
later beginning wins: `era` counts beginnings, and who has an earlier one is told so. In it the
books are compared with what was seen, the events of the difference are written, and the decision is
put down with all that it was made of. Whatever the leader does afterwards, all of that is true.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from scaling import books
from scaling.books import Books
from scaling.decision import Action
from scaling.events import ScalingEvent
from scaling.ledger.database import Connection, Database, Queries, to_json
from scaling.ports import Entry, Noted, Outcome, Sight, Superseded
from scaling.utilization import Levels

log = logging.getLogger(__name__)

KEPT = 10_000
"""So many decisions that differ are kept: a day of a busy cluster, or a year of a quiet one."""
KEPT_S = 90 * 86_400.0
PRUNE_EVERY = 100
"""How many are put down between two prunings."""

WriteEvents = Callable[[Connection, Sequence[ScalingEvent]], None]
"""Writes events in the transaction of this connection, in the name of this peer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """A decision as it was put down, for people.

    Args:
        count: How many in a row were like it, the last at `last_at`.
        mode: `acting`, `dry_run` or `paused`.
        considered: A `scaling.record.Considered`, as JSON values: of the first of them.
        reasons: Codes and texts, of the last of them.
        actions: Each with its name as `action`, and its fields.
        outcomes: The same with `trouble`, for those that were begun.
    """

    number: int
    first_at: datetime
    last_at: datetime
    count: int
    term: int
    leader: str
    mode: str
    considered: Mapping[str, Any]
    reasons: Sequence[Mapping[str, str]]
    actions: Sequence[Mapping[str, Any]]
    outcomes: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a leader saw and decided last.

    Args:
        age_s: How long ago, by the ledger's clock.
        considered: A `scaling.record.Considered`, as JSON values.
    """

    at: datetime
    age_s: float
    term: int
    leader: str
    mode: str
    considered: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """That a person lets nothing be changed."""

    at: datetime
    by: str
    why: str


class LedgerJournal:
    """The record of one orchestrator's scaling; satisfies the port `Journal`.

    Args:
        scope: Which orchestrator's.
        silence_s: A leader that has taken nothing down for so long is none: several times the
            longest time between two rounds.
    """

    def __init__(
        self,
        database: Database,
        queries: Queries,
        *,
        scope: str,
        write_events: WriteEvents,
        silence_s: float,
    ) -> None:
        self._database, self._queries = database, queries
        self._scope, self._write_events = scope, write_events
        self._silence_s = silence_s

    # -- for the leader ----------------------------------------------------------------------------

    async def begin(self, term: int) -> tuple[int, Levels]:
        """See `Journal`."""
        values = {"term": term, "silence_s": self._silence_s}

        def work(connection: Connection) -> tuple[int, Levels]:
            self._execute(connection, "make_scope")
            row = self._execute(connection, "begin_era", **values).fetchone()
            if row is None:
                raise Superseded(f"a later leader than that of term {term} takes decisions down")
            kept = _books(row["books"])
            return row["era"], Levels() if kept is None else kept.levels

        return await self._database.run(work)

    async def note(self, era: int, entry: Entry) -> Noted:
        """See `Journal`."""
        return await self._database.run(lambda on: self._note(on, era, entry))

    async def finish(self, number: int, outcomes: Sequence[Outcome]) -> None:
        """See `Journal`."""
        shown = [{**shown_action(each.action), "trouble": each.trouble} for each in outcomes]
        await self._database.run(
            lambda on: self._execute(on, "finish_decision", id=number, outcomes=to_json(shown))
        )

    def _note(self, connection: Connection, era: int, entry: Entry) -> Noted:
        row = self._execute(connection, "lock_scope").fetchone()
        if row is None or row["era"] != era:
            raise Superseded(
                "another leader has begun to take decisions down: this one leads no more"
            )
        mode = "paused" if row["paused"] else "dry_run" if entry.dry_run else "acting"
        before = _books(row["books"])
        after, events = _kept(before, entry, acting=mode == "acting")
        if after is not None and after != before:
            self._execute(connection, "save_books", books=to_json(after))
        told = (*entry.considered.decision.crossed, *events)
        if told:
            self._write_events(connection, told)
        number = self._put_down(connection, entry, mode)
        return Noted(number=number, acting=mode == "acting", paused=bool(row["paused"]))

    def _put_down(self, connection: Connection, entry: Entry, mode: str) -> int:
        decision = entry.considered.decision
        considered = to_json(entry.considered)
        who = {"term": entry.term, "leader": entry.leader, "mode": mode}
        self._execute(connection, "save_look", **who, considered=considered)
        values = {**who, "alike": alike(entry), "reasons": to_json(decision.reasons)}
        if not decision.crossed:
            row = self._execute(connection, "repeat_decision", **values).fetchone()
            if row is not None:
                return int(row["id"])
        row = self._execute(
            connection,
            "insert_decision",
            **values,
            considered=considered,
            actions=to_json([shown_action(action) for action in entry.actions]),
        ).fetchone()
        assert row is not None
        if row["id"] % PRUNE_EVERY == 0:
            self._execute(connection, "prune_decisions", kept=KEPT, age_s=KEPT_S)
        return int(row["id"])

    # -- for people --------------------------------------------------------------------------------

    async def newest(self, limit: int) -> Sequence[Decided]:
        """Return the newest decisions, the newest first."""

        def work(connection: Connection) -> Sequence[Decided]:
            rows = self._execute(connection, "list_decisions", limit=limit)
            return [Decided(number=row.pop("id"), **row) for row in rows]

        return await self._database.run(work)

    async def latest(self) -> Look | None:
        """Return what the leader saw and decided last; None when nobody knows."""

        def work(connection: Connection) -> Look | None:
            row = self._execute(connection, "read_look").fetchone()
            return None if row is None else Look(**row)

        return await self._database.run(work)

    async def paused(self) -> Pause | None:
        """Return who paused it, since when and why; None when nobody did."""

        def work(connection: Connection) -> Pause | None:
            row = self._execute(connection, "read_scope").fetchone()
            if row is None or row["paused_at"] is None:
                return None
            return Pause(at=row["paused_at"], by=row["paused_by"], why=row["paused_why"])

        return await self._database.run(work)

    async def pause(self, by: str, why: str) -> None:
        """Let no leader change anything from its next round on; one that is paused stays so."""
        await self._database.run(lambda on: self._execute(on, "pause", by=by, why=why))

    async def resume(self) -> bool:
        """Let leaders act again. Whether it was paused."""
        return await self._database.run(
            lambda on: self._execute(on, "resume").fetchone() is not None
        )

    def _execute(self, connection: Connection, query: str, **values: Any) -> Any:
        return connection.execute(self._queries[query], {"scope": self._scope, **values})


def alike(entry: Entry) -> str:
    """A text that is equal for decisions which differ in their numbers only."""
    decision = entry.considered.decision
    codes = [reason.code for reason in decision.reasons]
    actions = [shown_action(action) for action in entry.actions]
    same = msgspec.json.encode([decision.held, decision.desired, codes, actions])
    return hashlib.sha256(same).hexdigest()


def shown_action(action: Action) -> dict[str, Any]:
    """An action as JSON values, with its name."""
    return {"action": type(action).__name__, **msgspec.to_builtins(action)}


def _books(row: object) -> Books | None:
    """Those of the last leader; opened anew where another version's cannot be read.

    They are for telling what has happened: nobody may be kept from scaling by them.
    """
    try:
        return None if row is None else msgspec.convert(row, Books)
    except msgspec.ValidationError as error:
        log.warning(
            "the books of the last leader cannot be read; what was started and ended since its "
            "last look is told by nobody",
            extra={"action": "books", "error": str(error)},
        )
        return None


def _kept(
    before: Books | None, entry: Entry, *, acting: bool
) -> tuple[Books | None, tuple[ScalingEvent, ...]]:
    """The books after this round, and the events of what has happened since the last one."""
    after, sight = before, entry.sight
    told: tuple[ScalingEvent, ...] = ()
    if sight is not None and books.tells_all(sight):
        # Names are compared with what was stored, so they go the same way.
        sight = msgspec.json.decode(to_json(sight), type=Sight)
        if after is None:
            after = books.opened(sight)
        after, told = books.settled(after, sight, entry.term)
    if after is None:
        return None, told
    if acting:
        reasons = tuple(reason.text for reason in entry.considered.decision.reasons)
        after = books.asking(after, entry.actions, reasons)
    return replace(after, levels=_lasting(entry.levels)), told


def _lasting(levels: Levels) -> Levels:
    """What of the levels the next leader begins with: nothing that depends on this one's clock."""
    starved = tuple(replace(each, until_s=0.0) for each in levels.starved)
    return Levels(cpu=levels.cpu, memory=levels.memory, starved=starved)
