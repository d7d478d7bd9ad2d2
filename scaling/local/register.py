"""The row of the ledger that says what is wanted of one machine's containers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import msgspec

from scaling.ledger.database import Connection, Database, Queries, to_json
from scaling.local.wanted import Wanted, WantedNode, closed, opened
from scaling.ports import OrchestratorUnavailable


class Register:
    """Reads and writes it. All raise `LedgerAway`.

    Args:
        queries: Those of queries.sql beside this file.
        scope: Which orchestrator's.
        place: This data directory, on this machine.
        nodes: The names of those that are in service from the beginning.
    """

    def __init__(
        self, database: Database, queries: Queries, *, scope: str, place: str, nodes: Sequence[str]
    ) -> None:
        self._database, self._queries = database, queries
        self._scope, self._place, self._nodes = scope, place, nodes

    async def read(self) -> Wanted:
        """Read it; make it if it is missing.

        Raises:
            OrchestratorUnavailable: The containers are processes of another machine.
        """

        def work(connection: Connection) -> Wanted:
            row = self._run(connection, "read_wanted").fetchone()
            return _wanted(row) if row is not None else self._made(connection)

        return self._ours(await self._database.run(work))

    async def change(self, change: Callable[[Wanted], Wanted]) -> None:
        """Change it, as one transaction. What `change` raises goes through."""

        def work(connection: Connection) -> None:
            before = self._ours(self._made(connection))
            after = change(before)
            if after != before:
                values = {**asdict(after), "stopping": to_json(after.stopping)}
                self._run(connection, "write_wanted", **{**values, "nodes": to_json(after.nodes)})

        await self._database.run(work)

    async def open(self) -> None:
        """Let containers run: a peer that a person has started is here."""
        await self.change(opened)

    async def close(self) -> None:
        """Let all containers end: none of those peers is left."""
        await self.change(lambda now: closed(now, self._nodes))

    def _made(self, connection: Connection) -> Wanted:
        since_s = connection.execute(
            "SELECT extract(epoch FROM clock_timestamp())::float8 AS now_s"
        )
        first = since_s.fetchone()
        assert first is not None
        nodes = [WantedNode(name=name, since_s=first["now_s"]) for name in self._nodes]
        self._run(connection, "make_wanted", place=self._place, nodes=to_json(nodes))
        row = self._run(connection, "lock_wanted").fetchone()
        assert row is not None, "it was made in this transaction, or before"
        return _wanted(row)

    def _ours(self, wanted: Wanted) -> Wanted:
        if wanted.place != self._place:
            raise OrchestratorUnavailable(
                f"the containers that this ledger knows are processes of {wanted.place}, and this "
                f"is {self._place}: with scaling.orchestrator = local all peers that may lead run "
                "on one machine with one data directory; set membership.eligible = false here, or "
                "use a ledger of its own"
            )
        return wanted

    def _run(self, connection: Connection, query: str, **values: Any) -> Any:
        return connection.execute(self._queries[query], {"scope": self._scope, **values})


def _wanted(row: Mapping[str, Any]) -> Wanted:
    return msgspec.convert(dict(row), Wanted)
