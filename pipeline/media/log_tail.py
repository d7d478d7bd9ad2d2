"""The end of what a program wrote to standard error, in bounded memory.

A damaged or hostile source makes ffmpeg write without end, in lines of any length, with bytes out
of the source's own metadata in them. So only the last bytes are kept, a line is cut at a length,
and control characters are replaced: the text is going to be printed on somebody's terminal.

Pure: bytes in, lines and text out.
"""

from __future__ import annotations

import re

LOG_BYTES = 8 * 1024
LINE_BYTES_MAX = 4 * 1024

# C0 and C1 control characters but tab and newline: escape sequences start with one of them.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


class LogTail:
    """Keeps the last `bytes_max` bytes, and cuts the stream into lines for whoever counts them."""

    def __init__(self, bytes_max: int = LOG_BYTES) -> None:
        self._bytes_max = bytes_max
        self._tail = b""
        self._line = b""
        self._cut = False

    def feed(self, data: bytes) -> list[str]:
        """Take the next bytes and return the lines that they complete, each bounded in length."""
        kept = self._tail + data
        self._cut = self._cut or len(kept) > self._bytes_max
        self._tail = kept[-self._bytes_max :]
        first, *others = data.split(b"\n")
        self._line = (self._line + first)[:LINE_BYTES_MAX]
        lines = []
        for following in others:
            lines.append(_printable(self._line[:LINE_BYTES_MAX]))
            self._line = following[:LINE_BYTES_MAX]
        return lines

    def finish(self) -> list[str]:
        """Return the last line where the stream ended without a newline, or nothing."""
        line, self._line = self._line, b""
        return [_printable(line)] if line else []

    @property
    def text(self) -> str:
        """What was kept, from the start of its first whole line."""
        tail = self._tail
        if self._cut:
            _, newline, rest = tail.partition(b"\n")
            tail = rest if newline else tail
        return _printable(tail).strip()


def _printable(data: bytes) -> str:
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", data.decode(errors="replace"))
