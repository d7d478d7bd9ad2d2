"""Whether a peer that somebody doubts still gives signs of life: a quick question, outside of the
rules by which the cluster agrees on a death.

A death takes seconds, because everybody acts on it and it must not be wrong. Who has a reason of
its own to doubt a peer (the queue has given it up) and can afford a mistake (fencing makes it
merely expensive) asks the peer itself, and those silences are short: it answers within
milliseconds, or after all pings got lost on a line that would have made it suspect anyway.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gossip.rows import State
from membership.view import View

WITHIN_S = 1.0
"""After that long without a sign the doubted peer is taken for gone. Four pings: where three of ten
datagrams get lost each way, one peer in fourteen would be wronged, and only made to lose a race."""

ASK_S = 0.25
LOOK_S = 0.02


@dataclass(slots=True)
class Listening:
    """For how long somebody has been listening for an answer.

    Who stood still (a busy processor, a paused machine) has not: answers that came meanwhile are
    read only afterwards. So of each pause no more is counted than lies between two questions.

    Args:
        asked_at: When it began, in seconds of a clock that never goes back.
    """

    asked_at: float
    listened_s: float = 0.0
    _looked_at: float = field(init=False)

    def __post_init__(self) -> None:
        self._looked_at = self.asked_at

    def look(self, now: float) -> None:
        """Count what has passed since the last look."""
        self.listened_s += min(now - self._looked_at, ASK_S)
        self._looked_at = now


def judge(
    view: View, uid: int, epoch: int, *, asked_s_ago: float, listened_s: float
) -> bool | None:
    """Judge a life by what has been heard since it was doubted.

    Args:
        asked_s_ago: A sign of life is one that came since.
        listened_s: For how long of that this peer could hear one.

    Returns:
        Whether it goes on; None while that is not known yet.
    """
    member = next((one for one in view.members if one.row.uid == uid), None)
    if member is None:
        return True  # nobody here has ever heard of it: no ground to judge on
    if member.row.epoch > epoch or member.state not in (State.ALIVE, State.SUSPECT):
        return False
    if member.own or view.deaf or view.suspected:
        return True  # a peer that does not hear, or that others do not hear, judges nobody
    if member.age_s < asked_s_ago:
        return True
    return None if listened_s < WITHIN_S else False
