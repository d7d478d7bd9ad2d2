"""What each timer does: heartbeats, gossip, digests, and what is looked at every second."""

from __future__ import annotations

from gossip.budget import Priority
from gossip.load import Load
from gossip.messages import Gossip, Heartbeat
from gossip.rows import State
from membership.changes import Change, LeaderProposed, MemberDied, MemberForgotten, MemberSuspected
from membership.core import Core
from membership.detector import Verdict
from membership.election import best, has_resigned
from membership.orders import Orders
from membership.questions import Purpose, Question
from membership.turns import Turns

HEARTBEAT_ROW_BYTES = 260
"""For rumours on a heartbeat, which goes to all watchers alike."""

REFRESHES = 4
"""Times that it takes to tell of everybody once; after so many, hardly anybody was missed."""

FAREWELLS = 4
FAREWELL_TO = 4
VERDICT_TO = 3
"""Members, drawn at random, that hear of a departure or a verdict at once."""


class Rounds:
    """Does what is due."""

    def __init__(self, core: Core, orders: Orders) -> None:
        self._core = core
        self._orders = orders
        self._turns = Turns(core.rng)
        self._sequence = 0
        self._farewells = FAREWELLS

    def tick(self, now: float) -> None:
        """Do what is due. To be called after every waiting datagram was handed in, never before."""
        core = self._core
        timers = core.timers
        core.now = now
        core.health.ran_late(now, now - timers.due())
        gossip = core.config.gossip
        if now >= timers.second_at:
            timers.second_at = timers.after(now, core.config.alert_interval_s, jitter=0.05)
            self._each_second(now)
        if now >= timers.load_at:
            timers.load_at = now + gossip.load_interval_s
            core.spread.set_load(now, core.own_load(now))
        if now >= timers.heartbeat_at:
            timers.heartbeat_at = timers.after(now, core.config.heartbeat_interval_s)
            self._beat(now)
        if now >= timers.gossip_at:
            timers.gossip_at = timers.after(now, gossip.gossip_interval_s)
            self._talk(now)
        if now >= timers.digest_at:
            timers.digest_pause_s = min(2 * timers.digest_pause_s, gossip.digest_interval_s)
            timers.digest_at = timers.after(now, timers.digest_pause_s)
            self._compare(now)
        if not core.leaving:
            for verdict in core.detector.tick(now):
                self._pronounce(now, verdict)

    def _beat(self, now: float) -> None:
        core = self._core
        addresses = core.watchers.addresses(now)
        if not addresses:
            return
        self._sequence += 1
        heartbeat = Heartbeat(
            sequence=self._sequence,
            incarnation=core.table.own.incarnation,
            tardiness=core.health.tardiness(now),
            grace_s=core.health.grace_s(now),
            loads=core.spread.loads.own_record(now),
            rows=core.spread.heartbeat_rows(now, HEARTBEAT_ROW_BYTES),
        )
        core.outbox.cast(now, addresses, heartbeat, Priority.HEARTBEAT)

    def _talk(self, now: float) -> None:
        core = self._core
        if core.leaving:
            self.say_farewell(now)
            return
        uid = self._turns.next(core.table.present, core.table.own.uid)
        if uid is not None:
            message = core.spread.gossip(now)
            core.say(uid, message, Priority.SYNC if message.rows else Priority.LOAD)

    def _compare(self, now: float) -> None:
        core = self._core
        if core.leaving:
            return
        for uid in core.draw(1):
            core.say(uid, core.spread.digest(now), Priority.SYNC)

    def _pronounce(self, now: float, verdict: Verdict) -> None:
        """A quorum agrees, and this peer is one of it: it says so to everybody."""
        core = self._core
        row = core.table.declare(now, verdict.uid, verdict.state)
        core.spread.changed(row.uid, urgent=True)
        silent_s, witnesses = verdict.silent_s, verdict.witnesses
        change: Change
        if verdict.state is State.SUSPECT:
            change = MemberSuspected(row=row, silent_s=silent_s, witnesses=witnesses)
        else:
            change = MemberDied(
                row=row, silent_s=silent_s, witnesses=witnesses, quorum=verdict.quorum
            )
        core.changes.append(change)
        rows = (core.table.aged(now, row.uid),)
        for uid in core.draw(VERDICT_TO):
            core.say(uid, Gossip(rows=rows), Priority.URGENT)

    def _each_second(self, now: float) -> None:
        core = self._core
        core.forget(now)
        for row in core.spread.forget(now):
            core.changes.append(MemberForgotten(row=row))
        if not core.leaving:
            self._ping_the_dead(now)
            self._orders.repeat(now)
        self._elect(now)

    def _ping_the_dead(self, now: float) -> None:
        """Some of the dead are only cut off, and nobody else will tell them what is said."""
        core = self._core
        dead = core.table.dead
        if not dead:
            return
        share = core.config.alert_interval_s / core.config.dead_ping_s
        if core.rng.random() < share * len(dead) / len(core.table.living):
            uid = core.rng.choice(dead)
            nonce = core.questions.ask(Question(Purpose.VERIFY, now, uid))
            core.say(uid, core.belief(uid, nonce), Priority.CONTROL)

    def _elect(self, now: float) -> None:
        core = self._core
        living = [entry for uid in core.table.living if (entry := core.table.get(uid)) is not None]
        # Who is cut off with too few for a quorum cannot call the others dead, and keeps them
        # ALIVE in its table; but it must neither follow them nor take them for its majority. A
        # leader is given up later than it is counted out, or it would change with every late load.
        refresh_s = self._refresh_s()
        own = core.table.own
        since = now - refresh_s
        heard = sum(entry.heard_at > since or entry.row is own for entry in living)
        since = now - max(2 * refresh_s, core.config.gossip.row_age_max_s)
        fit = [entry.row for entry in living if entry.heard_at > since or entry.row is own]
        candidate = best(fit, self._load_of, core.config.heartbeat_interval_s)
        if core.health.deaf(now):
            candidate = None
        leading = None if core.election.leader is None else core.table.get(core.election.leader)
        resigned = leading is not None and has_resigned(leading.row, self._load_of(leading.row.uid))
        if core.election.observe(now, candidate, heard, resigned=resigned):
            core.changes.append(LeaderProposed(uid=core.election.leader))
        core.detector.sides(now, core.election.quorate)

    def _refresh_s(self) -> float:
        """After how long nearly everybody who lives has been heard of again, at any size.

        Most are heard of by load records, so many to a gossip.
        """
        core = self._core
        rounds = REFRESHES * len(core.table.present) / core.spread.loads_in_gossip
        return max(core.config.unreachable_s, rounds * core.config.gossip.gossip_interval_s)

    def _load_of(self, uid: int) -> Load | None:
        core = self._core
        if uid == core.table.own.uid:
            return core.own_load(core.now)
        known = core.spread.loads.get(uid)
        return known[0] if known is not None else None

    def say_farewell(self, now: float) -> None:
        """Say good-bye, to the watchers and to some others, a few times."""
        core = self._core
        if self._farewells <= 0:
            return
        self._farewells -= 1
        goodbye = Gossip(rows=(core.table.aged(now, core.table.own.uid),))
        addresses = dict.fromkeys(core.watchers.addresses(now))
        for uid in core.draw(FAREWELL_TO):
            entry = core.table.get(uid)
            assert entry is not None
            addresses[entry.row.body.address] = None
        core.outbox.cast(now, addresses, goodbye, Priority.URGENT)
