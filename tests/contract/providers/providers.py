"""Every provider that makes machines, each with its own world behind it, for one contract suite."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from libcloud.compute.base import Node, NodeLocation
from libcloud.compute.drivers.dummy import DummyNodeDriver
from libcloud.compute.types import NodeState

from scaling.ports import NodeProvider
from scaling.providers.cloud import LibcloudProvider
from scaling.providers.commands import ExecProvider
from scaling.providers.config import ExecConfig, LibcloudConfig, ProviderConfig
from scaling.providers.join import Join

TOKEN = "SWMTKN-1-secret-worker"
JOIN = Join(token=TOKEN, addresses=("10.0.0.1:2377", "10.0.0.2:2377"))
MACHINES = Path(__file__).with_name("machines.py")


async def join() -> Join:
    """What the Swarm would say."""
    return JOIN


@dataclass(slots=True)
class Place:
    """A provider, and what a test may do to the world behind it."""

    provider: NodeProvider
    names: Callable[[], Sequence[str]]
    fail: Callable[[str], None]
    mend: Callable[[], None]
    orders: Callable[[], int]


def exec_config(directory: Path, **more: Any) -> ProviderConfig:
    """The commands of machines.py, on a directory."""
    command = (sys.executable, "-IS", str(MACHINES), str(directory))
    settings: dict[str, Any] = {
        "create": (*command, "create", "{name}"),
        "list": (*command, "list"),
        "destroy": (*command, "destroy", "{name}"),
        **more,
    }
    return ProviderConfig(kind="exec", pool="pool", exec=ExecConfig(**settings))


def exec_place(directory: Path) -> Place:
    """Machines are files."""
    trouble = directory / ".trouble"
    calls = directory / ".calls"
    return Place(
        provider=ExecProvider(exec_config(directory), join, {}),
        names=lambda: sorted(path.name for path in directory.glob("[!.]*")),
        fail=lambda what: _write(trouble, f"{what} fail 3"),
        mend=trouble.unlink,
        orders=lambda: calls.read_text().count("create"),
    )


def _write(path: Path, text: str) -> None:
    path.write_text(text)


@dataclass(slots=True)
class FakeCloud:
    """What stands behind the fake driver, for all who open one."""

    nodes: list[Node] = field(default_factory=list)
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    failing: str = ""
    # Called in the thread right before and right after a machine is made.
    before_create: Callable[[], None] = lambda: None
    after_create: Callable[[], None] = lambda: None
    hidden: int = 0
    # How many lists do not show yet what was ordered last.
    made: int = 0

    def count(self, what: str) -> int:
        """How often a method was called."""
        return [name for name, _ in self.calls].count(what)


class FakeDriver(DummyNodeDriver):
    """libcloud's own dummy, which forgets the name of what it makes, taught to be like EC2's."""

    def __init__(self, cloud: FakeCloud) -> None:
        super().__init__("0")  # type: ignore[no-untyped-call] # as libcloud has it
        self.cloud = cloud
        self.nl = cloud.nodes

    def _called(self, what: str, **arguments: Any) -> None:
        self.cloud.calls.append((what, arguments))
        if self.cloud.failing == what:
            raise OSError(113, "No route to host")

    def list_nodes(self, ex_filters: dict[str, str] | None = None) -> list[Node]:
        """All; or but the newest, as long as the list lags behind."""
        self._called("list_nodes", ex_filters=ex_filters)
        nodes = list(self.cloud.nodes)
        if self.cloud.hidden > 0:
            self.cloud.hidden -= 1
            del nodes[-1:]
        return nodes

    def create_node(  # type: ignore[override] # so do all of libcloud's drivers
        self,
        name: str,
        size: Any,
        image: Any,
        location: NodeLocation | None = None,
        ex_userdata: str | None = None,
        ex_metadata: dict[str, str] | None = None,
        ex_subnet: Any = None,
        ex_security_group_ids: list[str] | None = None,
        ex_security_groups: list[str] | None = None,
        ex_keyname: str | None = None,
    ) -> Node:
        """Make one, whatever there is."""
        self._called("create_node", name=name, ex_userdata=ex_userdata, ex_keyname=ex_keyname)
        self.cloud.before_create()
        self.cloud.made += 1
        node = self.add(name, {"tags": {"Name": name, **(ex_metadata or {})}})
        self.cloud.after_create()
        return node

    def add(self, name: str, extra: dict[str, Any], state: NodeState = NodeState.PENDING) -> Node:
        """Have one, from wherever."""
        number = len(self.cloud.calls) * 1000 + len(self.cloud.nodes)
        node = Node(
            id=f"i-{number:06}",
            name=name,
            state=state,
            public_ips=[],
            private_ips=[],
            driver=self,
            extra=extra,
            created_at=datetime.now(UTC) - timedelta(seconds=60),
        )
        self.cloud.nodes.append(node)
        return node

    def destroy_node(self, node: Node) -> bool:
        """Remove it."""
        self._called("destroy_node", id=node.id)
        self.cloud.nodes[:] = [one for one in self.cloud.nodes if one.id != node.id]
        return True


def cloud_config(**more: Any) -> ProviderConfig:
    """EC2's dialect."""
    settings: dict[str, Any] = {
        "provider": "ec2",
        "key": "a",
        "secret": "b",
        "size": "t3.large",
        "image": "ami-1",
        **more,
    }
    return ProviderConfig(
        kind="libcloud", cluster="here", pool="pool", libcloud=LibcloudConfig(**settings)
    )


def cloud_place() -> Place:
    """The fake driver behind EC2's dialect."""
    cloud = FakeCloud()

    def fail(what: str) -> None:
        cloud.failing = {
            "list": "list_nodes",
            "create": "create_node",
            "destroy": "destroy_node",
        }[what]

    def mend() -> None:
        cloud.failing = ""

    return Place(
        provider=LibcloudProvider(cloud_config(), join, open_driver=lambda: FakeDriver(cloud)),
        names=lambda: sorted(node.name for node in cloud.nodes),
        fail=fail,
        mend=mend,
        orders=lambda: cloud.count("create_node"),
    )


class Gate:
    """Holds a thread up until it is let through, for ten seconds at most."""

    def __init__(self) -> None:
        self.reached, self._open = threading.Event(), threading.Event()

    def pass_through(self) -> None:
        """Wait, in the thread."""
        self.reached.set()
        assert self._open.wait(10)

    def open(self) -> None:
        """Let it through."""
        self._open.set()
