"""The sweeper: finds what fell between two chairs, and puts it back on one.

A peer that dies says nothing; where the cluster does not bury it (`Undertaking`), because the peer
was alone or too many died at once, its claims end by their leases running out. A client that
dies between writing a task and waking somebody leaves a task that nobody looks at. Every peer
sweeps; the ledger lets only one of them find each thing. While all goes well, none of it is needed.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence
from uuid import UUID

import trio

from pipeline.errors import Unavailable
from pipeline.events import Recordable
from pipeline.messages import WakeUp, encode
from pipeline.ports import Expired, Expiry, Release, Sweep, TaskQueue
from pipeline.retry import RetryPolicy
from pipeline.standing import PEER_DIED
from pipeline.tasks import Failure
from pipeline.verdict import FailedAttempt, judge

log = logging.getLogger(__name__)

LEASE_EXPIRED = "lease_expired"
"""The code of a crash of which only the lease tells; `PEER_DIED` when the cluster does."""


def expiry(policy: RetryPolicy, rng: random.Random) -> Expiry:
    """Build the decision over a claim whose holder is gone: an attempt that counts as a crash.

    A task that kills its peers is escalated at the threshold like any other failure, instead of
    going round the cluster. The delay before the next attempt counts from when the peer fell
    silent: while the cluster made sure of its death, the part has waited already.
    """

    def decide(expired: Expired) -> tuple[Release, Sequence[Recordable]]:
        death = expired.death
        how = death.how if death is not None else "was not heard of for longer than its lease"
        failure = Failure(
            stage=expired.stage,
            code=LEASE_EXPIRED if death is None else PEER_DIED,
            message=f"peer {expired.peer_name} {how}",
        )
        failed = FailedAttempt(
            task_id=expired.task_id,
            part=expired.part,
            attempt=expired.attempt,
            failure=failure,
            failures=expired.failures,
            attempts_max=expired.attempts_max,
            failed_s_ago=death.silent_s if death is not None else 0.0,
        )
        verdict = judge(failed, policy, rng)
        return verdict.release, [verdict.event]

    return decide


class Sweeper:
    """Looks now and then, a little off the beat so that peers do not look together.

    Args:
        interval_s: How often; more often where the ledger's leases are so short as to need it.
        unannounced_s: For how long a due part may be without a wake-up before one is sent: whoever
            submitted it does so within moments, or is dead.
    """

    def __init__(
        self,
        *,
        sweep: Sweep,
        queue: TaskQueue,
        rng: random.Random,
        interval_s: float = 3.0,
        unannounced_s: float = 3.0,
    ) -> None:
        self._sweep = sweep
        self._queue = queue
        self._rng = rng
        self._interval_s = min(interval_s, sweep.sweep_interval_s)
        self._unannounced_s = unannounced_s

    async def run(self) -> None:
        """Sweep until cancelled. A dependency that is away is somebody else's to report."""
        while True:
            await trio.sleep(self._interval_s * self._rng.uniform(0.8, 1.2))
            try:
                await self.sweep()
            except Unavailable as error:
                log.debug("not swept", extra={"action": "sweep", "error": str(error)})

    async def sweep(self) -> None:
        """Look once."""
        await self.wake(await self._sweep.expire_leases())
        for task_id, part in await self._sweep.unannounced(self._unannounced_s):
            await self._wake(task_id, part)

    async def wake(self, taken: Sequence[Expired]) -> None:
        """Wake somebody for each part that was taken from its holder.

        The old wake-up may be in the hands of a peer that is frozen and not dead. Where it is not,
        there are two now, and the second one finds the part taken.

        Raises:
            QueueUnavailable, LedgerUnavailable: Those not woken by then, a later sweep finds.
        """
        for expired in taken:
            log.warning(
                "lease expired" if expired.death is None else "taken from a dead peer",
                extra={
                    "action": "expire",
                    "task": str(expired.task_id),
                    "part": expired.part,
                    "peer": expired.peer_name,
                },
            )
            await self._wake(expired.task_id, expired.part)

    async def _wake(self, task_id: UUID, part: int) -> None:
        await self._queue.publish(encode(WakeUp(task_id=task_id, part=part)))
        await self._sweep.announced(task_id, part)
