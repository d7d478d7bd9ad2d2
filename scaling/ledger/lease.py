"""The right to act, as a row: for orchestrators that have no register of their own.

One statement takes, renews or refuses, and the database's clock alone says when it has run out. The
holder counts its right from before it asked, so it ends for the holder before it does for the
database; no two clocks are compared. A process that was stopped for longer than that is fenced by
its term, which every change carries.

An advisory lock that lives as long as a session was rejected: a server that is cut off from the
holder by a network keeps the session, and so the lock, for as long as TCP pleases.
"""

from __future__ import annotations

from scaling.ledger.database import Connection, Database, Queries

MARGIN = 1.05
"""The row lasts longer by this factor: no quartz is off by five percent."""


class LedgerLease:
    """One lease, taken and kept in this process; satisfies the port `Lease`.

    Args:
        scope: Which orchestrator's.
        lease_s: For how long the right lasts after `keep` began.
    """

    def __init__(self, database: Database, queries: Queries, *, scope: str, lease_s: float) -> None:
        self._database = database
        self._queries = queries
        self._scope = scope
        self._lease_s = lease_s
        self._mine = 0

    async def keep(self, holder: str) -> int | None:
        """Take it, or renew it: the term under which to act until `lease_s` after this call began.

        A holder's own lease from before it was started anew is taken at once, under a new term.
        Raises `LedgerAway`: what was held runs out as if it had not been called.
        """
        values = {
            "scope": self._scope,
            "holder": holder,
            "mine": self._mine,
            "lease_s": self._lease_s * MARGIN,
        }

        def work(connection: Connection) -> int | None:
            row = connection.execute(self._queries["keep_lease"], values).fetchone()
            return None if row is None else int(row["term"])

        term = await self._database.run(work)
        self._mine = term or 0
        return term

    async def give_up(self, holder: str) -> None:
        """Let the next one have it at once. Does nothing if it is not ours."""
        values = {"scope": self._scope, "holder": holder, "mine": self._mine}
        self._mine = 0
        await self._database.run(lambda on: on.execute(self._queries["give_lease_up"], values))
