"""A part of a file, as a request's body and as something to be hashed: never in memory as a whole.

The descriptor is the section's own: a thread that nobody waits for any more must not read from a
number that by then belongs to another file.
"""

from __future__ import annotations

import os
from types import TracebackType

from pipeline.stores.copying import SourceChanged
from pipeline.stores.s3.checksums import Running
from pipeline.stores.s3.parts import Part
from pipeline.stores.s3.threads import Stop

HASH_BYTES = 1024 * 1024


class Unreadable(Exception):
    """The file cannot be read; the cause is the OSError.

    An OSError itself would be taken for one of the network's by the HTTP client that reads here.
    """


class Section:
    """A part of an open file; a context, for its descriptor.

    Args:
        descriptor: Of the file; it is duplicated.
        sha256: Of the part, in hexadecimal digits, if it is to be sent.
    """

    def __init__(self, descriptor: int, part: Part, stop: Stop, *, sha256: str = "") -> None:
        self._descriptor = os.dup(descriptor)
        self._offset = part.offset
        self._end = part.offset + part.size
        self._stop = stop
        self.size = part.size
        self.sha256 = sha256

    def __enter__(self) -> Section:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._descriptor)

    def read(self, size: int = -1, /) -> bytes:
        """The next bytes.

        Raises:
            SourceChanged: The file ends before the part does.
            Unreadable: It cannot be read.
        """
        self._stop.check()
        left = self._end - self._offset
        wanted = min(size, left) if size >= 0 else left
        try:
            block = os.pread(self._descriptor, wanted, self._offset)
        except OSError as error:
            raise Unreadable from error
        if wanted and not block:
            raise SourceChanged
        self._offset += len(block)
        return block


def read_through(descriptor: int, part: Part, stop: Stop, *digests: Running) -> None:
    """Read a part of a file once, for all of these digests."""
    with Section(descriptor, part, stop) as section:
        while block := section.read(HASH_BYTES):
            for digest in digests:
                digest.update(block)
