"""Standings: what is believed of a life of a peer, locked against those who judge it.

The lock on a standing comes before the task's: a claim shares its holder's, and whoever judges
takes it alone, and only then the tasks of the dead. So a claim either commits before a burial,
which then finds it, or sees that its holder is buried.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum

from pipeline.ledger.connections import Connection
from pipeline.ledger.queries import QUERIES
from pipeline.ledger.rows import Row
from pipeline.standing import ENDED, SUSPENSION_S, Life, Suspended
from pipeline.tasks import Holder

Key = tuple[str, int]
"""A peer's uid and an epoch."""


class Verdict(StrEnum):
    """What was said last of a life, by its own count; within one incarnation only onwards."""

    WELL = "well"
    SUSPECT = "suspect"
    DEAD = "dead"


_ORDER = list(Verdict)


def hold(connection: Connection, holder: Holder) -> Suspended | None:
    """Share the standing of one that claims until the transaction ends; tell if it is suspended."""
    key = (holder.peer_uid, holder.epoch)
    values = {"peer_uid": holder.peer_uid, "epoch": holder.epoch}
    row = connection.execute(QUERIES["hold_standing"], values).fetchone()
    if row is None:  # its first claim: a row that a burial can wait for
        _open(connection, [key])
        row = connection.execute(QUERIES["hold_standing"], values).fetchone()
        assert row is not None, "a standing is never removed"
    return _suspended(row)


def lock(connection: Connection, lives: Iterable[Key]) -> Mapping[Key, Row]:
    """Take these standings for this transaction alone."""
    keys = sorted(set(lives))
    _open(connection, keys)
    rows = connection.execute(QUERIES["lock_standings"], _columns(keys)).fetchall()
    return {(row["peer_uid"], row["epoch"]): row for row in rows}


def judge(
    connection: Connection, standings: Mapping[Key, Row], life: Life, verdict: Verdict
) -> bool:
    """Believe what is said of a locked life, if it is news; say again that it is suspended.

    Returns:
        It was news.
    """
    standing = standings[life.peer_uid, life.epoch]
    believed = (standing["incarnation"], _ORDER.index(standing["verdict"]))
    said = (life.incarnation, _ORDER.index(verdict))
    if said[0] < believed[0] or (verdict is Verdict.WELL and said <= believed):
        return False
    if life.incarnation == ENDED and believed[1] == said[1]:
        return False  # that it ended was told already, by those who count
    values = {
        "peer_uid": life.peer_uid,
        "epoch": life.epoch,
        "incarnation": life.incarnation,
        "verdict": _ORDER[max(said, believed)[1]],
        "suspension_s": SUSPENSION_S,
    }
    connection.execute(QUERIES["save_standing"], values)
    return said > believed


def suspended(standings: Mapping[Key, Row], by: Holder) -> Suspended | None:
    """Tell whether one that judges is suspended itself."""
    return _suspended(standings[by.peer_uid, by.epoch])


def _suspended(row: Row) -> Suspended | None:
    if row["left_s"] is None or row["left_s"] <= 0:
        return None
    return Suspended(left_s=row["left_s"], why=f"the cluster takes this peer for {row['verdict']}")


def _open(connection: Connection, keys: list[Key]) -> None:
    connection.execute(QUERIES["open_standings"], _columns(keys))


def _columns(keys: list[Key]) -> dict[str, object]:
    return {"peer_uids": [uid for uid, _ in keys], "epochs": [epoch for _, epoch in keys]}
