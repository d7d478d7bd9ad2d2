"""Why this peer takes no new work although it could: somebody has said so. Pure.

Three may: a person (drain), the scaler (park), and whoever ends the process (a signal). They are
kept apart, so that each takes back only what is its own: load that returns lifts a park, and never
the drain of a person who is about to repair the machine. A person's word counts for both.

A park is the scaler's means to let a container finish before it is stopped, and it ends by itself
unless it is said again: whoever parked this peer may be gone, and so may everybody who knew of it.
The rejected alternative, to have the next leader find and end what a former one has begun, would
leave capacity idle for ever in the one case in which nobody leads any more.
"""

from __future__ import annotations

from math import inf


class Restraint:
    """Knows what was said. Times are of any monotonic clock, in seconds.

    The methods that take something in return whether anything has changed by it.

    Args:
        park_s: For how long a park holds after it was last said.
    """

    def __init__(self, park_s: float) -> None:
        self._park_s = park_s
        self._drained = False
        self._stopping = False
        self._parked_until = -inf

    @property
    def holds(self) -> bool:
        """No new work is to be taken."""
        return self.draining or self._parked_until > -inf

    @property
    def draining(self) -> bool:
        """A person or a signal has said so: what others are told, whatever the scaler says."""
        return self._drained or self._stopping

    @property
    def parked(self) -> bool:
        """The scaler alone has said so."""
        return self.holds and not self.draining

    @property
    def parked_until(self) -> float:
        """When the park ends unless it is said again; -inf without one."""
        return self._parked_until

    def drain(self) -> bool:
        """A person says that it shall take no more."""
        changed, self._drained = not self._drained, True
        return changed

    def resume(self) -> bool:
        """A person says that it shall take work, whoever has said otherwise."""
        changed = self._drained or self._parked_until > -inf
        self._drained, self._parked_until = False, -inf
        return changed

    def stop(self) -> bool:
        """The process ends; nobody takes that back."""
        changed, self._stopping = not self._stopping, True
        return changed

    def park(self, now: float) -> bool:
        """The scaler says, or says again, that it shall take no more for now."""
        changed = self._parked_until == -inf
        self._parked_until = now + self._park_s
        return changed

    def unpark(self) -> bool:
        """The scaler takes that back."""
        changed, self._parked_until = self._parked_until > -inf, -inf
        return changed

    def expire(self, now: float) -> bool:
        """End a park that nobody has said again in time."""
        return now >= self._parked_until and self.unpark()
