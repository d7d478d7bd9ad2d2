"""Locks between processes that the kernel itself gives back.

A lock is a `flock` on an open file, so it ends with the last process that has the file open: by
`close`, by exit, by kill -9, by a crash of the machine. Nothing is ever stale and nothing has to be
guessed from process ids, which is why there is no list of users in a file here: such a list keeps
a killed process for ever, or believes in a stranger who was given its number.
"""

from __future__ import annotations

import fcntl
import os
import time
from enum import IntEnum
from pathlib import Path
from types import TracebackType
from typing import Self


class Kind(IntEnum):
    """How a lock is held."""

    SHARED = fcntl.LOCK_SH
    EXCLUSIVE = fcntl.LOCK_EX


class FileLock:
    """One hold on the lock that a file stands for; the file is made when it is missing.

    A child that inherits `fileno()` shares the hold, and keeps it when this process has closed.

    Raises:
        OSError: The file cannot be opened (it is a symbolic link, or belongs to somebody else).
    """

    _POLL_S = 0.01

    def __init__(self, path: Path) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)

    def fileno(self) -> int:
        """The descriptor, for a child that is to share the hold."""
        return self._descriptor

    def acquire_nowait(self, kind: Kind) -> bool:
        """Take the lock if nobody stands in the way."""
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def acquire(self, kind: Kind, *, deadline: float) -> bool:
        """Take the lock, or give up when `time.monotonic()` passes the deadline.

        A blocking flock can be left only by a signal, which no thread may count on; so this asks
        every 10 ms. It waits only while a server starts or stops.
        """
        while not self.acquire_nowait(kind):
            if time.monotonic() >= deadline:
                return False
            time.sleep(self._POLL_S)
        return True

    def close(self) -> None:
        """Let go. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
