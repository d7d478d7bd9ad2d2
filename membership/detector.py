"""Failure detection: this peer's edges, what it says when one falls silent, and what a quorum says.

    heard ──silence──> alerting ──quorum──> SUSPECT ──longer silence, no answer──> DEAD
      ^                   │                    │
      └── any evidence ───┴────────────────────┘

Evidence of life is whatever a subject has sent, to anybody: its heartbeats to this peer, the load
records that others pass on with their age, an answer that a third peer relays. Ages are honest, so
what a dead peer once said grows old everywhere alike, and second-hand evidence delays no detection;
but a live peer whose links to its observers are bad is not accused. Only silence on all of these
paths makes an alert, and only alerts of a quorum have any effect.

Rejected: a verdict from one prober and a time for the accused to object (SWIM). An accused that is
starved of processor time loses that race, and here every machine is starved of it by design.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from gossip.budget import Priority
from gossip.load import Flag
from gossip.load_table import LoadTable
from gossip.messages import (
    Alert,
    AlertOk,
    Heartbeat,
    Message,
    Ping,
    PingRequest,
    Watch,
    WatchOk,
)
from gossip.rows import Row, State
from gossip.table import Table
from membership import ring
from membership.config import MembershipConfig
from membership.edge import LATE_PINGS, Edge
from membership.health import Health
from membership.questions import Purpose, Question, Questions
from membership.quorum import Accusations, misses, threshold

QUICK_PINGS = 3
"""So many follow each other at once when a silence begins; then one comes with each alert."""

HELPERS = 2
"""Peers that are asked, with each alert, to ping the subject."""

LATE_SHARE = 2 / 3
"""Of the silence that means death: pings after that must have stayed unanswered."""

HELD_SHARE = 0.4
"""Of that silence, the most that an observer tells of while it holds deaths back: by the time its
alert is forgotten, the silence must still not be long enough."""

MASS_WINDOW_S = 5.0
MASS_MIN = 3

Say = Callable[[int, Message, Priority], bool]
"""Sends a message to a member; False when it is unknown or there is no budget."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A quorum agrees about a subject."""

    uid: int
    state: State
    silent_s: float
    witnesses: int
    quorum: int


