"""The lab's Swarm as the driver's suite wants it: one manager, two workers, one service of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import trio

from scaling.providers.join import Join
from scaling.swarm.config import SwarmConfig
from tests.swarm.rig import RESTART_AFTER_1_S, SECOND, Swarm, Task, stack_like

SERVICE = "grapevine_peer"


class RealWorld:
    """Real engines; time is everybody's."""

    def __init__(self, swarm: Swarm) -> None:
        self.swarm = swarm
        names = [node.name for node in swarm.lab.plan.members]
        self.workers: Sequence[str] = names[swarm.lab.plan.managers :] or names[1:]
        managers = tuple(f"unix://{socket}" for socket in swarm.managers)
        self.config = SwarmConfig(managers=managers, service=SERVICE, timeout_s=20.0)

    def deploy(
        self,
        replicas: int,
        *,
        per_node_max: int = 0,
        work_s: float = 0.0,
        grace_s: float = 30.0,
        memory_bytes: int = 0,
    ) -> None:
        placement: dict[str, Any] = {"Constraints": [self.config.constraint]}
        if per_node_max:
            placement["MaxReplicas"] = per_node_max
        limits = {"Limits": {"MemoryBytes": memory_bytes}} if memory_bytes else {}
        spec = stack_like(
            replicas,
            name=SERVICE,
            environment={"DRAIN_S": f"{work_s:g}"},
            RestartPolicy=RESTART_AFTER_1_S,
            Placement=placement,
            Resources=limits,
        )
        spec["TaskTemplate"]["ContainerSpec"]["StopGracePeriod"] = int(grace_s * SECOND)
        self.swarm.deploy(spec)

    def service(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.swarm.service(SERVICE)["Spec"]
        return spec

    def update(self, version: str) -> None:
        found = self.swarm.service(SERVICE)
        spec = found["Spec"]
        spec["TaskTemplate"]["ContainerSpec"]["Env"].append(f"VERSION={version}")
        spec["UpdateConfig"] = {"Parallelism": 1, "Monitor": SECOND}
        self.swarm.update(found["ID"], found["Version"]["Index"], spec)

    def roll_back(self) -> None:
        found = self.swarm.service(SERVICE)
        self.swarm.manager.post(
            f"/services/{found['ID']}/update",
            found["Spec"],
            version=found["Version"]["Index"],
            rollback="previous",
        )

    def label(self, node: str, value: str | None) -> None:
        found = self.swarm.node(node)
        labels = found["Spec"].get("Labels") or {}
        labels.pop(self.config.label, None)
        if value is not None:
            labels[self.config.label] = value
        self._update(found, Labels=labels)

    def set_availability(self, node: str, availability: str) -> None:
        self._update(self.swarm.node(node), Availability=availability)

    def _update(self, node: dict[str, Any], **changes: Any) -> None:
        spec = {**node["Spec"], **changes}
        version = node["Version"]["Index"]
        self.swarm.manager.post(f"/nodes/{node['ID']}/update", spec, version=version)

    def running(self) -> set[str]:
        found = set()
        for node in self.swarm.lab.plan.members:
            engine = self.swarm.lab.engine(node.name)
            for container in engine.get("/containers/json") if engine.answers() else ():
                found.add(container["Labels"]["com.docker.swarm.task.id"])
        return found

    def kill(self, container: str) -> None:
        self.swarm.kill_process(self._task(container))

    def _task(self, container: str) -> Task:
        return next(task for task in self.swarm.tasks(SERVICE) if task.id == container)

    def cut(self, node: str) -> None:
        self.swarm.lab.cut(node)

    def heal(self, node: str) -> None:
        self.swarm.lab.heal(node)

    def clock(self) -> float:
        return trio.current_time()

    async def let_pass(self, seconds: float) -> None:
        await trio.sleep(seconds)

    def leave(self, worker: str) -> None:
        engine, left = self.swarm.lab.engine(worker), self.swarm.node(worker)
        engine.post("/swarm/leave")
        self.swarm.wait_node(worker, "down", 30)
        self.swarm.manager.delete(f"/nodes/{left['ID']}")

    def join(self, worker: str, join: Join) -> None:
        address = self.swarm.lab.plan.node(worker).address
        order = {
            "ListenAddr": address,
            "AdvertiseAddr": address,
            "DataPathAddr": address,
            "RemoteAddrs": join.addresses,
            "JoinToken": join.token,
        }
        self.swarm.lab.engine(worker).post("/swarm/join", order)
        self.swarm.wait_node(worker, "ready", 30)
        assert self.swarm.node(worker)["Spec"]["Role"] == "worker"
