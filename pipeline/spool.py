"""A spool: entries wait on disk, in order, for a ledger that is away.

One directory, in it files with a line for each entry: a checksum, a space, JSON.

    5d1e8a90 {"event":{"part":0,…},"kind":"VideoTranscoded",…}

A line is on the disk before `append` returns. What a crash leaves of the last one has no end, and
is passed over. A damaged line is the disk's fault, and costs itself: what is behind it is read, and
the ledger refuses the steps of a claim of which one is missing. Every life of a peer begins a file
of its own, so that nothing is ever written behind a torn end.

Nothing is removed entry by entry: when all have arrived, the files are. What is repeated after a
crash in between does no harm, because the ledger knows events by their stamps. What can be read by
nobody, or is refused, is set aside first, as lines of the file `aside.damaged`: those that are
whole are read again when a person gives it a name like `0000000001.spool`. SQLite would do all
of this too, and cost a second database beside the one that is waited for, with its own locks,
threads and ways to be damaged.

Synchronous: who calls it from trio does so in a thread, one call at a time.
"""

from __future__ import annotations

import errno
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pipeline.spooled import Entry

BYTES_MAX = 16 * 1024 * 1024
"""Some 30,000 events: ten days of a peer that has nothing else to say than its minutely counts."""

ASIDE_BYTES_MAX = 1024 * 1024
"""Some 2,000 events: enough to see what happened."""

SUFFIX = ".spool"

ASIDE = "aside.damaged"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What was read.

    Args:
        entries: In their order.
        damaged: The lines that cannot be read, without their ends; a torn last one is not among
            them, as nobody was ever told that it was kept.
    """

    entries: Sequence[Entry]
    damaged: Sequence[bytes]


def encode_line(entry: Entry) -> bytes:
    """Make the line of an entry."""
    content = json.dumps(entry, separators=(",", ":")).encode()
    return b"%08x %s\n" % (zlib.crc32(content), content)


def decode_lines(data: bytes) -> Found:
    """Read the lines of one file."""
    *lines, torn = data.split(b"\n")
    del torn  # it has no end: nobody was told that it was kept
    entries: list[Entry] = []
    damaged: list[bytes] = []
    for line in lines:
        entry = _decode_line(line)
        if entry is None:
            damaged.append(line)
        else:
            entries.append(entry)
    return Found(entries=entries, damaged=damaged)


def _decode_line(line: bytes) -> Entry | None:
    checksum, _, content = line.partition(b" ")
    if checksum != b"%08x" % zlib.crc32(content):
        return None
    try:
        entry = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return entry if isinstance(entry, dict) else None


def _additions(kept: bytes, lines: Iterable[bytes], bytes_max: int) -> tuple[bytes, int]:
    """What to add to a file so that it has these lines too; and how many do not fit."""
    known = set(kept.split(b"\n"))
    # Behind a torn end, which a full disk leaves, a line begins anew.
    data = b"" if kept.endswith(b"\n") or not kept else b"\n"
    refused = 0
    for line in lines:
        if line in known:
            continue
        if len(kept) + len(data) + len(line) + 1 > bytes_max:
            refused += 1
        else:
            known.add(line)
            data += line + b"\n"
    return data, refused


class Spool:
    """The files of one directory, which nobody else uses.

    Args:
        directory: Made when it is needed.
        bytes_max: Of all files together; nothing is appended beyond it.
        aside_bytes_max: Of what is set aside, which comes on top.
    """

    def __init__(
        self,
        directory: Path,
        *,
        bytes_max: int = BYTES_MAX,
        aside_bytes_max: int = ASIDE_BYTES_MAX,
    ) -> None:
        self._directory = directory
        self._bytes_max = bytes_max
        self._aside_bytes_max = aside_bytes_max
        self._size: int | None = None  # in bytes, of all files; not known before it is needed
        self._file: _File | None = None

    def read(self) -> Found:
        """Read what is there, in the order in which it was appended.

        Raises:
            OSError: It cannot be read.
        """
        found = [decode_lines(file.read_bytes()) for file in self._files()]
        return Found(
            entries=[entry for each in found for entry in each.entries],
            damaged=[line for each in found for line in each.damaged],
        )

    def append(self, entries: Iterable[Entry]) -> None:
        """Put entries at the end, all or none; when this returns, the disk has them.

        Raises:
            OSError: There is no room, or the disk failed. Nothing was appended; should a crash
                follow, some of it may be found all the same.
        """
        data = b"".join(encode_line(entry) for entry in entries)
        if self._size is None:
            self._size = sum(file.stat().st_size for file in self._files())
        if self._size + len(data) > self._bytes_max:
            raise OSError(errno.EDQUOT, f"the spool is full: it may have {self._bytes_max} bytes")
        if self._file is None:
            self._file = _File(self._next_file())
        try:
            self._file.append(data)
        except OSError:
            # Whatever the kernel still has of it: after a failed write the file is not trusted.
            self._file.abandon()
            self._file = None
            self._size = None
            raise
        self._size += len(data)

    def set_aside(self, lines: Iterable[bytes]) -> int:
        """Keep lines, given without their ends, for a person; they are not read again.

        A line that was set aside before is not kept twice.

        Returns:
            How many were not kept, because there is no room for more.

        Raises:
            OSError: The disk failed; some of them may be kept.
        """
        self._directory.mkdir(parents=True, mode=0o700, exist_ok=True)
        path = self._directory / ASIDE
        kept = path.read_bytes() if path.exists() else b""
        data, refused = _additions(kept, lines, self._aside_bytes_max)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            _write(descriptor, data)
            os.fdatasync(descriptor)
        finally:
            os.close(descriptor)
        _sync_directory(self._directory)
        return refused

    def clear(self) -> None:
        """Remove everything but what was set aside.

        Raises:
            OSError: Some of it is still there.
        """
        self.close()
        for file in self._files():
            file.unlink()
        self._size = 0

    def close(self) -> None:
        """Let go of the file; what lies in it stays."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _files(self) -> list[Path]:
        """From the oldest to the newest."""
        return sorted(file for file in self._directory.glob(f"*{SUFFIX}") if file.stem.isdecimal())

    def _next_file(self) -> Path:
        numbers = [int(file.stem) for file in self._files()]
        return self._directory / f"{max(numbers, default=0) + 1:010}{SUFFIX}"


class _File:
    """A file that grows by whole writes; a new one, with a name that is on the disk too."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
        self._path = path
        self._size = 0
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
        self._descriptor = os.open(path, flags, 0o600)
        try:
            for directory in (path.parent, path.parent.parent):
                _sync_directory(directory)
        except OSError:
            self.close()
            raise

    def append(self, data: bytes) -> None:
        _write(self._descriptor, data)
        os.fdatasync(self._descriptor)
        self._size += len(data)

    def abandon(self) -> None:
        """Cut off what a failed write left, as far as that is possible, and close."""
        with suppress(OSError):
            os.ftruncate(self._descriptor, self._size)
        if not self._size:
            self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        os.close(self._descriptor)


def _write(descriptor: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(descriptor, left) :]


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
