"""Who knows the future: starts every part at once, and pays only what that takes.

A node is ordered so that it is ready when it is needed, which costs its boot time; it is kept
through a gap that is shorter than the boot that would follow; a part goes to the fullest node that
has room, so that others run empty. It is no lower bound: who lets parts wait can be cheaper.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from tests.simulation.scaling.traces import Part

BOOT_S = 90.0


def node_seconds(parts: Sequence[Part], *, per_node: int) -> tuple[float, int]:
    """Return the node-seconds paid, and how many nodes were booted."""
    ends: list[tuple[float, int]] = []
    busy: list[int] = []
    idle_since_s: list[float] = []
    paid_s, boots = 0.0, 0
    gone: set[int] = set()

    def settle(until_s: float) -> None:
        nonlocal paid_s
        while ends and ends[0][0] <= until_s:
            end_s, node = heapq.heappop(ends)
            busy[node] -= 1
            if busy[node] == 0:
                idle_since_s[node] = end_s

    began_s: list[float] = []
    for part in parts:
        settle(part.at_s)
        for node in range(len(busy)):
            idle_too_long = busy[node] == 0 and part.at_s - idle_since_s[node] > BOOT_S
            if node not in gone and idle_too_long:
                gone.add(node)
                paid_s += idle_since_s[node] - began_s[node]
        free = [node for node in range(len(busy)) if node not in gone and busy[node] < per_node]
        if free:
            chosen = max(free, key=lambda node: (busy[node], -node))
        else:
            chosen = len(busy)
            busy.append(0)
            idle_since_s.append(part.at_s)
            began_s.append(part.at_s - BOOT_S)
            boots += 1
        busy[chosen] += 1
        heapq.heappush(ends, (part.at_s + part.work_s, chosen))
    settle(float("inf"))
    paid_s += sum(
        idle_since_s[node] - began_s[node] for node in range(len(busy)) if node not in gone
    )
    return paid_s, boots
