"""Small files that hold the old content or the new after a crash, never a part of either."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from secrets import token_hex

PRIVATE = 0o600


def replace_file(file: Path, content: str) -> None:
    """Write a file as a whole, readable by its owner alone.

    Raises:
        OSError: It could not be written; what was there before is there still.
    """
    fresh = _write_beside(file, content)
    try:
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    _sync_directory(file.parent)


def create_file(file: Path, content: str) -> bool:
    """Write a file unless there is one; of several who try at once, exactly one does it.

    Returns:
        Whether it was this call. False: somebody else's whole content is there.

    Raises:
        OSError: It could not be written.
    """
    fresh = _write_beside(file, content)
    try:
        # Opening it with O_EXCL would let another process read it before anything is in it.
        os.link(fresh, file)
    except FileExistsError:
        return False
    finally:
        fresh.unlink(missing_ok=True)
    _sync_directory(file.parent)
    return True


def _write_beside(file: Path, content: str) -> Path:
    """Write to a name of this process's own; the disk has it when this returns."""
    fresh = file.with_name(f".{file.name}.{token_hex(4)}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
    except BaseException:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    return fresh


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
