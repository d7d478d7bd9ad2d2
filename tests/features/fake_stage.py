"""The fake Swarm as a stage: its containers are processes of this machine.

Docker is fake; the peers in the containers are not. Each is started when the fake starts its
container, with the environment of the service's spec; it hears SIGTERM when Swarm tells it to
stop, and its exit status is what Swarm learns of its end.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.lab.engine import Engine
from pipeline.media.tools import find_tools
from tests.features.client import Row
from tests.features.swarm_stage import GRACE_S, SECOND, Limits, Running, Tools
from tests.servers.cpu_group import CpuGroup
from tests.servers.fake_swarm import FakeSwarm
from tests.servers.fake_swarm_engine import Hooks
from tests.servers.fake_swarm_records import Container

NODES = ("node-1", "node-2", "node-3")
TICK_S = 0.02
END_S = 30.0
FOR_EVER_S = 1e9
LOG_CHARACTERS = 3000


class FakeStage:
    """A fake Swarm that runs peers.

    Args:
        swarm: Whose time runs.
        directory: For the peers' data and logs.
    """

    def __init__(self, swarm: FakeSwarm, directory: Path) -> None:
        self._swarm, self._directory = swarm, directory
        manager = swarm.add_manager(NODES[0])
        for node in NODES[1:]:
            swarm.add_worker(node)
        self.nodes: Sequence[str] = NODES
        self.managers: Sequence[str] = (manager,)
        self.engine = Engine(Path(manager.removeprefix("unix://")))
        self.join: Sequence[str] = ()  # peers of one data directory find each other
        tools = find_tools()
        self.tools = Tools(ffmpeg=str(tools.ffmpeg), ffprobe=str(tools.ffprobe))
        self._guard = threading.Lock()
        self._closing = False
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._watchers: list[threading.Thread] = []
        self._groups: list[CpuGroup] = []
        self._over = threading.Event()
        self._clock = threading.Thread(target=self._run_clock)
        self._clock.start()
        swarm.tell(Hooks(started=self._start, told_to_stop=self._tell_to_stop, ended=self._ended))

    def reach(self, port: int) -> str:
        """See `Stage`."""
        return f"127.0.0.1:{port}"

    def template(self, files: Path, environment: Mapping[str, str], limits: Limits) -> Row:
        """See `Stage`."""
        variables = [f"{name}={value}" for name, value in environment.items()]
        return {
            "ContainerSpec": {
                "Image": "peer:1",
                "Env": variables,
                "StopGracePeriod": GRACE_S * SECOND,
            }
        }

    def kill(self, task: Running) -> None:
        """See `Stage`."""
        self._processes[task.id].kill()

    def run_out_of_memory(self, task: Running) -> None:
        """See `Stage`. The kernel's killer has no other signal than a person."""
        self.kill(task)

    def peerctl(self, task: Running, *arguments: str) -> str:
        """See `Stage`."""
        done = subprocess.run(
            [sys.executable, "-m", "peer.cli", *arguments],
            env=self._environment(self._find(task)),
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    def logs(self) -> str:
        """See `Stage`."""
        return "".join(
            f"\n--- {log.name}\n{log.read_text()[-LOG_CHARACTERS:]}"
            for log in sorted(self._directory.glob("*.log"))
        )

    def close(self) -> None:
        """End all peers, hurriedly, by process id."""
        with self._guard:
            self._closing = True
            processes = list(self._processes.values())
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(1.5)
            except subprocess.TimeoutExpired:
                process.terminate()  # the second one hurries it
        for process in processes:
            process.wait(END_S)
        for watcher in self._watchers:
            watcher.join()
        for group in self._groups:
            group.close()
        self._over.set()
        self._clock.join()

    def _run_clock(self) -> None:
        """Whoever asks the fake lets its time pass; nobody may ask for a while."""
        while not self._over.wait(TICK_S):
            _ = self._swarm.now_s

    def _find(self, task: Running) -> Container:
        return next(each for each in self._swarm.containers() if each.id == task.id)

    def _environment(self, container: Container) -> dict[str, str]:
        task = container.task
        names = {
            "{{.Task.ID}}": task.id,
            "{{.Task.Name}}": f"{task.service.name}.{task.slot}.{task.id}",
            "{{.Node.Hostname}}": container.node.name,
        }
        environment = {**os.environ, "GRAPEVINE_PEER_DATA_DIR": str(self._directory)}
        for variable in task.template["ContainerSpec"]["Env"]:
            name, _, value = variable.partition("=")
            for template, text in names.items():
                value = value.replace(template, text)
            environment[name] = value
        return environment

    def _confined(self, container: Container, *command: str) -> list[str]:
        """The command, in a control group if the service limits its containers' processors."""
        limits = container.task.template.get("Resources", {}).get("Limits", {})
        if "NanoCPUs" not in limits:
            return list(command)
        group = CpuGroup(limits["NanoCPUs"] / 1e9)
        self._groups.append(group)
        return group.within(*command)

    # What the fake tells, under its lock: nothing here may wait for it.

    def _start(self, container: Container) -> None:
        container.work_s = FOR_EVER_S  # it ends when its process does
        with self._guard:
            if self._closing:
                return
            with (self._directory / f"{container.id}.log").open("ab") as log:
                process = subprocess.Popen(
                    self._confined(container, sys.executable, "-m", "peer"),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=self._environment(container),
                )
            self._processes[container.id] = process
            watcher = threading.Thread(target=self._watch, args=(container.id, process))
            self._watchers.append(watcher)
        watcher.start()

    def _tell_to_stop(self, container: Container) -> None:
        self._processes[container.id].send_signal(signal.SIGTERM)

    def _ended(self, container: Container) -> None:
        """By itself, by the end of its grace, or with its node."""
        if container.id in self._processes:
            self._processes[container.id].kill()

    def _watch(self, container: str, process: subprocess.Popen[bytes]) -> None:
        status = process.wait()
        if any(each.id == container for each in self._swarm.containers()):
            self._swarm.end(container, status if status >= 0 else 128 - status)


@contextmanager
def fake_stage(directory: Path) -> Iterator[FakeStage]:
    """A fake Swarm with nothing on it, while the context lasts."""
    with FakeSwarm(speed=1.0, heartbeat_s=1.0) as swarm:
        stage = FakeStage(swarm, directory)
        try:
            yield stage
        finally:
            stage.close()
