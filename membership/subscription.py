"""Changes for whoever acts on them in its own time.

A subscriber that is slow must never hold up the loop that hears heartbeats, and must not grow
without bound either. So it gets the newest `CHANGES_MAX`; what is older is dropped and counted in
`missed`. That loses nothing that matters: a change is news about a state, and the state is in the
view, which whoever has missed something looks at.

Rejected: to drop the newest (the last word about a member would be a wrong one), and to end a slow
subscription (its owner would have to write the way back in, and few test theirs).
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

import trio

from membership.changes import Change

CHANGES_MAX = 1024
"""Each is some hundred bytes; a cluster of a thousand may die at once and be told whole."""


class Subscription:
    """An endless stream of changes: `async for change in subscription`.

    To be closed, or used as a context manager. One reader.

    Attributes:
        missed: How many changes were dropped because the reader was slow.
    """

    def __init__(self, ended: Callable[[Subscription], None], limit: int = CHANGES_MAX) -> None:
        self.missed = 0
        self._closed = False
        self._ended = ended
        self._send, self._receive = trio.open_memory_channel[Change](limit)

    def offer(self, change: Change) -> None:
        """Add a change; never waits."""
        try:
            self._send.send_nowait(change)
        except trio.WouldBlock:
            self._receive.receive_nowait()
            self.missed += 1
            self._send.send_nowait(change)

    def end(self) -> None:
        """Let the reader come to the end of what is there, and then of the stream."""
        self._send.close()

    def close(self) -> None:
        """Want no more; a second time changes nothing."""
        if not self._closed:
            self._closed = True
            self._ended(self)
            self._send.close()
            self._receive.close()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Change:
        try:
            return await self._receive.receive()
        except trio.EndOfChannel:
            raise StopAsyncIteration from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
