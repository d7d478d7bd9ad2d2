"""A real Swarm in the hands of a test: services in, tasks and nodes out, and a way to wait."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

from deploy.lab import machine
from deploy.lab.cluster import Lab
from deploy.lab.engine import Engine
from deploy.lab.errors import LabError
from deploy.lab.images import tiny
from tests.swarm.reset import find_manager, is_as_made, repair

T = TypeVar("T")

SECOND = 1_000_000_000  # Docker counts durations in nanoseconds

Spec = dict[str, Any]


def wait_for(look: Callable[[], T | None], within_s: float, what: str) -> T:
    """Look again and again until there is something to see, and return it.

    An engine that does not answer is nothing to see yet: a test of failures meets that.
    """
    deadline = time.monotonic() + within_s
    trouble: LabError | None = None
    while True:
        try:
            if seen := look():
                return seen
            trouble = None
        except LabError as error:
            trouble = error
        assert time.monotonic() < deadline, f"not within {within_s} s: {what} {trouble or ''}"
        time.sleep(0.02)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One of a service's tasks, as Swarm lists it.

    Args:
        id: Swarm's.
        slot: Its number in the service; a successor has its predecessor's.
        node: Host name, empty before it is placed.
        state: What it does.
        desired: What it is told to do.
        container: The container's id, empty before there is one.
        raw: All of it.
    """

    id: str
    slot: int
    node: str
    state: str
    desired: str
    container: str
    raw: Mapping[str, Any]

    @property
    def runs(self) -> bool:
        """Whether it runs, and is meant to."""
        return self.state == "running" and self.desired == "running"


class Swarm:
    """The Swarm of a lab.

    Args:
        lab: A lab that is up.
    """

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    @property
    def managers(self) -> Sequence[Path]:
        """The sockets of the managers' engines."""
        return [node.socket for node in self.lab.plan.members[: self.lab.plan.managers]]

    @property
    def manager(self) -> Engine:
        """The first manager whose engine answers."""
        return find_manager(self.lab)

    def deploy(self, spec: Spec) -> str:
        """Create a service from a raw spec and return its id; it goes with the test."""
        service: str = self.manager.post("/services/create", spec)["ID"]
        return service

    def deploy_and_wait(self, spec: Spec, within_s: float = 30.0) -> str:
        """Create a service, and wait until all that it wants runs."""
        service = self.deploy(spec)
        self.wait_running(service, spec["Mode"]["Replicated"]["Replicas"], within_s)
        return service

    def service(self, service: str) -> dict[str, Any]:
        """The service as it is stored, without the defaults that it does not state."""
        found: dict[str, Any] = self.manager.get(f"/services/{service}")
        return found

    def update(self, service: str, version: int, spec: Spec) -> None:
        """Write a whole spec on a version; `EngineError` when that is not the version any more."""
        self.manager.post(f"/services/{service}/update", spec, version=version)

    def tasks(self, service: str) -> list[Task]:
        """All of a service's tasks, those that have ended too, by slot and age."""
        names = {node["ID"]: node["Description"]["Hostname"] for node in self.nodes()}
        found = self.manager.get("/tasks", filters={"service": {service: True}})
        found.sort(key=lambda task: (task.get("Slot", 0), task["CreatedAt"]))
        return [
            Task(
                id=task["ID"],
                slot=task.get("Slot", 0),
                node=names.get(task.get("NodeID", ""), ""),
                state=task["Status"]["State"],
                desired=task["DesiredState"],
                container=task["Status"].get("ContainerStatus", {}).get("ContainerID", ""),
                raw=task,
            )
            for task in found
        ]

    def running(self, service: str) -> list[Task]:
        """Those that run and are meant to."""
        return [task for task in self.tasks(service) if task.runs]

    def wait_running(self, service: str, count: int, within_s: float) -> list[Task]:
        """Wait until exactly so many run on nodes that are ready."""

        def look() -> list[Task] | None:
            ready = {node["Description"]["Hostname"] for node in self.nodes()
                     if node["Status"]["State"] == "ready"}  # fmt: skip
            found = [task for task in self.running(service) if task.node in ready]
            return found if len(found) == count else None

        if count == 0:
            wait_for(lambda: not self.running(service), within_s, f"no task of {service} runs")
            return []
        return wait_for(look, within_s, f"{count} tasks of {service} run")

    def nodes(self) -> list[dict[str, Any]]:
        """The nodes, as a manager lists them."""
        found: list[dict[str, Any]] = self.manager.get("/nodes")
        return [node for node in found if node["Description"].get("Hostname")]

    def node(self, name: str) -> dict[str, Any]:
        """One of them, by host name."""
        return next(node for node in self.nodes() if node["Description"]["Hostname"] == name)

    def wait_node(self, name: str, state: str, within_s: float) -> None:
        """Wait until the managers think so of a node."""
        wait_for(
            lambda: self.node(name)["Status"]["State"] == state, within_s, f"{name} is {state}"
        )

    def process(self, task: Task) -> int:
        """The number of a task's main process, as its own node counts."""
        found: int = self.lab.engine(task.node).get(f"/containers/{task.container}/json")["State"][
            "Pid"
        ]
        return found

    def kill_process(self, task: Task) -> None:
        """`kill -9` the main process of a task's container."""
        node = self.lab.plan.node(task.node)
        machine.execute(node, "kill", "-9", str(self.process(task)))

    def clean(self) -> None:
        """Put the lab right, and wait until it is as it was made."""
        repair(self.lab)
        wait_for(lambda: is_as_made(self.lab), 60, "the lab is as it was made")


def stack_like(
    replicas: int,
    *,
    name: str | None = None,
    environment: Mapping[str, str] | None = None,
    **task: Any,
) -> Spec:
    """A service as `docker stack deploy` stores it: what the file does not say is not there.

    Taken down from a real `docker stack deploy` (a stack file of image, environment and replicas).
    What matters is what lacks: no RestartPolicy, no StopGracePeriod, no UpdateConfig.

    Args:
        replicas: How many containers.
        name: Of the service; a new one every time by default.
        environment: For the containers; `DRAIN_S` is how long they take to end.
        task: More for the TaskTemplate, as Docker's API calls it: `Placement={…}`.
    """
    name = name or f"peer-{uuid4().hex[:8]}"
    labels = {"com.docker.stack.namespace": "test"}
    return {
        "Name": name,
        "Labels": labels | {"com.docker.stack.image": tiny.TAG},
        "TaskTemplate": {
            "ContainerSpec": {
                "Image": tiny.TAG,
                "Labels": labels,
                "Env": [f"{key}={value}" for key, value in (environment or {}).items()],
                "Privileges": {"CredentialSpec": None, "SELinuxContext": None},
                "Isolation": "default",
            },
            "Resources": {},
            "Placement": {},
            "ForceUpdate": 0,
            "Runtime": "container",
            **task,
        },
        "Mode": {"Replicated": {"Replicas": replicas}},
        "EndpointSpec": {"Mode": "vip"},
    }


RESTART_AFTER_1_S = {"Condition": "any", "Delay": SECOND}
"""The product's own restart policy: always, a second later (Swarm's default is five)."""
