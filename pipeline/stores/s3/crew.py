"""Several workers on one list of parts, each patient for a moment; the first failure ends it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import trio

from pipeline.stores.s3.problems import Problem

T = TypeVar("T")

PAUSES_S = (0.1, 0.5)
"""Before the second and the third try. Who has longer patience repeats the whole call."""

SHORT = 4
"""How many times the silence that is allowed a few short requests may take."""


async def share_out(items: Iterable[T], workers: int, work: Callable[[T], Awaitable[None]]) -> None:
    """Do the work for every item, so many at once.

    Raises:
        Exception: The first that any of them raised, bare; the others were cancelled then.
    """
    waiting = iter(items)
    failures: list[Exception] = []

    async def take_turns() -> None:
        try:
            for item in waiting:
                await work(item)
        except Exception as error:
            failures.append(error)
            nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        for _ in range(workers):
            nursery.start_soon(take_turns)
    if failures:
        raise failures[0]


async def persist(call: Callable[[], Awaitable[T]]) -> T:
    """Repeat a call that is safe to repeat, a few times, when its problem may pass."""
    for pause_s in PAUSES_S:
        try:
            return await call()
        except Problem as problem:
            if not problem.passing:
                raise
        await trio.sleep(pause_s)
    return await call()
