"""What the ledger does when it is told who is gone and who is back, as transactions."""

from __future__ import annotations

from collections.abc import Sequence

from pipeline.errors import Stage
from pipeline.events import Record
from pipeline.ledger import claims, standings
from pipeline.ledger.claims import Rules
from pipeline.ledger.connections import Connection
from pipeline.ledger.locked_task import LockedTask, lock_claim, write_events
from pipeline.ledger.queries import QUERIES
from pipeline.ledger.standings import Verdict
from pipeline.ports import Expired
from pipeline.shortage import OUT_OF_MEMORY
from pipeline.standing import ENDED, Death, Life, Suspended
from pipeline.tasks import Failure, Holder

EXPLAINED_WITHIN_S = 600.0
"""What was taken longer ago than this had another reason: a frozen peer, say, that came back."""


def bury(
    connection: Connection, rules: Rules, by: Holder, death: Death, record: Record | None
) -> Sequence[Expired] | Suspended:
    """Take what a life held that has ended, once.

    The lease does not matter, nor whether the ledger was away: that a peer is dead was found out
    without either.
    """
    life = death.life
    locked = standings.lock(connection, [(by.peer_uid, by.epoch), (life.peer_uid, life.epoch)])
    if (refused := standings.suspended(locked, by)) is not None:
        return refused
    is_news = standings.judge(connection, locked, life, Verdict.DEAD)
    if not is_news and life.incarnation < ENDED:
        return []
    if is_news and record is not None:
        write_events(connection, [record])
    if is_news and death.out_of_memory:
        _explain(connection, death)
    values = {"peer_uid": life.peer_uid, "epoch": life.epoch}
    taken: list[Expired] = []
    for row in connection.execute(QUERIES["list_claims_of_life"], values).fetchall():
        task = LockedTask.lock(connection, row["task_id"])
        held = lock_claim(connection, row["token"])
        if task is None or held is None or held["outcome"] is not None:
            continue  # it ended between the search and the lock
        part = task.parts[row["part"]]
        taken.append(claims.expire(connection, rules, task, part, held, death=death))
    return taken


def _explain(connection: Connection, death: Death) -> None:
    """Let what was taken from this life for its silence have failed for lack of memory.

    The queue gives up a peer within a second, gossip within eight, and why it ended may be known
    later than both: the next attempts must be made different all the same (`pipeline.shortage`).
    """
    values = {
        "peer_uid": death.life.peer_uid,
        "epoch": death.life.epoch,
        "within_s": EXPLAINED_WITHIN_S,
        "code": OUT_OF_MEMORY,
    }
    for row in connection.execute(QUERIES["list_unexplained"], values).fetchall():
        task = LockedTask.lock(connection, row["task_id"])
        if task is not None:
            failure = Failure(
                stage=Stage.CRASH,
                code=OUT_OF_MEMORY,
                message=f"peer {row['peer_name']} {death.how}",
                memory_bytes=death.memory_bytes,
            )
            task.explain(row["token"], task.parts[row["part"]], row["attempt"], failure)


def suspend(connection: Connection, by: Holder, lives: Sequence[Life]) -> Suspended | None:
    """Keep work from these for a while, as far as they have not contradicted."""
    keys = [(life.peer_uid, life.epoch) for life in lives]
    locked = standings.lock(connection, [(by.peer_uid, by.epoch), *keys])
    if (refused := standings.suspended(locked, by)) is not None:
        return refused
    for life in lives:
        standings.judge(connection, locked, life, Verdict.SUSPECT)
    return None


def reinstate(connection: Connection, life: Life) -> None:
    """Believe a contradiction."""
    locked = standings.lock(connection, [(life.peer_uid, life.epoch)])
    standings.judge(connection, locked, life, Verdict.WELL)
