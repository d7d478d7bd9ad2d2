"""Who watches whom: the ring of all members, in the order of their uids.

Uids are random, so neighbours on the ring are not neighbours in the rack: what dies together stands
apart. Each member is watched by its next successors. Everybody who has the same members in his
table computes the same answer, in both directions, without asking anybody.

Rejected: one ring for each observer, ordered by a hash of ring and uid, as Rapid has it. Successors
on several rings coincide (one member in four has only seven distinct ones of eight at a hundred
members, and a dozen members would leave each with five), and the question "whom do I watch" needs
every ring. What an expander graph is better at, a stable cut of many at once, is not decided here.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence


def observers(ring: Sequence[int], uid: int, count: int) -> tuple[int, ...]:
    """Return who watches a member: its `count` successors, or all others if they are fewer.

    Args:
        ring: Sorted uids of all members. `uid` may be missing: where it would stand, counts.
    """
    return _neighbours(ring, uid, count, step=1)


def subjects(ring: Sequence[int], uid: int, count: int) -> tuple[int, ...]:
    """Return whom a member watches: its `count` predecessors, or all others if they are fewer."""
    return _neighbours(ring, uid, count, step=-1)


def _neighbours(ring: Sequence[int], uid: int, count: int, step: int) -> tuple[int, ...]:
    size = len(ring)
    here = bisect_left(ring, uid)
    inside = here < size and ring[here] == uid
    # Of somebody who is not in the ring, the element at `here` is already the first successor.
    start = here + step if inside or step < 0 else here
    length = min(count, size - 1 if inside else size)
    return tuple(ring[(start + step * index) % size] for index in range(length))
