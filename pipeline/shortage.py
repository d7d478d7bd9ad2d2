"""Lack of memory: what follows when the kernel ends an encoder, or a whole peer, for it. Pure.

Memory is not like other failures. The same attempt on the same peer fails again, however long it
waits, unless something is different; and on a larger peer nothing is wrong at all. So an attempt
that follows on a shortage is made different in three ways, none of which needs anybody to decide:

* it encodes with half as many threads, and half again after the next shortage: each thread of an
  encoder holds pictures of its own (measured, 1080p to three renditions: 660 MB with 8 threads, 500
  with 4, 410 with 2, 320 with 1);
* a peer whose container may use less than that in which it failed leaves it to others, for a
  minute; then it tries, as there may be no other;
* a peer in which it happened works on one part fewer at a time for a while: it was the sum of them
  that was too much, and where encoders have one thread already nothing else can give.

The rejected alternative, a queue for each size of container, would have to know beforehand what a
source needs, and leave parts waiting for peers that nobody starts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

OUT_OF_MEMORY = "out_of_memory"
"""The code of the failure: of an encoder, of ffmpeg's own limit, or of the peer as a whole."""

KILLED = "killed"
"""The code of a failure of which only this is known: a signal has ended the program."""

PASS_ON_S = 60.0
"""For how long a part that is due is left to peers with more memory: they look every 2 s."""

LOOK_AGAIN_S = 2.0

WITHHOLD_S = 600.0
"""For how long a peer does without the slot in which memory ran out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shortage:
    """How often a part has failed for lack of memory, since a person last let its task start.

    Args:
        memory_bytes: The most that a container might use in which it failed; None: not known, as
            when ffmpeg reached a limit of its own.
    """

    times: int
    memory_bytes: int | None


class ContainerMemory(Protocol):
    """**Protocol**: the memory of the container that this process is in. Cheap; never raises."""

    @property
    def limit_bytes(self) -> int | None:
        """How much may be used; None: nobody says."""
        ...

    def kills(self) -> int | None:
        """How many processes the kernel has ended here, so far, for lack of it; None: not told."""
        ...


def reduced_threads(threads: int, shortages: int) -> int:
    """How many threads an encoder gets after so many shortages; at least one."""
    return max(1, threads >> shortages)


def leaves_to_others(shortage: Shortage, memory_bytes: int | None, *, due_for_s: float) -> bool:
    """Whether a peer leaves a part to those with more memory.

    Args:
        memory_bytes: What its container may use; None: not known.
        due_for_s: For how long anybody might have taken the part.
    """
    if shortage.memory_bytes is None or memory_bytes is None:
        return False
    return memory_bytes < shortage.memory_bytes and due_for_s < PASS_ON_S
