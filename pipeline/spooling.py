"""A ledger that may be away: events go to a spool on disk meanwhile, and arrive later, in order.

An attempt writes an event at each of its steps (`noting` brings them, some at a time). If it waited
for a ledger that is away, an encode that began before the outage would stop in the middle of it. So
a step's event is spooled, and the attempt goes on; what decides (to claim, to commit, to release)
waits, because only the ledger can answer it.

Three rules keep the order: nothing is written past an entry that waits, so everything is spooled
while the spool is not empty; what waits is delivered from the front, by one task at a time; and
whatever decides first delivers all of it. An entry is repeated until the ledger has answered, which
its stamp makes harmless. One rule keeps the fence: a step of a claim that was lost meanwhile is
dropped, as its holder would have been refused at once. And nothing stops the rest: what cannot be
read, and what the ledger refuses for any reason of its own, is set aside for a person.

The rejected alternative, to let everything wait in memory, would lose the events of a peer that is
killed during the outage: of all its events those that somebody will want to read.
"""

from __future__ import annotations

import logging
import random
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from itertools import islice, takewhile
from typing import Protocol
from uuid import UUID

import trio

from pipeline.errors import ClaimLost, LedgerUnavailable
from pipeline.events import Record
from pipeline.ports import ClaimLedger, Release, Submission
from pipeline.spool import Found, Spool, encode_line
from pipeline.spooled import Decode, Entry, Spooled, from_entries, to_entry
from pipeline.standing import Suspended
from pipeline.tasks import (
    Busy,
    Claim,
    Held,
    Holder,
    Product,
    Progress,
    Settled,
    Unknown,
)

log = logging.getLogger(__name__)

BATCH = 200
"""How many events that belong to no claim are delivered in one transaction."""

PAUSE_MIN_S = 0.05
"""Before the first try to deliver; each further one waits for twice as long, up to a limit."""


class Ledger(ClaimLedger, Protocol):
    """**Protocol**: what is wrapped: `ClaimLedger`, and `Sweep.record`."""

    async def record(self, records: Sequence[Record]) -> None:
        """See `Sweep`."""
        ...


