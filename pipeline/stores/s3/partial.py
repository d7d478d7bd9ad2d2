"""A file that is on its way, and which of its parts are there.

It lies beside its target and gets the target's name when it is whole. The journal beside it says
which object it is of and which parts have come, so that a pull that was broken off continues; one
that finds another version of the object in the store begins anew. Both go with the directory they
are in: nobody has to remember a pull that will not be repeated.

Every method blocks, and raises OSError.
"""

from __future__ import annotations

import errno
import json
import os
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline.stores.s3.parts import Part

NOT_PREALLOCATED = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS})
NOT_LINKABLE = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS})
PIECE_BYTES = 256 * 1024 * 1024
"""Of the room that is taken at once."""
# The point tells a whole entry from one that was cut off.
ENTRY = re.compile(r"([0-9]{1,5}) ([0-9a-f]*) \.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version of one object, and how it is cut up.

    Args:
        unit: The size of the parts in bytes.
        algorithm: Of the digests in the journal; empty without any.
    """

    bucket: str
    key: str
    etag: str
    size: int
    unit: int
    algorithm: str


class Partial:
    """The file; opened, and ended by one of `publish`, `discard` and `close`."""

    def __init__(self, target: Path, version: Version) -> None:
        self._target = target
        self._data = target.with_name(f".{target.name}.partial")
        self._journal = target.with_name(f".{target.name}.journal")
        self.version = version
        self._done: dict[int, bytes] = {}
        self.descriptor = -1
        self._journal_descriptor = -1

    @property
    def done(self) -> Mapping[int, bytes]:
        """The parts that are there, by number, each with its digest."""
        return self._done

    def open(self, check: Callable[[], None] = lambda: None) -> None:
        """Continue what is there of this version of the object, or begin.

        Args:
            check: Called while this takes long; what it raises ends it.
        """
        if os.path.lexists(self._target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
        known = self._read_journal()
        if known is None:
            self.discard()
            known = {}
        self._done = known
        self.descriptor = os.open(self._data, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if not known:
            self._allocate(check)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        self._journal_descriptor = os.open(self._journal, flags, 0o600)
        if not known:
            os.ftruncate(self._journal_descriptor, 0)
            os.write(self._journal_descriptor, f"{self._header()}\n".encode())

    def note(self, part: Part, digest: bytes) -> None:
        """A part has come. Its bytes were written before this line, which is all that is needed:
        neither has to outlive the machine, whose start clears the directory."""
        os.write(self._journal_descriptor, f"{part.number} {digest.hex()} .\n".encode())
        self._done[part.number] = digest

    def start_over(self) -> None:
        """None of what came is right."""
        os.ftruncate(self._journal_descriptor, 0)
        os.write(self._journal_descriptor, f"{self._header()}\n".encode())
        self._done.clear()

    def close(self) -> None:
        """Give the descriptors back, and leave what is there to be continued."""
        descriptors = (self.descriptor, self._journal_descriptor)
        self.descriptor = self._journal_descriptor = -1
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)

    def publish(self) -> None:
        """Give it its name, and end; a file that has got that name meanwhile is not replaced."""
        try:
            os.link(self._data, self._target)
        except OSError as error:
            if error.errno not in NOT_LINKABLE or os.path.lexists(self._target):
                raise
            self._data.rename(self._target)
        finally:
            self.discard()

    def discard(self) -> None:
        """Remove what is there, and end."""
        self.close()
        for path in (self._data, self._journal):
            with suppress(FileNotFoundError):
                path.unlink()

    def _allocate(self, check: Callable[[], None]) -> None:
        """Take the room now: a disk that is full is better found before than after.

        A file system that cannot do this gets a byte written to each of its blocks, by the C
        library; so it is done a piece at a time.
        """
        os.ftruncate(self.descriptor, 0)
        size = self.version.size
        try:
            for offset in range(0, size, PIECE_BYTES):
                check()
                os.posix_fallocate(self.descriptor, offset, min(PIECE_BYTES, size - offset))
        except OSError as error:
            if error.errno not in NOT_PREALLOCATED:
                raise
            os.ftruncate(self.descriptor, self.version.size)

    def _header(self) -> str:
        return json.dumps(asdict(self.version))

    def _read_journal(self) -> dict[int, bytes] | None:
        """The parts that are there; None when nothing is, or something else."""
        try:
            header, *entries = self._journal.read_text().splitlines()
            same = header == self._header() and self._data.stat().st_size == self.version.size
            # Without an ETag nobody knows whether it is the same version.
            usable = same and bool(self.version.etag)
        except (FileNotFoundError, ValueError):
            return None
        matches = [ENTRY.fullmatch(entry) for entry in entries]
        return {int(m[1]): bytes.fromhex(m[2]) for m in matches if m} if usable else None
