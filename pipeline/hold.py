"""Why a worker takes no new work although its dependencies are well: the cluster, and itself.

The cluster has two reasons. This peer may know by itself that it is cut off (`may_take` says so);
or it does not know, and the ledger tells it when it claims (`Suspended`). Its own reason is its
conduct (`scrutiny`). In all cases what it works on goes on, fenced by its token, and messages are
left to others.

Being suspended, it looks again now and then by trying to claim: a reinstatement is not announced,
and one message that passes through its hands each `LOOK_AGAIN_S` costs less than one more method
that every ledger has to have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import trio

from pipeline.scrutiny import Scrutiny
from pipeline.standing import SUSPENSION_S, Suspended

MayTake = Callable[[], str | None]
"""Why this peer must not take new work now, in one sentence; None when it may. Cheap: asked for
every message, and four times a second while it holds."""

CLUSTER = "cluster"
"""The cluster's reason among the troubles of a worker."""

QUARANTINE = "quarantine"
"""Its own reason among them; also while it is only on probation."""

LOOK_S = 0.25
"""How soon a reason that is over is noticed."""

LOOK_AGAIN_S = 1.0
"""How long a suspended peer waits before it tries to claim again."""

LEAVE_TO_OTHERS_S = 0.25
"""How long a message that cannot be taken here is kept from being delivered here again at once."""


def always() -> None:
    """Be `MayTake` for a peer that is alone."""


class Hold:
    """Says whether new work may be taken, and waits until it may."""

    def __init__(self, may_take: MayTake, scrutiny: Scrutiny) -> None:
        self._may_take = may_take
        self._scrutiny = scrutiny
        self._suspended_until = float("-inf")  # in trio's time
        self._suspended_why = ""

    @property
    def reason(self) -> str | None:
        """Why no new work is taken; None while it is."""
        return self._cluster() or self._scrutiny.reason

    @property
    def trouble(self) -> Mapping[str, str]:
        """What people should know: also that work is taken, but on probation."""
        reasons = {CLUSTER: self._cluster(), QUARANTINE: self._scrutiny.trouble}
        return {name: why for name, why in reasons.items() if why is not None}

    def suspend(self, suspended: Suspended) -> bool:
        """Hear that the ledger refused a claim; tell whether that is news."""
        now = trio.current_time()
        is_news = now > self._suspended_until + SUSPENSION_S
        self._suspended_until = now + min(LOOK_AGAIN_S, suspended.left_s)
        self._suspended_why = suspended.why
        return is_news

    async def wait(self) -> None:
        """Wait until new work may be taken, and evidence against this peer was heard."""
        while True:
            await self._scrutiny.ask_witnesses()
            if self.reason is None:
                return
            await trio.sleep(LOOK_S)  # no reason announces its end

    def _cluster(self) -> str | None:
        if (reason := self._may_take()) is not None:
            return reason
        return self._suspended_why if trio.current_time() < self._suspended_until else None
