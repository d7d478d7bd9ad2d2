"""What this peer believes of every peer: one row each, and how old the evidence for it is.

Rows only ever go up in the order of `rows.py`; a table is the join of everything it was told. Two
things are added here that a join alone does not give:

- **Ages.** Each row has the moment of the latest evidence behind it. A living peer's is when
  anybody last heard it; evidence for an epoch is whatever names that epoch, so an old row still
  counts as a sign of life. A dead one's is when its death was declared; of two equal declarations
  the earlier one counts, or tombstones would be handed around for ever.
- **Memory that ends.** Tombstones are forgotten after a while, and from then on the age rule stands
  guard: a living row of an unknown peer that nobody has heard for `row_age_max_s` is refused. It
  was true before the death; the death is forgotten only long after. So nothing that is passed on
  with an honest age brings back the dead.

Rejected: a tombstone that is kept for ever (memory grows with every container that ever ran), and a
separate state for rows that only hearsay supports (the age says it).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from enum import Enum
from math import inf
from typing import NamedTuple

from gossip.buckets import Buckets, first_uid, row_hash
from gossip.config import BUCKETS, GossipConfig
from gossip.rows import AgedRow, Row, State
from gossip.rows import merge as winner
from gossip.sorted_uids import SortedUids


class Outcome(Enum):
    """What became of a row that was merged."""

    NEW = "new"  # its peer was unknown
    NEWER = "newer"  # it took the place of the one that was here
    SAME = "same"  # it was here already; its evidence may have been younger
    OLDER = "older"  # the one that is here wins
    REFUSED = "refused"  # too old to be believed of a peer that is unknown
    ABOUT_OWN = "about own"  # it says of this peer what this peer has not said, or that it is gone


class Merged(NamedTuple):
    """The outcome of one merge.

    Args:
        row: The one that is in the table now; for REFUSED and ABOUT_OWN the foreign one.
        before: The one that was in the table; None if there was none.
    """

    outcome: Outcome
    row: Row
    before: Row | None


class Entry:
    """One peer in the table. To be read, not written, by others.

    Args:
        heard_at: The latest evidence that this peer lives or lived; -inf if there never was any.
        declared_at: When this state began: of the dead and the departed where it was declared, of
            the others here.
    """

    __slots__ = ("declared_at", "hash", "heard_at", "row")

    def __init__(self, row: Row, heard_at: float, declared_at: float) -> None:
        self.row = row
        self.heard_at = heard_at
        self.declared_at = declared_at
        self.hash = 0  # its part of its bucket's hash; 0 when it is not in it


class Table:
    """Everything that one peer believes of the peers, itself included.

    Args:
        own: This peer's own row. Nobody but `set_own` and `rename_own` changes it.
        now: Monotonic seconds, as in every method; a later call never has an earlier one.
    """

    def __init__(self, config: GossipConfig, own: Row, now: float) -> None:
        self._config = config
        self._own = own
        self._entries: dict[int, Entry] = {}
        self._tombstones: dict[int, Entry] = {}
        self._uids = SortedUids()
        self._present = SortedUids()
        self._living = SortedUids()
        self._dead = SortedUids()
        self._buckets = Buckets()
        self._next_exclusion_at = inf
        self._next_fading_at = now + config.tombstone_s
        self._forgotten_until = -inf
        self._enter(Entry(own, now, now))

    # -- this peer itself

    @property
    def own(self) -> Row:
        """What this peer says of itself."""
        return self._own

    def set_own(self, now: float, row: Row) -> None:
        """Say something else of this peer.

        Raises:
            ValueError: Another uid, or an order that is not higher: nobody would believe it.
        """
        if row.uid != self._own.uid:
            raise ValueError("set_own keeps the uid; rename_own takes another one")
        if row.order <= self._own.order:
            raise ValueError(f"an own row must go up: {row.order} after {self._own.order}")
        entry = self._entries[row.uid]
        entry.heard_at = now
        self._own = row
        self._replace(entry, row, now)

    def rename_own(self, now: float, row: Row) -> None:
        """Go on under another uid. The old one's row stays, as that of some other peer.

        Raises:
            ValueError: That uid is in the table already.
        """
        if row.uid in self._entries:
            raise ValueError(f"uid {row.uid:016x} is taken; draw another one")
        old = self._entries[self._own.uid]
        old.heard_at = now
        self._own = row
        if old.row.state >= State.DEAD:
            self._bury(old)
        self._enter(Entry(row, now, now))

    # -- what others say, and what is heard

    def merge(self, now: float, aged: AgedRow) -> Merged:
        """Take in what somebody says of a peer.

        A row about this very peer changes nothing here, whatever it says.
        """
        row, age_s = aged
        entry = self._entries.get(row.uid)
        if entry is None:
            return self._merge_unknown(now, row, age_s)
        known = entry.row
        if known is self._own:
            return self._merge_own(row)
        if row.epoch == known.epoch and row.state < State.DEAD:
            # Evidence for this epoch, whatever became of it: so the order of arrival is all the
            # same. The age of a tombstone is another one, and stays.
            entry.heard_at = max(entry.heard_at, now - age_s)
        if (
            row.state == known.state
            and row.incarnation == known.incarnation
            and row.epoch == known.epoch
            and (row.body is known.body or row.body == known.body)
        ):
            if known.state >= State.DEAD and now - age_s < entry.declared_at:
                self._backdate(entry, now - age_s)
            return Merged(Outcome.SAME, known, known)
        if winner(row, known) is known:
            return Merged(Outcome.OLDER, known, known)
        if row.epoch > known.epoch:
            # Evidence for the epoch before says nothing about this one.
            entry.heard_at = now - age_s if row.state < State.DEAD else -inf
        self._replace(entry, row, now - age_s if row.state >= State.DEAD else now)
        return Merged(Outcome.NEWER, row, known)

    def declare(self, now: float, uid: int, state: State) -> Row:
        """Raise the state of a foreign row, at its incarnation, and return the new row.

        Raises:
            KeyError: The peer is unknown.
            ValueError: Not SUSPECT or DEAD, not higher than its state is, or about this very peer.
        """
        entry = self._entries[uid]
        if state not in (State.SUSPECT, State.DEAD):
            raise ValueError(f"only its owner may say that a peer is {state.name}")
        if uid == self._own.uid or state <= entry.row.state:
            raise ValueError(f"{entry.row.state.name} cannot be declared {state.name}")
        row = replace(entry.row, state=state)
        self._replace(entry, row, now)
        return row

    def heard(self, uid: int, at: float) -> None:
        """Note evidence that a peer lived at that time; of an unknown one it is lost."""
        entry = self._entries.get(uid)
        if entry is not None and at > entry.heard_at:
            entry.heard_at = at

    # -- reading

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, uid: int) -> Entry | None:
        """Return what is known of a peer, or None."""
        return self._entries.get(uid)

    def age_s(self, now: float, uid: int) -> float:
        """Return how old the row of a peer is, in the sense of `AgedRow`; this peer's own is 0.

        Raises:
            KeyError: The peer is unknown.
        """
        return self._age_s(now, self._entries[uid])

    def aged(self, now: float, uid: int) -> AgedRow:
        """Return the row of a peer as it would travel now.

        Raises:
            KeyError: The peer is unknown.
        """
        entry = self._entries[uid]
        return AgedRow(entry.row, self._age_s(now, entry))

    def entries(self) -> Iterator[Entry]:
        """Go through all that is known, by uid; the table must not change meanwhile."""
        return (self._entries[uid] for uid in self._uids.all)

    @property
    def present(self) -> tuple[int, ...]:
        """The uids that are ALIVE or SUSPECT, in order; the same object until they change."""
        return self._present.all

    @property
    def living(self) -> tuple[int, ...]:
        """The uids that are ALIVE, in order; the same object until they change."""
        return self._living.all

    @property
    def dead(self) -> tuple[int, ...]:
        """The uids that are DEAD, not LEFT, in order; the same object until they change."""
        return self._dead.all

    def believable(self, aged: AgedRow) -> bool:
        """Return whether a row is young enough to be believed by who does not know its peer."""
        dead = aged.row.state >= State.DEAD
        return aged.age_s <= (self._config.tombstone_s if dead else self._config.row_age_max_s)

    # -- comparing with another table

    def hashes(self, now: float) -> tuple[int, ...]:
        """Return 32 bits for each bucket, equal where two tables hold the same rows.

        Tombstones older than `tombstone_digest_s` are left out: peers forget them at different
        moments, and must not take that for a difference.
        """
        self._exclude_old_tombstones(now)
        return self._buckets.short()

    def fingerprint(self, now: float) -> int:
        """Return 64 bits, equal when two tables hold the same rows; leaves out as `hashes` does."""
        self._exclude_old_tombstones(now)
        return self._buckets.whole()

    def rows_in(self, now: float, buckets: int) -> list[AgedRow]:
        """Return the rows of some buckets by (bucket, uid), without those that `hashes` leaves out.

        Args:
            buckets: A mask.
        """
        self._exclude_old_tombstones(now)
        rows = []
        for bucket in range(BUCKETS):
            if not buckets >> bucket & 1:
                continue
            for uid in self._uids.between(first_uid(bucket), first_uid(bucket + 1)):
                entry = self._entries[uid]
                if entry.hash:
                    rows.append(AgedRow(entry.row, self._age_s(now, entry)))
        return rows

    # -- forgetting

    def forget(self, now: float) -> list[Row]:
        """Remove what need not be remembered any more, and return it, by uid.

        That is: tombstones older than `tombstone_s`; the oldest of those that are too many, though
        none that the age rule could still need; and living rows that nobody has heard for as long
        as tombstones last, while most others are heard well. Whatever those were, their death has
        been declared and forgotten where they could be watched. If this peer is alone in hearing
        nobody, it keeps them all: they are the way back.
        """
        config = self._config
        gone = [
            uid
            for uid, entry in self._tombstones.items()
            if now - entry.declared_at > config.tombstone_s
        ]
        gone += self._surplus(now, len(self._tombstones) - len(gone))
        gone += self._faded(now)
        rows = []
        for uid in sorted(gone):
            entry = self._entries.pop(uid)
            self._tombstones.pop(uid, None)
            self._hash(entry, 0)
            self._uids.discard(uid)
            self._index(uid, None)
            rows.append(entry.row)
        return rows

    def _surplus(self, now: float, count: int) -> list[int]:
        """Return the oldest tombstones beyond the limit, of `count` that have not run out."""
        config = self._config
        surplus = count - max(config.tombstones_min, len(self._present) // 2)
        if surplus <= 0:
            return []
        safe_s = 2 * config.row_age_max_s
        oldest = sorted(
            (entry.declared_at, uid)
            for uid, entry in self._tombstones.items()
            if safe_s < now - entry.declared_at <= config.tombstone_s
        )[:surplus]
        if oldest:
            # Or those who keep more of them would bring them back at once, again and again. What
            # comes from elsewhere is a little off, so the line is drawn well above.
            until = oldest[-1][0] + config.row_age_max_s
            self._forgotten_until = max(self._forgotten_until, until)
        return [uid for _, uid in oldest]

    def _faded(self, now: float) -> list[int]:
        """Return the living that nobody has heard for very long, if most others are heard.

        It goes through all of them, and is in no hurry: it looks once in `row_age_max_s`.
        """
        if now < self._next_fading_at:
            return []
        self._next_fading_at = now + self._config.row_age_max_s
        faded = []
        fresh = 0
        for uid in self._present.all:
            if uid == self._own.uid:
                continue
            age_s = now - self._entries[uid].heard_at
            if age_s > self._config.tombstone_s:
                faded.append(uid)
            elif age_s <= self._config.row_age_max_s:
                fresh += 1
        return faded if 2 * fresh > len(self._present) - 1 else []

    # -- inside

    def _merge_own(self, row: Row) -> Merged:
        own = self._own
        if row == own:
            return Merged(Outcome.SAME, own, own)
        if row.order < own.order:
            return Merged(Outcome.OLDER, own, own)
        return Merged(Outcome.ABOUT_OWN, row, own)

    def _merge_unknown(self, now: float, row: Row, age_s: float) -> Merged:
        since = now - age_s
        dead = row.state >= State.DEAD
        if not self.believable(AgedRow(row, age_s)) or (dead and since <= self._forgotten_until):
            return Merged(Outcome.REFUSED, row, None)
        entry = Entry(row, -inf, since) if dead else Entry(row, since, now)
        self._enter(entry)
        return Merged(Outcome.NEW, row, None)

    def _age_s(self, now: float, entry: Entry) -> float:
        if entry.row.state >= State.DEAD:
            return max(0.0, now - entry.declared_at)
        return 0.0 if entry.row is self._own else max(0.0, now - entry.heard_at)

    def _enter(self, entry: Entry) -> None:
        """Put a peer into the table that was not in it."""
        uid = entry.row.uid
        self._entries[uid] = entry
        self._uids.add(uid)
        self._settle(entry)

    def _replace(self, entry: Entry, row: Row, declared_at: float) -> None:
        """Give a peer another row, and another state's beginning."""
        if row.state != entry.row.state or row.state >= State.DEAD:
            entry.declared_at = declared_at
        entry.row = row
        self._settle(entry)

    def _settle(self, entry: Entry) -> None:
        """Bring everything that is derived from the rows up to date with this one."""
        row = entry.row
        self._hash(entry, row_hash(row))
        self._index(row.uid, row.state)
        if row.state >= State.DEAD and row is not self._own:
            self._bury(entry)
        else:
            self._tombstones.pop(row.uid, None)

    def _index(self, uid: int, state: State | None) -> None:
        """Put a uid into the lists of its state, and out of the others; None: out of all."""
        for uids, states in (
            (self._present, (State.ALIVE, State.SUSPECT)),
            (self._living, (State.ALIVE,)),
            (self._dead, (State.DEAD,)),
        ):
            if state in states:
                uids.add(uid)
            else:
                uids.discard(uid)

    def _hash(self, entry: Entry, value: int) -> None:
        """Let an entry count with this value in its bucket."""
        self._buckets.toggle(entry.row.uid, entry.hash ^ value)
        entry.hash = value

    def _bury(self, entry: Entry) -> None:
        self._tombstones[entry.row.uid] = entry
        excluded_at = entry.declared_at + self._config.tombstone_digest_s
        self._next_exclusion_at = min(self._next_exclusion_at, excluded_at)

    def _backdate(self, entry: Entry, declared_at: float) -> None:
        entry.declared_at = declared_at
        self._bury(entry)

    def _exclude_old_tombstones(self, now: float) -> None:
        """Take tombstones out of the hashes once they are old enough."""
        if now <= self._next_exclusion_at:
            return
        self._next_exclusion_at = inf
        for entry in self._tombstones.values():
            if not entry.hash:
                continue
            excluded_at = entry.declared_at + self._config.tombstone_digest_s
            if now > excluded_at:
                self._hash(entry, 0)
            else:
                self._next_exclusion_at = min(self._next_exclusion_at, excluded_at)
