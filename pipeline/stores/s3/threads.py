"""Blocking requests under trio: each in a thread, under one limit, and none outlives its caller.

A thread cannot be cancelled. So it is asked to stop: it looks at its `Stop` between two blocks of
bytes, and the socket it may be waiting at is shut down under it. Who cancels waits until it has
let go, for at most `GRACE_S`; only a store that does not answer at all keeps a thread for longer,
until the request's own timeout, and nobody waits for it.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Protocol, TypeVar

import trio

from pipeline.stores.s3.problems import Lost

T = TypeVar("T")

GRACE_S = 1.0


class Stopped(Exception):
    """The thread was asked to stop. Nobody sees this: whoever asked has left."""


class Interruptible(Protocol):
    """**Protocol**: something a thread waits for, that another one can end."""

    def shutdown(self) -> None:
        """End the wait; it then fails."""
        ...


class Stop:
    """What a thread looks at to learn that nobody wants its result any more."""

    def __init__(self) -> None:
        self._asked = threading.Event()
        self._lock = threading.Lock()
        self._waiting_for: Interruptible | None = None

    def ask(self) -> None:
        """Ask the thread to stop, and end what it is waiting for."""
        with self._lock:
            self._asked.set()
            if self._waiting_for is not None:
                # What is closed, or was read to its end meanwhile, cannot be shut down any more.
                with suppress(OSError, RuntimeError, ValueError):
                    self._waiting_for.shutdown()

    def check(self) -> None:
        """To be called between blocks.

        Raises:
            Stopped: Somebody has asked.
        """
        if self._asked.is_set():
            raise Stopped

    @contextmanager
    def watching(self, answer: Interruptible) -> Iterator[None]:
        """While the thread waits for this. An error that comes of the stopping is `Stopped`."""
        with self._lock:
            self._waiting_for = answer
        try:
            self.check()
            yield
        except Exception:
            self.check()
            raise
        finally:
            with self._lock:
                self._waiting_for = None


class Threads:
    """Runs blocking work, so many at once."""

    def __init__(self, count: int) -> None:
        self._limiter = trio.CapacityLimiter(count)

    async def run(
        self,
        work: Callable[[Stop], T],
        *,
        within_s: float = math.inf,
        grace_s: float = GRACE_S,
    ) -> T:
        """Do the work in a thread.

        A cancelled call returns when the thread has ended, or after `grace_s`: infinite for work
        that must not go on beside what its caller does next.

        Raises:
            Lost: It took longer than that.
        """
        with trio.move_on_after(within_s):
            return await self._run(work, grace_s)
        raise Lost(f"the store did not finish its answer within {within_s:g} s")

    async def _run(self, work: Callable[[Stop], T], grace_s: float) -> T:
        stop, begun, ended = Stop(), threading.Event(), trio.Event()
        token = trio.lowlevel.current_trio_token()

        def task() -> T:
            begun.set()
            try:
                stop.check()
                return work(stop)
            finally:
                with suppress(trio.RunFinishedError):
                    token.run_sync_soon(ended.set)

        try:
            return await trio.to_thread.run_sync(
                task, limiter=self._limiter, abandon_on_cancel=True
            )
        except trio.Cancelled:
            stop.ask()
            # Either it is seen here that the thread has begun, or the thread sees that it must not.
            if begun.is_set():
                with trio.move_on_after(grace_s, shield=True):
                    await ended.wait()
            raise
