"""The sweeper: finds what fell between two chairs, and puts it back on one.

A peer that dies says nothing, so its claims end only by their leases running out; a client that
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
from pipeline.tasks import Failure
from pipeline.verdict import FailedAttempt, judge

log = logging.getLogger(__name__)


def expiry(policy: RetryPolicy, rng: random.Random) -> Expiry:
    """Build the decision over a claim whose lease ran out: an attempt that counts as a crash.

    A task that kills its peers is escalated at the threshold like any other failure, instead of
    going round the cluster.
    """

    def decide(expired: Expired) -> tuple[Release, Sequence[Recordable]]:
        failure = Failure(
            stage=expired.stage,
            code="lease_expired",
            message=f"peer {expired.peer_name} was not heard of for longer than its lease",
        )
        failed = FailedAttempt(
            task_id=expired.task_id,
            part=expired.part,
            attempt=expired.attempt,
            failure=failure,
            failures=expired.failures,
            attempts_max=expired.attempts_max,
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
        for expired in await self._sweep.expire_leases():
            log.warning(
                "lease expired",
                extra={
                    "action": "expire",
                    "task": str(expired.task_id),
                    "part": expired.part,
                    "peer": expired.peer_name,
                },
            )
            # The old wake-up may be in the hands of a peer that is frozen and not dead. Where it is
            # not, there are two now, and the second one finds the part taken.
            await self._wake(expired.task_id, expired.part)
        for task_id, part in await self._sweep.unannounced(self._unannounced_s):
            await self._wake(task_id, part)

    async def _wake(self, task_id: UUID, part: int) -> None:
        await self._queue.publish(encode(WakeUp(task_id=task_id, part=part)))
        await self._sweep.announced(task_id, part)
