"""What people ask of peers elsewhere: sent until it is answered, obeyed once."""

from __future__ import annotations

from dataclasses import dataclass

from gossip.budget import Priority
from gossip.messages import Order, OrderOk, Verb
from membership.changes import OrderAnswered, OrderReceived
from membership.core import Core

PATIENCE = 10.0
REPEAT = 0.5
"""In intervals between alerts, which is a second: how long an order is sent, and how often."""

OBEYED_MAX = 256
"""So many nonces of orders that were obeyed are remembered."""


@dataclass(slots=True)
class Open:
    """An order that has not been answered."""

    uid: int
    verb: Verb
    until: float
    next_at: float


class Orders:
    """Both directions."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._open: dict[int, Open] = {}
        self._obeyed: dict[int, None] = {}

    def give(self, now: float, uid: int, verb: Verb) -> int:
        """Ask another peer for something; return the nonce that its answer will have."""
        nonce = self._core.rng.getrandbits(64)
        until = now + PATIENCE * self._core.config.alert_interval_s
        self._open[nonce] = Open(uid, verb, until, now)
        self.repeat(now)
        return nonce

    def repeat(self, now: float) -> None:
        """Send again what nobody has answered yet, and give up what nobody will."""
        for nonce, order in list(self._open.items()):
            if now >= order.until:
                del self._open[nonce]
                self._core.changes.append(OrderAnswered(nonce=nonce, heard=False))
            elif now >= order.next_at:
                order.next_at = now + REPEAT * self._core.config.alert_interval_s
                self._send(nonce, order)

    def _send(self, nonce: int, order: Open) -> None:
        entry = self._core.table.get(order.uid)
        if entry is not None:
            message = Order(nonce=nonce, uid=order.uid, epoch=entry.row.epoch, verb=order.verb)
            self._core.say(order.uid, message, Priority.CONTROL)

    def received(self, by: int, order: Order) -> bool:
        """Pass an order on to the caller, the first time that it comes; return whether it is for
        this start of this peer at all."""
        own = self._core.table.own
        if (order.uid, order.epoch) != (own.uid, own.epoch):
            return False
        if order.nonce in self._obeyed:
            return True
        self._obeyed[order.nonce] = None
        if len(self._obeyed) > OBEYED_MAX:
            del self._obeyed[next(iter(self._obeyed))]
        self._core.changes.append(OrderReceived(verb=order.verb, by=by))
        return True

    def answered(self, by: int, answer: OrderOk) -> None:
        """Somebody has heard an order; only whom it was meant for counts."""
        order = self._open.get(answer.nonce)
        if order is not None and order.uid == by:
            del self._open[answer.nonce]
            self._core.changes.append(OrderAnswered(nonce=answer.nonce, heard=True))
