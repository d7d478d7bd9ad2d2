"""A set of uids that is always in order and hands itself out as a tuple.

Everything that walks over peers walks in the order of their uids, so that two runs with the same
seed do the same. Sorting at every use would cost more than the rest of a datagram's work at a few
thousand peers; a set that is walked unsorted is in another order in every process.
"""

from __future__ import annotations

from bisect import bisect_left


class SortedUids:
    """Uids in ascending order, each at most once."""

    __slots__ = ("_taken", "_uids")

    def __init__(self) -> None:
        self._uids: list[int] = []
        self._taken: tuple[int, ...] | None = ()

    def __len__(self) -> int:
        return len(self._uids)

    def add(self, uid: int) -> None:
        """Take in a uid; one that is here already changes nothing."""
        index = bisect_left(self._uids, uid)
        if index == len(self._uids) or self._uids[index] != uid:
            self._uids.insert(index, uid)
            self._taken = None

    def discard(self, uid: int) -> None:
        """Remove a uid, if it is here."""
        index = bisect_left(self._uids, uid)
        if index < len(self._uids) and self._uids[index] == uid:
            del self._uids[index]
            self._taken = None

    def between(self, first: int, end: int) -> list[int]:
        """Return the uids from `first` on that are below `end`."""
        start = bisect_left(self._uids, first)
        return self._uids[start : bisect_left(self._uids, end, start)]

    @property
    def all(self) -> tuple[int, ...]:
        """All of them; the very same tuple until one is added or removed."""
        if self._taken is None:
            self._taken = tuple(self._uids)
        return self._taken
