"""Which claim is being worked on here, for whoever writes a line of the log meanwhile.

What is deep inside an attempt, a store's client or the runner of ffmpeg, knows no task, and should
not have to be told of one only to say so. trio hands a context variable on to the tasks and threads
that are started within, so whoever formats the line can ask.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from pipeline.tasks import Claim

_CLAIM: ContextVar[Claim | None] = ContextVar("claim", default=None)


@contextmanager
def working_on(claim: Claim) -> Iterator[None]:
    """Let what is done in this block, and what it starts, be known to be for that claim."""
    token = _CLAIM.set(claim)
    try:
        yield
    finally:
        _CLAIM.reset(token)


def claim_at_work() -> Claim | None:
    """What is being worked on where this is called; None outside of any claim."""
    return _CLAIM.get()
