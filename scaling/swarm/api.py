"""The answers of the Docker API, as far as they are read.

What is only read has fields; a spec that is changed and written back stays as it came, with all
that we do not know in it. Times are the managers' own, and compared with nothing but each other.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from msgspec import Struct, field

Spec = dict[str, Any]
"""What a person or a program wishes, as JSON: whoever changes it copies it first."""


class Version(Struct, frozen=True, rename="pascal"):
    """Changes with each change; an update of another one than the present is refused."""

    index: int


class ContainerStatus(Struct, frozen=True, rename="pascal"):
    """The engine's container; the exit code means nothing while it runs (0 or -1)."""

    container_id: str = field(name="ContainerID", default="")
    exit_code: int = 0


class TaskStatus(Struct, frozen=True, rename="pascal"):
    """What a task was last seen to be."""

    state: str
    timestamp: datetime
    err: str = ""
    container_status: ContainerStatus | None = None


class SwarmTask(Struct, frozen=True, rename="pascal"):
    """Swarm's word for one container's life; the next one in its slot is another task."""

    id: str = field(name="ID")
    created_at: datetime
    desired_state: str
    status: TaskStatus
    spec: Spec
    slot: int = 0
    node_id: str = field(name="NodeID", default="")


class NodeStatus(Struct, frozen=True, rename="pascal"):
    """Whether its agent is heard: `ready`, `down`, `disconnected` or `unknown`."""

    state: str


class NodeDescription(Struct, frozen=True, rename="pascal"):
    """What a node says of itself; empty until it has said it for the first time."""

    hostname: str = ""


class SwarmNode(Struct, frozen=True, rename="pascal"):
    """A machine in the Swarm."""

    id: str = field(name="ID")
    version: Version
    created_at: datetime
    spec: Spec
    status: NodeStatus
    description: NodeDescription = NodeDescription()


class UpdateStatus(Struct, frozen=True, rename="pascal"):
    """How far Swarm is with replacing a service's containers: `updating`, `completed`, …"""

    state: str = ""
    message: str = ""


class SwarmService(Struct, frozen=True, rename="pascal"):
    """What is to be run; without a status when no container had to be replaced for it."""

    id: str = field(name="ID")
    version: Version
    spec: Spec
    update_status: UpdateStatus | None = None


class SwarmObject(Struct, frozen=True, rename="pascal"):
    """A Swarm config: a name, a few bytes, and labels that can be changed by version."""

    id: str = field(name="ID")
    version: Version
    spec: Spec

    @property
    def name(self) -> str:
        """Unique among configs."""
        return str(self.spec["Name"])

    @property
    def labels(self) -> dict[str, str]:
        """Its labels; Swarm leaves them out when there are none."""
        return dict(self.spec.get("Labels") or {})
