"""Views of small clusters, as tests write them down."""

from __future__ import annotations

from collections.abc import Mapping

from gossip.rows import Body, Row, State
from membership.view import Member, View

ALIVE, SUSPECT, DEAD, LEFT = State


def row(uid: int, state: State = ALIVE, *, epoch: int = 1, incarnation: int = 1) -> Row:
    """What is known of a peer, whose name is its uid."""
    body = Body(address=("127.0.0.1", uid), name=f"peer {uid}", node="here", container=f"pid:{uid}")
    return Row(uid, epoch, incarnation, state, body)


def view(
    *rows: Row,
    own: int = 1,
    leader: int | None = None,
    quorate: bool = True,
    deaf: bool = False,
    suspected: bool = False,
    ages_s: Mapping[int, float] | None = None,
) -> View:
    """What peer `own` believes; its own row need not be given."""
    table = {own: row(own), **{each.uid: each for each in rows}}
    members = tuple(
        Member(
            row=table[uid],
            age_s=(ages_s or {}).get(uid, 0.1),
            load=None,
            load_age_s=0.0,
            silent=table[uid].state is not ALIVE,
            own=uid == own,
        )
        for uid in sorted(table)
    )
    return View(
        own_uid=own,
        members=members,
        leader=leader,
        candidate=leader,
        quorate=quorate,
        deaf=deaf,
        suspected=suspected,
        mass_event=False,
    )
