"""Containers that the orchestrator says have ended by themselves, and which peer that was: pure.

The orchestrator sees a process end within a second, where the others need six to eight to agree
that a peer is dead; but it names containers, and knows of no peers. A row joins the two. Both will
say it, in any order and from any peer, and it is written once: what the orchestrator says is said
of a life that has `ENDED`, above which nothing counts, so the ledger takes the first and no other.
Only that memory ran out is worth a second word: a life whose end is `EXPLAINED` counts above one
that has just ended. So where gossip was quicker, a second event with that reason follows, and the
attempts that were taken from the peer for its silence have failed for lack of memory after all.

The orchestrator shows its failures again to each new leader, who may have been the one that failed;
so all of this must be, and is, the same when it is said twice.

A container may fail before anybody has heard of a peer in it. It is waited for a little, as rows
need a moment to spread; then the container itself is buried, as a life that never held anything.
One whose peer is known is buried both ways, with one event: a later leader that has never heard of
that peer then tells nothing new.

The rejected alternative, to have the leader write the event when it sees the container fail, would
have it written twice for every failure that gossip notices too, which is nearly every one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from gossip.rows import State
from membership.events import ContainerFailureDetected
from membership.view import Member, View
from pipeline.standing import ENDED, EXPLAINED, Death, Life

UNHEARD_S = 5.0
"""For how long a row is waited for that names the container."""

AS_TOLD = (0, 130, 143)
"""Exit codes of a peer that was told to end, whoever did: it has handed back what it had."""

REPORTS_MAX = 1024
"""How many are kept while the ledger is away. Gossip and leases cover the rest."""

DETAIL_MAX = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """A container that ended without the orchestrator having told it to.

    Args:
        container: As in its peer's row: a name that no later container has again.
        node: Where it ran; empty where nobody says.
        reason: The orchestrator's own words.
        exit_code: None where nobody knows.
        lost: With its node, on which it may live, cut off from us.
        out_of_memory: It was ended for lack of memory.
    """

    container: str
    node: str
    reason: str
    exit_code: int | None
    out_of_memory: bool
    lost: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class BuryEnded:
    """A life has ended, says the orchestrator; to be asked first whether it still answers.

    Args:
        event: Goes with the first of the deaths.
        heard: A peer is known from it; otherwise nobody can be asked.
    """

    container: str
    deaths: tuple[Death, ...]
    event: ContainerFailureDetected
    heard: bool


class Reports:
    """Remembers what the orchestrator has said until the ledger knows it."""

    def __init__(self) -> None:
        self._open: dict[str, tuple[Ended, float]] = {}

    def note(self, now: float, ended: Ended) -> None:
        """Hear of one; again makes no difference while it is not done."""
        if ended.exit_code not in AS_TOLD:
            self._open.setdefault(ended.container, (ended, now))
        while len(self._open) > REPORTS_MAX:
            del self._open[next(iter(self._open))]

    def due(self, now: float, view: View) -> Iterator[BuryEnded]:
        """What is to be told now."""
        for ended, noted_at in list(self._open.values()):
            member = _member(view, ended.container)
            if member is not None and _is_no_end(ended, member):
                self.done(ended.container)
            elif member is not None:
                yield _of_peer(ended, member)
            elif now - noted_at >= UNHEARD_S:
                yield _of_container(ended)

    def done(self, container: str) -> None:
        """The ledger knows of it, or it turned out to be wrong."""
        self._open.pop(container, None)


def _is_no_end(ended: Ended, member: Member) -> bool:
    """It runs here; or has left in good order; or was lost with its node, and may live there, cut
    off: that is for the others to find out, who hear it or do not."""
    return member.own or member.state is State.LEFT or ended.lost


def _member(view: View, container: str) -> Member | None:
    found = [member for member in view.members if member.row.body.container == container]
    return max(found, key=lambda member: (member.row.epoch, member.row.uid), default=None)


def _of_peer(ended: Ended, member: Member) -> BuryEnded:
    life = Life(peer_uid=member.uid, epoch=member.row.epoch, incarnation=_over(ended))
    lives = (life, _container_life(ended))
    return _burial(ended, lives, name=member.row.body.name, node=member.row.body.node)


def _of_container(ended: Ended) -> BuryEnded:
    return _burial(ended, (_container_life(ended),), name="", node="")


def _container_life(ended: Ended) -> Life:
    return Life(peer_uid=f"container:{ended.container}", epoch=0, incarnation=_over(ended))


def _over(ended: Ended) -> int:
    return EXPLAINED if ended.out_of_memory else ENDED


def _burial(ended: Ended, lives: tuple[Life, ...], *, name: str, node: str) -> BuryEnded:
    said = ended.reason[:DETAIL_MAX]
    what = "ran out of memory" if ended.out_of_memory else "ended"
    life = lives[0]
    return BuryEnded(
        container=ended.container,
        deaths=tuple(
            Death(
                life=each,
                how=f"{what} (the orchestrator says: {said})",
                silent_s=0.0,
                out_of_memory=ended.out_of_memory,
            )
            for each in lives
        ),
        event=ContainerFailureDetected(
            failed_uid=life.peer_uid if name else "",
            failed_name=name,
            failed_epoch=life.epoch,
            failed_container=ended.container,
            failed_node=node or ended.node,
            silent_s=0.0,
            witnesses=0,
            reason="out_of_memory" if ended.out_of_memory else "ended",
            detail=said,
        ),
        heard=bool(name),
    )
