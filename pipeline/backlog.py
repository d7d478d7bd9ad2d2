"""How much there is to do, as the ledger tells whoever says how many should do it.

The ledger knows each part once. A broker knows messages, and those are not the same: a whole task
that a client has sent is in no table before a peer receives it, and of one part there may be
several wake-ups, because a peer that died gave its own back while another was sent for it, or
because one seemed to be lost. So of the broker's messages those are taken off that the ledger can
account for, and the rest are whole tasks (`unreceived`). The rejected alternative, the larger of
both numbers, takes every repeated wake-up for work as soon as all that is recorded is worked on.

Apart from the other ports: nothing of the pipeline asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from pipeline.ports import Depth


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """The work there is, for whoever decides how many should do it.

    Args:
        ready: Parts that wait to be taken; at most as many as were to be counted.
        delayed: Parts that wait for their next attempt; the same.
        running: Parts that are worked on.
        repeats: Wake-ups that were sent for all of these beside the first of each: the queue holds
            at most so many more messages than there are parts that wait.
        arrivals_per_s: Parts that were submitted, the larger of the rates over 120 s and 300 s.
        service_s: How long one part took, the mean of the newest; before any is done, what those
            who work expect; None when nobody says.
        remaining_s: By the uid of each peer that works: until it is done with all that it has; None
            where it does not say of all.
    """

    ready: int
    delayed: int
    running: int
    repeats: int
    arrivals_per_s: float
    service_s: float | None
    remaining_s: Mapping[str, float | None]


class Workload(Protocol):
    """**Protocol**: the ledger as the one who knows how much there is to do."""

    async def backlog(self, at_most: int) -> Backlog:
        """Count what waits, as far as `at_most`: a long queue is not read to its end.

        Raises `LedgerUnavailable`.
        """
        ...


def unreceived(known: Backlog, depth: Depth, at_most: int) -> int:
    """Count the whole tasks that only the broker holds.

        messages that can be delivered, now or later
        - (parts that wait, now or later + wake-ups that were repeated)

    Never below what is certain, which is none, so demand is never below the ledger's own count.
    It may be too small by the repeated wake-ups that were removed already while their parts are
    not done (there is about one for each part that a dead peer held), and only where there are
    whole tasks at all. It may be too large by the messages of parts that have ended since
    (cancelled, or done under another message): each of them is gone as soon as a peer looks at it.

    Args:
        at_most: How far the ledger counted. Where it came so far it does not know all of its parts,
            and nothing follows from a difference; there is enough to do in any case.
    """
    if max(known.ready, known.delayed) >= at_most:
        return 0
    accounted = known.ready + known.delayed + known.repeats
    return max(0, depth.ready + depth.delayed - accounted)
