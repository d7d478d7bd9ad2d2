"""The ledger on PostgreSQL, as everybody sees it who asks something of it.

A thin shell: each method runs one transaction from `claims`, `desk`, `sweep`, `undertaking`,
`escalations`, `clearing`, `belonging` or `workload`. What those may rely on, and in which order
they lock, is in README.md.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from uuid import UUID

from pipeline.backlog import Backlog
from pipeline.events import Record, Recorder
from pipeline.ledger import (
    belonging,
    claims,
    clearing,
    desk,
    escalations,
    migrate,
    sweep,
    undertaking,
    workload,
)
from pipeline.ledger.claims import Request, Rules
from pipeline.ledger.connections import Connection, describe
from pipeline.ledger.database import Database
from pipeline.ledger.locked_task import write_events
from pipeline.mark import Belonging
from pipeline.notices import Notice
from pipeline.ports import (
    Abandoned,
    Due,
    EventRow,
    Evidence,
    Expired,
    Expiry,
    Release,
    Submission,
)
from pipeline.standing import Death, Life, Suspended
from pipeline.tasks import (
    Busy,
    Claim,
    Held,
    Holder,
    Priority,
    Product,
    Progress,
    Settled,
    TaskReport,
    TaskState,
    Unknown,
)

FINISH_TIMEOUT_S = 60.0
"""For a commit, the one transaction whose size is the task's: a day of HLS is 108,000 rows, and
takes 3 s on two cores. The claim is renewed beside it."""

BELONGING_TIMEOUT_S = 2.0
"""For asking which store is the cluster's: whoever asks is about to use it, and can do without."""


