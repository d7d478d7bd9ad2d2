"""The sweeper: finds what fell between two chairs, and puts it back on one.

A peer that dies says nothing; where the cluster does not bury it (`Undertaking`), because the peer
was alone or too many died at once, its claims end by their leases running out. A client that
dies between writing a task and waking somebody leaves a task that nobody looks at. Every peer
sweeps; the ledger lets only one of them find each thing. While all goes well, none of it is needed.

The queue may lose wake-ups too: somebody purges it, the broker's disk is gone, the broker sets one
aside because too many that had it lost their lines, or is killed and forgets for minutes to move
one on whose time has come. While none of a priority waits for its turn, its parts that have been
due for some time are announced again. Those that wait for their time do not count, since a due part
has none among them for longer than moments; nor do those in somebody's hands, which are of parts
that are claimed already, or are looked at just now. Of a priority whose messages do wait for their
turn, each may do so for hours; but they come in their order, so the ledger sees who was overtaken
(`Sweep.unannounced`). So a part may wait for a lost wake-up as long as its line is, or, where there
is none, for about the sum of the two times below; never for good.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Sequence

import trio

from pipeline.errors import Unavailable
from pipeline.events import Recordable
from pipeline.messages import WakeUp, encode
from pipeline.ports import Due, Expired, Expiry, Release, Sweep, TaskQueue
from pipeline.retry import RetryPolicy
from pipeline.shortage import OUT_OF_MEMORY
from pipeline.standing import PEER_DIED
from pipeline.tasks import Failure, Priority
from pipeline.verdict import FailedAttempt, judge

log = logging.getLogger(__name__)

LEASE_EXPIRED = "lease_expired"
"""The code of a crash of which only the lease tells; `PEER_DIED` when the cluster does."""

PEER_UNHEARD = "peer_unheard"
"""The code of a crash of which the queue tells: its holder's message came to somebody else."""


def expiry(policy: RetryPolicy, rng: random.Random) -> Expiry:
    """Build the decision over a claim whose holder is gone: an attempt that counts as a crash.

    A task that kills its peers is escalated at the threshold like any other failure, instead of
    going round the cluster. The delay before the next attempt counts from when the peer fell
    silent: while the cluster made sure of its death, the part has waited already.
    """

    def decide(expired: Expired) -> tuple[Release, Sequence[Recordable]]:
        death = expired.death
        code, how = _what_is_known(expired)
        failure = Failure(
            stage=expired.stage,
            code=code,
            message=f"peer {expired.peer_name} {how}",
            memory_bytes=death.memory_bytes if death is not None and death.out_of_memory else None,
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


def _what_is_known(expired: Expired) -> tuple[str, str]:
    """The code of its holder's end, and that in words."""
    if expired.death is not None:
        code = OUT_OF_MEMORY if expired.death.out_of_memory else PEER_DIED
        return code, expired.death.how
    if expired.unheard:
        return PEER_UNHEARD, "lost its line to the queue and does not answer"
    return LEASE_EXPIRED, "was not heard of for longer than its lease"


class Sweeper:
    """Looks now and then, a little off the beat so that peers do not look together.

    Args:
        interval_s: How often; more often where the ledger's leases are so short as to need it.
        unannounced_s: For how long a due part may be without a wake-up before one is sent: whoever
            submitted it does so within moments, or is dead.
        forgotten_s: For how long a part may be due in spite of its wake-up, while nothing of its
            priority waits for its turn, before another is sent. One too many costs a look.
        look_interval_s: How often the queue is asked what waits.
    """

    def __init__(
        self,
        *,
        sweep: Sweep,
        queue: TaskQueue,
        rng: random.Random,
        interval_s: float = 3.0,
        unannounced_s: float = 3.0,
        forgotten_s: float = 20.0,
        look_interval_s: float = 15.0,
    ) -> None:
        self._sweep = sweep
        self._queue = queue
        self._rng = rng
        self._interval_s = min(interval_s, sweep.sweep_interval_s)
        self._unannounced_s = unannounced_s
        self._forgotten_s = forgotten_s
        self._look_interval_s = look_interval_s
        self._looked_at = -math.inf  # when the queue was last asked, in trio's time

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
        quiet = await self._quiet()
        for due in await self._sweep.unannounced(self._unannounced_s, self._forgotten_s, quiet):
            log.info(
                "nobody was woken for a part, or the queue has lost its wake-up",
                extra={"action": "announce", "task": str(due.task_id), "part": due.part},
            )
            await self._wake(due)

    async def _quiet(self) -> Sequence[Priority]:
        """Those of which no wake-up waits for its turn; none while it is not yet time to ask."""
        if trio.current_time() < self._looked_at + self._look_interval_s:
            return ()
        self._looked_at = trio.current_time()
        waiting = await self._queue.waiting()
        return [priority for priority in Priority if priority not in waiting]

    async def wake(self, taken: Sequence[Expired]) -> None:
        """Wake somebody for each part that was taken from its holder.

        The old wake-up may be in the hands of a peer that is frozen and not dead. Where it is not,
        there are two now, and the second one finds the part taken.

        Raises:
            QueueUnavailable, LedgerUnavailable: Those not woken by then, a later sweep finds.
        """
        for expired in taken:
            code, how = _what_is_known(expired)
            log.warning(
                "part taken from its holder",
                extra={
                    "action": "expire",
                    "task": str(expired.task_id),
                    "part": expired.part,
                    "peer": expired.peer_name,
                    "code": code,
                    "why": how,
                },
            )
            due = Due(task_id=expired.task_id, part=expired.part, priority=expired.priority)
            await self._wake(due)

    async def _wake(self, due: Due) -> None:
        wake_up = WakeUp(task_id=due.task_id, part=due.part)
        await self._queue.publish(encode(wake_up), priority=due.priority)
        await self._sweep.announced(due.task_id, due.part, again=True)
