"""What to do about a message whose part somebody else holds: a pure decision.

The queue and the ledger both notice a dead peer, the queue within a second, by its connection, the
ledger when the lease runs out. The queue alone is not to be believed: it redelivers as well when
a connection broke whose peer works on, and work would be doubled without need. The lease alone is
slow. So a redelivered message is a reason to *ask* the holder, and to *watch* its claim meanwhile:
an answer may be lost between just these two peers, but a holder that works renews. If there is
neither answer nor renewal, its part is taken over at once. Fencing makes that safe, whoever was
right.
"""

from __future__ import annotations

from collections.abc import Container
from enum import Enum, auto
from uuid import UUID

from pipeline.tasks import Held, Holder

RENEW_S = 1.0
"""The longest a claim goes without a renewal, whatever its lease is. The renewal shows others that
its holder works, and tells the holder that the task was cancelled: an encode must stop within five
seconds of that."""

SILENT_S = RENEW_S + 0.5
"""For how long a claim must have gone without a renewal to be taken over: what is left of it beside
the pause between two is for a ledger that is slow to write one."""


class Course(Enum):
    """What to do about the message."""

    WAIT = auto()
    """Put it back and look again: the part is in good hands, as far as anybody knows."""
    ADOPT = auto()
    """Keep it with the work: this very worker is the holder, and its own message may be void."""
    ASK = auto()
    """Ask the holder and watch its claim; with neither answer nor renewal take the part over."""
    TAKE_OVER = auto()
    """Take the part over."""


def course(
    held: Held | None, *, own: Holder, own_tokens: Container[UUID], redelivered: bool
) -> Course:
    """Decide what to do about a message.

    Args:
        held: The claim that is in the way; None when the part waits for its next attempt.
        own_tokens: Of the claims that this worker has, or is just asking for.
        redelivered: The queue has given its earlier receiver up.
    """
    if held is None:
        return Course.WAIT
    # First, whatever name it bears: this process may have been renamed while it worked.
    if held.token in own_tokens:
        return Course.ADOPT
    if held.peer_uid == own.peer_uid:
        # A former life of this peer is over, which nobody needs to be asked. A claim of this life
        # that is not its own any more has just ended, and the ledger is about to say so.
        return Course.TAKE_OVER if held.epoch < own.epoch else Course.WAIT
    return Course.ASK if redelivered else Course.WAIT
