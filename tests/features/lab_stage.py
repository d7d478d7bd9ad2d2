"""A lab's Swarm as a stage: real engines, and this tree's peer in real containers.

The containers' network has no way out. What they need of this machine (the services, and the
manager's API, as a proxy would offer it) is relayed at the address of the lab's bridge. This kernel
may lack ip_vs, so nothing goes by a service's virtual address: the peers find each other by
`tasks.NAME`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from uuid import uuid4

from deploy.lab import machine
from deploy.lab.cluster import Lab
from deploy.lab.images import peer
from tests.features.client import Row
from tests.features.swarm_stage import (
    GRACE_S,
    SECOND,
    SERVICE,
    Limits,
    Running,
    Services,
    Tools,
)
from tests.servers.relay import Relay
from tests.swarm.rig import Swarm

LOG_CHARACTERS = 3000

FILL = """\
x = []
while True:
    x.append(bytearray(1 << 24))
"""


class LabStage:
    """A real Swarm.

    Args:
        swarm: With nothing on it.
        relays: From ports of 127.0.0.1 to addresses that containers reach.
        api: The manager's API, where containers reach it.
        network: The id of an overlay network.
    """

    def __init__(self, swarm: Swarm, relays: Mapping[int, str], api: str, network: str) -> None:
        self._swarm, self._relays, self._network = swarm, relays, network
        self.nodes: Sequence[str] = [node.name for node in swarm.lab.plan.members]
        self.managers: Sequence[str] = (f"http://{api}",)
        self.engine = swarm.lab.engine(self.nodes[0])
        self.join: Sequence[str] = (f"tasks.{SERVICE}",)
        self.tools = Tools(ffmpeg="/usr/bin/ffmpeg", ffprobe="/usr/bin/ffprobe")

    def reach(self, port: int) -> str:
        """See `Stage`."""
        return self._relays[port]

    def template(self, files: Path, environment: Mapping[str, str], limits: Limits) -> Row:
        """See `Stage`. The nodes are one machine, and share its files."""
        mount = {"Type": "bind", "Source": str(files), "Target": str(files), "ReadOnly": True}
        return {
            "ContainerSpec": {
                "Image": peer.TAG,
                "Env": [f"{name}={value}" for name, value in environment.items()],
                "Mounts": [mount],
                "TTY": True,  # so that its log is plain text
                "StopGracePeriod": GRACE_S * SECOND,
            },
            "Networks": [{"Target": self._network}],
        }

    def kill(self, task: Running) -> None:
        """See `Stage`."""
        self._execute(task, "kill", "-9", str(self._process(task)))

    def run_out_of_memory(self, task: Running) -> None:
        """See `Stage`: fill the container's memory, where the kernel prefers its first process."""
        process = self._process(task)
        self._execute(task, "sh", "-c", f"echo 1000 > /proc/{process}/oom_score_adj")
        order = {"Cmd": ["python3", "-c", FILL], "AttachStdout": False, "AttachStderr": False}
        engine = self._swarm.lab.engine(task.node)
        started = engine.post(f"/containers/{task.container}/exec", order)["Id"]
        engine.post(f"/exec/{started}/start", {"Detach": True})

    def peerctl(self, task: Running, *arguments: str) -> str:
        """See `Stage`."""
        order = {"Cmd": ["peerctl", *arguments], "AttachStdout": True, "Tty": True}
        engine = self._swarm.lab.engine(task.node)
        started = engine.post(f"/containers/{task.container}/exec", order)["Id"]
        said = engine.post(f"/exec/{started}/start", {"Detach": False, "Tty": True})
        # What is JSON has been read as such already.
        return "\n".join(map(json.dumps, said)) if isinstance(said, list) else str(said)

    def logs(self) -> str:
        """See `Stage`."""
        said = []
        for node in self.nodes:
            engine = self._swarm.lab.engine(node)
            for container in engine.get("/containers/json", all=True):
                name = f"\n--- {node} {container['Names']} {container['Status']}\n"
                text = engine.get(
                    f"/containers/{container['Id']}/logs", stdout=True, stderr=True, tail=30
                )
                said.append(name + str(text)[-LOG_CHARACTERS:])
        return "".join(said)

    def _process(self, task: Running) -> int:
        engine = self._swarm.lab.engine(task.node)
        found: int = engine.get(f"/containers/{task.container}/json")["State"]["Pid"]
        return found

    def _execute(self, task: Running, *argv: str) -> None:
        machine.execute(self._swarm.lab.plan.node(task.node), *argv)


@contextmanager
def lab_stage(lab: Lab, services: Services) -> Iterator[LabStage]:
    """A lab's Swarm with nothing on it; at the end it has nothing on it again."""
    gateway = lab.plan.gateway
    ports = (
        services.rabbit.port,
        services.rabbit.management_port,
        services.postgres.port,
        services.s3.port,
    )
    swarm = Swarm(lab)
    with ExitStack() as stack:
        relays = {
            port: stack.enter_context(Relay(gateway, ("127.0.0.1", port))).address for port in ports
        }
        api = stack.enter_context(Relay(gateway, swarm.managers[0])).address
        stack.callback(swarm.clean)
        network = swarm.manager.post(
            "/networks/create", {"Name": f"peers-{uuid4().hex[:8]}", "Driver": "overlay"}
        )["Id"]
        yield LabStage(swarm, relays, api, network)
