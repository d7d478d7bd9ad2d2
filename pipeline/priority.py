"""Which priority's turn it is: shares that starve nobody, as a pure value.

RabbitMQ's quorum queues know no priorities before 4.0, and a classic queue with priorities is not
replicated, and gives to the high ones alone for as long as there are any. So each priority has a
queue of its own, and whoever takes a message asks them in the order that this says: smooth weighted
round robin (nginx, ngx_http_upstream_round_robin.c, 2012). While all wait, of 21 messages 16 are
high, 4 normal and 1 is low, evenly mixed; a priority of which nothing waits leaves its share to
the others and saves none up.

Every peer counts for itself. With many peers the shares hold as well as with one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.tasks import Priority

WEIGHTS: Mapping[Priority, int] = {Priority.HIGH: 16, Priority.NORMAL: 4, Priority.LOW: 1}


class Turns:
    """Whose turn it is; `order` to ask, `took` to count."""

    def __init__(self, weights: Mapping[Priority, int] = WEIGHTS) -> None:
        self._weights = dict(weights)
        self._credit = dict.fromkeys(self._weights, 0)

    def order(self) -> Sequence[Priority]:
        """In which order to look for the next message; the first that has one gives it."""
        after = {name: self._credit[name] + weight for name, weight in self._weights.items()}
        return sorted(after, key=lambda name: (-after[name], -self._weights[name]))

    def took(self, priority: Priority) -> None:
        """Count a message of that priority, which was the first in `order` that had one."""
        order = self.order()
        empty = order[: order.index(priority)]
        waiting = [name for name in self._weights if name not in empty]
        for name in empty:
            self._credit[name] = 0
        for name in waiting:
            self._credit[name] += self._weights[name]
        self._credit[priority] -= sum(self._weights[name] for name in waiting)
