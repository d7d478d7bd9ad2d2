"""What all parts of a peer's core share: what it believes, its condition, its voice, its own row.

`hearing.py` says what each message does to it, `rounds.py` what each timer does, and `cluster.py`
is what callers see. None of them keeps a copy of anything that is here.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from gossip.budget import Budget, Priority
from gossip.dissemination import Dissemination
from gossip.events import GossipEvent, GossipTableMerged
from gossip.keys import newer, stamp
from gossip.load import Flag, Load
from gossip.messages import Keys, Message, Ping
from gossip.rows import INCARNATION_MAX, Address, AgedRow, Body, Row, State
from gossip.sealing import Envelope, Session
from gossip.table import Merged, Outcome
from membership import news
from membership.changes import (
    Change,
    IdentityLost,
    MemberDied,
    MemberLeft,
    MemberSuspected,
    Refuted,
)
from membership.config import MembershipConfig
from membership.detector import Detector
from membership.election import Election
from membership.health import Health
from membership.outbox import Outbox
from membership.questions import Purpose, Question, Questions
from membership.timers import Timers
from membership.watchers import Watchers

ASKED_MIN = 64
"""So many notes of who was asked lately are kept without looking at their age."""


class Core:
    """The state; see `Cluster` for the arguments.

    Attributes:
        now: The latest time that any part was told.
        load: What the caller last said of this peer's load.
        leaving: It has said good-bye.
        suspected_at: When it last had to contradict that it is suspect, dead or gone.
        observed: From where others see its datagrams come.
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
        if envelope.keys is not None:
            body = replace(body, keys=stamp(envelope.keys))
        self.config = config
        self.rng = rng
        self.now = now
        self.envelope = envelope
        self.outbox = Outbox(envelope, Budget(config.gossip.bytes_per_s, config.gossip.burst_bytes))
        self.spread = Dissemination(
            config.gossip,
            own=Row(uid, epoch, 0, State.ALIVE, body),
            now=now,
            rng=rng,
            body_bytes_max=self.outbox.body_bytes_max,
        )
        self.table = self.spread.table
        self.health = Health(config, now)
        self.questions = Questions(rng, open_s=5 * config.alert_interval_s)
        self.detector = Detector(
            config,
            table=self.table,
            loads=self.spread.loads,
            health=self.health,
            questions=self.questions,
            rng=rng,
            say=self.say,
        )
        self.watchers = Watchers(config)
        self.election = Election(config, now)
        self.timers = Timers(config, rng, now)
        self.changes: list[Change] = []
        self.events: list[GossipEvent] = []
        self.counters: Counter[str] = Counter()
        self.load = Load()
        self.leaving = False
        self.suspected_at = -math.inf
        self.observed: Address | None = None
        self._asked: dict[tuple[str, int], float] = {}

    # -- its voice ---------------------------------------------------------------------------------

    def answer(
        self, session: Session, source: Address, message: Message, priority: Priority
    ) -> bool:
        """Send to a session with the key that it used itself: it may not have the primary yet.

        Without that, nobody who was away while the ring changed could come back.
        """
        return self.outbox.say(self.now, source, message, priority, session.key_id or None)

    def reply(
        self, session: Session, source: Address, message: Message, priority: Priority
    ) -> bool:
        """Send to a session where its peer says that it is, once that is known.

        A copy of its datagram from a forged source makes this peer send nothing elsewhere. For
        what is longer than the question; answers to the handshake go where the question came from.
        """
        entry = self.table.get(session.uid)
        if entry is not None and entry.row.epoch == session.epoch:
            source = entry.row.body.address
        return self.answer(session, source, message, priority)

    def send(self, address: Address, message: Message, priority: Priority) -> bool:
        """Send a message to an address; return whether the budget allows it."""
        return self.outbox.say(self.now, address, message, priority)

    def say(self, uid: int, message: Message, priority: Priority) -> bool:
        """Send a message to a member; False when it is unknown, or there is no budget."""
        entry = self.table.get(uid)
        if entry is None:
            return False
        return self.outbox.say(self.now, entry.row.body.address, message, priority)

    def draw(self, count: int) -> list[int]:
        """Return some other members that are present, drawn at random."""
        present = self.table.present
        drawn = self.rng.sample(present, min(count + 1, len(present)))
        own = self.table.own.uid
        return [uid for uid in drawn if uid != own][:count]

    # -- what it believes --------------------------------------------------------------------------

    def verify(self, now: float, session: Session, source: Address) -> None:
        """Ask a session to prove that it is live, and to contradict what is believed of it."""
        if not self.may_ask(now, "verify", session.uid, self.config.alert_interval_s / 2):
            return
        # Asked now, however long what it came from has waited in the socket.
        nonce = self.questions.ask(Question(Purpose.VERIFY, self.now, session.uid))
        self.answer(session, source, self.belief(session.uid, nonce), Priority.URGENT)

    def belief(self, uid: int, nonce: int) -> Ping:
        """Return a ping that says what this peer believes of another one."""
        entry = self.table.get(uid)
        if entry is None:
            return Ping(nonce=nonce, uid=uid, epoch=0, incarnation=0, state=State.ALIVE)
        row = entry.row
        return Ping(
            nonce=nonce,
            uid=uid,
            epoch=row.epoch,
            incarnation=row.incarnation,
            state=row.state,
        )

    def may_ask(self, now: float, what: str, uid: int, interval_s: float) -> bool:
        """Return whether it is time to ask that again, and note that it is asked."""
        last = self._asked.get((what, uid), -math.inf)
        if now - last < interval_s:
            return False
        self._asked[what, uid] = now
        return True

    def merge(self, at: float, session: Session, rows: Sequence[AgedRow], *, loads: int = 0) -> int:
        """Believe what is newer among rows that were heard; return how many were."""
        changed = 0
        for merged in self.spread.merge(at, rows):
            if merged.outcome is Outcome.ABOUT_OWN:
                self.contradict(self.now, merged.row)
            else:
                changed += 1
                self._tell(at, merged)
        if rows or loads:
            self.events.append(
                GossipTableMerged(
                    sender_uid=f"{session.uid:016x}",
                    rows_received=len(rows) + loads,
                    rows_changed=changed,
                )
            )
        return changed

    def _tell(self, now: float, merged: Merged) -> None:
        row, before = merged.row, merged.before
        entry = self.table.get(row.uid)
        silent_s = 0.0
        if entry is not None and entry.heard_at > -math.inf:
            silent_s = max(0.0, now - entry.heard_at)
        for change in news.tell(before, row, silent_s):
            if isinstance(change, MemberSuspected | MemberDied):
                # Others were a moment quicker; this peer may have found the same.
                witnesses = self.detector.witnesses(now, row.uid, row.epoch)
                change = replace(change, witnesses=witnesses)  # noqa: PLW2901 - the same, completed
            self.changes.append(change)
            if isinstance(change, MemberSuspected):
                self.detector.fell_silent(self.now, row.uid)
            elif isinstance(change, MemberLeft):
                self.election.departed()
        if before is not None and before.body.address != row.body.address:
            self.watchers.moved(row.uid, row.body.address)

    def forget(self, now: float) -> None:
        """Remove what is over."""
        self.questions.forget(now)
        self.detector.forget(now)
        if len(self._asked) > ASKED_MIN:
            limit = 2 * self.config.watch_interval_s
            self._asked = {key: at for key, at in self._asked.items() if now - at < limit}

    # -- its own row -------------------------------------------------------------------------------

    def contradict(self, now: float, said: Row) -> None:
        """Others have a row about this peer that is not its own: say something greater."""
        own = self.table.own
        if said.epoch > own.epoch:
            # Only this peer begins its epochs, so another one runs under its uid.
            self.lose_identity(now)
            return
        if self.leaving and said.state in (State.SUSPECT, State.DEAD):
            pass  # LEFT still has to win
        elif said.body.address != own.body.address:
            # Only this peer says where it is. Let the one that is there hear who speaks.
            nonce = self.questions.ask(Question(Purpose.VERIFY, now, own.uid))
            self.send(said.body.address, self.belief(own.uid, nonce), Priority.CONTROL)
        if said.state is not State.ALIVE:
            self.health.refuted(now)
            self.suspected_at = now
        incarnation = max(said.incarnation, own.incarnation) + 1
        if incarnation > INCARNATION_MAX:
            # Nobody can be out-talked for ever: a broken peer has used this uid up.
            self.lose_identity(now)
            return
        self.spread.set_own(now, replace(own, incarnation=incarnation))
        self.changes.append(Refuted(said=said.state, incarnation=incarnation))

    def lose_identity(self, now: float) -> None:
        """Go on under another uid: this one belongs to somebody else."""
        own = self.table.own
        uid = self.rng.getrandbits(64)
        self.envelope.renew(uid, own.epoch, self.rng.getrandbits(32))
        self.spread.set_own(now, Row(uid, own.epoch, 0, own.state, own.body))
        self.detector.abandon()
        self.changes.append(IdentityLost(old_uid=own.uid, uid=uid, epoch=own.epoch))
        self.timers.rush(now)

    def set_keys(self, now: float, keys: Keys) -> bool:
        """Take a key ring if it is newer than the one in use; return whether it is."""
        mine = self.envelope.keys
        if mine is not None and (keys == mine or newer(mine, keys) == mine):
            return False
        self.envelope.rekey(keys)
        own = self.table.own
        body = replace(own.body, keys=stamp(keys))
        self.spread.set_own(now, replace(own, incarnation=own.incarnation + 1, body=body))
        self.timers.rush(now)
        return True

    def own_load(self, now: float) -> Load:
        """Return the caller's load, with what the core knows of its own condition."""
        flags = self.load.flags
        if self.health.deaf(now):
            flags |= Flag.DEAF
        if self.health.flapping(now):
            flags |= Flag.FLAPPING
        return replace(self.load, lag_s=self.health.lag_s(now), flags=flags)
