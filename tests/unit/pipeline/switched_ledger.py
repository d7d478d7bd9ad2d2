"""A peer's ledger in front of one that can be away, forget to answer, and lose claims."""

from __future__ import annotations

import itertools
import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import trio

from pipeline.errors import ClaimLost, LedgerUnavailable, Stage
from pipeline.events import (
    PipelineEvent,
    Record,
    Recordable,
    Stamp,
    TaskReceived,
    VideoFilePulled,
    VideoTranscoded,
    WorkloadProcessingStarted,
)
from pipeline.ports import Release
from pipeline.spool import Spool
from pipeline.spooling import SpoolingLedger
from pipeline.tasks import Claim, Holder, Progress

HOLDER = Holder(peer_uid="a" * 16, peer_name="ada", epoch=1, container="pid:1", node="here")
BY_KIND: Mapping[str, type[Recordable]] = {
    event.kind: event
    for event in (TaskReceived, VideoFilePulled, WorkloadProcessingStarted, VideoTranscoded)
}
AWAY = "the ledger is away"


def decode(kind: str, fields: Mapping[str, Any]) -> Recordable:
    event: Recordable = msgspec.convert(fields, BY_KIND[kind])
    return event


def claim_of(number: int) -> Claim:
    return Claim(
        task_id=UUID(int=number),
        part=0,
        attempt=2,
        token=UUID(int=1000 + number),
        lease_s=15.0,
        failures={Stage.PULL: 1},
    )


A, B = claim_of(1), claim_of(2)


class Recorder:
    """Stamps events; the next life goes on with the next epoch."""

    def __init__(self) -> None:
        self.epoch = 1
        self._sequence = itertools.count(1)

    def __call__(self, event: PipelineEvent) -> Record:
        stamp = Stamp(
            peer_uid="a" * 16,
            epoch=self.epoch,
            sequence=next(self._sequence),
            container="pid:1",
            node="here",
            at=datetime(2024, 1, 1, tzinfo=UTC),
        )
        return Record(stamp=stamp, event=event)

    def step(self, claim: Claim) -> Record:
        return self(VideoFilePulled(task_id=claim.task_id, size=1, seconds=0.5))

    def loose(self) -> Record:
        """One that belongs to no claim."""
        return self(TaskReceived(task_id=UUID(int=99), attempt=0))


class SwitchedLedger:
    """A ledger that can be away, and lose claims, and forget to say that it has heard.

    Args:
        happens_anyway: While it is away, what it is told happens, and the answer is lost.
        refused: The numbers of the events that it cannot write, and never will.
    """

    def __init__(self) -> None:
        self.is_away = False
        self.happens_anyway = False
        self.lost: set[UUID] = set()
        self.refused: set[int] = set()
        self.arrived: list[Record] = []
        self.tried = 0
        self.transactions = 0

    def _write(self, records: Sequence[Record]) -> None:
        self.tried += 1
        if not self.is_away and self.refused & {each.stamp.sequence for each in records}:
            raise ValueError("a value is out of range")
        if not self.is_away or self.happens_anyway:
            self.transactions += 1
            known = {each.stamp.sequence for each in self.arrived}
            self.arrived += [each for each in records if each.stamp.sequence not in known]
        if self.is_away:
            raise LedgerUnavailable(AWAY, definite=not self.happens_anyway)

    def _held(self, claim: Claim) -> None:
        if not self.is_away and claim.token in self.lost:
            raise ClaimLost("the lease ran out")

    async def advance(self, claim: Claim, *steps: Record) -> None:
        await trio.lowlevel.checkpoint()
        self._held(claim)
        self._write(steps)

    async def record(self, records: Sequence[Record]) -> None:
        await trio.lowlevel.checkpoint()
        self._write(records)

    async def renew(self, claim: Claim, progress: Progress | None) -> None:
        self._held(claim)
        self._write([])

    async def finish(
        self,
        claim: Claim,
        products: object,
        warnings: object,
        record: Record,
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        await self.advance(claim, *steps, record)

    async def release(
        self,
        claim: Claim,
        release: Release,
        records: Sequence[Record],
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        await trio.lowlevel.checkpoint()
        self._held(claim)
        self._write([*steps, *records])

    async def claim(
        self, *arguments: Any, submission: object = None, unheard: object = None
    ) -> Any:
        self._write([arguments[-1]])
        return A


class Scene:
    """A peer's spooling ledger over a switched one; `restart` is a kill and the next life."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self._directory = directory
        self._options = options
        self.record = Recorder()
        self.ledger = SwitchedLedger()
        self.spooling = self._spooling()

    def _spooling(self) -> SpoolingLedger:
        self.spool = Spool(self._directory, **self._options)
        return SpoolingLedger(
            self.ledger, self.spool, decode=decode, rng=random.Random(0), pause_max_s=0.01
        )

    def restart(self) -> None:
        self.spool.close()
        self.record.epoch += 1
        self.spooling = self._spooling()

    @property
    def files(self) -> list[Path]:
        return sorted(self._directory.glob("*.spool"))

    @property
    def aside(self) -> list[bytes]:
        """The lines that were set aside."""
        file = self._directory / "aside.damaged"
        return file.read_bytes().splitlines() if file.exists() else []
