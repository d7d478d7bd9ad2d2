"""What happened when, as JSON lines: faults, samples of the cluster, what clients were told.

It is written line by line as things happen, so a run that is killed, or hangs, has told all it knew
until then. Whoever draws a picture or looks for a cause reads it back; the checker does not, since
a promise is judged by what is there, not by what was noted on the way.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

FILE = "timeline.jsonl"

Entry = dict[str, Any]
"""`at_s` from the start of the run, `wall`, `what`, and more by what it is."""


@dataclass
class Timeline:
    """A run's, which begins now.

    Args:
        file: It is appended to, by threads as they please.
    """

    file: Path
    _began_s: float = field(default_factory=time.monotonic)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def now_s(self) -> float:
        """Since the run began."""
        return time.monotonic() - self._began_s

    async def reach(self, at_s: float) -> None:
        """Sleep until that moment; one that is over is reached."""
        await trio.sleep(max(0.0, at_s - self.now_s))

    def note(self, what: str, **more: Any) -> None:
        """Write a line; what JSON does not know is written as a text."""
        entry = {"at_s": round(self.now_s, 2), "wall": datetime.now(UTC), "what": what, **more}
        line = json.dumps(entry, default=str)
        with self._lock, self.file.open("a") as file:
            file.write(line + "\n")


def read_timeline(file: Path) -> Iterator[Entry]:
    """Read one back; a last line that was cut off is left out."""
    for line in file.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return
