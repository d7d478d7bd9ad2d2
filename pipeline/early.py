"""Messages that came before their task: which of them gets a second look, as a pure value.

A client that publishes first and commits its row after is a common mistake, and mostly a matter of
milliseconds. So a message about an unknown task is put back once, for `SECOND_LOOK_S`, and set
aside when the task is still unknown then. Nothing loops: each peer gives each message one second
look, and remembers at most `TASKS_MAX`; beyond that, whoever sends them is broken, and they are
set aside at once. Nothing is lost either: the sweeper wakes somebody for a row that comes later.
"""

from __future__ import annotations

from uuid import UUID

SECOND_LOOK_S = 2.0
FORGET_S = 60.0
"""A message about the same task that comes this much later is another one."""

TASKS_MAX = 1000


class Early:
    """Remembers what was looked at. Times are of any monotonic clock, in seconds."""

    def __init__(self) -> None:
        self._seen: dict[tuple[UUID, int], float] = {}  # the oldest first

    def deserves_second_look(self, task_id: UUID, part: int, now: float) -> bool:
        """Tell whether this is the first look at it; the next one will not be."""
        while self._seen and now - next(iter(self._seen.values())) > FORGET_S:
            del self._seen[next(iter(self._seen))]
        if self._seen.pop((task_id, part), None) is not None or len(self._seen) >= TASKS_MAX:
            return False
        self._seen[task_id, part] = now
        return True