class SpoolingLedger:
    """Implements `ClaimLedger`, and `record` of `Sweep`, in front of another ledger.

    Call `replay` before anything is recorded in this life of the peer, and `run` during it.

    Args:
        spool: This peer's own.
        decode: Makes events again of what former lives have spooled.
        pause_max_s: The longest pause between two tries to deliver.
    """

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        *,
        decode: Decode,
        rng: random.Random,
        pause_max_s: float = 2.0,
    ) -> None:
        self._ledger = ledger
        self._spool = spool
        self._decode = decode
        self._rng = rng
        self._pause_max_s = pause_max_s
        self._waiting: deque[Spooled] = deque()
        self._spooled = trio.Event()  # replaced whenever the spool is empty again
        self._writing = trio.Lock()  # the files
        self._delivering = trio.Lock()
        self._delivered = 0  # since the spool was empty
        self._dropped = 0
        self._batch = BATCH  # smaller while one that the ledger refuses is searched for

    @property
    def spooled(self) -> int:
        """How many events wait for the ledger."""
        return len(self._waiting)

    async def replay(self) -> None:
        """Deliver what former lives of this peer left, however long the ledger is away."""
        found = await self._read()
        waiting, unreadable = from_entries(found.entries, self._decode)
        if aside := [*found.damaged, *map(_line, unreadable)]:
            log.error(
                "events of a former life cannot be read: they are set aside",
                extra={"action": "spool_unreadable", "events": len(aside)},
            )
            await self._set_aside(aside)
        if waiting:
            log.info(
                "events of a former life wait for the ledger",
                extra={"action": "spool_replay", "events": len(waiting)},
            )
            self._waiting.extend(waiting)
            self._spooled.set()
            await self._deliver_patiently()
        elif aside:
            await self._empty_files()

    async def run(self) -> None:
        """Deliver what was spooled, until cancelled; what is left then waits for the next start."""
        try:
            while True:
                await self._spooled.wait()
                await self._deliver_patiently()
        finally:
            with trio.CancelScope(shield=True):  # for as long as one write takes
                async with self._writing:
                    self._spool.close()
            if self._waiting:
                log.warning(
                    "events stay on disk until this peer's next start",
                    extra={"action": "spool_left", "events": len(self._waiting)},
                )

    # -- what does not wait ------------------------------------------------------------------------

    async def advance(self, claim: Claim, *steps: Record) -> None:
        """See `ClaimLedger`. While the ledger is away the events are spooled, and this returns.

        Raises:
            LedgerUnavailable: It is away and nothing more can be spooled.
        """
        waiting = [Spooled(record=step, claim=claim) for step in steps]
        await self._now_or_later(partial(self._ledger.advance, claim, *steps), waiting)

    async def record(self, records: Sequence[Record]) -> None:
        """See `Sweep`. While the ledger is away the events are spooled, and this returns.

        Raises:
            LedgerUnavailable: It is away and nothing more can be spooled.
        """
        waiting = [Spooled(record=record) for record in records]
        await self._now_or_later(partial(self._ledger.record, records), waiting)

    async def _now_or_later(
        self, write: Callable[[], Awaitable[None]], waiting: Sequence[Spooled]
    ) -> None:
        away = LedgerUnavailable("earlier events wait for the ledger", definite=True)
        if not self._waiting:
            try:
                await write()
            except LedgerUnavailable as error:
                away = error
            else:
                return
        await self._put(waiting, away)

    # -- what only the ledger can answer -----------------------------------------------------------

    async def claim(
        self,
        task_id: UUID,
        part: int,
        holder: Holder,
        token: UUID,
        record: Record,
        *,
        submission: Submission | None = None,
        unheard: Held | None = None,
    ) -> Claim | Busy | Settled | Unknown | Suspended:
        """See `ClaimLedger`."""
        await self._deliver()
        return await self._ledger.claim(
            task_id, part, holder, token, record, submission=submission, unheard=unheard
        )

    async def renew(self, claim: Claim, progress: Progress | None) -> None:
        """See `ClaimLedger`. It records nothing, so it overtakes what waits."""
        await self._ledger.renew(claim, progress)

    async def finish(
        self,
        claim: Claim,
        products: Sequence[Product],
        warnings: Sequence[str],
        record: Record,
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        """See `ClaimLedger`."""
        await self._deliver()
        await self._ledger.finish(claim, products, warnings, record, steps=steps)

    async def release(
        self,
        claim: Claim,
        release: Release,
        records: Sequence[Record],
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        """See `ClaimLedger`."""
        await self._deliver()
        await self._ledger.release(claim, release, records, steps=steps)

    # -- the spool ---------------------------------------------------------------------------------

    async def _put(self, waiting: Sequence[Spooled], away: LedgerUnavailable) -> None:
        """Spool events; a disk that cannot take them means to wait, as for the ledger alone."""
        entries = [to_entry(each) for each in waiting]
        async with self._writing:
            try:
                await trio.to_thread.run_sync(self._spool.append, entries)
            except OSError as error:
                log.warning(
                    "nothing can be spooled: work waits for the ledger",
                    extra={"action": "spool_full", "error": str(error)},
                )
                raise LedgerUnavailable(
                    f"{away.message}, and its spool takes nothing more: {error}",
                    definite=away.definite,
                ) from away
            # The thread runs to its end, also when this call is cancelled; no checkpoint since.
            if not self._waiting:
                log.warning(
                    "events are spooled until the ledger is back",
                    extra={"action": "spool", "error": str(away)},
                )
            self._waiting.extend(waiting)
            self._spooled.set()

    async def _deliver_patiently(self) -> None:
        """Deliver everything, trying again until that is done."""
        pause_s = PAUSE_MIN_S
        while True:
            try:
                return await self._deliver()
            except LedgerUnavailable as error:
                log.debug("not delivered", extra={"action": "spool", "error": str(error)})
            await trio.sleep(pause_s * self._rng.uniform(0.5, 1.0))
            pause_s = min(self._pause_max_s, pause_s * 2)

    async def _deliver(self) -> None:
        """Deliver everything that waits, from the front.

        Raises:
            LedgerUnavailable: Something still waits.
        """
        if self._spooled.is_set():
            async with self._delivering:
                while self._waiting:
                    await self._deliver_front()
            await self._note_empty()

    async def _deliver_front(self) -> None:
        """Deliver the first that waits; with those right behind it that belong to no claim.

        When the ledger refuses several, fewer are tried next, until it is known which one it is.
        """
        first = self._waiting[0]
        count = 1
        try:
            if first.claim is None:
                free = takewhile(lambda each: each.claim is None, self._waiting)
                batch = [each.record for each in islice(free, self._batch)]
                count = len(batch)
                await self._ledger.record(batch)
            else:
                await self._ledger.advance(first.claim, first.record)
        except LedgerUnavailable:
            raise
        except ClaimLost:
            self._dropped += 1
        except Exception as error:  # whatever it is, it would come again for ever
            if count > 1:
                self._batch = count // 2
                return
            log.error(  # noqa: TRY400 - the sentence is enough
                "the ledger refuses a spooled event: it is set aside",
                extra={
                    "action": "spool_refused",
                    "event": first.record.event.kind,
                    "error": f"{type(error).__name__}: {error}",
                },
            )
            await self._set_aside([_line(to_entry(first))])
            self._waiting.popleft()
            return
        for _ in range(count):
            self._waiting.popleft()
        self._delivered += count
        self._batch = min(BATCH, self._batch * 2)

    async def _set_aside(self, lines: Sequence[bytes]) -> None:
        """Keep what nobody can deliver, as far as there is room: it must not stop the rest."""
        async with self._writing:
            try:
                refused = await trio.to_thread.run_sync(self._spool.set_aside, lines)
                error = "there is no room for more of them"
            except OSError as failure:
                refused, error = len(lines), str(failure)
        if refused:
            log.error(
                "events are lost that should have been set aside",
                extra={"action": "spool_aside", "lost": refused, "error": error},
            )

    async def _note_empty(self) -> None:
        """Say that everything has arrived, unless something else was spooled meanwhile."""
        async with self._writing:
            if self._waiting or not self._spooled.is_set():
                return
            log.info(
                "everything spooled has arrived",
                extra={
                    "action": "spool_empty",
                    "events": self._delivered - self._dropped,
                    "dropped_with_lost_claims": self._dropped,
                },
            )
            self._spooled = trio.Event()
            self._delivered = self._dropped = 0
            await self._empty_files()

    async def _empty_files(self) -> None:
        try:
            await trio.to_thread.run_sync(self._spool.clear)
        except OSError as error:  # what lies in them is delivered again at the next start: no harm
            log.warning(
                "the spool cannot be emptied", extra={"action": "spool_empty", "error": str(error)}
            )

    async def _read(self) -> Found:
        try:
            return await trio.to_thread.run_sync(self._spool.read)
        except OSError:
            log.exception(
                "the spool cannot be read: events of a former life may be missing",
                extra={"action": "spool_unreadable"},
            )
            return Found(entries=(), damaged=())


def _line(entry: Entry) -> bytes:
    return encode_line(entry).rstrip(b"\n")