class Detector:
    """Watches this peer's subjects.

    Args:
        say: How messages get out.
    """

    def __init__(
        self,
        config: MembershipConfig,
        *,
        table: Table,
        loads: LoadTable,
        health: Health,
        questions: Questions,
        rng: random.Random,
        say: Say,
    ) -> None:
        self._config = config
        self._table = table
        self._loads = loads
        self._health = health
        self._questions = questions
        self._rng = rng
        self._say = say
        self._edges: dict[int, Edge] = {}
        self._planned: tuple[int, ...] = ()
        self._plan_at = -math.inf
        self._told = (0, -math.inf)
        self._accusations = Accusations(config)
        self._heard_from: dict[int, float] = {}
        self._newly_silent: dict[int, float] = {}
        self._mass_until = -math.inf
        self._mass_seen = False
        self._minority_since = math.nan

    # -- what is heard -----------------------------------------------------------------------------

    def edge(self, uid: int) -> Edge | None:
        """Return this peer's edge from a subject; None when it does not watch it."""
        return self._edges.get(uid)

    def heard(self, uid: int, at: float) -> None:
        """A datagram of that member's arrived at this peer itself."""
        self._heard_from[uid] = at
        edge = self._edges.get(uid)
        if edge is not None:
            edge.hear(at)

    def beat(self, at: float, uid: int, epoch: int, heartbeat: Heartbeat) -> float:
        """Take in a heartbeat; return for how long none had come before it."""
        edge = self._edges.get(uid)
        if edge is None or edge.epoch != epoch:
            return 0.0
        pause = at - edge.beat_at if edge.beats else 0.0
        edge.beat(at, heartbeat.sequence, heartbeat.tardiness, heartbeat.grace_s)
        return max(0.0, pause)

    def consent(self, now: float, uid: int, epoch: int, answer: WatchOk) -> None:
        """A subject answers whether it sends its heartbeats."""
        edge = self._edges.get(uid)
        if edge is None or edge.epoch != epoch:
            return
        edge.consented = answer.lease_s > 0
        edge.observers = answer.observers
        if edge.consented:
            renew_s = min(self._config.watch_interval_s, answer.lease_s / 3)
            edge.watch_at = now + renew_s * self._rng.uniform(0.9, 1.1)
        else:
            edge.beats = 0
            edge.watch_at = now + 3 * self._config.watch_retry_s

    def alerted(self, at: float, observer: int, alert: Alert) -> AlertOk | None:
        """Take in another observer's alert; return the answer. None: it is of another start."""
        entry = self._table.get(alert.uid)
        if entry is None:
            return AlertOk(uid=alert.uid, epoch=alert.epoch, silent=True)
        if entry.row.epoch != alert.epoch:
            return None
        if alert.incarnation >= entry.row.incarnation:
            # An older one was said before the subject contradicted: its silence counts anew.
            self._accusations.add(at, alert.uid, alert.epoch, observer, alert.silent_s)
        edge = self._edges.get(alert.uid)
        silent_s = at - entry.heard_at
        limit_s = edge.patience_s if edge is not None else self._basic_limit_s()
        return AlertOk(uid=alert.uid, epoch=alert.epoch, silent=silent_s > limit_s)

    def answered(self, at: float, observer: int, answer: AlertOk) -> None:
        """Another observer answers an alert of this peer's.

        That it finds the subject silent, too, it will say in an alert of its own. Unless it does
        not know the subject: it started after the last sign of life, and the age rule keeps from
        it what only this peer remembers. So after a silence of that length its answer counts, or
        the dead whose observers have all been replaced would never be buried.
        """
        edge = self._edges.get(answer.uid)
        if not answer.silent:
            self._accusations.withdraw(answer.uid, observer)
        elif edge is not None and edge.epoch == answer.epoch:
            silent_s = self._config.gossip.row_age_max_s
            if edge.silent_s(at) > silent_s:
                self._accusations.add(at, answer.uid, answer.epoch, observer, silent_s)

    def fell_silent(self, now: float, uid: int) -> None:
        """A member was newly found silent, by this peer or by others."""
        self._newly_silent[uid] = now
        recent = sum(1 for at in self._newly_silent.values() if now - at <= self._mass_window_s)
        members = len(self._table.present)
        if recent >= MASS_MIN and recent > self._config.mass_share * members:
            self._hold(now)

    def _hold(self, now: float) -> None:
        self._mass_until = max(self._mass_until, now + self._config.mass_hold_s)

    def sides(self, now: float, quorate: bool) -> None:
        """Learn, every second, whether this peer hears enough of the members to be their half."""
        if quorate:
            self._minority_since = math.nan
        elif math.isnan(self._minority_since):
            self._minority_since = now

    def holding(self, now: float) -> bool:
        """Deaths wait: so many fell silent together that it may be this side that is cut off.

        For a few seconds after the moment when they did; and, on a side that turns out to be the
        smaller one, for as long as most cuts last. Its leases keep its work meanwhile.
        """
        minority_s = now - self._minority_since  # NaN, and so no number is greater, while it is not
        return self.mass_event(now) or minority_s < self._config.minority_hold_s

    def witnesses(self, now: float, uid: int, epoch: int) -> int:
        """Return how many observers say that a member is silent, as far as this peer was told."""
        accusers = self._accusations.against(now, uid, epoch)
        return len(accusers) + (self.silent(uid) and self._table.own.uid not in accusers)

    def told(self, now: float, members: int) -> None:
        """Another member says how many there are: this peer's own table may just be filling."""
        count, at = self._told
        if members >= count or now - at > self._config.unreachable_s:
            self._told = (members, now)

    def _members(self, now: float) -> int:
        count, at = self._told
        fresh = now - at <= self._config.unreachable_s
        return max(len(self._table.present), count if fresh else 0)

    @property
    def _mass_window_s(self) -> float:
        return MASS_WINDOW_S * self._config.heartbeat_interval_s / 0.5

    def mass_event(self, now: float) -> bool:
        """So many fell silent together that it is more likely the network."""
        return now < self._mass_until

    def silent(self, uid: int) -> bool:
        """This peer watches that member and says that it is silent."""
        edge = self._edges.get(uid)
        return edge is not None and edge.alerting

    # -- the plan ----------------------------------------------------------------------------------

    def plan(self, now: float) -> None:
        """Watch whom this peer should watch by its present view, and nobody else."""
        present = self._table.present
        if present is self._planned or now < self._plan_at:
            return
        self._planned = present
        self._plan_at = now + self._config.heartbeat_interval_s
        own = self._table.own.uid
        wanted = ring.subjects(present, own, self._config.observers)
        for uid in [uid for uid in self._edges if uid not in wanted]:
            del self._edges[uid]
            self._say(uid, Watch(nonce=0, lease_s=0.0), Priority.CONTROL)
        for uid in wanted:
            entry = self._table.get(uid)
            assert entry is not None
            if uid not in self._edges:
                self._edges[uid] = Edge(uid, entry.row.epoch, heard_at=now)

    def abandon(self) -> None:
        """Watch nobody any more."""
        for uid in self._edges:
            self._say(uid, Watch(nonce=0, lease_s=0.0), Priority.CONTROL)
        self._edges.clear()
        self._planned = ()

    def forget(self, now: float) -> None:
        """Remove what is over."""
        self._accusations.forget(now)
        window_s = self._mass_window_s
        for uid in [uid for uid, at in self._newly_silent.items() if now - at > window_s]:
            del self._newly_silent[uid]
        for uid in [uid for uid in self._heard_from if self._table.get(uid) is None]:
            del self._heard_from[uid]

    # -- time --------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Verdict]:
        """Look at every edge; return what a quorum agrees on, this peer included."""
        self.plan(now)
        self._listen(now)
        calm = self._health.calm(now) and not self._health.mute(now)
        verdicts = []
        for edge in self._edges.values():
            self._renew(now, edge)
            silent_s = edge.silent_s(now)
            if silent_s <= edge.patience_s:
                if edge.alerting:
                    edge.relent()
                continue
            if not edge.alerting:
                if not calm:
                    continue
                edge.alerting_since = now
                edge.alert_at = edge.ping_at = now
                self.fell_silent(now, edge.uid)
            self._ask_around(now, edge, silent_s)
            verdict = self._judge(now, edge, silent_s) if calm else None
            if verdict is not None:
                verdicts.append(verdict)
        return verdicts

    def _listen(self, now: float) -> None:
        """Learn what others have heard, and judge this peer's own ears by its own."""
        established = silent = 0
        config = self._config
        observers = max(1, min(config.observers, len(self._table.present) - 1))
        quorum = math.ceil(config.quorum * observers)
        for uid in self._edges:
            edge, entry = self._edges[uid], self._table.get(uid)
            if entry is not None and entry.row.epoch != edge.epoch:
                # A new start: what was agreed with the old one, and its silence, are over.
                edge = self._edges[uid] = Edge(uid, entry.row.epoch, heard_at=now)
            elif entry is not None:
                edge.hear(entry.heard_at)
            loss_percent = round(100 * edge.loss)
            needed = misses(observers, quorum, loss_percent, config.misses_min, config.misses_max)
            edge.be_patient(needed, config.heartbeat_interval_s, config.dead_silence_s)
            if edge.established:
                established += 1
                silent += edge.silent_s(now) > edge.patience_s
        self._health.listen(now, established, silent)
        # This peer's subjects are a fair sample of all: what is true of them is true of the rest,
        # and is seen here before anybody has told.
        many = silent >= max(MASS_MIN, math.ceil(self._config.mass_share * established))
        if many and not self._mass_seen:
            self._hold(now)
        self._mass_seen = many

    def _renew(self, now: float, edge: Edge) -> None:
        lost = edge.established and now - edge.beat_at > edge.patience_s
        if lost and edge.watch_at - now > self._config.watch_retry_s:
            # It lives, by others' word, and sends no heartbeats here: it has lost the lease.
            edge.watch_at = now
        if now < edge.watch_at:
            return
        edge.watch_at = now + self._config.watch_retry_s * self._rng.uniform(0.9, 1.1)
        nonce = self._questions.ask(Question(Purpose.WATCH, now, edge.uid))
        watch = Watch(nonce=nonce, lease_s=self._config.watch_lease_s)
        self._say(edge.uid, watch, Priority.CONTROL)

    def _basic_limit_s(self) -> float:
        return (self._config.misses_min + 0.5) * self._config.heartbeat_interval_s

    def _ask_around(self, now: float, edge: Edge, silent_s: float) -> None:
        """Tell the other observers, ask the subject, and ask others to ask it."""
        entry = self._table.get(edge.uid)
        if entry is None:
            return
        row = entry.row
        if now >= edge.ping_at:
            quick = edge.pings < QUICK_PINGS
            interval_s = self._config.alert_interval_s
            edge.ping_at = now + (interval_s / 4 if quick else interval_s)
            edge.pings += 1
            edge.late_pings += silent_s >= LATE_SHARE * self._config.dead_silence_s
            self.ping(now, row)
        if now >= edge.alert_at:
            edge.alert_at = now + self._config.alert_interval_s
            # While this peer holds deaths back, its word makes nobody else's quorum for one.
            told_s = min(silent_s, HELD_SHARE * self._config.dead_silence_s)
            alert = Alert(
                uid=row.uid,
                epoch=row.epoch,
                incarnation=row.incarnation,
                silent_s=told_s if self.holding(now) else silent_s,
            )
            others = self._fellow_observers(edge)
            for uid in others:
                self._say(uid, alert, Priority.URGENT)
            self._ask_helpers(now, row, others)

    def _fellow_observers(self, edge: Edge) -> tuple[int, ...]:
        """Return who else watches a subject: by the ring, and by the subject's own word."""
        own = self._table.own.uid
        by_ring = ring.observers(self._table.present, edge.uid, self._config.observers)
        everybody = dict.fromkeys((*by_ring, *edge.observers))
        return tuple(uid for uid in everybody if uid not in (own, edge.uid))

    def ping(self, now: float, row: Row) -> None:
        """Ask a member for a sign of life; its answer is evidence like any other."""
        nonce = self._questions.ask(Question(Purpose.PROBE, now, row.uid))
        ping = Ping(
            nonce=nonce,
            uid=row.uid,
            epoch=row.epoch,
            incarnation=row.incarnation,
            state=row.state,
        )
        self._say(row.uid, ping, Priority.URGENT)

    def _ask_helpers(self, now: float, row: Row, observers: Iterable[int]) -> None:
        excluded = {row.uid, self._table.own.uid, *observers}
        living = self._table.living
        drawn = self._rng.sample(living, min(len(living), HELPERS + len(excluded)))
        strangers = [uid for uid in drawn if uid not in excluded]
        helpers = strangers or [uid for uid in observers if uid != row.uid]
        for uid in helpers[:HELPERS]:
            nonce = self._questions.ask(Question(Purpose.PROBE, now, row.uid))
            request = PingRequest(
                nonce=nonce, uid=row.uid, epoch=row.epoch, address=row.body.address
            )
            self._say(uid, request, Priority.URGENT)

    # -- judging -----------------------------------------------------------------------------------

    def _judge(self, now: float, edge: Edge, silent_s: float) -> Verdict | None:
        entry = self._table.get(edge.uid)
        if entry is None or entry.row.epoch != edge.epoch:
            return None
        state = entry.row.state
        accusers = self._accusations.against(now, edge.uid, edge.epoch)
        accusers[self._table.own.uid] = edge.heard_at
        quorum = self._quorum(now, edge)
        if len(accusers) < quorum:
            return None
        if state is State.ALIVE:
            return Verdict(
                uid=edge.uid,
                state=State.SUSPECT,
                silent_s=silent_s,
                witnesses=len(accusers),
                quorum=quorum,
            )
        # Who has not told this peer yet how late it may be is given the most.
        grace_s = edge.grace_s if edge.beats else self._config.grace_max_s
        deadly_s = max(self._config.dead_silence_s, min(grace_s, self._config.grace_max_s))
        witnesses = sum(1 for since in accusers.values() if now - since >= deadly_s)
        if (
            state is not State.SUSPECT
            or silent_s < deadly_s
            or witnesses < quorum
            or edge.late_pings < LATE_PINGS
            or self.holding(now)
        ):
            return None
        return Verdict(
            uid=edge.uid,
            state=State.DEAD,
            silent_s=silent_s,
            witnesses=witnesses,
            quorum=quorum,
        )

    def _quorum(self, now: float, edge: Edge) -> int:
        own = self._table.own.uid
        observers = ring.observers(self._table.present, edge.uid, self._config.observers)
        counted = [uid for uid in observers if uid == own or self._able(uid)]
        if now - edge.alerting_since >= self._config.unreachable_s:
            since = now - self._config.unreachable_s
            counted = [
                uid for uid in counted if uid == own or self._heard_from.get(uid, -math.inf) > since
            ]
        return threshold(len(counted), len(observers), self._members(now), self._config.quorum)

    def _able(self, uid: int) -> bool:
        """A fellow observer whose silence about a subject would mean that it hears it."""
        entry = self._table.get(uid)
        if entry is None or entry.row.state is not State.ALIVE:
            return False
        known = self._loads.get(uid)
        return known is None or not known[0].flags & Flag.DEAF
