"""The largest value of the last so many seconds, as a value that is handed on.

What is taken away must have been too much for a whole window. The alternative, a pause after each
change, forgets what was needed during the pause: load that comes back every four minutes then meets
a cluster that has just shrunk.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Mark:
    """A value, and when it was seen."""

    at_s: float
    value: int


@dataclass(frozen=True, slots=True)
class Window:
    """What was seen lately; only what may still become the largest is kept.

    Args:
        marks: The oldest first, and each larger than the next.
        began_s: Since when it has been looked at without a gap; None before the first look.
        seen_s: The last look.
    """

    marks: tuple[Mark, ...] = ()
    began_s: float | None = None
    seen_s: float = 0.0

    @property
    def largest(self) -> int:
        """The largest value of the window; 0 before the first look."""
        return self.marks[0].value if self.marks else 0

    def covers(self, span_s: float) -> bool:
        """Whether so much time has been watched, up to the last look, without a gap."""
        return self.began_s is not None and self.seen_s - self.began_s >= span_s

    def noting(self, at_s: float, value: int, *, span_s: float, gap_s: float) -> Window:
        """Return the window with one more value.

        Args:
            at_s: Not before the last look.
            span_s: What is older is forgotten.
            gap_s: After a longer silence nobody knows what was needed meanwhile: begin anew.
        """
        if self.began_s is None or at_s - self.seen_s > gap_s:
            return Window((Mark(at_s, value),), began_s=at_s, seen_s=at_s)
        kept = tuple(
            mark for mark in self.marks if at_s - mark.at_s <= span_s and mark.value > value
        )
        return Window((*kept, Mark(at_s, value)), began_s=self.began_s, seen_s=at_s)
