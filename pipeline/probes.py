"""How each dependency is asked whether it is there, without wanting anything of it.

Through the ports that work goes through, and not by a ping of their own: that a server answers on
its port does not mean that it answers *this* peer, with these credentials, on these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from uuid import UUID

from pipeline.errors import ClaimLost
from pipeline.patience import LEDGER, QUEUE, STORE, Probe
from pipeline.ports import ClaimLedger, ObjectStore, TaskQueue
from pipeline.tasks import Claim

NOTHING = "tasks/none"
"""A prefix below which nothing lies."""

NOBODYS = Claim(task_id=UUID(int=0), part=0, attempt=1, token=UUID(int=0), lease_s=0.0)
"""A claim that nobody has."""


def probes(ledger: ClaimLedger, queue: TaskQueue, store: ObjectStore) -> Mapping[str, Probe]:
    """Build a probe for each of the three."""

    async def ask_ledger() -> None:
        # It must be able to write: a standby that only reads takes no claim either.
        with suppress(ClaimLost):
            await ledger.renew(NOBODYS, None)

    return {
        LEDGER: ask_ledger,
        QUEUE: queue.depth,
        STORE: lambda: store.list(NOTHING),
    }
