"""Which store is the cluster's: one row, changed by compare-and-set (`pipeline.mark`)."""

from __future__ import annotations

from pipeline.ledger.connections import Connection
from pipeline.ledger.queries import QUERIES
from pipeline.mark import Belonging


def belonging(connection: Connection) -> Belonging:
    """Which store counts now."""
    row = connection.execute(QUERIES["read_cluster"]).fetchone()
    assert row is not None, "the migration has written it, and nothing removes it"
    return Belonging(
        cluster=row["id"],
        drawn=row["marks_drawn"],
        number=row["store_mark"],
        url=row["store_url"] or "",
        marked_at=row["store_marked_at"],
        made=row["made"] or "",
    )


def draw_first_mark(connection: Connection, within_s: float) -> int | None:
    """Draw a number if there is no store yet and nobody else has one to confirm."""
    row = connection.execute(QUERIES["draw_first_mark"], {"within_s": within_s}).fetchone()
    return None if row is None else int(row["marks_drawn"])


def draw_mark(connection: Connection) -> int:
    """Draw a number in any case."""
    row = connection.execute(QUERIES["draw_mark"]).fetchone()
    assert row is not None, "see above"
    return int(row["marks_drawn"])


def confirm_mark(connection: Connection, number: int, url: str) -> bool:
    """Let that number count, if it is the newest."""
    values = {"number": number, "url": url}
    return connection.execute(QUERIES["confirm_mark"], values).fetchone() is not None
