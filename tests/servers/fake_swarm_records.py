"""What a fake Swarm keeps (nodes, services, tasks, configs, containers), as the API shows it.

Times are virtual seconds; the API shows them as times of a day on which nothing else happened.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

Json = dict[str, Any]

EPOCH = datetime(2030, 1, 1, tzinfo=UTC)
NANO = 1_000_000_000
MANAGER_PORT = 2377
LIVE = ("new", "allocated", "pending", "assigned", "accepted", "preparing", "ready", "starting")
"""Observed states before `running`, in their order."""
WANTED = ("ready", "running")
ENDED = ("complete", "shutdown", "failed", "rejected", "orphaned")


def shown(at_s: float) -> str:
    """As the engine writes a time."""
    return (EPOCH + timedelta(seconds=at_s)).isoformat().replace("+00:00", "Z")


@dataclass(kw_only=True)
class Container:
    """What really runs on a node, whatever the managers know of it.

    Args:
        work_s: How long it will go on after SIGTERM before it exits with code 143.
    """

    task: Task
    node: Node
    work_s: float = 0.0
    running: bool = False
    told_at_s: float | None = None
    exit_code: int | None = None

    @property
    def id(self) -> str:
        """The task's: that is what our own containers are named by."""
        return self.task.id


@dataclass(kw_only=True)
class Task:
    """One life in a slot; `template` is the service's task template at the time."""

    id: str
    service: Service
    slot: int
    template: Json
    created_s: float
    desired: str
    state: str = "new"
    err: str = ""
    message: str = "created"
    changed_s: float = 0.0
    node: Node | None = None
    container: Container | None = None
    reported_exit: int = 0
    considered: bool = False

    @property
    def wanted(self) -> bool:
        """Swarm wants it to run."""
        return self.desired in WANTED

    @property
    def ended(self) -> bool:
        """As far as the managers know."""
        return self.state in ENDED

    @property
    def grace_s(self) -> float:
        """Between SIGTERM and SIGKILL."""
        spec = self.template.get("ContainerSpec") or {}
        return float(spec.get("StopGracePeriod", 10 * NANO)) / NANO

    def show(self) -> Json:
        """As GET /tasks does."""
        status: Json = {
            "Timestamp": shown(self.changed_s),
            "State": self.state,
            "Message": self.message,
            "PortStatus": {},
        }
        if self.err:
            status["Err"] = self.err
        if self.container is not None:
            status["ContainerStatus"] = {
                "ContainerID": f"c{self.id}",
                "PID": 0 if self.ended else 4242,
                "ExitCode": self.reported_exit,
            }
        record = {
            "ID": self.id,
            "Version": {"Index": 1},
            "CreatedAt": shown(self.created_s),
            "UpdatedAt": shown(self.changed_s),
            "Labels": {},
            "Spec": {**copy.deepcopy(self.template), "ForceUpdate": 0},
            "ServiceID": self.service.id,
            "Slot": self.slot,
            "Status": status,
            "DesiredState": self.desired,
        }
        return record if self.node is None else {**record, "NodeID": self.node.id}


@dataclass(kw_only=True)
class Node:
    """A machine.

    Args:
        address: Of the machine.
        up: It has power.
        linked: The managers and it hear each other.
    """

    id: str
    name: str
    address: str
    spec: Json
    created_s: float
    version: int
    state: str = "ready"
    up: bool = True
    linked: bool = True
    unsent: list[Task] = field(default_factory=list)

    @property
    def manager(self) -> bool:
        """It takes part in Swarm's consensus."""
        return bool(self.spec["Role"] == "manager")

    @property
    def heard(self) -> bool:
        """Orders reach it, and what it says reaches the managers."""
        return self.up and self.linked

    @property
    def manager_address(self) -> str:
        """Where a manager talks to other machines."""
        return f"{self.address}:{MANAGER_PORT}"

    def show(self, *, leads: bool = False) -> Json:
        """As GET /nodes does; `leads` is said of the one manager that leads the others."""
        shows = {
            "ID": self.id,
            "Version": {"Index": self.version},
            "CreatedAt": shown(self.created_s),
            "UpdatedAt": shown(self.created_s),
            "Spec": copy.deepcopy(self.spec),
            "Description": {"Hostname": self.name},
            "Status": {"State": self.state, "Addr": self.address},
        }
        if self.manager:
            shows["ManagerStatus"] = {
                **({"Leader": True} if leads else {}),
                "Reachability": "reachable" if self.heard else "unreachable",
                "Addr": self.manager_address,
            }
        return shows

    def satisfies(self, template: Json) -> bool:
        """All of the placement's constraints: those by node labels, ids, names and roles."""
        asked = (template.get("Placement") or {}).get("Constraints") or []
        return all(self._meets(constraint) for constraint in asked)

    def _meets(self, constraint: str) -> bool:
        negative = "!=" in constraint
        key, _, value = constraint.replace(" ", "").partition("!=" if negative else "==")
        labels: Mapping[str, str] = self.spec.get("Labels") or {}
        facts = {"node.id": self.id, "node.hostname": self.name, "node.role": self.spec["Role"]}
        found = facts.get(key, labels.get(key.removeprefix("node.labels."), ""))
        return (found == value) is not negative


@dataclass(kw_only=True)
class Service:
    """What is to be run.

    Args:
        previous: The spec before the last write: what a rollback goes back to.
        update: Its UpdateStatus; None when no container had to be replaced for the last write.
    """

    id: str
    spec: Json
    version: int
    created_s: float
    previous: Json | None = None
    update: Json | None = None

    @property
    def name(self) -> str:
        """Unique among services."""
        return str(self.spec["Name"])

    @property
    def replicas(self) -> int:
        """How many it is told to run."""
        return int(self.spec["Mode"]["Replicated"].get("Replicas", 1))

    @property
    def template(self) -> Json:
        """What each task is made from."""
        template: Json = self.spec["TaskTemplate"]
        return template

    def show(self, *, defaults: bool = False) -> Json:
        """As GET /services/{id} does; with `insertDefaults` the template is not the stored one."""
        spec = copy.deepcopy(self.spec)
        if defaults:
            template = spec["TaskTemplate"]
            template["ContainerSpec"].setdefault("StopGracePeriod", 10 * NANO)
            template["ContainerSpec"].setdefault("DNSConfig", {})
            policy = template.setdefault("RestartPolicy", {})
            policy.setdefault("Condition", "any")
            policy.setdefault("Delay", 5 * NANO)
            policy.setdefault("MaxAttempts", 0)
            template.setdefault("Resources", {"Limits": {}, "Reservations": {}})
            template.setdefault("ForceUpdate", 0)
        record = {
            "ID": self.id,
            "Version": {"Index": self.version},
            "CreatedAt": shown(self.created_s),
            "UpdatedAt": shown(self.created_s),
            "Spec": spec,
            "Endpoint": {"Spec": {}},
        }
        if self.previous is not None:
            record["PreviousSpec"] = copy.deepcopy(self.previous)
        return record if self.update is None else {**record, "UpdateStatus": dict(self.update)}


@dataclass(kw_only=True)
class Config:
    """A named blob with labels."""

    id: str
    spec: Json
    version: int
    created_s: float

    @property
    def name(self) -> str:
        """Unique among configs."""
        return str(self.spec["Name"])

    def show(self) -> Json:
        """As GET /configs/{id} does."""
        return {
            "ID": self.id,
            "Version": {"Index": self.version},
            "CreatedAt": shown(self.created_s),
            "UpdatedAt": shown(self.created_s),
            "Spec": copy.deepcopy(self.spec),
        }
