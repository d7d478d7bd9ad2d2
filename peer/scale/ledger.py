"""The ledger as scaling is to see it: its own queries on the peer's connections, and demand.

Rooms do not import each other, so errors are translated here: for scaling, a ledger that is away is
a reason to hold.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import TypeVar

import trio

from pipeline.backlog import Backlog, unreceived
from pipeline.backlog import Workload as LedgerWorkload
from pipeline.errors import PipelineError, Unavailable
from pipeline.events import Recorder
from pipeline.ledger.connections import Connection
from pipeline.ledger.database import Database
from pipeline.ledger.locked_task import write_events
from pipeline.ledger.queries import Queries
from pipeline.ports import TaskQueue
from scaling.config import ScalingConfig
from scaling.events import ScalingEvent
from scaling.ledger.journal import WriteEvents
from scaling.ports import LedgerAway, Workload
from scaling.snapshot import Demand

log = logging.getLogger(__name__)

T = TypeVar("T")

QUERIES = Queries.load("scaling.ledger", "queries.sql")

DEPTH_WITHIN_S = 2.0
"""How long a broker may take to say how much it holds; without that the ledger's word is enough."""

PART_S_MIN = 1.0
"""Parts take at least so long, or so it is assumed when it is chosen how many are counted."""
SHORT_S = 120.0


class ScalingDatabase:
    """Implements `scaling.ledger.database.Database` on the ledger's pool."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self, work: Callable[[Connection], T]) -> T:
        """See `Database`."""
        with ledger_errors():
            return await self._database.run(work)


@contextmanager
def ledger_errors() -> Iterator[None]:
    """Say it in scaling's words."""
    try:
        yield
    except PipelineError as error:
        raise LedgerAway(str(error)) from error


def event_writer(recorder: Recorder) -> WriteEvents:
    """Write scaling's events as all others are, in the transaction of what they tell."""

    def write(connection: Connection, events: Sequence[ScalingEvent]) -> None:
        write_events(connection, [recorder(event) for event in events])

    return write


class LedgerDemand:
    """Implements `scaling.ports.DemandSource`: the ledger counts, and a broker may know of more.

    What a client has sent to RabbitMQ as a whole task is in no table before a peer receives it; it
    is what the broker holds beyond the wake-ups of recorded parts (`pipeline.backlog.unreceived`).
    The ledger is asked first: a part that is recorded between the two answers counts once then.

    Args:
        queue: None where the queue is the ledger itself.

    Attributes:
        remaining_s: As it was said last; see `Workload`.
    """

    def __init__(
        self, ledger: LedgerWorkload, queue: TaskQueue | None, config: ScalingConfig
    ) -> None:
        self._ledger, self._queue = ledger, queue
        self._at_most = counted_max(config)
        self.remaining_s: Mapping[str, float | None] = {}

    async def workload(self) -> Workload | None:
        """Count what waits; None when the ledger cannot say."""
        try:
            found = await self._ledger.backlog(self._at_most)
        except Unavailable as error:
            log.debug("no demand", extra={"action": "demand", "error": error.message})
            return None
        demand = Demand(
            ready=found.ready + await self._unreceived(found),
            delayed=found.delayed,
            running=found.running,
            arrivals_per_s=found.arrivals_per_s,
            service_s=found.service_s,
            age_s=0.0,
        )
        self.remaining_s = found.remaining_s
        return Workload(demand=demand, remaining_s=found.remaining_s)

    async def _unreceived(self, known: Backlog) -> int:
        if self._queue is not None:
            with trio.move_on_after(DEPTH_WITHIN_S), suppress(Unavailable):
                return unreceived(known, await self._queue.depth(), self._at_most)
        return 0


def counted_max(config: ScalingConfig) -> int:
    """How far it is worth counting: more than that would want no more than `containers_max`."""
    return math.ceil(config.containers_max * max(config.wait_s, SHORT_S) / PART_S_MIN)
