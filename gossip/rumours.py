"""What is still worth telling: the uids whose rows have changed, fewest sends first.

A rumour is only the name of the row: what is sent is what the table holds at that moment, so a
newer fact takes the place of an older one by itself. Each peer tells each rumour to a number of
others that grows with the logarithm of the members, and then leaves the rest to the digests.

Rumours lie in levels, one for each number of sends, so that the next ones to tell are found without
sorting: after a storm of joins there are thousands.

Rejected: telling them in the order of arrival (in a storm the last one waits for all the others).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator


class _Levels:
    """Uids by how often they were sent; within a level the newest is last."""

    __slots__ = ("_levels", "_sends")

    def __init__(self) -> None:
        # Dictionaries for their order: a set's differs from process to process.
        self._levels: list[dict[int, None]] = []
        self._sends: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._sends)

    def __contains__(self, uid: int) -> bool:
        return uid in self._sends

    def put(self, uid: int, sends: int) -> None:
        self.drop(uid)
        while len(self._levels) <= sends:
            self._levels.append({})
        self._levels[sends][uid] = None
        self._sends[uid] = sends

    def drop(self, uid: int) -> None:
        sends = self._sends.pop(uid, None)
        if sends is not None:
            del self._levels[sends][uid]

    def count(self, uid: int, limit: int) -> None:
        """Note one more send; the last one ends the rumour."""
        sends = self._sends[uid] + 1
        if sends < limit:
            self.put(uid, sends)
        else:
            self.drop(uid)

    def below(self, limit: int) -> Iterator[int]:
        for level in self._levels[:limit]:
            yield from reversed(level)


class Rumours:
    """Which rows are to be told, and how often they were.

    Args:
        factor: A rumour is told factor * ceil(log2(members + 1)) times.
    """

    def __init__(self, factor: int) -> None:
        self._factor = factor
        self._urgent = _Levels()
        self._others = _Levels()

    def __len__(self) -> int:
        return len(self._urgent) + len(self._others)

    def add(self, uid: int, urgent: bool = False) -> None:
        """Tell this peer's row, from the first time on, because it has changed.

        Args:
            urgent: Before all that are not. What is urgent already stays so.
        """
        if urgent or uid in self._urgent:
            self._others.drop(uid)
            self._urgent.put(uid, 0)
        else:
            self._others.put(uid, 0)

    def drop(self, uid: int) -> None:
        """Do not tell it any more."""
        self._urgent.drop(uid)
        self._others.drop(uid)

    def pick(self, count_max: int, members: int) -> list[int]:
        """Return the rumours to tell next: urgent ones, then fewest sends, then the newest.

        This counts nothing: what is really sent is told to `sent`.

        Args:
            members: How many there are, for the limit on sends.
        """
        limit = self._limit(members)
        picked: list[int] = []
        for levels in (self._urgent, self._others):
            for uid in levels.below(limit):
                if len(picked) >= count_max:
                    return picked
                picked.append(uid)
        return picked

    def sent(self, uids: Iterable[int], members: int) -> None:
        """Count one send of each; those that are no rumours do not matter."""
        limit = self._limit(members)
        for uid in uids:
            for levels in (self._urgent, self._others):
                if uid in levels:
                    levels.count(uid, limit)

    def _limit(self, members: int) -> int:
        # The bit length of n is ceil(log2(n + 1)).
        return self._factor * max(1, members).bit_length()
