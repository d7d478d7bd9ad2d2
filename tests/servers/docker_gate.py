"""The gate before a Docker socket, run in a thread of its own for as long as a context lasts."""

from __future__ import annotations

import shutil
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import trio

from scaling.swarm.config import SwarmConfig
from scaling.swarm.proxy.changes import Bounds
from scaling.swarm.proxy.engine import Engine
from scaling.swarm.proxy.gate import Gate
from scaling.swarm.proxy.server import listening, serve

STARTED_S = 10.0


class DockerGate:
    """Lets a config's service be scaled through one engine.

    Args:
        engine: The engine's socket.
        config: As the driver has it.
        joins: Whether it tells how workers join.
    """

    def __init__(
        self, engine: Path, config: SwarmConfig, *, joins: bool = False, containers_max: int = 100
    ) -> None:
        self._gate = Gate(Engine(engine), Bounds(config, containers_max), joins=joins)
        self._config = config
        self._directory = Path(tempfile.mkdtemp(prefix="docker-gate-"))
        self.socket = self._directory / "docker.sock"
        self._thread = threading.Thread(target=trio.run, args=(self._run,))
        self._started = threading.Event()

    @property
    def config(self) -> SwarmConfig:
        """For a driver that knows nothing but this gate."""
        return replace(self._config, managers=(f"unix://{self.socket}",))

    def __enter__(self) -> DockerGate:
        self._thread.start()
        assert self._started.wait(STARTED_S)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._token.run_sync_soon(self._scope.cancel)
        self._thread.join()
        shutil.rmtree(self._directory)

    async def _run(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as self._scope, listening(self.socket) as listener:
            self._started.set()
            await serve(self._gate, listener)
