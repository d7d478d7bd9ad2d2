"""`docker-gate`, the program: it listens, says whether all is well, and leaves nothing."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest
import trio

from scaling.swarm.client import Managers
from scaling.swarm.nudges import FILTERS, watch
from scaling.swarm.proxy import server
from tests.contract.test_swarm_orchestrator import SERVICE, FakeWorld
from tests.servers.docker_gate import DockerGate
from tests.servers.fake_swarm import FakeSwarm

PATIENCE_S = 30.0
PROGRAM = (sys.executable, "-m", "scaling.swarm.proxy")


@pytest.fixture
def world() -> Iterator[FakeWorld]:
    """The fake Swarm, with a service of ours."""
    with FakeSwarm() as swarm:
        world = FakeWorld(swarm)
        world.deploy(2)
        yield world


def engine_of(world: FakeWorld) -> Path:
    """The socket of its manager's engine."""
    return Path(world.swarm.managers[0].removeprefix("unix://"))


@contextmanager
def running(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The program, from its first line to its end."""
    with subprocess.Popen([*PROGRAM, *arguments], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            assert "listening at" in process.stderr.readline()
            yield process
        finally:
            process.kill()


def check(listen: Path) -> subprocess.CompletedProcess[str]:
    """Ask as the image's health check does."""
    order = [*PROGRAM, "--check", "--listen", str(listen)]
    return subprocess.run(
        order, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )  # fmt: skip


def test_it_serves_until_it_is_told_to_stop(world: FakeWorld, tmp_path: Path) -> None:
    """SIGTERM ends it with 143, and nobody answers any more; a socket that somebody has left is no
    hindrance."""
    listen = tmp_path / "gate.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(listen))
    assert check(listen).returncode == 1
    arguments = ("--listen", str(listen), "--engine", str(engine_of(world)), "--service", SERVICE)
    with running(*arguments) as process:
        assert check(listen).returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 143
    assert check(listen).returncode == 1


def test_the_next_one_outlives_the_one_before(world: FakeWorld, tmp_path: Path) -> None:
    """Where two run for a moment, as on a node that was cut off and is back, the end of the older
    one leaves the younger one's socket alone."""
    listen = tmp_path / "gate.sock"
    arguments = ("--listen", str(listen), "--engine", str(engine_of(world)), "--service", SERVICE)
    with running(*arguments) as older, running(*arguments):
        older.send_signal(signal.SIGTERM)
        assert older.wait(PATIENCE_S) == 143
        assert check(listen).returncode == 0


def test_health_is_the_engines(tmp_path: Path) -> None:
    """A gate whose engine is away is not well, and says why."""
    listen = tmp_path / "gate.sock"
    with running("--listen", str(listen), "--engine", str(tmp_path / "nobody.sock")):
        asked = check(listen)
    assert asked.returncode == 1
    assert "Docker engine takes no connection" in asked.stdout


def test_a_name_that_cannot_be_is_a_usage_error(tmp_path: Path) -> None:
    """One sentence, exit code 2."""
    asked = subprocess.run(
        [*PROGRAM, "--listen", str(tmp_path / "x"), "--service", "a/b"],
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert asked.returncode == 2
    assert "--service: 'a/b' must be" in asked.stderr


async def test_events_pass_as_they_come(world: FakeWorld) -> None:
    """The driver is nudged through the gate, and its connection ends when it leaves, though the
    engine says nothing: else the places would be full of those that nobody listens to."""
    nudged = trio.Event()

    def nudge() -> None:
        nudged.set()

    with DockerGate(engine_of(world), world.config) as gate:
        managers = Managers(gate.config)
        with trio.fail_after(PATIENCE_S):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch, managers, nudge)
                await nudged.wait()  # at the beginning, for what was missed before
                nudged = trio.Event()
                world.swarm.label("node-2", colour="red")
                await nudged.wait()
                nursery.cancel_scope.cancel()
        managers.close()
        await trio.to_thread.run_sync(_wait_until_free, gate)


def _wait_until_free(gate: DockerGate) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not _all_places_are_free(gate):
        assert time.monotonic() < deadline


def _all_places_are_free(gate: DockerGate) -> bool:
    """Whether the gate takes as many connections as it may have."""
    lines = [socket.socket(socket.AF_UNIX) for _ in range(server.CONNECTIONS_MAX)]
    try:
        for line in lines:
            line.settimeout(PATIENCE_S)
            line.connect(str(gate.socket))
            line.sendall(b"GET /version HTTP/1.1\r\nHost: d\r\n\r\n")
        return all(line.recv(12) == b"HTTP/1.1 200" for line in lines)
    except OSError:
        return False
    finally:
        for line in lines:
            line.close()


def test_more_connections_than_it_takes_are_closed(world: FakeWorld) -> None:
    """Whoever opens many and says nothing does not fill the machine's memory, and when they are
    gone there is room again."""
    with DockerGate(engine_of(world), world.config) as gate:
        assert _all_places_are_free(gate)
        lines = [socket.socket(socket.AF_UNIX) for _ in range(server.CONNECTIONS_MAX + 1)]
        for line in lines:
            line.settimeout(PATIENCE_S)
            line.connect(str(gate.socket))
        assert lines[-1].recv(1) == b""
        for line in lines:
            line.close()
        _wait_until_free(gate)


def test_a_request_that_does_not_end_is_let_go(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Byte by byte, or not at all: from its first byte a request has a few seconds."""
    monkeypatch.setattr(server, "REQUEST_S", 0.2)
    with DockerGate(engine_of(world), world.config) as gate:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE_S)
            line.connect(str(gate.socket))
            line.sendall(b"GET /version HTTP/1.1\r\nHost: ")
            stop = threading.Event()

            def drip() -> None:
                while not stop.wait(0.02):
                    try:
                        line.sendall(b"d")
                    except OSError:
                        return

            dripping = threading.Thread(target=drip)
            dripping.start()
            try:
                assert line.recv(1) == b""
            except ConnectionResetError:
                pass  # the same, while something of ours was still on its way
            finally:
                stop.set()
                dripping.join()


def test_a_caller_that_stops_reading_is_let_go(
    world: FakeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its answers are not kept for it, and nobody else notices."""
    monkeypatch.setattr(server, "SEND_S", 0.2)
    with DockerGate(engine_of(world), world.config) as gate:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE_S)
            line.connect(str(gate.socket))
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                line.sendall(b"GET /version HTTP/1.1\r\nHost: d\r\n\r\n" * 50_000)
        _wait_until_free(gate)


def test_a_listener_that_vanishes_does_no_harm(world: FakeWorld) -> None:
    """It goes with events unread, which breaks its connection in the middle of a sentence."""
    target = f"/events?filters={quote(FILTERS)}"
    with DockerGate(engine_of(world), world.config) as gate:
        for colour in ("red", "green", "blue"):
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(PATIENCE_S)
                line.connect(str(gate.socket))
                line.sendall(f"GET {target} HTTP/1.1\r\nHost: d\r\n\r\n".encode())
                assert line.recv(12) == b"HTTP/1.1 200"
                world.swarm.label("node-2", colour=colour)
        _wait_until_free(gate)
