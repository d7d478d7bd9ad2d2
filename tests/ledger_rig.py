"""Who acts on a ledger in its tests, and what their fixtures make."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from pipeline.events import Record, Recordable, Stamp, TaskReceived, WorkloadProcessingFinished
from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Submission
from pipeline.tasks import Busy, Claim, Held, Holder


@dataclass(slots=True)
class Peer:
    """Who acts in a test: a holder, with a recorder that stamps in its name."""

    holder: Holder
    sequences: Iterator[int]

    def record(self, event: Recordable) -> Record:
        """Stamp an event."""
        stamp = Stamp(
            peer_uid=self.holder.peer_uid,
            epoch=self.holder.epoch,
            sequence=next(self.sequences),
            container=self.holder.container,
            node=self.holder.node,
            at=datetime.now(UTC),
        )
        return Record(stamp=stamp, event=event)

    def received(self, task_id: UUID) -> Record:
        """As it comes with a claim."""
        return self.record(TaskReceived(task_id=task_id, attempt=0))

    def finished(self, task_id: UUID) -> Record:
        """As it comes with the outputs."""
        return self.record(WorkloadProcessingFinished(task_id=task_id, outcome="done", seconds=1.0))

    async def take(self, ledger: PostgresLedger, task_id: UUID) -> Claim:
        """Claim what can be claimed."""
        token, record = uuid4(), self.received(task_id)
        answer = await ledger.claim(task_id, 0, self.holder, token, record)
        assert isinstance(answer, Claim), answer
        return answer

    async def find_held(self, ledger: PostgresLedger, task_id: UUID) -> Held:
        """Be told who is in the way."""
        token, record = uuid4(), self.received(task_id)
        answer = await ledger.claim(task_id, 0, self.holder, token, record)
        assert isinstance(answer, Busy), answer
        assert answer.held is not None
        return answer.held


MakePeer = Callable[[str], Peer]
MakeLedger = Callable[[Database], PostgresLedger]
MakeSubmission = Callable[[], Submission]
Look = Callable[[str], list[dict[str, Any]]]
