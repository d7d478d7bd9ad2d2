"""Go's `sort.Sort`, step for step: where equal elements end up is part of whom Swarm chooses.

Swarmkit sorts a service's slots by a number that many of them share, with a sort that is not
stable. Up to 12 elements that is an insertion sort, which keeps the order of equals; above it is
the pattern-defeating quicksort of Orson Peters (arXiv:2106.05123) as Go has had it since 1.19
(package `sort`, zsortinterface.go). It is deterministic, so it is followed exactly. Rejected: a
stable sort, as Python's: on a real Swarm, where nodes had come one by one, it foretold 34 of 42
victims, this one all.

Engines older than Go 1.19 (Docker before 20.10.18) sort otherwise above 12 elements; so does the
shuffling after bad partitions in 1.19 itself. A victim that was not foretold finishes its work as
well.

Pure.
"""

from __future__ import annotations

from collections.abc import Callable, MutableSequence
from typing import Generic, TypeVar

T = TypeVar("T")

INSERTION_MAX = 12
"""So many are sorted by insertion."""
NINTHER_MIN = 50
"""From so many on the pivot is a median of medians, and stray elements are put right singly."""
SWAPS_MAX = 12
"""All that a median of medians can make: the range looks reversed. A single median never does."""
STRAYS_MAX = 5
WORD = 0xFFFF_FFFF_FFFF_FFFF


def go_sort(items: MutableSequence[T], less: Callable[[T, T], bool]) -> None:
    """Sort in place."""
    _Sorting(items, less).quick(0, len(items), len(items).bit_length())


class _Sorting(Generic[T]):
    """A sequence that is being sorted; ranges are half open."""

    def __init__(self, items: MutableSequence[T], less: Callable[[T, T], bool]) -> None:
        self._items = items
        self._is_less = less
        self._swaps = 0

    def quick(self, low: int, high: int, limit: int) -> None:
        balanced = partitioned = True
        while high - low > INSERTION_MAX:
            if limit == 0:
                self._heap(low, high)
                return
            if not balanced:
                self._shuffle(low, high)
                limit -= 1
            pivot, increasing = self._choose_pivot(low, high)
            if balanced and partitioned and increasing and self._put_strays_right(low, high):
                return
            if low > 0 and not self._less(low - 1, pivot):
                low = self._split_off_equals(low, high, pivot)
                continue
            middle, partitioned = self._partition(low, high, pivot)
            left, right = middle - low, high - middle
            balanced = min(left, right) >= (high - low) // 8
            if left < right:
                self.quick(low, middle, limit)
                low = middle + 1
            else:
                self.quick(middle + 1, high, limit)
                high = middle
        self._insert(low, high)

    def _less(self, one: int, other: int) -> bool:
        return self._is_less(self._items[one], self._items[other])

    def _swap(self, one: int, other: int) -> None:
        items = self._items
        items[one], items[other] = items[other], items[one]

    def _insert(self, low: int, high: int) -> None:
        for top in range(low + 1, high):
            self._sink(top, low)

    def _sink(self, at: int, low: int) -> None:
        while at > low and self._less(at, at - 1):
            self._swap(at, at - 1)
            at -= 1

    def _choose_pivot(self, low: int, high: int) -> tuple[int, bool]:
        """Where it is, and whether the range looks sorted. One that looks reversed is turned."""
        quarter = (high - low) // 4
        places = [low + quarter, low + 2 * quarter, low + 3 * quarter]
        self._swaps = 0
        if high - low >= NINTHER_MIN:
            places = [self._median(place - 1, place, place + 1) for place in places]
        pivot = self._median(*places)
        if self._swaps == SWAPS_MAX:
            self._items[low:high] = self._items[low:high][::-1]
            return high - 1 - (pivot - low), True
        return pivot, self._swaps == 0

    def _median(self, one: int, two: int, three: int) -> int:
        one, two = self._in_order(one, two)
        two, three = self._in_order(two, three)
        one, two = self._in_order(one, two)
        return two

    def _in_order(self, one: int, two: int) -> tuple[int, int]:
        if self._less(two, one):
            self._swaps += 1
            return two, one
        return one, two

    def _put_strays_right(self, low: int, high: int) -> bool:
        """Whether the range is sorted now; a few elements out of place are moved, if it is long."""
        at = low + 1
        for _ in range(STRAYS_MAX):
            while at < high and not self._less(at, at - 1):
                at += 1
            if at == high:
                return True
            if high - low < NINTHER_MIN:
                return False
            self._swap(at, at - 1)
            if at - low >= 2:
                self._sink(at - 1, 0)
            if high - at >= 2:
                rising = at + 1
                while rising < high and self._less(rising, rising - 1):
                    self._swap(rising, rising - 1)
                    rising += 1
        return False

    def _partition(self, low: int, high: int, pivot: int) -> tuple[int, bool]:
        """Smaller ones to the left; where the pivot is then, and whether nothing had to move."""
        self._swap(low, pivot)
        left, right = self._meet(low, low + 1, high - 1)
        moved = left <= right
        while left <= right:
            self._swap(left, right)
            left, right = self._meet(low, left + 1, right - 1)
        self._swap(right, low)
        return right, not moved

    def _meet(self, pivot: int, left: int, right: int) -> tuple[int, int]:
        while left <= right and self._less(left, pivot):
            left += 1
        while left <= right and not self._less(right, pivot):
            right -= 1
        return left, right

    def _split_off_equals(self, low: int, high: int, pivot: int) -> int:
        """What equals the pivot to the left; where the rest begins."""
        self._swap(low, pivot)
        left, right = low + 1, high - 1
        while True:
            while left <= right and not self._less(low, left):
                left += 1
            while left <= right and self._less(low, right):
                right -= 1
            if left > right:
                return left
            self._swap(left, right)
            left, right = left + 1, right - 1

    def _shuffle(self, low: int, high: int) -> None:
        """Break a pattern that made bad pivots: three swaps by a fixed xorshift."""
        length = high - low
        mask = (1 << length.bit_length()) - 1
        state, at = length, low + length // 4 * 2 - 1
        for step in range(3):
            state ^= state << 13 & WORD
            state ^= state >> 7
            state ^= state << 17 & WORD
            other = state & mask
            self._swap(at - 1 + step, low + (other - length if other >= length else other))

    def _heap(self, low: int, high: int) -> None:
        count = high - low
        for root in range((count - 1) // 2, -1, -1):
            self._sift(root, count, low)
        for last in range(count - 1, -1, -1):
            self._swap(low, low + last)
            self._sift(0, last, low)

    def _sift(self, root: int, count: int, first: int) -> None:
        while (child := 2 * root + 1) < count:
            if child + 1 < count and self._less(first + child, first + child + 1):
                child += 1
            if not self._less(first + root, first + child):
                return
            self._swap(first + root, first + child)
            root = child
