"""What changes in the cluster, as lines of this peer's log.

Every peer notices every change for itself, so most of it is INFO: a thousand peers that each warn
of the same death say it a thousand times. What concerns this very peer is told louder.
"""

from __future__ import annotations

import logging
from typing import Any

from gossip.rows import Row
from membership.changes import (
    Change,
    IdentityLost,
    KeysChanged,
    LeaderProposed,
    MemberDied,
    MemberJoined,
    MemberLeft,
    MemberRecovered,
    MemberRestarted,
    MemberSuspected,
    OrderReceived,
    Refuted,
)

log = logging.getLogger(__name__)


def log_change(change: Change) -> None:
    """Write a line, where the change is one that people follow."""
    match change:
        case MemberJoined():
            log.info("a member joined", extra=_about("joined", change.row))
        case MemberRestarted():
            log.info("a member was started again", extra=_about("restarted", change.row))
        case MemberSuspected():
            more = {"silent_s": round(change.silent_s, 1), "witnesses": change.witnesses}
            log.info("a member is suspect", extra=_about("suspected", change.row, **more))
        case MemberDied():
            more = {"silent_s": round(change.silent_s, 1), "witnesses": change.witnesses}
            log.info("a member is dead", extra=_about("died", change.row, **more))
        case MemberLeft():
            log.info("a member left", extra=_about("left", change.row))
        case MemberRecovered():
            was = change.was.name.lower()
            log.info("a member is back", extra=_about("recovered", change.row, was=was))
        case LeaderProposed():
            leader = None if change.uid is None else f"{change.uid:016x}"
            log.info("a leader is proposed", extra={"action": "leader", "leader": leader})
        case Refuted():
            log.warning(
                "others took this peer for suspect, dead or gone; it has contradicted",
                extra={"action": "refuted", "said": change.said.name.lower()},
            )
        case OrderReceived():
            log.info(
                "told by another member what to do",
                extra={
                    "action": "order",
                    "order": change.verb.name.lower(),
                    "by": f"{change.by:016x}",
                },
            )
        case KeysChanged():
            log.info(
                "the key ring was changed elsewhere",
                extra={"action": "keys", "version": change.keys.version},
            )
        case IdentityLost():
            log.error(
                "another peer runs with this one's identity, a copied directory perhaps; this one "
                "goes on under a new one. See to it that no two peers start from the same copy",
                extra={
                    "action": "identity_lost",
                    "old_uid": f"{change.old_uid:016x}",
                    "uid": f"{change.uid:016x}",
                },
            )


def _about(action: str, row: Row, **more: Any) -> dict[str, Any]:
    # Not `name`: that is one of a log record's own fields.
    return {
        "action": action,
        "member": row.body.name,
        "uid": f"{row.uid:016x}",
        "epoch": row.epoch,
        **more,
    }
