"""The store's mark: by what a peer knows that a store is the cluster's, and not some other one.

To a peer whose disk is not mounted, or whose prefix or bucket is another one, all sources seem to
be gone. No retry would help, so it would escalate the whole queue as fast as it can. Therefore the
store has one small object that says whose it is, and the ledger, which all peers share, knows what
that must say. An empty store is marked only as long as none was, and nothing was made: afterwards
it is what a mount point looks like without its disk.

Marks are numbered. When the cluster moves to another store, the one it has left still has a mark of
this cluster, but not the one that counts; and of two peers that start a cluster at the same time
with different stores, only one is given the number that will count.

The rejected alternative, comparing the peers' settings over gossip, would see neither a disk that
is not mounted nor two machines that mean different disks by the same path.

Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Protocol
from uuid import UUID

import msgspec

from pipeline.errors import LedgerUnavailable, StoreUnavailable

WHAT = "the store of a Grapevine cluster"

ADVICE = (
    "is it mounted? are store.directory, store.s3.bucket and store.s3.prefix the same on every "
    "peer? (a cluster that has moved to this one on purpose is told so: peerctl store adopt --help)"
)


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """What a store's mark says.

    Args:
        cluster: Whose store it is.
        number: Which of the marks that this cluster has given out, from 1.
    """

    cluster: UUID
    number: Annotated[int, msgspec.Meta(ge=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Belonging:
    """Which store is the cluster's, as the ledger knows it.

    Args:
        cluster: The cluster's id, drawn when its tables were made.
        drawn: The newest number that somebody was given to mark a store with; 0 without any.
        number: That of the store that counts; None while there is none.
        url: Where that one is, as the peer saw it that marked it.
        marked_at: Since when it counts.
        made: While none counts: the key of something that the cluster has made, if it has.
    """

    cluster: UUID
    drawn: int = 0
    number: int | None = None
    url: str = ""
    marked_at: datetime | None = None
    made: str = ""

    @property
    def mark(self) -> Mark | None:
        """What the store must say; None while any may be marked."""
        return None if self.number is None else Mark(cluster=self.cluster, number=self.number)


class Register(Protocol):
    """**Protocol**: the ledger as whoever marks a store sees it. Raises `LedgerUnavailable`.

    Every method may be repeated; a number that was drawn and is not confirmed never counts.
    """

    async def belonging(self) -> Belonging:
        """Which store is the cluster's. Answers soon, or fails."""
        ...

    async def draw_first_mark(self, within_s: float) -> int | None:
        """Draw a number for the cluster's first store, to be confirmed in that time.

        Returns:
            None when there is a store meanwhile, or somebody else has drawn and has time left.
        """
        ...

    async def draw_mark(self) -> int:
        """Draw a number for a store that shall take the other one's place."""
        ...

    async def confirm_mark(self, number: int, url: str) -> bool:
        """Let the store count that has this mark now; False when a newer number was drawn."""
        ...


def encode(mark: Mark) -> bytes:
    """Write a mark, so that a person who finds it knows what it is."""
    content = {"what": WHAT, "cluster": mark.cluster, "number": mark.number}
    return msgspec.json.encode(content) + b"\n"


def decode(content: bytes) -> Mark:
    """Read a mark.

    Raises:
        ValueError: It is none, or not a whole one.
    """
    return msgspec.json.decode(content, type=Mark)


def find_objection(belonging: Belonging, content: bytes | None, url: str) -> str | None:
    """Say why a store is not the cluster's; None if nothing speaks against it.

    Args:
        content: Of its mark; None where there is none.
        url: The store's.
    """
    found, expected = None, belonging.mark
    if content is not None:
        try:
            found = decode(content)
        except ValueError as error:
            return _sentence(belonging, url, f"its mark cannot be read ({error})")
    if found is not None and found.cluster != belonging.cluster:
        return _sentence(belonging, url, f"it is that of the cluster {found.cluster}")
    if expected is None or found == expected:
        return None
    if found is None:
        return _sentence(belonging, url, "it has no mark")
    return _sentence(
        belonging, url, f"its mark has number {found.number}: it was left, or has never become it"
    )


def lacks_what_was_made(belonging: Belonging, url: str) -> str:
    """Why a store is not marked as the first one of a cluster that is older than marks are."""
    return _sentence(belonging, url, f"it has no mark, and does not have {belonging.made}")


def untold(error: LedgerUnavailable) -> StoreUnavailable:
    """What a store is said to be while nobody can tell whose it is."""
    return StoreUnavailable(
        f"only the ledger can tell whether this is the cluster's store: {error.message}",
        definite=True,
    )


def _sentence(belonging: Belonging, url: str, found: str) -> str:
    expected = "which has none yet"
    if belonging.marked_at is not None:
        when = f"{belonging.marked_at:%Y-%m-%d %H:%M} UTC"
        expected = (
            f"whose store has mark number {belonging.number}, set at {belonging.url} on {when}"
        )
    return (
        f"{url} is not the store of this cluster ({belonging.cluster}), {expected}: {found}; "
        f"{ADVICE}"
    )
