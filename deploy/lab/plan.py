"""What a lab is called and made of: every name in it follows from the lab's own.

Nothing is written down that would be needed to find a lab again. A lab that was killed half-way
through its making is found, and removed, by the same names that its making would have used; a
file of state would be missing in just that case. Pure: nothing here looks at the machine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Network
from pathlib import Path

from deploy.lab.errors import LabError

STATE = Path("/var/lib/grapevine-lab")
SUBNET = IPv4Network("10.99.0.0/24")

NODES_MAX = 9
"""One digit, so that a network interface's name fits into the kernel's 15 characters."""

# A dash would let the bridge of one lab be called like a link of another.
NAME = re.compile(r"[a-z][a-z0-9]{0,9}")
# The directory becomes part of mount options and of a UNIX socket's address.
PATH = re.compile(r"/[A-Za-z0-9._/-]{1,70}")


@dataclass(frozen=True, kw_only=True)
class Node:
    """One machine of the lab.

    Args:
        number: From 1.
        lab: The lab's name.
        address: On the lab's network.
        directory: All it keeps: the engine's data, its socket and its log.
    """

    number: int
    lab: str
    address: str
    directory: Path

    @property
    def name(self) -> str:
        """Its host name, which is its name in the Swarm, too."""
        return f"node-{self.number}"

    @property
    def namespace(self) -> str:
        """Its network namespace."""
        return f"grapevine-{self.lab}-{self.name}"

    @property
    def link(self) -> str:
        """The bridge's end of its network cable."""
        return f"gv{self.lab}-{self.number}"

    @property
    def cgroup(self) -> str:
        """Above the control groups of its containers."""
        return f"/grapevine-{self.lab}/{self.name}"

    @property
    def socket(self) -> Path:
        """Where its Docker engine listens."""
        return self.directory / "docker.sock"

    @property
    def log(self) -> Path:
        """What its Docker engine writes."""
        return self.directory / "dockerd.log"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A lab as it is asked for.

    Args:
        name: Up to ten small letters and digits.
        nodes: How many.
        managers: How many of them are managers of the Swarm: the first ones.
        subnet: Of the network that joins them; its first address is the machine's own.
        heartbeat_s: How often nodes report to the Swarm; it misses them after three times that.
        state: Above the directories of all labs.
    """

    name: str = "lab"
    nodes: int = 3
    managers: int = 1
    subnet: IPv4Network = SUBNET
    heartbeat_s: float = 5.0
    state: Path = STATE

    def __post_init__(self) -> None:
        if not NAME.fullmatch(self.name):
            raise LabError(
                f"{self.name!r} cannot be a lab's name: up to ten small letters and digits."
            )
        if not 1 <= self.nodes <= NODES_MAX:
            raise LabError(f"A lab has 1 to {NODES_MAX} nodes, not {self.nodes}.")
        if not 1 <= self.managers <= self.nodes:
            raise LabError(f"Of {self.nodes} nodes {self.managers} cannot be managers.")
        if self.subnet.prefixlen > 27:
            raise LabError(f"{self.subnet} is too small, take at least a /27.")
        if not self.heartbeat_s >= 1:
            raise LabError("Swarm's heartbeat is at least 1 s.")
        if not PATH.fullmatch(str(self.state)):
            raise LabError(
                f"{self.state} cannot hold a lab: an absolute path of up to 70 letters, digits,"
                " dots, dashes and underscores."
            )

    @property
    def bridge(self) -> str:
        """The switch that joins the nodes."""
        return f"gv{self.name}"

    @property
    def cgroup(self) -> str:
        """Above the control groups of all nodes."""
        return f"/grapevine-{self.name}"

    @property
    def gateway(self) -> str:
        """This machine's address on the lab's network."""
        return str(self.subnet[1])

    @property
    def directory(self) -> Path:
        """All that this lab keeps on disk."""
        return self.state / self.name

    @property
    def pointer(self) -> Path:
        """A symbolic link to the directory, for commands that are not told where it is."""
        return Path(f"/run/grapevine-lab-{self.name}")

    @cached_property
    def members(self) -> tuple[Node, ...]:
        """The nodes, by number."""
        return tuple(self._node(number) for number in range(1, self.nodes + 1))

    @cached_property
    def places(self) -> tuple[Node, ...]:
        """Every node that a lab of this name could have, for whoever looks for what is left."""
        return tuple(self._node(number) for number in range(1, NODES_MAX + 1))

    def has(self, name: str) -> bool:
        """Whether one of the nodes is called so."""
        return any(node.name == name for node in self.members)

    def node(self, name: str) -> Node:
        """Find one by its name."""
        for node in self.members:
            if node.name == name:
                return node
        raise LabError(
            f"Lab {self.name} has no {name}; it has {self.members[0].name} to "
            f"{self.members[-1].name}."
        )

    def _node(self, number: int) -> Node:
        name = f"node-{number}"
        return Node(
            number=number,
            lab=self.name,
            address=str(self.subnet[10 + number]),
            directory=self.directory / name,
        )
