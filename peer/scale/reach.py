"""Whether this peer reaches the orchestrator: only then it can lead.

Gossip proposes the oldest of those that may lead, and knows nothing of Docker's sockets. On a Swarm
most peers run on workers, where there is no API; one of these as the leader would hold the place
and do nothing. So each peer tries now and then, and says in its row whether it may lead.

A manager that is away for half a minute is no reason to hand the lead on: the others would not
reach it either, and each change of leader costs a window without scaling down.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

import trio

from scaling.ports import OrchestratorUnavailable

log = logging.getLogger(__name__)

TRY_EVERY_S = 15.0
GIVEN_UP_AFTER_S = 60.0
"""Longer than a Swarm's managers take to choose another leader (14 s, measured)."""


UNTRIED = "it has not been tried yet"


class Reach:
    """Tries the orchestrator, and says so.

    Args:
        attempt: Looks at it; raises `OrchestratorUnavailable`.
        said: Told whether this peer may lead, at each change; at first it may not.
    """

    def __init__(
        self, attempt: Callable[[], Awaitable[object]], said: Callable[[bool], None]
    ) -> None:
        self._attempt, self._said = attempt, said
        self._reached_s: float | None = None
        self._eligible = False
        self.trouble = UNTRIED

    @property
    def eligible(self) -> bool:
        """Whether it was reached lately."""
        return self._eligible

    async def run(self) -> None:
        """Try until cancelled."""
        while True:
            await self.look()
            await trio.sleep(TRY_EVERY_S)

    async def look(self) -> None:
        """Try once."""
        try:
            await self._attempt()
        except OrchestratorUnavailable as error:
            if str(error) != self.trouble:
                # On a worker that is as it should be; where nobody leads it is what one looks for.
                what = "this peer cannot lead the scaling: it does not reach the orchestrator"
                log.info(what, extra={"action": "reach", "why": str(error)})
            self.trouble = str(error)
        else:
            if self.trouble not in ("", UNTRIED):
                log.info("the orchestrator is reached", extra={"action": "reach"})
            self.trouble = ""
            self._reached_s = trio.current_time()
        reached_s = self._reached_s
        eligible = reached_s is not None and trio.current_time() - reached_s < GIVEN_UP_AFTER_S
        if eligible != self._eligible:
            self._eligible = eligible
            self._said(eligible)
