"""Everything this peer says goes through here: encoded, sealed, and paid for from one budget."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

from gossip.budget import Budget, Priority, sent_bytes
from gossip.codec import encode
from gossip.config import DATAGRAM_BYTES_MAX
from gossip.messages import Message
from gossip.rows import Address
from gossip.sealing import Envelope


class Outgoing(NamedTuple):
    """One datagram to send."""

    address: Address
    datagram: bytes


class Outbox:
    """Datagrams that wait to be taken out, and what they have cost.

    Attributes:
        body_bytes_max: How long a message may be, encoded.
        counters: What was sent, by the message's name, and what there was no budget for.
    """

    def __init__(self, envelope: Envelope, budget: Budget) -> None:
        self._envelope = envelope
        self._budget = budget
        self._waiting: list[Outgoing] = []
        self.body_bytes_max = DATAGRAM_BYTES_MAX - envelope.overhead
        self.counters: Counter[str] = Counter()

    def say(
        self,
        now: float,
        address: Address,
        message: Message,
        priority: Priority,
        key_id: int | None = None,
    ) -> bool:
        """Send a message if the budget allows; return whether it does."""
        return self.cast(now, (address,), message, priority, key_id) == 1

    def cast(
        self,
        now: float,
        addresses: Iterable[Address],
        message: Message,
        priority: Priority,
        key_id: int | None = None,
    ) -> int:
        """Send one message to many, sealed once; return to how many the budget allows.

        The same bytes under the same nonce to several receivers tell nobody more than one copy
        does, and each receiver keeps its own window of what it has seen.
        """
        body = encode(message)
        assert len(body) <= self.body_bytes_max, f"{type(message).__name__} of {len(body)} bytes"
        datagram: bytes | None = None
        name = type(message).__name__
        sent = 0
        for address in addresses:
            size = sent_bytes(len(body) + self._envelope.overhead, address[0])
            if not self._budget.take(now, size, priority):
                self.counters[f"unsent_{name}"] += 1
                continue
            if datagram is None:
                datagram = self._envelope.seal(body, key_id)
            self._waiting.append(Outgoing(address, datagram))
            self.counters[f"sent_{name}"] += 1
            self.counters["sent_bytes"] += size
            sent += 1
        return sent

    def take(self) -> list[Outgoing]:
        """Take out what waits, oldest first."""
        waiting, self._waiting = self._waiting, []
        return waiting
