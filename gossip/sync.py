"""How two tables become equal: a digest, pages of what differs, and what was lacking in return.

    asker                     answerer
      | digest: 64 hashes ------> |
      | <------- pages: all rows of (some of) the buckets that differ, "answer"
      | pages: what those lack -> |

After the first answer the asker knows what the answerer knows of those buckets; after the second
the answerer knows what the asker knew. Equal tables cost one digest. Each page stands for itself,
and says which stretch of uids it is complete for, so any of them may get lost.

Only a few pages answer a digest. When more are needed, they begin at a bucket drawn at random, and
within it at a random page if it is longer than all of them: so repeated exchanges get through to
every row, and a bucket that has become equal is not sent again.

A page holds also what the age rule will refuse of a peer that its reader does not know: the reader
may know better, that it is dead, and can only say so if it is asked.

Rejected: Merkle trees (a round trip for each level, to save bytes that a digest has to spare), and
whole tables over TCP (what memberlist does: the cost grows with the members, and so it is done too
seldom to repair anything in time).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, islice

from gossip.buckets import bucket_of, first_uid
from gossip.codec import FRAME_BYTES_MAX
from gossip.config import BUCKETS
from gossip.messages import Digest, Page
from gossip.rows import AgedRow
from gossip.table import Table

RowBytes = Callable[[AgedRow], int]
"""How many bytes a row takes in a message."""


def digest(table: Table, now: float) -> Digest:
    """Return a table in short."""
    return Digest(count=len(table.present), hashes=table.hashes(now))


def answer_digest(  # noqa: PLR0917 # one caller, which has them all as its own
    table: Table,
    now: float,
    digest: Digest,
    rng: random.Random,
    row_bytes: RowBytes,
    limit_bytes: int,
    pages_max: int,
) -> list[Page]:
    """Return this table's rows where it differs from the digest's; nothing where it does not.

    Buckets of which this table holds nothing are asked for by pages without rows.

    Args:
        rng: Draws where to begin.
        limit_bytes: What a page may take as a message.
        pages_max: At most so many pages; what is left over waits for another digest.
    """
    hashes = table.hashes(now)
    differing = [bucket for bucket in range(BUCKETS) if hashes[bucket] != digest.hashes[bucket]]
    if not differing:
        return []
    room_bytes = limit_bytes - FRAME_BYTES_MAX
    turn = rng.randrange(len(differing))
    buckets = differing[turn:] + differing[:turn]

    rows = table.rows_in(now, 1 << buckets[0])
    chunks = list(_chunks(rows, row_bytes, room_bytes))
    begin_uid = first_uid(buckets[0])
    if len(chunks) > pages_max:
        skipped = rng.randrange(len(chunks) - pages_max + 1)
        if skipped:
            begin_uid = chunks[skipped][0].row.uid
    begun = (begin_uid, [aged for aged in rows if aged.row.uid >= begin_uid])
    others = ((first_uid(bucket), table.rows_in(now, 1 << bucket)) for bucket in buckets[1:])
    return list(islice(_pages(chain([begun], others), row_bytes, room_bytes), pages_max))


def answer_page(  # noqa: PLR0917 # as answer_digest
    table: Table,
    now: float,
    page: Page,
    rng: random.Random,
    row_bytes: RowBytes,
    limit_bytes: int,
    pages_max: int,
) -> list[Page]:
    """Return what the sender of a page lacks of its stretch; nothing if that is nothing.

    It makes no difference whether the page's rows were merged before. What the sender would refuse
    for its age is left out, but a row that beats one of its own is sent however old it is.

    Args:
        rng: Draws which rows are sent, when not all of them may be.
        limit_bytes, pages_max: As for `answer_digest`.
    """
    told = {aged.row.uid: aged.row for aged in page.rows}
    lacking = [
        aged
        for aged in table.rows_in(now, page.buckets)
        if page.first[1] <= aged.row.uid <= page.last[1]
        and aged.row.uid not in told
        and table.believable(aged)
    ]
    for uid, row in told.items():
        entry = table.get(uid)
        if entry is not None and entry.row.order > row.order:
            lacking.append(table.aged(now, uid))
    lacking.sort(key=lambda aged: aged.row.uid)
    chunks = list(_chunks(lacking, row_bytes, limit_bytes - FRAME_BYTES_MAX))
    if len(chunks) > pages_max:
        turn = rng.randrange(len(chunks))
        chunks = (chunks[turn:] + chunks[:turn])[:pages_max]
    pages = []
    for chunk in chunks:
        draft = _Draft(chunk[0].row.uid)
        for aged in chunk:
            draft.buckets |= 1 << bucket_of(aged.row.uid)
        draft.last_uid = chunk[-1].row.uid
        draft.rows = chunk
        pages.append(draft.page(answer=False))
    return pages


class _Draft:
    """A page while rows are laid onto it, and it is extended to where they end."""

    def __init__(self, begin_uid: int) -> None:
        self.first_uid = begin_uid
        self.last_uid = begin_uid
        self.buckets = 0
        self.rows: list[AgedRow] = []

    def page(self, *, answer: bool) -> Page:
        return Page(
            buckets=self.buckets,
            first=(bucket_of(self.first_uid), self.first_uid),
            last=(bucket_of(self.last_uid), self.last_uid),
            answer=answer,
            rows=tuple(self.rows),
        )


def _pages(
    stretches: Iterable[tuple[int, list[AgedRow]]], row_bytes: RowBytes, room_bytes: int
) -> Iterator[Page]:
    """Lay rows onto pages, as many as fit each, without a gap between one page and the next.

    Args:
        stretches: (begin, all rows from there to the end of its bucket), in the order of their
            uids but for beginning again below: no page goes over that.
    """
    draft: _Draft | None = None
    left_bytes = room_bytes
    for begin_uid, rows in stretches:
        if draft is not None and begin_uid < draft.first_uid:
            yield draft.page(answer=True)
            draft = None
        if draft is None:
            draft, left_bytes = _Draft(begin_uid), room_bytes
        bucket = bucket_of(begin_uid)
        draft.buckets |= 1 << bucket
        for aged in rows:
            size = row_bytes(aged)
            if draft.rows and size > left_bytes:
                draft.last_uid = aged.row.uid - 1
                yield draft.page(answer=True)
                draft, left_bytes = _Draft(aged.row.uid), room_bytes
                draft.buckets = 1 << bucket
            draft.rows.append(aged)
            left_bytes -= size
        draft.last_uid = first_uid(bucket + 1) - 1
    if draft is not None:
        yield draft.page(answer=True)


def _chunks(rows: list[AgedRow], row_bytes: RowBytes, room_bytes: int) -> Iterator[list[AgedRow]]:
    """Cut rows into runs that fit a page each."""
    chunk: list[AgedRow] = []
    left_bytes = room_bytes
    for aged in rows:
        size = row_bytes(aged)
        if chunk and size > left_bytes:
            yield chunk
            chunk, left_bytes = [], room_bytes
        chunk.append(aged)
        left_bytes -= size
    if chunk:
        yield chunk
