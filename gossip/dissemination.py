"""What this peer believes, what it passes on, and to how many it already has.

Three things spread, each in its own way: rows that have just changed as *rumours*, a few times
each; loads *freshest first*, as many as fit; and whatever both have missed is found by comparing
*digests*. See `ALGORITHM.md`.
"""

from __future__ import annotations

import random
from collections.abc import Iterable

from gossip import sync
from gossip.codec import row_bytes
from gossip.config import GossipConfig
from gossip.load import Load
from gossip.load_table import RECORD_BYTES, LoadTable, ShortUids
from gossip.messages import Digest, Gossip, Page
from gossip.rows import AgedRow, Row
from gossip.rumours import Rumours
from gossip.table import Merged, Outcome, Table

GOSSIP_FRAME_BYTES = 16
"""A gossip's type, and the lengths of its two parts: never more than this."""

HEARTBEAT_ROWS_MAX = 2
WELCOME_ROWS = 4


class Dissemination:
    """The table, and what is under way from it to others."""

    def __init__(
        self, config: GossipConfig, *, own: Row, now: float, rng: random.Random, body_bytes_max: int
    ) -> None:
        self._config = config
        self._rng = rng
        self._body_bytes_max = body_bytes_max
        self.table = Table(config, own, now)
        self.rumours = Rumours(config.rumour_factor)
        self.loads = LoadTable(config, own.uid, own.epoch)
        self._short = ShortUids()
        self.rumours.add(own.uid, urgent=True)

    # -- what comes in -----------------------------------------------------------------------------

    def merge(self, now: float, rows: Iterable[AgedRow]) -> list[Merged]:
        """Believe what is newer, and pass it on; return what was not simply known."""
        news = []
        for aged in rows:
            merged = self.table.merge(now, aged)
            if merged.outcome in (Outcome.NEW, Outcome.NEWER):
                self.changed(merged.row.uid)
                if merged.outcome is Outcome.NEW:
                    self._short.add(merged.row.uid)
                elif merged.before is not None and merged.before.epoch != merged.row.epoch:
                    self.loads.forget(merged.row.uid)
                news.append(merged)
            elif merged.outcome is Outcome.ABOUT_OWN:
                news.append(merged)
        return news

    def merge_loads(self, now: float, blob: bytes) -> None:
        """Take in load records; each newer one shows that its peer lived when it was written."""
        heard = self.table.heard
        for uid, at in self.loads.merge(now, blob, self._resolve):
            heard(uid, at)

    def _resolve(self, short_uid: int, short_epoch: int) -> int | None:
        uid = self._short.resolve(short_uid)
        if uid is None:
            return None
        entry = self.table.get(uid)
        if entry is None or entry.row.epoch & 0xFF != short_epoch:
            return None
        return uid

    def changed(self, uid: int, *, urgent: bool = True) -> None:
        """A row is new or newer: it is a rumour now."""
        self.rumours.add(uid, urgent=urgent)

    def set_own(self, now: float, row: Row) -> None:
        """Say something else of this peer."""
        if row.uid != self.table.own.uid:
            self._short.add(self.table.own.uid)
            self.table.rename_own(now, row)
            self.loads.rename_own(row.uid, row.epoch)
        else:
            self.table.set_own(now, row)
        self.changed(row.uid)

    def set_load(self, now: float, load: Load) -> None:
        """Say how busy this peer is."""
        self.loads.set_own(now, load)

    def forget(self, now: float) -> list[Row]:
        """Remove tombstones whose time is over; return them."""
        gone = self.table.forget(now)
        for row in gone:
            self._short.remove(row.uid)
            self.loads.forget(row.uid)
            self.rumours.drop(row.uid)
        return gone

    # -- what goes out -----------------------------------------------------------------------------

    def gossip(self, now: float) -> Gossip:
        """Return as many rumours as fit, and the freshest loads beside them."""
        room = self._body_bytes_max - GOSSIP_FRAME_BYTES
        rows = self._rumours(now, room // 32, room)
        room -= sum(row_bytes(aged) for aged in rows)
        loads = self.loads.freshest(now, max(0, room // RECORD_BYTES))
        return Gossip(rows=tuple(rows), loads=loads)

    @property
    def loads_in_gossip(self) -> int:
        """How many load records fit into a gossip without rumours."""
        return (self._body_bytes_max - GOSSIP_FRAME_BYTES) // RECORD_BYTES

    def heartbeat_rows(self, now: float, bytes_max: int) -> tuple[AgedRow, ...]:
        """Return a rumour or two, small enough to ride on a heartbeat."""
        return tuple(self._rumours(now, HEARTBEAT_ROWS_MAX, bytes_max))

    def _rumours(self, now: float, count_max: int, bytes_max: int) -> list[AgedRow]:
        if not len(self.rumours):
            return []
        members = len(self.table.present)
        rows: list[AgedRow] = []
        for uid in self.rumours.pick(count_max, members):
            aged = self.table.aged(now, uid)
            bytes_max -= row_bytes(aged)
            if bytes_max < 0:
                break
            rows.append(aged)
        self.rumours.sent([aged.row.uid for aged in rows], members)
        return rows

    def welcome(self, now: float, uid: int) -> Gossip:
        """Return a few members for a newcomer to go on with: the newest, who can use help
        themselves, and others drawn at random. It finds the rest from there."""
        table = self.table
        newest = self.rumours.pick(WELCOME_ROWS // 2 + 2, len(table.present))
        drawn = self._rng.sample(table.present, min(WELCOME_ROWS + 2, len(table.present)))
        room = self._body_bytes_max - GOSSIP_FRAME_BYTES
        rows: list[AgedRow] = []
        for other in dict.fromkeys((*newest, *drawn)):
            if other in (uid, table.own.uid) or table.get(other) is None:
                continue
            aged = table.aged(now, other)
            room -= row_bytes(aged)
            if room < 0 or len(rows) == WELCOME_ROWS:
                break
            rows.append(aged)
        return Gossip(rows=tuple(rows))

    # -- comparing tables --------------------------------------------------------------------------

    def digest(self, now: float) -> Digest:
        """Return this peer's table in short."""
        return sync.digest(self.table, now)

    def answer_digest(self, now: float, digest: Digest) -> list[Page]:
        """Return this peer's rows where another's digest differs."""
        return sync.answer_digest(
            self.table,
            now,
            digest,
            self._rng,
            row_bytes,
            self._body_bytes_max,
            self._config.pages_max,
        )

    def answer_page(self, now: float, page: Page) -> list[Page]:
        """Return what the sender of a page lacks. To be called before the page is merged or after:
        what was just learned from it is not sent back."""
        return sync.answer_page(
            self.table,
            now,
            page,
            self._rng,
            row_bytes,
            self._body_bytes_max,
            self._config.pages_max,
        )
