"""Lines to managers that do not hold: every trouble is a sentence that says what to do."""

from __future__ import annotations

import gc
import socket
import socketserver
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import trio

from scaling.ports import OrchestratorUnavailable
from scaling.swarm.api import SwarmNode
from scaling.swarm.client import CALLS_AT_ONCE, Managers
from scaling.swarm.config import SwarmConfig
from scaling.swarm.nudges import watch
from tests.servers.certificates import Authority, Issued
from tests.servers.fake_swarm import FakeSwarm

CONFIG = SwarmConfig(timeout_s=1.0)


@pytest.fixture
def swarm() -> Iterator[FakeSwarm]:
    with FakeSwarm() as swarm:
        swarm.add_manager("node-1")
        yield swarm


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[socket.socket]:
    """A socket that is listened at, and where nobody ever answers."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "silent.sock"))
        listener.listen()
        yield listener


async def ask(config: SwarmConfig) -> list[SwarmNode]:
    managers = Managers(config)
    try:
        return await managers.get("/nodes", list[SwarmNode])
    finally:
        managers.close()


async def complaint(config: SwarmConfig) -> str:
    with pytest.raises(OrchestratorUnavailable) as caught:
        await ask(config)
    return str(caught.value)


async def test_a_socket_that_is_not_there(tmp_path: Path) -> None:
    """Docker is not started, or its socket is not mounted."""
    said = await complaint(replace(CONFIG, managers=(f"unix://{tmp_path}/no.sock",)))
    assert "does not exist; start Docker on this machine, mount its socket" in said


async def test_a_socket_without_an_engine(tmp_path: Path) -> None:
    """The engine was killed and has left its socket."""
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "dead.sock"))
    said = await complaint(replace(CONFIG, managers=(f"unix://{tmp_path}/dead.sock",)))
    assert "takes no connection; is the Docker engine running there?" in said


async def test_an_engine_that_says_nothing(listener: socket.socket) -> None:
    """It is given up within its time."""
    url = f"unix://{listener.getsockname()}"
    with trio.fail_after(10):
        assert await complaint(replace(CONFIG, managers=(url,))) == (
            f"the manager at {url} is silent"
        )


async def test_an_engine_that_takes_no_more_lines(tmp_path: Path) -> None:
    """It is too busy to take them. Nothing of a line that was not taken stays open."""
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(tmp_path / "busy.sock"))
        busy.listen(0)
        with socket.socket(socket.AF_UNIX) as first:  # for one there is room
            first.connect(busy.getsockname())
            said = await complaint(replace(CONFIG, managers=(f"unix://{busy.getsockname()}",)))
    assert "busy.sock cannot be talked to: [Errno 11]" in said
    gc.collect()  # would complain of a socket that nobody has closed


async def test_another_manager_is_asked(swarm: FakeSwarm, listener: socket.socket) -> None:
    """When the first is silent the second answers, and is asked first from then on."""
    silent = f"unix://{listener.getsockname()}"
    managers = Managers(replace(CONFIG, managers=(silent, *swarm.managers)))
    assert len(await managers.get("/nodes", list[SwarmNode])) == 1
    assert managers.line.url == swarm.managers[0]
    managers.close()


@contextmanager
def dripping(path: Path) -> Iterator[str]:
    """A manager that never falls silent and never comes to an end; its URL."""
    ended = threading.Event()

    class Drip(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(65536)
            with suppress(OSError):
                self.request.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
                while not ended.wait(0.05):
                    self.request.sendall(b" ")

    class Listener(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = False

    with Listener(str(path), Drip) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"unix://{path}"
        finally:
            ended.set()
            server.shutdown()
            thread.join()


async def test_a_manager_that_drips_keeps_nobody_from_another(
    swarm: FakeSwarm, tmp_path: Path
) -> None:
    """The threads that it holds are its own: as many calls at once as there are find the other."""
    with dripping(tmp_path / "drip.sock") as url:
        config = replace(CONFIG, timeout_s=0.5, managers=(url, *swarm.managers))
        managers = Managers(config)
        answers: list[list[SwarmNode]] = []

        async def one() -> None:
            answers.append(await managers.get("/nodes", list[SwarmNode]))

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(CALLS_AT_ONCE):
                    nursery.start_soon(one)
        assert len(answers) == CALLS_AT_ONCE
    managers.close()


async def test_something_that_is_no_engine(swarm: FakeSwarm) -> None:
    """It answers, and not what an engine answers."""
    managers = Managers(replace(CONFIG, managers=swarm.managers))
    with pytest.raises(OrchestratorUnavailable, match="not the Docker API"):
        await managers.get("/version", list[SwarmNode])
    managers.close()


@asynccontextmanager
async def behind_tls(swarm: FakeSwarm, server: Issued, clients: Path) -> AsyncIterator[str]:
    """The URL of a manager that asks for TLS on both sides, as Docker's port 2376 does."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(server.certificate, server.key)
    path = swarm.managers[0].removeprefix("unix://")

    async def relay(outside: trio.SSLStream[trio.SocketStream]) -> None:
        inside = await trio.open_unix_socket(path)
        try:
            async with inside, trio.open_nursery() as nursery:
                nursery.start_soon(copy, inside, outside)
                await copy(outside, inside)
                nursery.cancel_scope.cancel()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            await outside.aclose()  # a client that does not like us

    async def copy(source: trio.abc.ReceiveStream, sink: trio.abc.SendStream) -> None:
        async for some in source:
            await sink.send_all(some)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
        assert isinstance(listener.transport_listener, trio.SocketListener)
        port = listener.transport_listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, relay, [listener])
        yield f"tcp://127.0.0.1:{port}"
        nursery.cancel_scope.cancel()


