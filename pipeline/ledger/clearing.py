"""What failed attempts may have left in the store, and what others made of the same tasks.

Every attempt has a prefix of its own, and a peer that fails clears its own away. One that is killed
clears nothing, and one that froze may go on uploading after its claim has ended. So whatever ended
without outputs is remembered here until somebody says, later, that nothing is left of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from pipeline.ledger.connections import Connection
from pipeline.ledger.queries import QUERIES
from pipeline.ports import Abandoned, Evidence
from pipeline.tasks import prefix_of

BATCH = 100
"""How many attempts one look finds; each costs the store a listing."""

LATELY_S = 3600.0
"""Who has finished something within that time was sound, or not long ago. The same life of it: what
broke all peers at once often came with a new version of something, and so with their restart."""


def abandoned(connection: Connection, older_than_s: float) -> Sequence[Abandoned]:
    """Attempts that ended without outputs longer ago than that and are not cleared yet."""
    values = {"older_than_s": older_than_s, "limit": BATCH}
    return [
        Abandoned(token=row["token"], prefix=prefix_of(row["task_id"], row["part"], row["attempt"]))
        for row in connection.execute(QUERIES["list_abandoned"], values)
    ]


def cleared(connection: Connection, tokens: Sequence[UUID]) -> None:
    """Nothing of these is in the store any more."""
    connection.execute(QUERIES["clear_claims"], {"tokens": list(tokens)})


def testify(connection: Connection, peer_uid: str, task_ids: Sequence[UUID]) -> Evidence:
    """What peers other than this one made of these tasks."""
    values = {"peer_uid": peer_uid, "task_ids": list(task_ids), "lately_s": LATELY_S}
    rows = connection.execute(QUERIES["testify"], values).fetchall()
    return Evidence(
        finished=frozenset(row["task_id"] for row in rows if row["finished"]),
        failed=frozenset(row["task_id"] for row in rows if row["failed"]),
    )
