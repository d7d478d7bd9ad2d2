"""Rows and tables for tests: small uids, one body, and a clock that starts at 1000."""

from __future__ import annotations

from collections.abc import Iterable

from gossip.config import GossipConfig
from gossip.rows import AgedRow, Body, Row, State
from gossip.table import Table

OWN_UID = 0x5000_0000_0000_0000
START = 1000.0
CONFIG = GossipConfig()
BODY = Body(address=("127.0.0.1", 7946))


def a_row(
    uid: int,
    *,
    epoch: int = 1,
    incarnation: int = 0,
    state: State = State.ALIVE,
    body: Body = BODY,
) -> Row:
    """Return a row of which only what matters to the test is given."""
    return Row(uid, epoch, incarnation, state, body)


def a_table(
    *rows: Row, own_uid: int = OWN_UID, age_s: float = 0.0, config: GossipConfig = CONFIG
) -> Table:
    """Return a table at `START` that was told these rows, all of this age."""
    table = Table(config, a_row(own_uid), START)
    told(table, START, (AgedRow(row, age_s) for row in rows))
    return table


def told(table: Table, now: float, rows: Iterable[AgedRow]) -> None:
    """Merge rows into a table."""
    for aged in rows:
        table.merge(now, aged)
