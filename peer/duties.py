"""What a view of the cluster asks to be written into the ledger, and whose turn it is: pure.

Duties follow from what the view *says*, looked at again and again, and not from the changes that
led there: a change may be missed (by a peer that was just started, or was not the leader yet, or
had no ledger), a state cannot. Changes only add what the state does not tell: how long a dead peer
had been silent, and that a life ended which the view has forgotten because the next one has begun.

Every peer comes to know of every death, and one of them should write it down: the leader, at once.
But nothing depends on its being well. The three living members that follow the dead one on the ring
of uids are its deputies; they do the same a few seconds later, or at once where nobody leads. The
ledger lets it happen once. Beyond them there are the leases.

One duty needs no view: a peer that was started again after a crash buries its own former life. Who
is alone has nobody else to do it, and whoever does it first does it for all.

Only a quorate view is acted on, by a peer that is not deaf. A minority that is cut off from the
others, but not from the ledger, would otherwise take everybody's work away; its own work is taken
by the majority. Of two halves both are quorate (it must be so, or of two peers none could ever bury
the other); there the ledger decides: whoever it was told to be suspect judges nobody.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

from gossip.rows import Row, State
from membership.changes import Change, MemberDied, MemberRestarted
from membership.events import ContainerFailureDetected
from membership.view import Member, View
from pipeline.standing import ENDED, EXPLAINED, SUSPENSION_S, Death, Life

HEAD_START_S = 5.0
"""How long deputies leave a duty to the leader, and 1 s more for each before them."""

STEP_S = 1.0

DEPUTIES = 3

RENEW_S = 0.4 * SUSPENSION_S
"""How often a suspension is said again."""

STARTED_AGAIN = "was started again without having left"

RAN_OUT = "was ended by the kernel for lack of memory, and started again"

GRAVES_MAX = 1024
"""How many ended lives are remembered that the view does not show. Leases cover the rest."""

GRAVE_AGE_MAX_S = 60.0
"""For how long: by then somebody has buried it, or its leases have run out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bury:
    """A life has ended; the event is None where nothing has failed: it left in good order."""

    death: Death
    event: ContainerFailureDetected | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspend:
    """These are suspect, or dead: they get no new work."""

    lives: tuple[Life, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reinstate:
    """It was suspect or dead, and has contradicted that."""

    life: Life


Duty = Bury | Suspend | Reinstate


@dataclass(frozen=True, slots=True)
class _Grave:
    """A life that ended by a restart: the view shows the next one already."""

    row: Row
    found_at: float


class Duties:
    """Remembers what is done, so that each duty is told until it is, and not after.

    Args:
        own_burial: Of this peer's former life, where that has ended by a crash: see `former_life`.

    Attributes:
        own_burial: The same, until it is done.
    """

    def __init__(self, own_burial: Bury | None = None) -> None:
        self.own_burial = own_burial
        self._first_seen: dict[Life, float] = {}
        self._died: dict[int, MemberDied] = {}
        self._graves: dict[Life, _Grave] = {}
        self._buried: set[Life] = set()
        self._doubted: dict[int, Life] = {}
        self._renewed_at: dict[Life, float] = {}

    def notice(self, now: float, change: Change) -> None:
        """Take in what a view cannot tell. Cheap; any kind of change may come."""
        match change:
            case MemberDied():
                self._died[change.row.uid] = change
            case MemberRestarted():
                self._graves[life_of(change.before)] = _Grave(change.before, now)
                while len(self._graves) > GRAVES_MAX:
                    del self._graves[next(iter(self._graves))]

    def due(self, now: float, view: View) -> list[Duty]:
        """What this peer has to do now; the same again until it is `done`."""
        self._forget(now, view)
        others = [member for member in view.members if not member.own]
        doubted = {
            life_of(member.row): member for member in others if member.state is not State.ALIVE
        }
        for life in [*doubted, *self._graves]:
            self._first_seen.setdefault(life, now)
        self._doubted |= {
            member.row.uid: life
            for life, member in doubted.items()
            if member.state in (State.SUSPECT, State.DEAD)
        }
        own = [] if self.own_burial is None else [self.own_burial]
        if not view.quorate or view.deaf:
            return [*own]
        return [
            *own,
            *self._burials(now, view, doubted),
            *self._suspensions(now, view, doubted),
            *self._reinstatements(now, view, others),
        ]

    def done(self, now: float, duty: Duty) -> None:
        """The ledger knows of it, from this peer or from another one."""
        if duty is self.own_burial:
            self.own_burial = None
            return
        match duty:
            case Bury():
                self._buried.add(duty.death.life)
                self._renewed_at[duty.death.life] = now
                self._graves.pop(duty.death.life, None)
            case Suspend():
                self._renewed_at |= dict.fromkeys(duty.lives, now)
            case Reinstate():
                self._doubted.pop(int(duty.life.peer_uid, 16), None)

    def _burials(self, now: float, view: View, doubted: dict[Life, Member]) -> Iterator[Duty]:
        for life, grave in self._graves.items():
            if life not in self._buried and self._is_turn(now, view, life, grave.row.uid):
                yield self._burial(life, grave.row, 0.0, STARTED_AGAIN)
        for life, member in doubted.items():
            if member.state is State.SUSPECT or life in self._buried:
                continue
            if self._is_turn(now, view, life, member.row.uid):
                yield self._burial(life, member.row, member.age_s, "died")

    def _burial(self, life: Life, row: Row, silent_s: float, how: str) -> Bury:
        if row.state is State.LEFT:
            left = Death(life=life, how="left without giving it back", silent_s=0.0)
            return Bury(death=left, event=None)
        witnesses, died = 0, self._died.get(row.uid)
        if died is not None and life_of(died.row) == life:
            silent_s, witnesses, how = died.silent_s, died.witnesses, f"died ({_evidence(died)})"
        return Bury(
            death=Death(life=life, how=how, silent_s=silent_s),
            event=ContainerFailureDetected(
                failed_uid=life.peer_uid,
                failed_name=row.body.name,
                failed_epoch=row.epoch,
                failed_container=row.body.container,
                failed_node=row.body.node,
                silent_s=round(silent_s, 3),
                witnesses=witnesses,
                reason="restarted" if how == STARTED_AGAIN else "silent",
            ),
        )

    def _suspensions(self, now: float, view: View, doubted: dict[Life, Member]) -> Iterator[Duty]:
        lives = tuple(
            life
            for life, member in doubted.items()
            if member.state is not State.LEFT
            and now - self._renewed_at.get(life, -inf) >= RENEW_S
            and self._is_turn(now, view, life, member.row.uid)
        )
        if lives:
            yield Suspend(lives=lives)

    def _reinstatements(self, now: float, view: View, others: list[Member]) -> Iterator[Duty]:
        for member in others:
            before = self._doubted.get(member.row.uid)
            if before is None or member.state is not State.ALIVE:
                continue
            life = life_of(member.row)
            if life.epoch != before.epoch:  # a new life begins in good standing
                del self._doubted[member.row.uid]
                continue
            self._first_seen.setdefault(life, now)
            if self._is_turn(now, view, life, member.row.uid):
                yield Reinstate(life=life)

    def _is_turn(self, now: float, view: View, life: Life, uid: int) -> bool:
        wait_s = turn_s(view, uid)
        return wait_s is not None and now - self._first_seen[life] >= wait_s

    def _forget(self, now: float, view: View) -> None:
        """Keep only what is about rows that the view shows, and young graves."""
        self._graves = {
            life: grave
            for life, grave in self._graves.items()
            if now - grave.found_at < GRAVE_AGE_MAX_S
        }
        if not (self._first_seen or self._died or self._doubted or self._buried):
            return
        uids = {member.row.uid for member in view.members}
        shown = {life_of(member.row) for member in view.members} | self._graves.keys()
        self._first_seen = {life: at for life, at in self._first_seen.items() if life in shown}
        self._renewed_at = {life: at for life, at in self._renewed_at.items() if life in shown}
        self._buried &= shown
        self._died = {uid: died for uid, died in self._died.items() if uid in uids}
        self._doubted = {uid: life for uid, life in self._doubted.items() if uid in uids}


def turn_s(view: View, uid: int) -> float | None:
    """For how long this peer leaves a duty about `uid` to others; None: it is not among those who
    do it at all."""
    own = view.own_uid
    alive = {member.row.uid for member in view.members if member.state is State.ALIVE} | {own}
    leader = view.leader if view.leader in alive and view.leader != uid else None
    if own == leader:
        return 0.0
    following = sorted(alive - {uid, leader}, key=lambda other: (other - uid) % 2**64)
    rank = following.index(own)
    if rank >= DEPUTIES:
        return None
    return (HEAD_START_S if leader is not None else 0.0) + rank * STEP_S


def former_life(
    uid: str,
    epoch: int,
    *,
    name: str,
    node: str,
    out_of_memory: bool = False,
    memory_bytes: int | None = None,
) -> Bury:
    """The burial of the life that this very peer had before, and did not end in good order.

    The others may do the same, by its incarnations; the ledger lets it happen once.

    Args:
        name, node: As they are now. Which container it was, nobody has written down.
        out_of_memory: The kernel has ended it for lack of memory.
        memory_bytes: How much it might use, where that was too little.
    """
    over = EXPLAINED if out_of_memory else ENDED
    life = Life(peer_uid=uid, epoch=epoch, incarnation=over)
    return Bury(
        death=Death(
            life=life,
            how=RAN_OUT if out_of_memory else STARTED_AGAIN,
            silent_s=0.0,
            out_of_memory=out_of_memory,
            memory_bytes=memory_bytes,
        ),
        event=ContainerFailureDetected(
            failed_uid=uid,
            failed_name=name,
            failed_epoch=epoch,
            failed_container="",
            failed_node=node,
            silent_s=0.0,
            witnesses=0,
            reason="out_of_memory" if out_of_memory else "restarted",
        ),
    )


def life_of(row: Row) -> Life:
    """The life that a row is about, as the ledger names it."""
    return Life(peer_uid=f"{row.uid:016x}", epoch=row.epoch, incarnation=row.incarnation)


def _evidence(died: MemberDied) -> str:
    silent = f"silent for {died.silent_s:.1f} s"
    if not died.witnesses:
        return silent
    return f"{silent} to {died.witnesses} observer{'' if died.witnesses == 1 else 's'}"
