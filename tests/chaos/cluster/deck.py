"""Drawing without putting back: chance decides the order, and everything has its turn.

Draws that are independent of each other leave out what is rare in some runs, and such a run proves
less than it says.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def deal(rng: random.Random, items: Sequence[T]) -> Iterator[T]:
    """Deal all in a random order, then all again."""
    while True:
        yield from rng.sample(items, len(items))
