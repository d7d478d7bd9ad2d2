"""Delays as sums of fixed ones, as pure values.

RabbitMQ delays messages by letting them expire in a queue that nobody reads, and then moving them
on. Messages expire at a queue's head only, so those of one queue must all wait equally long: a time
on each message would let a short one wait behind a long one. There is one queue for each length in
`DELAYS_MS`, and every delay is a sum in which each length occurs at most once; they are chosen so
that all sums of whole `TICK_MS` come out. The queues are passed from the longest to the shortest,
the broker alone moving the message on (`topology`): so a delay is kept while no peer is there, and
costs nobody a slot or another wait in line, as it would if peers forwarded the message from one
delay to the next. The way is written in the routing key, which says for every length whether it is
part of the sum; NServiceBus does the same with powers of two.

A broker that was killed and starts again may move a message on to a queue that is not up yet. It
tries again when that is not confirmed, after three minutes unless its advanced.config says
`{rabbit, [{dead_letter_worker_publisher_confirm_timeout, 10000}]}`; the delay is that much longer
then, unless the sweeper misses the message before, and nothing is lost. Dead-lettering at most
once, the other way, lost some messages in each of the four kills that were tried.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.tasks import Priority

TICK_MS = 250

DELAYS_MS = (
    *(600_000, 300_000, 240_000, 120_000, 60_000, 30_000, 20_000),
    *(10_000, 5_000, 4_000, 2_000, 1_000, 500, 250),
)
"""Longest first. Each is at most one tick longer than the sum of all shorter ones."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How a delayed message goes.

    Args:
        first_ms: The first length it waits.
        total_ms: All of them together.
        key: Its routing key.
        left_ms: What is left of the delay when it arrives, if it was longer than all lengths
            together: whoever receives it then must send it on its way again.
    """

    first_ms: int
    total_ms: int
    key: str
    left_ms: int


def find_way(delay_s: float, priority: Priority) -> Way | None:
    """Find the way for a delay of that many seconds, rounded up to a tick; None without one."""
    total = left = max(0, math.ceil(delay_s * 1000 / TICK_MS)) * TICK_MS
    if total == 0:
        return None
    steps = []
    for length in DELAYS_MS:
        steps.append(left >= length)
        left -= length * steps[-1]
    return Way(
        first_ms=DELAYS_MS[steps.index(True)],
        total_ms=total - left,
        key=".".join([*("1" if step else "0" for step in steps), priority.value]),
        left_ms=left,
    )


def name(length_ms: int) -> str:
    """What people call a length: `250ms`, `30s`, `10min`."""
    if length_ms % 60_000 == 0:
        return f"{length_ms // 60_000}min"
    return f"{length_ms // 1000}s" if length_ms % 1000 == 0 else f"{length_ms}ms"
