"""Keeps what goes wrong in scaling to scaling: the peer goes on with its work, and tries again.

What can be foreseen is answered where it happens: a ledger that is away, a manager that is silent.
The rest are mistakes of ours, or of a library. Among the peer's other tasks one of these would end
the peer, its encodes with it; and as the next leader looks at the same things, it would end one
peer after the other. So a loop that fails is begun anew after a while, knowing nothing, as a new
leader does. Nothing that is done is lost by that: the loops keep nothing that outlives a round.

Rejected: to catch everything within a round. What a failed round has left in the leader's memory
would be decided upon again, and a loop beside the rounds would still end the peer.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from functools import partial

import trio

log = logging.getLogger(__name__)

PAUSE_S = 5.0
PAUSE_MAX_S = 300.0
SETTLED_S = 600.0
"""Who has gone on for so long has not failed again, but anew."""


def kept_apart(run: Callable[[], Awaitable[None]], what: str) -> Callable[[], Awaitable[None]]:
    """Return a loop that fails nobody: it runs `run`, and again when that has failed.

    Args:
        what: It is called in the log.
    """
    return partial(_keep, run, what)


async def _keep(run: Callable[[], Awaitable[None]], what: str) -> None:
    pause_s = PAUSE_S
    while True:
        began_s = trio.current_time()
        try:
            await run()
        except Exception:
            if trio.current_time() - began_s >= SETTLED_S:
                pause_s = PAUSE_S
            log.exception(
                "a part of scaling has failed by a mistake in the program; the work goes on, and "
                "it is begun anew",
                extra={"action": "scale", "part": what, "again_in_s": pause_s},
            )
            await trio.sleep(pause_s)
            pause_s = min(PAUSE_MAX_S, 2 * pause_s)
        else:
            return
