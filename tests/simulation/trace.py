"""What happened in a run: a digest of all of it, and the end of it in words.

The digest tells whether two runs were the same, byte for byte. The words are for whoever looks
for a fault: of the datagrams, only those that are not routine are told, or all into a file.
"""

from __future__ import annotations

import hashlib
import struct
from collections import deque
from typing import TextIO

from gossip.messages import (
    Ack,
    AlertOk,
    Digest,
    Gossip,
    Heartbeat,
    Message,
    Page,
    Ping,
    PingRequest,
    Watch,
    WatchOk,
)

ROUTINE = (Heartbeat, Gossip, Ping, Ack, PingRequest, AlertOk, Watch, WatchOk, Digest, Page)


class Trace:
    """The record of one run.

    Args:
        everything: Where every line goes, routine or not; None for nowhere.
        lines: How many lines of the end are kept.
        silent: Nothing is noted: for measuring at scale.
    """

    def __init__(
        self, everything: TextIO | None = None, *, lines: int = 60, silent: bool = False
    ) -> None:
        self._silent = silent
        self._hash = hashlib.blake2b(digest_size=16)
        self._everything = everything
        self._tail: deque[tuple[float, str, object]] = deque(maxlen=lines)

    def datagram(
        self, now: float, source: int, target: int, datagram: bytes, message: Message | None
    ) -> None:
        """Note one that was sent, whatever becomes of it."""
        self._hash.update(struct.pack("<dii", now, source, target))
        self._hash.update(datagram)
        if self._everything is not None:
            self._everything.write(f"{now:10.4f}  p{source} > p{target}  {message}\n")
        if message is not None and not isinstance(message, ROUTINE):
            self._tail.append((now, f"p{source} > p{target}", message))

    def note(self, now: float, who: str, what: object) -> None:
        """Note a change, a fault, a start."""
        if self._silent:
            return
        self._hash.update(struct.pack("<d", now))
        self._hash.update(f"{who} {what}".encode())
        if self._everything is not None:
            self._everything.write(f"{now:10.4f}  {who}  {what}\n")
        self._tail.append((now, who, what))

    def digest(self) -> str:
        """Return 32 hexadecimal digits that stand for everything up to now."""
        return self._hash.hexdigest()

    def tail(self) -> str:
        """Return the last lines."""
        return "\n".join(f"{now:10.4f}  {who}  {what}"[:240] for now, who, what in self._tail)
