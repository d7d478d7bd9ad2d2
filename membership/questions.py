"""Nonces that this peer has sent and expects to see again: proof that an answer is no recording."""

from __future__ import annotations

import random
from collections import OrderedDict
from dataclasses import dataclass
from enum import Enum

from gossip.rows import Address


class Purpose(Enum):
    """What an answer is for."""

    PROBE = "probe"  # of a silent subject, by itself or through another peer
    VERIFY = "verify"  # that a session is live
    JOIN = "join"
    WELCOME = "welcome"  # that a newcomer is live
    WATCH = "watch"
    RELAY = "relay"  # of somebody else's question


@dataclass(frozen=True, slots=True)
class Question:
    """What was asked.

    Args:
        uid: Of whom; None where only an address was known.
        asker, asker_nonce: RELAY: whose question it is.
    """

    purpose: Purpose
    asked_at: float
    uid: int | None
    asker: Address | None = None
    asker_nonce: int = 0


class Questions:
    """The open ones; each is answered at most once, and soon forgotten."""

    OPEN_MAX = 4096

    def __init__(self, rng: random.Random, open_s: float) -> None:
        self._rng = rng
        self._open_s = open_s
        self._open: OrderedDict[int, Question] = OrderedDict()

    def ask(self, question: Question) -> int:
        """Return the nonce to send."""
        nonce = self._rng.getrandbits(64)
        self._open[nonce] = question
        if len(self._open) > self.OPEN_MAX:
            self._open.popitem(last=False)
        return nonce

    def answer(self, now: float, nonce: int) -> Question | None:
        """Return what was asked with this nonce; None when nothing was, or too long ago."""
        question = self._open.pop(nonce, None)
        if question is None or now - question.asked_at > self._open_s:
            return None
        return question

    def forget(self, now: float) -> None:
        """Remove those that nobody will answer any more."""
        while self._open:
            nonce, oldest = next(iter(self._open.items()))
            if now - oldest.asked_at <= self._open_s:
                return
            del self._open[nonce]
