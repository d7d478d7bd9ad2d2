"""Claims on names of machines, as rows: the primary key lets one of two who claim a name have it.

Every claim has a version from a sequence, and is taken over or given up only with the version that
was listed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scaling.intents import Intent
from scaling.ledger.database import Connection, Database, Queries


class LedgerIntents:
    """The claims of one orchestrator; satisfies the port `scaling.intents.Intents`.

    Args:
        scope: Which orchestrator's.
    """

    def __init__(self, database: Database, queries: Queries, *, scope: str) -> None:
        self._database = database
        self._queries = queries
        self._scope = scope

    async def list(self) -> Sequence[Intent]:
        """All claims, whoever holds them, by name."""

        def work(connection: Connection) -> Sequence[Intent]:
            rows = connection.execute(self._queries["list_intents"], {"scope": self._scope})
            return [
                Intent(name=row["name"], term=row["term"], version=str(row["version"]))
                for row in rows
            ]

        return await self._database.run(work)

    async def claim(self, name: str, *, term: int) -> bool:
        """Claim a name that nobody holds. False when somebody does, be it this leader."""
        return await self._did("claim_intent", name=name, term=term)

    async def adopt(self, intent: Intent, *, term: int) -> bool:
        """Take a claim over. False when it is not as it was listed any more."""
        return await self._did(
            "adopt_intent", name=intent.name, version=int(intent.version), term=term
        )

    async def release(self, intent: Intent) -> bool:
        """Give a claim up. False when it is not as it was listed any more; it then stays."""
        return await self._did("release_intent", name=intent.name, version=int(intent.version))

    async def _did(self, query: str, **values: Any) -> bool:
        """Whether the statement found what it was to change."""
        given = {"scope": self._scope, **values}
        return await self._database.run(
            lambda on: on.execute(self._queries[query], given).fetchone() is not None
        )
