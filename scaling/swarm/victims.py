"""Which containers Swarm ends when it is told to run fewer, computed before it is told.

Swarm lets nobody choose, but its choice is a pure function of what it shows (swarmkit,
manager/orchestrator/replicated, `reconcile`): running ones before others, then by slot; each is
numbered as the 1st, 2nd, … on its node; by that number they are sorted, and the tail is cut off. So
the fullest node loses first, and there the highest slot. One that has no node, or whose slot holds
two tasks for the moment, goes before all. Measured exact; see tests/swarm.

Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from scaling.swarm.containers import Slot
from scaling.swarm.go_sort import go_sort

HOMELESS = 1_000_000_000
"""Behind all that have a node."""


def victims(slots: Sequence[Slot], count: int) -> tuple[str, ...]:
    """Ids of the tasks that end when only `count` slots are left, the first to go first.

    Those that have ended before are left out: nobody is disturbed by losing them.
    """
    numbered: list[tuple[int, Slot]] = []
    on_node: Counter[str] = Counter()
    for slot in sorted(slots, key=lambda slot: (not slot.running, slot.number)):
        on_node[slot.node] += 1
        numbered.append((on_node[slot.node] if slot.node else HOMELESS, slot))
    go_sort(numbered, lambda one, other: one[0] < other[0])
    doomed = [slot for _, slot in numbered[max(count, 0) :]]
    return tuple(task for slot in reversed(doomed) if slot.live for task in slot.tasks)
