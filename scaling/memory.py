"""What the policy remembers from one decision to the next.

A value, made anew by each new leader: what one leader has seen is not carried over to the next,
who looks for a whole window before anything is taken away.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from scaling.boots import Boots
from scaling.utilization import Levels
from scaling.window import Window


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What was seen and begun before.

    Args:
        needs: How many containers the work took lately.
        levels: On which side of their limits CPU and memory were.
        boots: Of nodes that were ordered.
        growing_to: How many containers a growth that has begun ends with: those that find no room
            wait for nodes on their way. None: none has.
        shrinking_to: How many containers a shrinking that has begun ends with; None: none has.
        leaving: The node whose containers are being parked; empty: none.
        grown_s: When it was last decided that there should be more containers than there are.
    """

    needs: Window = field(default_factory=Window)
    levels: Levels = field(default_factory=Levels)
    boots: Boots = field(default_factory=Boots)
    growing_to: int | None = None
    shrinking_to: int | None = None
    leaving: str = ""
    grown_s: float | None = None
