"""The cluster as the scaler is to see it: `scaling.ports.Peers`, made of this peer's gossip.

A view knows peers, and the scaler knows containers. What joins them is the name that the
orchestrator has for a container, which each peer says of itself in its row (`peer.container`). Rows
outlive what they are about, and names may be used again; so only the living are looked at, and of
two with one name the one that was started last is in the container.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import trio

from gossip.load import Flag, Load
from gossip.messages import Verb
from gossip.rows import State
from membership.view import Member, View
from peer.table import uid_text
from scaling.snapshot import Activity, PeerSight

log = logging.getLogger(__name__)

HEARD_S = 3.0
"""How long an order is waited for. One that is heard later is obeyed all the same, and shows."""

RENEW_S = 60.0
"""How often a park is said again; `peer.park_s` is a multiple of it."""

Remaining = Callable[[str], float | None]
"""Seconds until a peer, named by its uid, is done with all it works on; None: nobody knows."""


class Cluster(Protocol):
    """**Protocol**: the peer among the others; see `peer.neighbours.Neighbours`."""

    def view(self) -> View:
        """What this peer believes now."""
        ...

    async def order(self, uid: int, verb: Verb) -> bool:
        """Ask another peer for something; return whether it has heard."""
        ...


class ScalingPeers:
    """Implements `scaling.ports.Peers`.

    Args:
        obey: Do to this very peer what is ordered.
    """

    def __init__(
        self, cluster: Cluster, obey: Callable[[Verb], None], *, remaining: Remaining
    ) -> None:
        self._cluster = cluster
        self._obey = obey
        self._remaining = remaining
        self._said_at: dict[int, float] = {}

    def leads(self) -> bool:
        """Whether this peer is the one proposed to lead."""
        return self._cluster.view().leads

    def quorate(self) -> bool:
        """Whether at least half of the recent membership is alive, and this peer hears them."""
        view = self._cluster.view()
        return view.quorate and not view.deaf and not view.suspected

    def sights(self) -> dict[str, PeerSight]:
        """By container id."""
        return sights(self._cluster.view().members, self._remaining)

    async def park(self, uid: str) -> bool:
        """Ask it to take no new work. Whether it has heard."""
        return await self._order(int(uid, 16), Verb.PARK)

    async def unpark(self, uid: str) -> bool:
        """Ask it to take work again, unless a person has drained it. Whether it has heard."""
        self._said_at.pop(int(uid, 16), None)
        return await self._order(int(uid, 16), Verb.UNPARK)

    async def renew(self) -> None:
        """Tell whoever is parked that this still holds, once in `RENEW_S`; whoever parked it.

        To be called where the scaler has looked, and wants it so: a park ends by itself when
        nobody does.
        """
        now = trio.current_time()
        parked = [
            member.row.uid
            for member in self._cluster.view().members
            if member.row.body.parked and (member.own or member.state is State.ALIVE)
        ]
        self._said_at = {uid: self._said_at.get(uid, now) for uid in parked}
        async with trio.open_nursery() as nursery:
            for uid, said_at in self._said_at.items():
                if now - said_at >= RENEW_S:
                    nursery.start_soon(self._order, uid, Verb.PARK)

    async def _order(self, uid: int, verb: Verb) -> bool:
        if verb is Verb.PARK:
            self._said_at[uid] = trio.current_time()
        heard = False
        if uid == self._cluster.view().own_uid:
            self._obey(verb)
            heard = True
        else:
            with trio.move_on_after(HEARD_S):
                heard = await self._cluster.order(uid, verb)
        about = {"action": verb.name.lower(), "peer": uid_text(uid), "heard": heard}
        log.log(logging.INFO if heard else logging.WARNING, "told a peer", extra=about)
        return heard


def sights(members: Iterable[Member], remaining: Remaining) -> dict[str, PeerSight]:
    """What gossip knows of the peers in containers, by the containers' ids. Pure.

    Left out are the dead, the departed, and who has not said yet how busy it is.
    """
    chosen: dict[str, Member] = {}
    for member in members:
        known = chosen.get(member.row.body.container)
        lives = member.own or member.state in (State.ALIVE, State.SUSPECT)
        if lives and member.load is not None and (known is None or _is_later(member, known)):
            chosen[member.row.body.container] = member
    return {
        container: _sight(member, member.load, remaining)
        for container, member in chosen.items()
        if container and member.load is not None
    }


def departed(members: Sequence[Member]) -> frozenset[str]:
    """The containers of those of which the cluster says that they are dead or have left. Pure.

    A container in which another peer lives is none of them.
    """
    ended = {member.row.body.container for member in members if _has_ended(member)}
    living = {member.row.body.container for member in members if not _has_ended(member)}
    return frozenset(ended - living - {""})


def _has_ended(member: Member) -> bool:
    return not member.own and member.state in (State.DEAD, State.LEFT)


def _is_later(member: Member, other: Member) -> bool:
    return (member.row.epoch, member.row.uid) > (other.row.epoch, other.row.uid)


def _sight(member: Member, load: Load, remaining: Remaining) -> PeerSight:
    return PeerSight(
        uid=member.uid,
        activity=activity(member.row.body.parked, load),
        slots=load.slots,
        running=load.running,
        remaining_s=remaining(member.uid) if load.running else 0.0,
        cpu=load.cpu,
        memory=load.memory,
        # What it says of its work is older than its last sign of life when that came without.
        age_s=max(0.0 if member.own else member.age_s, member.load_age_s),
    )


def activity(parked: bool, load: Load) -> Activity:
    """What a peer says of itself, in one word; a person's drain counts above the scaler's park."""
    if Flag.DRAINING in load.flags:
        return Activity.DRAINING
    if parked:
        return Activity.PARKED
    return Activity.BUSY if load.running else Activity.IDLE
