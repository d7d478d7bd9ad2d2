"""What each message does, from the moment its bytes arrive."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from gossip.budget import Priority
from gossip.codec import decode_untrusted
from gossip.errors import BadPacket
from gossip.events import HeartbeatReceived
from gossip.load_table import RECORD_BYTES
from gossip.messages import (
    HANDSHAKE,
    Ack,
    Alert,
    AlertOk,
    Digest,
    Gossip,
    Heartbeat,
    Join,
    JoinOk,
    Keys,
    Message,
    Order,
    OrderOk,
    Page,
    Ping,
    PingRequest,
    Watch,
    WatchOk,
)
from gossip.rows import Address, State
from gossip.sealing import FormerLife, Session
from membership import ring
from membership.changes import KeysChanged
from membership.core import Core
from membership.orders import Orders
from membership.questions import Purpose, Question

HELD_MAX = 64
HELD_EACH = 4
"""Sessions of which something is kept until they have proved to be live, and how much of each: a
digest is answered by three pages."""


class Held(NamedTuple):
    """What a session said that has not yet proved to be live."""

    at: float
    message: Message


class Hearing:
    """Takes datagrams in."""

    def __init__(self, core: Core, orders: Orders) -> None:
        self._core = core
        self._orders = orders
        self._held: dict[Session, deque[Held]] = {}
        self._handlers: dict[type[Any], Callable[[float, Session, Address, Any], None]] = {
            Heartbeat: self._heartbeat,
            Gossip: self._gossip,
            Watch: self._watch,
            WatchOk: self._watch_ok,
            Ping: self._ping,
            Ack: self._ack,
            PingRequest: self._ping_request,
            Alert: self._alert,
            AlertOk: self._alert_ok,
            Digest: self._digest,
            Page: self._page,
            Join: self._join,
            JoinOk: self._join_ok,
            Keys: self._keys,
            Order: self._order,
            OrderOk: self._order_ok,
        }

    def handle(
        self,
        now: float,
        datagram: bytes,
        source: Address,
        received_at: float | None = None,
        late_s: float | None = None,
    ) -> None:
        """Take in one datagram; see `Cluster.handle`."""
        core = self._core
        core.now = now
        at = now if received_at is None else min(received_at, now)
        if not 0 < source[1] < 2**16 or "%" in source[0]:
            # Nobody can be answered there, and an answer would name it.
            core.counters["dropped_source"] += 1
            return
        core.health.ran_late(now, now - at if late_s is None else late_s)
        try:
            opened = core.envelope.open_untrusted(datagram)
            message = decode_untrusted(opened.body)
        except FormerLife as former:
            core.counters[f"dropped_{former.reason}"] += 1
            self._meet_former(now, former.session, source)
            return
        except BadPacket as bad:
            core.counters[f"dropped_{bad.reason}"] += 1
            return
        session = opened.session
        if session.uid == core.table.own.uid:
            self._meet_clone(now, session, source)
            return
        core.counters["received_bytes"] += len(datagram)
        core.counters[f"received_{type(message).__name__}"] += 1
        if not session.verified and not isinstance(message, HANDSHAKE):
            self._hold(at, session, source, message)
            return
        self._handlers[type(message)](at, session, source, message)
        if session.verified:
            self._heard(at, session, source)
            self._compare_keys(at, session, source)
            for held in self._held.pop(session, ()):
                if at - held.at <= core.config.alert_interval_s:
                    self._handlers[type(held.message)](held.at, session, source, held.message)

    def _hold(self, at: float, session: Session, source: Address, message: Message) -> None:
        """Ask an unknown session to prove that it is live, and keep what it said until it has.

        Only the last few things, and only of so many: first contacts are a moment's work, and when
        a hundred peers join at once, everything is a first contact.
        """
        core = self._core
        core.counters["held_unverified"] += 1
        held = self._held.setdefault(session, deque(maxlen=HELD_EACH))
        held.append(Held(at, message))
        if len(self._held) > HELD_MAX:
            del self._held[next(iter(self._held))]
        core.verify(at, session, source)

    def _heard(self, at: float, session: Session, source: Address) -> None:
        """A live session: evidence of life, and perhaps a reason to ask for its row."""
        core = self._core
        entry = core.table.get(session.uid)
        if entry is None or entry.row.epoch < session.epoch:
            core.verify(at, session, source)
            return
        if entry.row.epoch > session.epoch:
            return
        core.table.heard(session.uid, at)
        core.detector.heard(session.uid, at)
        if entry.row.body.address != source:
            self._say_where(at, session, source)
        if entry.row.state in (State.SUSPECT, State.DEAD):
            # It lives, and does not know what is said of it.
            core.verify(at, session, source)

    def _say_where(self, at: float, session: Session, source: Address) -> None:
        """A member speaks from elsewhere than its row says. If it never said so (a copy of its disk
        did), it contradicts; if it is only seen through another address, it agrees."""
        core = self._core
        if core.may_ask(at, "where", session.uid, core.config.watch_interval_s):
            rows = (core.table.aged(core.now, session.uid),)
            core.answer(session, source, Gossip(rows=rows), Priority.CONTROL)

    def _meet_clone(self, now: float, session: Session, source: Address) -> None:
        """Another live process has this peer's uid: the one with the older start keeps it not."""
        core = self._core
        core.counters["clones_met"] += 1
        own = core.table.own
        if (session.epoch, session.salt) > (own.epoch, core.envelope.salt):
            core.lose_identity(now)
            # Both rows may be equal but for the body, and some now have this peer's: let the other
            # one contradict something, and its own goes round.
            nonce = core.questions.ask(Question(Purpose.VERIFY, now, own.uid))
            doubt = Ping(
                nonce=nonce,
                uid=own.uid,
                epoch=session.epoch,
                incarnation=own.incarnation,
                state=State.SUSPECT,
            )
            core.answer(session, source, doubt, Priority.CONTROL)
        elif core.may_ask(now, "clone", own.uid, core.config.alert_interval_s):
            nonce = core.questions.ask(Question(Purpose.VERIFY, now, own.uid))
            core.answer(session, source, core.belief(own.uid, nonce), Priority.CONTROL)

    def _meet_former(self, now: float, session: Session, source: Address) -> None:
        """Somebody speaks as a peer that has started again since: a recording; or a machine whose
        disk was copied, and whom nobody else would tell, for all others talk to the copy."""
        core = self._core
        if core.may_ask(now, "former", session.uid, core.config.alert_interval_s):
            nonce = core.questions.ask(Question(Purpose.VERIFY, now, session.uid))
            core.answer(session, source, core.belief(session.uid, nonce), Priority.CONTROL)

    # -- failure detection -------------------------------------------------------------------------

    def _heartbeat(self, at: float, session: Session, source: Address, said: Heartbeat) -> None:
        core = self._core
        entry = core.table.get(session.uid)
        if entry is not None and said.incarnation > entry.row.incarnation:
            # It has said something since that has not come here.
            core.verify(at, session, source)
        pause_s = core.detector.beat(at, session.uid, session.epoch, said)
        if said.rows:
            core.merge(at, session, said.rows)
        if said.loads:
            core.spread.merge_loads(at, said.loads)
        core.events.append(
            HeartbeatReceived(
                sender_uid=f"{session.uid:016x}", sender_epoch=session.epoch, silent_s=pause_s
            )
        )

    def _watch(self, at: float, session: Session, source: Address, said: Watch) -> None:
        core = self._core
        entry = core.table.get(session.uid)
        if entry is None or entry.row.epoch != session.epoch:
            # Its row is asked for now, and it asks again in a second. Heartbeats only go where a
            # peer says that it is: or a copy with a forged source would send them anywhere.
            return
        granted = 0.0
        if not core.leaving:
            own = core.table.own.uid
            expected = ring.observers(core.table.present, own, core.config.observers)
            granted = core.watchers.grant(
                at, session.uid, entry.row.body.address, said.lease_s, expected
            )
        if said.lease_s > 0:
            answer = WatchOk(
                nonce=said.nonce,
                lease_s=granted,
                observers=core.watchers.uids() if granted else (),
            )
            # As urgent as the heartbeats that follow: without it they count for nothing.
            core.reply(session, source, answer, Priority.HEARTBEAT)

    def _watch_ok(self, at: float, session: Session, source: Address, said: WatchOk) -> None:
        core = self._core
        question = core.questions.answer(core.now, said.nonce)
        if question is None or question.uid != session.uid:
            return
        session.verified = True
        core.detector.consent(core.now, session.uid, session.epoch, said)

    def _ping(self, at: float, session: Session, source: Address, said: Ping) -> None:
        core = self._core
        own = core.table.own
        belief = (said.epoch, said.incarnation, said.state)
        if said.uid == own.uid and belief > own.order:
            row = replace(own, epoch=said.epoch, incarnation=said.incarnation, state=said.state)
            core.contradict(core.now, row)
        own = core.table.own
        agreed = said.uid == own.uid and belief == own.order
        rows = () if agreed else (core.table.aged(core.now, own.uid),)
        answer = Ack(nonce=said.nonce, uid=own.uid, epoch=own.epoch, rows=rows)
        core.answer(session, source, answer, Priority.URGENT)

    def _ack(self, at: float, session: Session, source: Address, said: Ack) -> None:
        core = self._core
        question = core.questions.answer(core.now, said.nonce)
        if question is None:
            return
        if question.purpose is Purpose.RELAY:
            if session.uid != question.uid or question.asker is None:
                return
            session.verified = True
            answer = replace(said, nonce=question.asker_nonce)
            core.send(question.asker, answer, Priority.URGENT)
        elif question.purpose is Purpose.PROBE:
            # From the subject, or from whoever was asked to ask it: either echoes our nonce.
            if said.uid != question.uid:
                return
            session.verified = True
            entry = core.table.get(said.uid)
            if entry is not None and entry.row.epoch == said.epoch:
                core.table.heard(said.uid, at)
        elif question.uid in (None, session.uid):
            session.verified = True
        else:
            return
        core.merge(at, session, said.rows)
        if question.purpose is Purpose.WELCOME:
            welcome = core.spread.welcome(core.now, session.uid)
            if welcome.rows:
                core.answer(session, source, welcome, Priority.CONTROL)

    def _ping_request(
        self, at: float, session: Session, source: Address, said: PingRequest
    ) -> None:
        core = self._core
        entry = core.table.get(said.uid)
        if entry is not None and entry.row.epoch > said.epoch:
            # That start is over; there is nobody to ping for it.
            rows = (core.table.aged(core.now, said.uid),)
            core.reply(session, source, Gossip(rows=rows), Priority.CONTROL)
            return
        question = Question(Purpose.RELAY, core.now, said.uid, asker=source, asker_nonce=said.nonce)
        nonce = core.questions.ask(question)
        core.send(said.address, core.belief(said.uid, nonce), Priority.URGENT)

    def _alert(self, at: float, session: Session, source: Address, said: Alert) -> None:
        core = self._core
        answer = core.detector.alerted(at, session.uid, said)
        if answer is not None:
            core.answer(session, source, answer, Priority.URGENT)

    def _alert_ok(self, at: float, session: Session, source: Address, said: AlertOk) -> None:
        core = self._core
        core.detector.answered(at, session.uid, said)

    # -- dissemination -----------------------------------------------------------------------------

    def _gossip(self, at: float, session: Session, source: Address, said: Gossip) -> None:
        core = self._core
        loads = len(said.loads) // RECORD_BYTES
        core.merge(at, session, said.rows, loads=loads)
        if said.loads:
            core.spread.merge_loads(at, said.loads)

    def _digest(self, at: float, session: Session, source: Address, said: Digest) -> None:
        core = self._core
        core.detector.told(core.now, said.count)
        for page in core.spread.answer_digest(core.now, said):
            core.reply(session, source, page, Priority.SYNC)

    def _page(self, at: float, session: Session, source: Address, said: Page) -> None:
        core = self._core
        changed = core.merge(at, session, said.rows)
        if said.answer:
            for page in core.spread.answer_page(core.now, said):
                core.reply(session, source, page, Priority.SYNC)
        if changed:
            core.timers.hurry(core.now)

    def _join(self, at: float, session: Session, source: Address, said: Join) -> None:
        core = self._core
        if session.verified:
            core.merge(at, session, said.rows)
        challenge = core.questions.ask(Question(Purpose.WELCOME, core.now, session.uid))
        answer = JoinOk(
            nonce=said.nonce,
            challenge=challenge,
            observed=source,
            count=len(core.table.present),
            rows=(core.table.aged(core.now, core.table.own.uid),),
        )
        core.answer(session, source, answer, Priority.CONTROL)

    def _join_ok(self, at: float, session: Session, source: Address, said: JoinOk) -> None:
        core = self._core
        question = core.questions.answer(core.now, said.nonce)
        if question is None or question.purpose is not Purpose.JOIN:
            return
        session.verified = True
        core.observed = said.observed
        core.merge(at, session, said.rows)
        own = core.table.own
        answer = Ack(
            nonce=said.challenge,
            uid=own.uid,
            epoch=own.epoch,
            rows=(core.table.aged(core.now, own.uid),),
        )
        core.answer(session, source, answer, Priority.CONTROL)
        core.detector.told(core.now, said.count)
        core.timers.hurry(core.now)

    # -- keys and orders ---------------------------------------------------------------------------

    def _compare_keys(self, at: float, session: Session, source: Address) -> None:
        """A peer with another key ring: each tells the other its own, and the newer one stays.

        Sealed with the key that the other one used last, which it must know.
        """
        core = self._core
        keys = core.envelope.keys
        entry = core.table.get(session.uid)
        if keys is None or entry is None or entry.row.body.keys == core.table.own.body.keys:
            return
        if core.may_ask(at, "keys", session.uid, 2 * core.config.alert_interval_s):
            core.outbox.say(core.now, source, keys, Priority.CONTROL, session.key_id)

    def _keys(self, at: float, session: Session, source: Address, said: Keys) -> None:
        core = self._core
        if core.envelope.keys is not None and core.set_keys(core.now, said):
            core.changes.append(KeysChanged(keys=said))

    def _order(self, at: float, session: Session, source: Address, said: Order) -> None:
        if self._orders.received(session.uid, said):
            self._core.reply(session, source, OrderOk(nonce=said.nonce), Priority.CONTROL)

    def _order_ok(self, at: float, session: Session, source: Address, said: OrderOk) -> None:
        self._orders.answered(session.uid, said)
