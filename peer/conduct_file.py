"""A peer's conduct beside its identity, so that a restart does not make a broken peer a good one.

The rejected alternative is to ask the ledger at the start what others made of this peer's tasks. It
would need the same thing, a uid that outlives the process, and could not tell what happened before
somebody said `peerctl resume` from what happened since. A container that gets a new disk with each
restart is a new peer each time, in this as in everything.

Pauses go on by the time of day, as no other clock outlives a machine. Where that was set, a pause
is as long as it was at first, at most.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated
from uuid import UUID

import msgspec

from peer.files import replace_file
from pipeline.quarantine import FAILED_MAX, Memory, Standing

log = logging.getLogger(__name__)

Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e10)]


class _Kept(msgspec.Struct, kw_only=True):
    standing: Standing
    failed: Annotated[dict[UUID, str], msgspec.Meta(min_length=1, max_length=FAILED_MAX)]
    pause_s: Seconds
    until: Seconds


class ConductFile:
    """Implements `pipeline.scrutiny.Diary` in a small file.

    It is written where nothing else can be awaited, which delays the peer by a few milliseconds;
    but only while it does not trust itself, and then once for each task that it tries.
    """

    def __init__(self, file: Path) -> None:
        self._file = file

    def recall(self) -> Memory | None:
        """What the former life has left; nothing where that cannot be read."""
        try:
            kept = msgspec.json.decode(self._file.read_bytes(), type=_Kept)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            self._complain("cannot read why this peer did not trust itself", error)
            return None
        if kept.standing is Standing.TRUSTED:
            return None
        return Memory(
            standing=kept.standing,
            failed=kept.failed,
            pause_s=kept.pause_s,
            left_s=min(kept.pause_s, max(0.0, kept.until - time.time())),
        )

    def keep(self, memory: Memory | None) -> None:
        """Leave this to the next life, or nothing."""
        try:
            if memory is None:
                self._file.unlink(missing_ok=True)
                return
            kept = _Kept(
                standing=memory.standing,
                failed=dict(memory.failed),
                pause_s=memory.pause_s,
                until=time.time() + memory.left_s,
            )
            replace_file(self._file, msgspec.json.encode(kept).decode())
        except OSError as error:
            self._complain("a restart would change whether this peer trusts itself", error)

    def _complain(self, what: str, error: Exception) -> None:
        log.warning(what, extra={"action": "conduct", "file": str(self._file), "error": str(error)})
