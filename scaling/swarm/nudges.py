"""A nudge whenever something in the Swarm has changed, so that nobody waits for the next look.

Swarm tells of changes to services and nodes, also of nodes that go down, and never of single
containers. Events get lost while a connection is made anew, or when a manager changes: a look at
fixed intervals is what the controller rests on, and this only makes some of them earlier.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec
import trio

from scaling.swarm.client import Line, Managers
from scaling.swarm.problems import Problem

FILTERS = msgspec.json.encode({"scope": ["swarm"], "type": ["service", "node"]}).decode()

SILENCE_S = 60.0
"""After so much quiet the connection is made anew, for a dead one is quiet, too."""
PAUSE_S = 2.0
"""Before the next try: also after an end in good order, for a proxy may end each at once."""


async def watch(managers: Managers, nudge: Callable[[], None], *, pause_s: float = PAUSE_S) -> None:
    """Call `nudge` from time to time, for ever, whatever happens to the managers.

    Also once after each connection is made, for what was missed before. Cancel it to end it; its
    thread ends at once, or when the manager it listens to is silent for a minute.
    """
    while True:
        with suppress(Problem):
            await _listen(managers.line, nudge)
        await trio.sleep(pause_s)


async def _listen(line: Line, nudge: Callable[[], None]) -> None:
    ends: list[Callable[[], None]] = []

    def follow() -> None:
        with line.listen("/events", {"filters": FILTERS}, SILENCE_S) as stream:
            ends.append(stream.shutdown)
            trio.from_thread.run_sync(nudge)
            for _ in stream.lines():
                trio.from_thread.run_sync(nudge)

    try:
        # Its own limit: it must not keep calls from being made, nor they it.
        await trio.to_thread.run_sync(
            follow, abandon_on_cancel=True, limiter=trio.CapacityLimiter(1)
        )
    finally:
        for end in ends:
            with suppress(OSError, RuntimeError, ValueError):  # it has ended by itself
                end()
