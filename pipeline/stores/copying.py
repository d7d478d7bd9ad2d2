"""Copies one open file into another, a step at a time.

A thread cannot be cancelled, and a film has many gigabytes. So a copy is cut into steps that take
well under a second on any disk, and between two of them a cancelled task gets its way. The kernel
does the copying: within a file system that can, it shares the blocks and copies nothing.
"""

from __future__ import annotations

import errno
import os

STEP_BYTES = 16 * 1024 * 1024

NOT_BY_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM})
"""What `copy_file_range` says where the two file systems, or the kernel, cannot do it."""


class SourceChanged(Exception):
    """The source was written to while it was copied, so the copy is worth nothing."""


class Copy:
    """A copy in progress. It owns both descriptors, and every method blocks."""

    def __init__(self, source: int, target: int) -> None:
        self._source = source
        self._target = target
        self._before = os.fstat(source)
        self.copied = 0
        """Bytes so far."""

    def step(self) -> bool:
        """Copy the next bytes; False at the source's end."""
        try:
            count = os.copy_file_range(self._source, self._target, STEP_BYTES)
        except OSError as error:
            if error.errno not in NOT_BY_RANGE:
                raise
            count = os.sendfile(self._target, self._source, None, STEP_BYTES)
        self.copied += count
        return count > 0

    def finish(self) -> int:
        """Check that all of it is there, and return the size in bytes.

        Raises:
            SourceChanged: It is not.
        """
        after = os.fstat(self._source)
        same = (after.st_size, after.st_mtime_ns) == (
            self._before.st_size,
            self._before.st_mtime_ns,
        )
        if not same or self.copied != after.st_size:
            raise SourceChanged
        return self.copied

    def close(self) -> None:
        """Give the descriptors back."""
        os.close(self._source)
        os.close(self._target)
