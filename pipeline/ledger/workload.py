"""How much there is to do, as the ledger knows it: for whoever decides how many should do it."""

from __future__ import annotations

from pipeline.backlog import Backlog
from pipeline.ledger.connections import Connection
from pipeline.ledger.queries import QUERIES
from pipeline.ledger.rows import Row
from pipeline.tasks import Priority

SHORT_S, LONG_S = 120.0, 300.0
"""Over which times arrivals are counted: the short one sees a rise, the long one bridges a gap."""

SAMPLES = 200
"""Of how many that were done last the time is averaged. A mean of few is a mean of the longest when
a burst ends, for these end last."""


def backlog(connection: Connection, at_most: int) -> Backlog:
    """Count it."""
    values = {
        "at_most": at_most,
        "priorities": [priority.value for priority in Priority],
        "samples": SAMPLES,
        "short_s": SHORT_S,
        "long_s": LONG_S,
    }
    row = connection.execute(QUERIES["read_backlog"], values).fetchone()
    assert row is not None, "sums without groups are one row"
    holders = connection.execute(QUERIES["list_remaining"]).fetchall() if row["running"] else []
    return Backlog(
        ready=row["ready"],
        delayed=row["delayed"],
        running=row["running"],
        repeats=int(row["repeats"]),
        arrivals_per_s=_arrivals_per_s(row, at_most),
        service_s=row["service_s"],
        remaining_s={holder["peer_uid"]: holder["left_s"] for holder in holders},
    )


def _arrivals_per_s(row: Row, at_most: int) -> float:
    if row["in_all"] < at_most:
        return float(max(row["lately"] / SHORT_S, row["in_all"] / LONG_S))
    return float(at_most / max(1.0, row["oldest_s"]))
