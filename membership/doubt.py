"""Whether a peer that somebody doubts still gives signs of life: a quick question, outside of the
rules by which the cluster agrees on a death.

A death takes seconds, because everybody acts on it and it must not be wrong. Who has a reason of
its own to doubt a peer (the queue has given it up) and can afford a mistake (fencing makes it
merely expensive) asks the peer itself, and those silences are short: it answers within
milliseconds, or after all pings got lost on a line that would have made it suspect anyway.
"""

from __future__ import annotations

from gossip.rows import State
from membership.view import View

WITHIN_S = 1.0
"""After that long without a sign the doubted peer is taken for gone. Four pings: where three of ten
datagrams get lost each way, one peer in fourteen would be wronged, and only made to lose a race."""

ASK_S = 0.25
LOOK_S = 0.02


def judge(view: View, uid: int, epoch: int, *, asked_s_ago: float) -> bool | None:
    """Judge a life by what has been heard since it was doubted.

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
    return None if asked_s_ago < WITHIN_S else False
