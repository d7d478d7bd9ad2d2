"""Slots: how many parts a worker works on at once, and fewer for a while when memory ran out.

Whoever was ended for lack of memory was the largest of those that shared it, and not alone to
blame. So its slot is withheld: the peer works on one part fewer, down to one, and each slot comes
back after `shortage.WITHHOLD_S`. The rejected alternative, to let the part that failed wait until
it is alone, would leave slots idle for as long as the longest encode beside it.
"""

from __future__ import annotations

from collections import deque

import trio

from pipeline.shortage import WITHHOLD_S


class Slots:
    """Takes and gives back one at a time."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._free = trio.Semaphore(count)
        self._due_at: deque[float] = deque()
        self._withheld = trio.Event()

    @property
    def count(self) -> int:
        """How many there are now, taken or free; at least one, if there ever was one."""
        return self._count - len(self._due_at)

    async def acquire(self) -> None:
        """Wait for a free one, and take it."""
        await self._free.acquire()

    def release(self) -> None:
        """Give one back."""
        self._free.release()

    def withhold(self) -> bool:
        """Give one back that memory ran out in: it stays empty for a while, unless it is the last.

        Returns:
            Whether it does.
        """
        if self.count == 1:
            self._free.release()
            return False
        self._due_at.append(trio.current_time() + WITHHOLD_S)
        self._withheld.set()
        return True

    async def watch(self) -> None:
        """Free those that were withheld when their time is over, until cancelled."""
        while True:
            while not self._due_at:
                self._withheld = trio.Event()
                await self._withheld.wait()
            await trio.sleep_until(self._due_at[0])
            self._due_at.popleft()
            self._free.release()
