"""How busy a peer is: a value that changes every second, and so never touches its row.

A load is a last-writer-wins register of its own, numbered by its owner. It travels as sixteen
bytes, many to a datagram, and is allowed to get lost: the next one is a second away.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntFlag


class Flag(IntFlag):
    """What holds a peer back; none of them is an accusation by others."""

    DRAINING = 1  # takes no more work, because a person or the scaler said so
    DEAF = 2  # hears hardly any of those it should hear: its own ears are the likely cause
    FLAPPING = 4  # had to contradict its own suspicion again and again
    LEDGER_AWAY = 8  # the breaker of this dependency is open
    QUEUE_AWAY = 16
    STORE_AWAY = 32
    QUARANTINED = 64  # fails what others finish, and has stopped taking work
    PROBATION = 128  # fails one task after another, and tries one at a time


NOTHING = Flag(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One peer's load. What does not fit its byte on the wire is cut to the nearest that does.

    Args:
        cpu: The share of its processors that the container used in the last second; 0 to 1 of its
            quota (wire: percent).
        memory: The share of its memory limit that it uses; 0 to 1 (wire: percent).
        slots: How many parts it can work on (wire: up to 255).
        running: How many it is working on (wire: up to 255).
        queue: How many messages it last saw waiting (wire: logarithmic, within 5 %, to a million).
        lag_s: How late its loop ran at worst in the last 10 s (wire: logarithmic, within 10 %,
            from 1 ms to 60 s).
        encoding: How many encoder processes run (wire: up to 255).
    """

    cpu: float = 0.0
    memory: float = 0.0
    slots: int = 0
    running: int = 0
    queue: int = 0
    lag_s: float = 0.0
    encoding: int = 0
    flags: Flag = NOTHING
