"""The way into the ledger's database, as a port: scaling knows SQL, and not how one connects.

The peer gives its own pool of connections (`pipeline.ledger.database`), and the loader of named
queries, for rooms do not import each other. Text that comes from elsewhere is made fit for jsonb
here, and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias, TypeVar

import msgspec
import psycopg
from psycopg.rows import DictRow

T = TypeVar("T")

Connection: TypeAlias = psycopg.Connection[DictRow]
Queries: TypeAlias = Mapping[str, bytes]
"""The statements of queries.sql by their names."""


class Database(Protocol):
    """**Protocol**: runs transactions. Raises `LedgerAway` when it cannot."""

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Run `work` as one transaction, perhaps more than once; it does nothing else."""
        ...


def to_json(value: object) -> str:
    """Encode values as JSON that jsonb can hold: it takes no NUL, which a name may have."""
    return msgspec.json.encode(value).decode().replace("\\u0000", "\\ufffd")
