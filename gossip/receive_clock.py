"""When a datagram came, on the clock that silences are measured by.

The kernel stamps datagrams with the time of day, which people and time servers set; the protocol
counts on the monotonic clock, which nobody does. The difference between the two is read at every
drain, so it is never older than what it is used for, but for datagrams that came before the clock
was set and are read after. Those fit the difference as it was before. And whatever a stamp says: a
datagram came after the socket was last found empty, and before now.

Rejected: to take the time at which Python read it. After a second of standing still, every
datagram that had waited would look fresh, and whoever had fallen silent in between would not stand
out.
"""

from __future__ import annotations

SECOND_NS = 1_000_000_000
TOLERANCE_NS = SECOND_NS // 20
"""A stamp may be so far outside of what is possible, and still is taken for a true one: two clocks
are never read at quite the same moment."""

JUMP_NS = SECOND_NS // 10
"""When the two clocks part by so much from one drain to the next, one of them was set."""


class ReceiveClock:
    """Turns kernel stamps into monotonic seconds.

    Attributes:
        jumps: How often the time of day was set, or the machine was suspended.
    """

    def __init__(self, monotonic_ns: int, realtime_ns: int) -> None:
        self.jumps = 0
        self._now_ns = monotonic_ns
        self._floor_ns = monotonic_ns
        self._offset_ns = realtime_ns - monotonic_ns
        self._offset_before_ns = self._offset_ns

    @property
    def now(self) -> float:
        """When the last drain began, in monotonic seconds."""
        return self._now_ns / SECOND_NS

    def sample(self, monotonic_ns: int, realtime_ns: int) -> None:
        """Begin a drain: both clocks, read at the same moment."""
        offset_ns = realtime_ns - monotonic_ns
        self._now_ns = max(self._now_ns, monotonic_ns)
        if abs(offset_ns - self._offset_ns) > JUMP_NS:
            self.jumps += 1
            self._offset_before_ns = self._offset_ns
        self._offset_ns = offset_ns

    def emptied(self) -> None:
        """End a drain that left nothing behind: what is read later came after it began."""
        self._floor_ns = self._now_ns
        self._offset_before_ns = self._offset_ns

    def received_at(self, stamp_ns: int | None) -> float:
        """Return when a datagram came, in monotonic seconds.

        Args:
            stamp_ns: The kernel's, since 1970; None when it gave none. Where it cannot be true,
                the answer is now: nobody is called silent because of a clock.
        """
        if stamp_ns is not None:
            for offset_ns in (self._offset_ns, self._offset_before_ns):
                at_ns = stamp_ns - offset_ns
                if self._floor_ns - TOLERANCE_NS <= at_ns <= self._now_ns + TOLERANCE_NS:
                    return min(max(at_ns, self._floor_ns), self._now_ns) / SECOND_NS
        return self._now_ns / SECOND_NS
