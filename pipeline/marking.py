"""The cluster's store and no other: an object store that is used only while it has the right mark.

What the mark is for, and what it says, is in `mark`. Here is when it is looked at: before a store
is used for the first time, then again when `TRUST_S` is over, as disks are unmounted while peers
run; and whenever an object is missing, because that is what a wrong store looks like. After a mark
that was wrong nothing is read or written before one was right.

A ledger that is away says nothing new: what it said last holds meanwhile, so that encodes and
pushes go on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import trio

from pipeline.errors import LedgerUnavailable, PullFailed, StoreUnavailable, WrongStore
from pipeline.mark import (
    Belonging,
    Mark,
    Register,
    encode,
    find_objection,
    lacks_what_was_made,
    untold,
)
from pipeline.ports import ObjectStore, ReportCopied, StoredObject
from pipeline.quarantine import MISSING

log = logging.getLogger(__name__)

TRUST_S = 20.0
"""How long a mark that was right counts without another look. Shorter than the worker's pause
between two of its looks at the store (`worker.LOOK_S`), so that each of them is one."""

LOOK_WITHIN_S = 10.0
"""For reading or writing a mark; the file system of a server that is gone would never answer."""

MARK_WITHIN_S = 3 * LOOK_WITHIN_S
"""How long the others leave it to one peer to mark the cluster's first store."""


class Markable(ObjectStore, Protocol):
    """**Protocol**: a store that can have a mark, beside its objects. Raises `StoreUnavailable`."""

    async def read_mark(self) -> bytes | None:
        """Read it; None if there is none. A cancelled call returns at once."""
        ...

    async def write_mark(self, content: bytes) -> None:
        """Write it, whole or not at all, in the place of any that is there."""
        ...


class MarkedStore:
    """An `ObjectStore` that raises `WrongStore` from every call while it is not the cluster's.

    Args:
        store: What it reads and writes.
        register: Knows which store is the cluster's.
    """

    def __init__(self, store: Markable, register: Register) -> None:
        self._store = store
        self._register = register
        self._belonging: Belonging | None = None
        self._trusted_until = -math.inf
        self._looking = trio.Lock()

    async def check(self) -> None:
        """Look whether this is the cluster's store now; if there is none yet, it becomes it.

        Raises:
            WrongStore: It is another one; the message says what was expected and what was found.
            StoreUnavailable: It cannot be told.
        """
        async with self._looking:
            await self._look()

    async def adopt(self) -> bool:
        """Make this the cluster's store, whichever that was before; a person says so.

        Whoever still uses the other one finds out within `TRUST_S`, and uses it no more. Nothing
        is copied.

        Returns:
            False if it was the cluster's already, and nothing has changed.

        Raises:
            StoreUnavailable: It cannot be marked, or another one was adopted at the same time.
            LedgerUnavailable: It may have become the cluster's, or not; say it again.
        """
        async with self._looking:
            belonging = await self._register.belonging()
            content, url = await self._read(), self.url("")
            if belonging.mark is not None and find_objection(belonging, content, url) is None:
                return False
            number = await self._register.draw_mark()
            await self._set(belonging, number)
            await self._look()
        return True

    async def pull(self, key: str, target: Path) -> int:
        """As the port says."""
        await self._make_sure()
        try:
            return await self._store.pull(key, target)
        except PullFailed as error:
            if error.code == MISSING:
                await self.check()
            raise

    async def push(
        self, source: Path, key: str, *, give: bool = False, report: ReportCopied | None = None
    ) -> None:
        """As the port says."""
        await self._make_sure()
        await self._store.push(source, key, give=give, report=report)

    async def list(self, prefix: str) -> Sequence[StoredObject]:
        """As the port says."""
        await self._make_sure()
        return await self._store.list(prefix)

    async def remove(self, prefix: str) -> int:
        """As the port says."""
        await self._make_sure()
        return await self._store.remove(prefix)

    async def sweep(self, older_than_s: float) -> int:
        """As the port says."""
        await self._make_sure()
        return await self._store.sweep(older_than_s)

    def url(self, key: str) -> str:
        """As the port says."""
        return self._store.url(key)

    async def _make_sure(self) -> None:
        if trio.current_time() < self._trusted_until:
            return
        async with self._looking:
            if trio.current_time() >= self._trusted_until:  # nobody has looked meanwhile
                await self._look()

    async def _look(self) -> None:
        self._trusted_until = -math.inf
        belonging, content = await self._ask_register(), await self._read()
        if (objection := find_objection(belonging, content, self.url(""))) is not None:
            raise WrongStore(objection)
        if belonging.mark is None:
            try:
                await self._mark_first(belonging, content)
                self._belonging = await self._register.belonging()
            except LedgerUnavailable as error:
                raise untold(error) from error
        self._trusted_until = trio.current_time() + TRUST_S

    async def _ask_register(self) -> Belonging:
        """What the ledger says, or has said last of a store that counts."""
        try:
            self._belonging = await self._register.belonging()
        except LedgerUnavailable as error:
            if self._belonging is None or self._belonging.mark is None:
                raise untold(error) from error
        return self._belonging

    async def _mark_first(self, belonging: Belonging, content: bytes | None) -> None:
        """Make this the cluster's store, unless another peer is just doing that with its own.

        One that has this cluster's newest mark was marked by somebody who did not come to say so.
        """
        number: int | None = belonging.drawn
        if not number or content != encode(Mark(cluster=belonging.cluster, number=number)):
            if belonging.made and not await self._store.list(belonging.made):
                raise WrongStore(lacks_what_was_made(belonging, self.url("")))
            number = await self._register.draw_first_mark(MARK_WITHIN_S)
        if number is None:
            raise StoreUnavailable(
                "another peer is marking the cluster's store just now; it is looked at again in a "
                "moment",
                definite=True,
            )
        await self._set(belonging, number)

    async def _set(self, belonging: Belonging, number: int) -> None:
        content, url = encode(Mark(cluster=belonging.cluster, number=number)), self.url("")
        with trio.move_on_after(LOOK_WITHIN_S) as scope:
            await self._store.write_mark(content)
        if scope.cancelled_caught:
            raise StoreUnavailable(f"{url} took no mark within {LOOK_WITHIN_S:g} s", definite=False)
        if not await self._register.confirm_mark(number, url):
            raise StoreUnavailable(
                f"another store was marked while {url} was; look which one is right, and adopt it",
                definite=True,
            )
        log.info("the cluster's store", extra={"action": "mark", "store": url, "number": number})

    async def _read(self) -> bytes | None:
        with trio.move_on_after(LOOK_WITHIN_S):
            return await self._store.read_mark()
        raise StoreUnavailable(
            f"{self.url('')} does not show its mark within {LOOK_WITHIN_S:g} s", definite=True
        )