class PostgresLedger:
    """Implements every port of the ledger, from `ClaimLedger` to `Register`.

    Args:
        lease_s: How long a claim holds without a renewal.
        expiry: Decides how a part goes on whose holder is gone. Called in a thread inside the
            transaction, as is `recorder`: both must be quick and safe to call from any thread.
    """

    def __init__(
        self, database: Database, *, lease_s: float, expiry: Expiry, recorder: Recorder
    ) -> None:
        if lease_s <= 0:
            raise ValueError("ledger: lease_s must be above 0")
        self._database = database
        self._rules = Rules(lease_s=lease_s, expiry=expiry, recorder=recorder)

    async def prepare(self) -> None:
        """Bring the tables to what this version needs; any number of peers may do so at once.

        Raises:
            LedgerIncompatible: A newer version has been here, or the server is too old.
        """
        await migrate.bring_up_to_date(self._database)

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
        request = Request(
            task_id=task_id,
            part=part,
            holder=holder,
            token=token,
            record=record,
            submission=submission,
            unheard=unheard,
        )
        return await self._database.run(lambda on: claims.claim(on, self._rules, request))

    async def advance(self, claim: Claim, *steps: Record) -> None:
        """See `ClaimLedger`."""
        await self._database.run(lambda on: claims.advance(on, claim, steps))

    async def renew(self, claim: Claim, progress: Progress | None) -> None:
        """See `ClaimLedger`. Cut early, so that the lease outlasts a connection that is dead."""
        await self._database.run(
            lambda on: claims.renew(on, self._rules, claim, progress),
            timeout_s=self._rules.lease_s / 3,
        )

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
        await self._database.run(
            lambda on: claims.finish(on, claim, products, warnings, record, steps=steps),
            timeout_s=FINISH_TIMEOUT_S,
        )

    async def release(
        self,
        claim: Claim,
        release: Release,
        records: Sequence[Record],
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        """See `ClaimLedger`."""
        await self._database.run(
            lambda on: claims.release(on, claim, release, records, steps=steps)
        )

    async def submit(self, submission: Submission) -> None:
        """See `TaskDesk`."""
        await self._database.run(lambda on: desk.submit(on, submission))

    async def list_tasks(self, state: TaskState | None, limit: int) -> Sequence[TaskReport]:
        """See `TaskDesk`."""
        return await self._database.run(lambda on: desk.list_tasks(on, state, limit))

    async def show_task(self, prefix: str) -> TaskReport:
        """See `TaskDesk`."""
        return await self._database.run(lambda on: desk.show_task(on, prefix))

    async def list_events(
        self,
        *,
        task_id: UUID | None,
        type: str | None,
        after_id: int,
        limit: int,
        follow: bool = False,
    ) -> Sequence[EventRow]:
        """See `TaskDesk`."""
        work: Callable[[Connection], Sequence[EventRow]] = partial(
            desk.list_events,
            task_id=task_id,
            type=type,
            after_id=after_id,
            limit=limit,
            follow=follow,
        )
        return await self._database.run(work)

    async def escalations(self, limit: int) -> Sequence[Notice]:
        """See `TaskDesk`."""
        return await self._database.run(lambda on: escalations.list_escalations(on, limit))

    async def retry(self, task_id: UUID, reason: str) -> Sequence[Due]:
        """See `TaskDesk`."""
        return await self._database.run(lambda on: desk.retry(on, task_id, reason))

    async def cancel(self, task_id: UUID, reason: str) -> None:
        """See `TaskDesk`."""
        await self._database.run(lambda on: desk.cancel(on, task_id, reason))

    @property
    def sweep_interval_s(self) -> float:
        """See `Sweep`."""
        return self._rules.lease_s * sweep.INTERVAL

    async def expire_leases(self) -> Sequence[Expired]:
        """See `Sweep`."""
        return await self._database.run(lambda on: sweep.expire_leases(on, self._rules))

    async def unannounced(
        self,
        older_than_s: float,
        forgotten_s: float,
        quiet: Collection[Priority] = tuple(Priority),
    ) -> Sequence[Due]:
        """See `Sweep`."""
        return await self._database.run(
            lambda on: sweep.unannounced(on, older_than_s, forgotten_s, quiet)
        )

    async def announced(self, task_id: UUID, part: int, *, again: bool = False) -> None:
        """See `Sweep`."""
        await self._database.run(lambda on: sweep.announced(on, task_id, part, again=again))

    async def record(self, records: Sequence[Record]) -> None:
        """See `Sweep`."""
        await self._database.run(lambda on: write_events(on, records))

    async def bury(
        self, by: Holder, death: Death, record: Record | None
    ) -> Sequence[Expired] | Suspended:
        """See `Undertaking`."""
        return await self._database.run(
            lambda on: undertaking.bury(on, self._rules, by, death, record)
        )

    async def suspend(self, by: Holder, lives: Sequence[Life]) -> Suspended | None:
        """See `Undertaking`."""
        return await self._database.run(lambda on: undertaking.suspend(on, by, lives))

    async def reinstate(self, life: Life) -> None:
        """See `Undertaking`."""
        await self._database.run(lambda on: undertaking.reinstate(on, life))

    async def abandoned(self, older_than_s: float) -> Sequence[Abandoned]:
        """See `Clearing`."""
        return await self._database.run(lambda on: clearing.abandoned(on, older_than_s))

    async def cleared(self, tokens: Sequence[UUID]) -> None:
        """See `Clearing`."""
        await self._database.run(lambda on: clearing.cleared(on, tokens))

    async def take_notices(
        self, limit: int, for_s: float, *, pause_s: float = 0.0
    ) -> Sequence[Notice]:
        """See `Notices`."""
        return await self._database.run(
            lambda on: escalations.take_notices(on, limit, for_s, pause_s)
        )

    async def notices_told(self, ids: Sequence[int]) -> None:
        """See `Notices`."""
        await self._database.run(lambda on: escalations.notices_told(on, ids))

    async def testify(self, peer_uid: str, task_ids: Sequence[UUID]) -> Evidence:
        """See `Witnesses`."""
        return await self._database.run(lambda on: clearing.testify(on, peer_uid, task_ids))

    async def backlog(self, at_most: int) -> Backlog:
        """See `Workload`."""
        return await self._database.run(lambda on: workload.backlog(on, at_most))

    async def belonging(self) -> Belonging:
        """See `Register`."""
        return await self._database.run(belonging.belonging, timeout_s=BELONGING_TIMEOUT_S)

    async def draw_first_mark(self, within_s: float) -> int | None:
        """See `Register`."""
        return await self._database.run(lambda on: belonging.draw_first_mark(on, within_s))

    async def draw_mark(self) -> int:
        """See `Register`."""
        return await self._database.run(belonging.draw_mark)

    async def confirm_mark(self, number: int, url: str) -> bool:
        """See `Register`."""
        return await self._database.run(lambda on: belonging.confirm_mark(on, number, url))

    async def describe(self) -> str:
        """Say in one line which database this is, as whom we use it, and how safe the line is."""
        return await self._database.run(describe)
