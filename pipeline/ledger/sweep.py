"""What any peer does now and then for the whole cluster, as transactions."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from uuid import UUID

from pipeline.ledger import claims
from pipeline.ledger.claims import Rules
from pipeline.ledger.connections import Connection
from pipeline.ledger.locked_task import LockedTask, lock_claim
from pipeline.ledger.queries import QUERIES
from pipeline.ledger.rows import due_of
from pipeline.ports import Due, Expired
from pipeline.tasks import Priority

BATCH = 100
"""How many expired claims one transaction ends; the next sweep finds the rest."""

WAKE_UPS_MAX = 1000
"""How many parts one sweep announces."""

OVERTAKEN_S = 60.0
"""By how much later a part that is worked on must have been announced than one that still waits:
the queue keeps its order, but what was put back for a moment goes to its end."""

INTERVAL = 0.2
"""The part of a lease after which to sweep again: sweeps are the ledger's heartbeat too, and where
one peer is alone, two that it misses must not look like an outage (`claims.SILENCE`)."""


def expire_leases(connection: Connection, rules: Rules) -> Sequence[Expired]:
    """End the claims whose leases ran out, leaving those that another peer is just looking at.

    None is ended before the ledger has been there for a whole lease: see `claims.time_to_renew_s`.
    """
    found = connection.execute(QUERIES["lock_expired"], {"limit": BATCH}).fetchall()
    expired: list[Expired] = []
    if claims.time_to_renew_s(connection, rules) > 0:
        return expired
    for row in found:
        task = LockedTask.lock(connection, row["task_id"])
        held = lock_claim(connection, row["token"])
        assert task is not None
        assert held is not None
        # Between the search and the lock its holder may have renewed or ended it.
        if held["outcome"] is None and held["lease_left_s"] <= 0:
            part = task.parts[row["part"]]
            expired.append(claims.expire(connection, rules, task, part, held))
    return expired


def unannounced(
    connection: Connection, older_than_s: float, forgotten_s: float, quiet: Collection[Priority]
) -> Sequence[Due]:
    """Find the parts that have been due for longer than that without anybody woken for them.

    And those of quiet priorities whose wake-up the queue has had for `forgotten_s`, which may be
    infinite, or that others of their priority have overtaken in the line.
    """
    values = {"older_than_s": older_than_s, "limit": WAKE_UPS_MAX}
    rows = connection.execute(QUERIES["list_unannounced"], values).fetchall()
    forgotten = {
        "forgotten_s": forgotten_s if math.isfinite(forgotten_s) else None,
        "overtaken_s": OVERTAKEN_S,
        "priorities": list(Priority),
        "quiet": list(quiet),
        "limit": WAKE_UPS_MAX - len(rows),
    }
    rows += connection.execute(QUERIES["list_forgotten"], forgotten).fetchall()
    return [due_of(row) for row in rows]


def announced(connection: Connection, task_id: UUID, part: int, *, again: bool = False) -> None:
    """Note that the queue has the part's wake-up now."""
    values = {"task_id": task_id, "part": part, "again": again}
    connection.execute(QUERIES["announce_part"], values)
