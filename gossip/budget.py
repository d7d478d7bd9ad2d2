"""How much a peer may send: a token bucket that the less urgent may not empty.

The bucket fills by `bytes_per_s` up to `burst_bytes`. Each class of datagrams has a reserve that it
leaves to the more urgent ones: loads, the least of all, may only spend what is above 20 % of the
burst. While nothing else happens they still get all that the rate has left over, because the bucket
then stays at their reserve; and when a member falls silent, the alerts find a bucket that is 20 %
full.

Rejected: one bucket for each class (a share that is not used would be lost), and a queue for what
does not fit (all of it is worth less a second later, and is made anew when it is due).
"""

from __future__ import annotations

from enum import IntEnum

IPV4_HEADERS_BYTES = 28
IPV6_HEADERS_BYTES = 48
"""What IP and UDP add to each datagram."""


class Priority(IntEnum):
    """What a datagram is for; the lower, the more urgent."""

    URGENT = 0  # alerts, pings and their answers: without them, false deaths
    HEARTBEAT = 1  # without them, alerts
    CONTROL = 2  # joins, refutations, watches, keys, orders
    SYNC = 3  # digests and pages
    LOAD = 4  # loads, and rumours that travel with them


RESERVES = (0.0, 0.05, 0.1, 0.15, 0.2)
"""Of the burst, what each class leaves in the bucket."""


def sent_bytes(datagram_bytes: int, host: str) -> int:
    """Return what a datagram to that numeric address takes of the budget."""
    headers_bytes = IPV6_HEADERS_BYTES if ":" in host else IPV4_HEADERS_BYTES
    return datagram_bytes + headers_bytes


class Budget:
    """The bucket; full at first.

    Args:
        bytes_per_s: In the long run, no more than this.
        burst_bytes: At once, no more than this: in any time of T seconds at most
            burst_bytes + T * bytes_per_s are spent.

    Attributes:
        spent: Bytes by priority.
        refused: Datagrams by priority.
    """

    def __init__(self, bytes_per_s: float, burst_bytes: float) -> None:
        self._bytes_per_s = bytes_per_s
        self._burst_bytes = burst_bytes
        self._level_bytes = burst_bytes
        self._filled_at: float | None = None
        self._reserves_bytes = tuple(share * burst_bytes for share in RESERVES)
        self.spent = [0] * len(Priority)
        self.refused = [0] * len(Priority)

    def take(self, now: float, size: int, priority: Priority) -> bool:
        """Spend `size` bytes if this class may now; otherwise the datagram is not to be sent.

        Args:
            now: Monotonic seconds.
            size: With the headers: see `sent_bytes`.
        """
        if self._filled_at is not None and now > self._filled_at:
            filled_bytes = self._level_bytes + (now - self._filled_at) * self._bytes_per_s
            self._level_bytes = min(self._burst_bytes, filled_bytes)
        self._filled_at = now if self._filled_at is None else max(now, self._filled_at)
        left_bytes = self._level_bytes - size
        if left_bytes < self._reserves_bytes[priority]:
            self.refused[priority] += 1
            return False
        self._level_bytes = left_bytes
        self.spent[priority] += size
        return True