async def test_a_manager_over_tls(swarm: FakeSwarm, tmp_path: Path) -> None:
    """With the right files it answers; an authority that we do not know, and a manager that does
    not know us, are told apart, with the setting that mends it."""
    authority, stranger = Authority(tmp_path / "ours"), Authority(tmp_path / "theirs")
    server = authority.issue("manager", ["127.0.0.1"])
    own = authority.issue("peer")
    async with behind_tls(swarm, server, authority.certificate) as url:
        config = replace(
            CONFIG,
            managers=(url,),
            ca_file=authority.certificate,
            certificate_file=own.certificate,
            key_file=own.key,
            timeout_s=5.0,
        )
        assert [node.description.hostname for node in await ask(config)] == ["node-1"]
        untrusted = await complaint(replace(config, ca_file=stranger.certificate))
        assert "not trusted" in untrusted
        assert "scaling.swarm.ca_file" in untrusted
        nameless = await complaint(replace(config, certificate_file=None, key_file=None))
        assert "scaling.swarm.certificate_file" in nameless or "cannot be talked to" in nameless
        missing = await complaint(replace(config, ca_file=tmp_path / "no.pem"))
        assert "CA" in missing


async def test_a_nudge_also_when_the_line_is_made_anew(swarm: FakeSwarm) -> None:
    """The manager dies while we listen; when it is back we listen again, and look at once."""
    managers = Managers(replace(CONFIG, managers=swarm.managers))
    nudged, take = trio.open_memory_channel[None](100)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(
                lambda: watch(managers, lambda: nudged.send_nowait(None), pause_s=0.01)
            )
            await take.receive()
            swarm.kill("node-1")
            swarm.heal("node-1")
            await take.receive()
            nursery.cancel_scope.cancel()
    managers.close()


async def test_a_manager_that_ends_each_answer_at_once_is_not_hurried() -> None:
    """A proxy that lets no events through may answer with an empty list of them: as often as it is
    asked, it nudges, and each nudge begins a round."""

    class Ended:
        @contextmanager
        def listen(self, *_: object) -> Iterator[Ended]:
            yield self

        def lines(self) -> Iterator[bytes]:
            return iter(())

        def shutdown(self) -> None: ...

    managers = cast("Managers", SimpleNamespace(line=Ended()))
    nudges, pause_s = 0, 0.1

    def nudge() -> None:
        nonlocal nudges
        nudges += 1

    began_s = time.monotonic()
    with trio.move_on_after(5 * pause_s):
        await watch(managers, nudge, pause_s=pause_s)
    assert 1 <= nudges <= (time.monotonic() - began_s) / pause_s + 1
