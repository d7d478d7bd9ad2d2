"""The relay by which containers reach this machine's servers: what goes in comes out; it ends."""

from __future__ import annotations

import random
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from tests.servers.relay import CHUNK, Relay, Target

LOOPBACK = "127.0.0.1"
WITHIN_S = 10.0
MUCH = random.Random(3).randbytes(40 * CHUNK + 7)
"""More than all buffers on the way hold."""


class Server:
    """Takes connections, one thread each, while its context lasts.

    Args:
        serve: What each of these does; the connection is closed for it.
    """

    def __init__(
        self, listener: socket.socket, target: Target, serve: Callable[[socket.socket], None]
    ) -> None:
        self.target, self._listener, self._serve = target, listener, serve
        self._threads: list[threading.Thread] = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def close(self) -> None:
        """Take no more, and wait for those that are served; a second time it does nothing."""
        if self._listener.fileno() == -1:
            return
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(WITHIN_S)
            assert not thread.is_alive()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(WITHIN_S)
            self._threads.append(threading.Thread(target=self._run, args=(connection,)))
            self._threads[-1].start()

    def _run(self, connection: socket.socket) -> None:
        with connection:
            self._serve(connection)


Serve = Callable[[Callable[[socket.socket], None]], Server]


@pytest.fixture(params=["port", "socket"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Serve]:
    """Starts a server of each kind that a relay passes on to."""
    with ExitStack() as stack:

        def start(each: Callable[[socket.socket], None]) -> Server:
            if request.param == "port":
                listener = socket.create_server((LOOPBACK, 0), backlog=128)
                target: Target = listener.getsockname()[:2]
            else:
                target = tmp_path / "server.sock"
                listener = socket.socket(socket.AF_UNIX)
                listener.bind(str(target))
                listener.listen(128)
            return stack.enter_context(closing(Server(listener, target, each)))

        yield start


def connect(relay: Relay) -> socket.socket:
    return socket.create_connection((relay.host, relay.port), WITHIN_S)


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(CHUNK), b""))


def echo(connection: socket.socket) -> None:
    while chunk := connection.recv(CHUNK):
        connection.sendall(chunk)


def answer_at_the_end(connection: socket.socket) -> None:
    connection.sendall(read_all(connection)[::-1])


def read_until_cut(connection: socket.socket) -> None:
    connection.sendall(b"hello")
    assert read_all(connection) == b""


def test_every_byte_passes_both_ways(serve: Serve) -> None:
    """In order, unchanged, and both ways at the same time."""
    with Relay(LOOPBACK, serve(echo).target) as relay, connect(relay) as client:
        sender = threading.Thread(target=client.sendall, args=(MUCH,))
        sender.start()
        received = bytearray()
        while len(received) < len(MUCH):
            chunk = client.recv(CHUNK)
            assert chunk, "it was cut off"
            received += chunk
        sender.join(WITHIN_S)
    assert received == MUCH


def test_who_has_said_all_still_hears(serve: Serve) -> None:
    """The end of what one side says is passed on, and the other side's answer comes after it."""
    with Relay(LOOPBACK, serve(answer_at_the_end).target) as relay, connect(relay) as client:
        client.sendall(MUCH)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == MUCH[::-1]


def test_many_at_once_do_not_mix(serve: Serve) -> None:
    """Each connection has its own on the other side."""
    with Relay(LOOPBACK, serve(answer_at_the_end).target) as relay, ExitStack() as stack:
        clients = [stack.enter_context(connect(relay)) for _ in range(40)]
        for number, client in enumerate(clients):
            client.sendall(f"{number} is mine".encode())
        for client in clients:
            client.shutdown(socket.SHUT_WR)
        heard = [read_all(client)[::-1] for client in clients]
    assert heard == [f"{number} is mine".encode() for number in range(40)]


def test_a_server_that_hangs_up_is_noticed(serve: Serve) -> None:
    """Its end is the client's, too."""
    with (
        Relay(LOOPBACK, serve(lambda one: one.sendall(b"bye")).target) as relay,
        connect(relay) as client,
    ):
        assert read_all(client) == b"bye"


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """Who comes meanwhile is turned away at once; who comes when it is there is served."""
    path = tmp_path / "late.sock"
    with Relay(LOOPBACK, path) as relay:
        with connect(relay) as early:
            assert read_all(early) == b""
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen()
        with closing(Server(listener, path, answer_at_the_end)), connect(relay) as client:
            client.sendall(b"abc")
            client.shutdown(socket.SHUT_WR)
            assert read_all(client) == b"cba"


def test_its_end_is_everybodys(serve: Serve) -> None:
    """Whoever is connected is cut off, on both sides; nobody listens, and no thread is left."""
    before = set(threading.enumerate())
    server = serve(read_until_cut)
    with Relay(LOOPBACK, server.target) as relay:
        clients = [connect(relay) for _ in range(5)]
        for client in clients:
            assert client.recv(5) == b"hello"  # both halves are passed on
    for client in clients:
        with client:
            assert read_all(client) == b""
    server.close()
    assert set(threading.enumerate()) <= before
    with pytest.raises(ConnectionRefusedError):
        connect(relay)


def test_it_listens_where_it_is_told() -> None:
    """At the one address, and no other of this machine."""
    with Relay("127.0.0.2", (LOOPBACK, 9)) as relay:
        assert relay.address == f"127.0.0.2:{relay.port}"
        connect(relay).close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((LOOPBACK, relay.port), WITHIN_S)
