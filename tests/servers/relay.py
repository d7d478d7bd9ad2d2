"""Lets others reach what listens on this machine's loopback, or on a UNIX socket, at an address.

The servers of tests listen on 127.0.0.1 only. Containers of a lab are on a network of their own,
whose bridge has an address on this machine: a relay there passes bytes on, both ways, unread. To
let every server listen there itself was rejected: each would need a setting, a certificate or an
access rule for it.
"""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from pathlib import Path
from types import TracebackType

CHUNK = 1 << 16

Target = Path | tuple[str, int]
"""A UNIX socket, or host and port."""


class Relay:
    """Listens while its context lasts; whoever is connected at its end is cut off.

    Args:
        host: An address of this machine.
        target: Where to pass on what comes.
    """

    def __init__(self, host: str, target: Target) -> None:
        self._target = target
        self._listener = socket.create_server((host, 0), backlog=128)
        self.host, self.port = self._listener.getsockname()[:2]
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closing = False
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def address(self) -> str:
        """As `host:port`."""
        return f"{self.host}:{self.port}"

    def __enter__(self) -> Relay:
        return self

    def __exit__(
        self,
        type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with self._guard:
            self._closing = True
            for connection in (self._listener, *self._open):
                with suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()  # from here on there are no new ones
        for thread in self._threads[1:]:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = self._reach()
            except OSError:
                client.close()
                continue
            self._join(client, server)

    def _reach(self) -> socket.socket:
        if not isinstance(self._target, Path):
            return socket.create_connection(self._target)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            server.connect(str(self._target))
        except OSError:
            server.close()
            raise
        return server

    def _join(self, client: socket.socket, server: socket.socket) -> None:
        ends = _Ends(client, server)
        with self._guard:
            if self._closing:
                client.close()
                server.close()
                return
            self._open |= {client, server}
            self._threads = [thread for thread in self._threads if thread.is_alive()]
        for here, there in ((client, server), (server, client)):
            thread = threading.Thread(target=self._pass_on, args=(ends, here, there))
            self._threads.append(thread)
            thread.start()

    def _pass_on(self, ends: _Ends, here: socket.socket, there: socket.socket) -> None:
        with suppress(OSError):
            while chunk := here.recv(CHUNK):
                there.sendall(chunk)
        # One side has nothing more to say; the other may.
        with suppress(OSError):
            there.shutdown(socket.SHUT_WR)
        with self._guard:
            if ends.is_last():
                for connection in (here, there):
                    self._open.discard(connection)
                    connection.close()


class _Ends:
    """Counts which of the two directions have ended."""

    def __init__(self, *connections: socket.socket) -> None:
        self._open = len(connections)

    def is_last(self) -> bool:
        self._open -= 1
        return not self._open
