"""The line in front of the workers: where a part stands in it, and when it may be done. Pure.

Parts of one priority are taken in the order in which they became due. Of several priorities none is
simply before the others: they have shares (`pipeline.priority.WEIGHTS`), so a low part at the head
of its own line is taken after a few high ones, and not after all of them. Sorting by priority and
age, which would be one query, tells a low task that it is the last of ten thousand when it is the
eleventh.

Both numbers are estimates. Every peer counts its turns for itself, who comes later may be taken
earlier, the ledger does not know how many slots are free, and a video takes as long as it takes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate

from pipeline.priority import WEIGHTS
from pipeline.tasks import Priority

SAMPLES = 100
"""From how many of the newest parts that were done the pace is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How fast parts are done, all peers together.

    Args:
        running: How many are worked on now.
        mean_s: How long one takes; None when none was done lately and no holder says.
    """

    running: int
    mean_s: float | None


class Line:
    """The due parts that nobody has taken, counted in the slices that some times cut the line into.

    Args:
        times: When the parts became due that are asked about; each once, in order.
        counts: How many parts of a priority are in a slice: 0 is before the first time, and slice
            `n` begins with the time number `n`, counted from 1.
    """

    def __init__(
        self, times: Sequence[datetime], counts: Mapping[tuple[Priority, int], int], pace: Pace
    ) -> None:
        self._times = times
        self._pace = pace
        slices = range(len(times) + 1)
        self._ahead = {
            priority: list(accumulate(counts.get((priority, each), 0) for each in slices))
            for priority in Priority
        }

    def place(self, priority: Priority, due_since: datetime) -> int:
        """Where a part stands, from 1; `due_since` is one of the line's times."""
        ahead = self._ahead[priority][bisect_left(self._times, due_since)]
        return place(priority, ahead, {name: count[-1] for name, count in self._ahead.items()})

    def eta_s(self, place: int) -> float | None:
        """Seconds until the part at a place may be done; see `eta_s`."""
        return eta_s(place, self._pace)


def place(
    priority: Priority,
    ahead: int,
    waiting: Mapping[Priority, int],
    weights: Mapping[Priority, int] = WEIGHTS,
) -> int:
    """How many parts are taken until a part is, itself included.

    When some of a priority have been taken, another one that still waits has had as many more as
    its weight is larger, however many others have run out meanwhile; one that ran out has had all
    it had. A round's turns are evenly mixed: half of the others come before the only low one.

    Args:
        ahead: How many of its own priority are before it.
        waiting: How many of each priority wait.
    """
    rounds = (ahead + 0.5) / weights[priority]
    others = (name for name in weights if name is not priority)
    return ahead + 1 + sum(min(waiting[name], round(rounds * weights[name])) for name in others)


def eta_s(place: int, pace: Pace) -> float | None:
    """When the part at a place of the line may be done, in seconds from now.

    As many slots as are busy now stay busy and become free evenly, so each place further back costs
    one more share of a part's time; and then the part itself takes its time.

    Returns:
        None when nobody works, or nothing says how long that takes.
    """
    if pace.mean_s is None or pace.running == 0:
        return None
    return pace.mean_s * (place / pace.running + 1)
