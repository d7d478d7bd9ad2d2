"""How fast an answer must come: its head within one timeout, and so much of its body in each.

A socket's timeout bounds no answer: every byte begins it anew, so a server that sends one now and
then, in a header as well as in a body, would hold its reader for ever. Therefore the bytes are
counted where they leave the socket, below all that parses them: headers, chunks and trailers alike,
of our own requests and of those that minio's client makes. A limit around the request in trio would
not do: it ends our waiting, and the thread that reads would be lost. A timer beside every request
that shuts its socket down would be a second thread for each.

Only the time spent waiting for bytes counts, not what their reader does with them.
"""

from __future__ import annotations

import http.client
import io
import socket
import time
from typing import TYPE_CHECKING

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from pipeline.stores.s3.problems import Lost

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

FLOOR_BYTES = 64 * 1024
"""A body that brings less than this in one timeout is as good as none."""


class PacedStream(io.RawIOBase):
    """What comes from a socket, as long as it comes fast enough; first a head, then a body.

    Args:
        connection: With the timeout that was set for this answer.
        stream: What reads from it.
    """

    def __init__(self, connection: socket.socket, stream: io.RawIOBase) -> None:
        self._connection = connection
        self._stream = stream
        timeout_s = connection.gettimeout()
        if not timeout_s:
            raise ValueError("the connection has no timeout")
        self._timeout_s = timeout_s
        self._in_body = False
        self._begin_anew()

    def begin_body(self) -> None:
        """The head is whole."""
        self._in_body = True
        self._begin_anew()

    def readable(self) -> bool:
        """It is."""
        return True

    def fileno(self) -> int:
        """The socket's."""
        return self._stream.fileno()

    def close(self) -> None:
        """Leave the socket to others."""
        self._stream.close()
        super().close()

    def readinto(self, buffer: WriteableBuffer) -> int:
        """Wait for some bytes.

        Raises:
            TimeoutError: None came for as long as may be.
            Lost: Some did, and not enough.
        """
        self._connection.settimeout(self._left_s)
        began = time.monotonic()
        try:
            count: int = self._stream.readinto(buffer) or 0
        except TimeoutError as error:
            if self._received:
                raise self._too_slow() from error
            raise
        self._left_s -= time.monotonic() - began
        self._received += count
        if self._in_body and self._received >= FLOOR_BYTES:
            self._begin_anew()
        elif count and self._left_s <= 0:
            raise self._too_slow()
        return count

    def _begin_anew(self) -> None:
        self._left_s, self._received = self._timeout_s, 0

    def _too_slow(self) -> Lost:
        if self._in_body:
            what = f"sends less than {FLOOR_BYTES // 1024} KiB in {self._timeout_s:g} s"
        else:
            what = f"did not finish the headers of its answer within {self._timeout_s:g} s"
        return Lost(f"the store {what}")


class PacedResponse(http.client.HTTPResponse):
    """An answer that is read at a pace, or not at all."""

    def __init__(
        self,
        sock: socket.socket,
        debuglevel: int = 0,
        method: str | None = None,
        url: str | None = None,
    ) -> None:
        super().__init__(sock, debuglevel, method, url)
        self._paced = PacedStream(sock, self.fp.detach())
        self.fp = io.BufferedReader(self._paced)

    def begin(self) -> None:
        """Read the head."""
        super().begin()
        self._paced.begin_body()


class PacedConnection(HTTPConnection):
    """A connection whose answers are paced."""

    response_class = PacedResponse


class PacedEncryptedConnection(HTTPSConnection):
    """The same over TLS, whose handshake has a timeout as a whole."""

    response_class = PacedResponse


class PacedPool(urllib3.HTTPConnectionPool):
    """Such connections to one host."""

    ConnectionCls = PacedConnection


class PacedEncryptedPool(urllib3.HTTPSConnectionPool):
    """The same over TLS."""

    ConnectionCls = PacedEncryptedConnection


def keep_pace(pools: urllib3.PoolManager) -> None:
    """Let all connections that are opened from now on be paced; every request needs a timeout."""
    pools.pool_classes_by_scheme = {"http": PacedPool, "https": PacedEncryptedPool}
