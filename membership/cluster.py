"""The core: one peer's part in the protocol, without a socket, a clock or chance of its own.

    handle(now, datagram, source)    what came in
    tick(now)                        when `due()` has come
    poll()                           what is to be sent, and what has changed

The same object runs under trio over UDP (`service.py`) and by the thousand in the simulator.

It composes, and decides nothing by itself. What is shared is in `core.py`: `Dissemination` believes
what is newer and passes it on, `Detector` watches and judges, `Health` knows this peer's condition,
`Election` proposes a leader, `Outbox` seals and counts. What each message does to it is in
`hearing.py`, what each timer does in `rounds.py`.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from gossip.budget import Priority
from gossip.events import GossipEvent
from gossip.load import Load
from gossip.messages import Join, Keys, Verb
from gossip.rows import Address, Body, Row, State
from gossip.sealing import Envelope
from membership.changes import Change
from membership.config import MembershipConfig
from membership.core import Core
from membership.hearing import Hearing
from membership.orders import Orders
from membership.outbox import Outgoing
from membership.questions import Purpose, Question
from membership.rounds import Rounds
from membership.view import Member, View

__all__ = ["Cluster", "Outgoing", "Output"]

SEEDS_MAX = 3
"""So many of the seeds are asked at once; others are drawn at the next try."""

SUSPECTED_S = 2.0
"""For so long after it had to contradict its own suspicion, a peer takes itself for suspected."""


class Output(NamedTuple):
    """What has come of what was put in, oldest first."""

    datagrams: list[Outgoing]
    changes: list[Change]
    events: list[GossipEvent]


class Cluster:
    """One peer's view of the cluster, and its part in keeping everybody's.

    Args:
        now: Monotonic seconds; every later one must not be smaller.
        uid, epoch: This peer's identity; the epoch was saved before this call.
        body: What it says of itself. The address may be a guess: see `observed`.
        envelope: Seals and opens; made for the same uid and epoch.
        rng: Draws targets, jitter, nonces, and a new uid should this one be taken. Pass a
            `random.SystemRandom` where it matters, a seeded one to repeat a run.
    """

    def __init__(
        self,
        config: MembershipConfig,
        *,
        now: float,
        uid: int,
        epoch: int,
        body: Body,
        envelope: Envelope,
        rng: random.Random,
    ) -> None:
        self._core = Core(
            config, now=now, uid=uid, epoch=epoch, body=body, envelope=envelope, rng=rng
        )
        self._orders = Orders(self._core)
        self._hearing = Hearing(self._core, self._orders)
        self._rounds = Rounds(self._core, self._orders)

    def handle(
        self,
        now: float,
        datagram: bytes,
        source: Address,
        received_at: float | None = None,
        late_s: float | None = None,
    ) -> None:
        """Take in one datagram.

        Args:
            source: Where it came from.
            received_at: When the kernel had it, on the clock of `now`. However late this is called,
                it is by this that a silence is judged. Default: now.
            late_s: How much later than it should have been this is called: a loop may let routine
                datagrams wait on purpose. Default: since it was received.
        """
        self._hearing.handle(now, datagram, source, received_at, late_s)

    def tick(self, now: float) -> None:
        """Do what is due. To be called after every waiting datagram was handed in, never before."""
        self._rounds.tick(now)

    def due(self) -> float:
        """When the next `tick` is wanted. A late one is safe: the core knows that it was late."""
        return self._core.timers.due()

    def poll(self) -> Output:
        """Take out what is to be sent and told, at most once."""
        core = self._core
        changes, core.changes = core.changes, []
        events, core.events = core.events, []
        return Output(core.outbox.take(), changes, events)

    def join(self, now: float, seeds: Sequence[Address]) -> None:
        """Ask these to let this peer in, now; those of them that are members already are left out.
        To be called again every `seed_interval_s`: so islands find each other."""
        core = self._core
        core.now = now
        own = core.table.own
        known = {own.body.address}
        for uid in core.table.living:
            entry = core.table.get(uid)
            assert entry is not None
            known.add(entry.row.body.address)
        strangers = [seed for seed in dict.fromkeys(seeds) if seed not in known]
        if len(strangers) > SEEDS_MAX:
            strangers = core.rng.sample(strangers, SEEDS_MAX)
        for address in strangers:
            nonce = core.questions.ask(Question(Purpose.JOIN, now, None))
            join = Join(nonce=nonce, rows=(core.table.aged(now, own.uid),))
            core.send(address, join, Priority.CONTROL)

    def set_load(self, now: float, load: Load) -> None:
        """Say how busy this peer is. It travels with the next heartbeat and gossip.

        Its lag, and whether it is deaf or flaps, the core knows itself and fills in.
        """
        core = self._core
        core.now = now
        core.load = load
        core.spread.set_load(now, core.own_load(now))

    def set_body(self, now: float, body: Body) -> None:
        """Say something else of this peer: an address, whether it could lead."""
        core = self._core
        core.now = now
        own = core.table.own
        body = replace(body, keys=own.body.keys)
        if body != own.body:
            core.spread.set_own(now, replace(own, incarnation=own.incarnation + 1, body=body))
            core.timers.rush(now)

    def order(self, now: float, uid: int, verb: Verb) -> int:
        """Ask another peer for something; an `OrderAnswered` with this nonce follows."""
        self._core.now = now
        return self._orders.give(now, uid, verb)

    def ping(self, now: float, uid: int) -> None:
        """Ask a member for a sign of life; an answer shows in its age."""
        core = self._core
        core.now = now
        entry = core.table.get(uid)
        if entry is not None and uid != core.table.own.uid:
            core.detector.ping(now, entry.row)

    def leave(self, now: float) -> None:
        """Say good-bye to everybody. The caller sends what `poll` gives for about a second more."""
        core = self._core
        core.now = now
        if core.leaving:
            return
        own = core.table.own
        core.spread.set_own(now, replace(own, state=State.LEFT))
        core.leaving = True
        core.detector.abandon()
        self._rounds.say_farewell(now)

    def view(self, now: float) -> View:
        """What this peer believes now."""
        core = self._core
        own = core.table.own
        members = []
        for entry in core.table.entries():
            row = entry.row
            known = core.spread.loads.get(row.uid)
            mine = row.uid == own.uid
            members.append(
                Member(
                    row=row,
                    age_s=0.0 if mine else core.table.age_s(now, row.uid),
                    load=known[0] if known is not None else None,
                    load_age_s=now - known[1] if known is not None else math.inf,
                    silent=core.detector.silent(row.uid),
                    own=mine,
                )
            )
        return View(
            own_uid=own.uid,
            members=tuple(members),
            leader=core.election.leader,
            candidate=core.election.candidate,
            quorate=core.election.quorate,
            deaf=core.health.deaf(now),
            deaf_s=core.health.deaf_s(now),
            suspected=now - core.suspected_at < SUSPECTED_S,
            mass_event=core.detector.mass_event(now),
        )

    def fingerprint(self, now: float) -> int:
        """One number for the whole table: two peers that have the same agree on all members."""
        core = self._core
        return core.table.fingerprint(now)

    def counters(self) -> dict[str, int]:
        """Everything that was counted: datagrams and bytes by kind, drops by reason."""
        core = self._core
        return dict(core.counters + core.outbox.counters)

    def set_keys(self, now: float, keys: Keys) -> bool:
        """Take a key ring that was changed here; the others get it from this peer.

        Returns:
            Whether it was taken. False: a newer one has come from elsewhere, so what was meant to
            be changed is not there any more.

        Raises:
            BadKey: It is no ring, or nothing is sealed here.
        """
        self._core.now = now
        return self._core.set_keys(now, keys)

    @property
    def observed(self) -> Address | None:
        """From where the others see this peer's datagrams come; None before anybody said so."""
        return self._core.observed

    @property
    def own(self) -> Row:
        """This peer's own row, as it tells it to others."""
        return self._core.table.own
