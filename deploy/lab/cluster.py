"""A lab as a whole: made, looked at, broken, removed."""

from __future__ import annotations

import json
import os
import shutil
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from deploy.lab import cgroups, loss, machine, network, swarm
from deploy.lab.engine import Engine
from deploy.lab.errors import LabError
from deploy.lab.plan import STATE, Node, Plan
from deploy.lab.shell import works

LOCKED_S = 15.0
BUILD_S = 600.0
ASK_S = 5.0
KEPT = "lab.json"
FINISHED = "up"
PROGRAMS = (
    "dockerd",
    "containerd",
    "runc",
    "ip",
    "iptables",
    "nsenter",
    "unshare",
    "setsid",
    "setpriv",
)

Say = Callable[[str], None]


def keep_quiet(sentence: str) -> None:
    """Take a sentence about what is done, and forget it."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How one node does.

    Args:
        name: Its name.
        address: On the lab's network.
        socket: Of its engine.
        on: Whether it is switched on.
        connected: Whether its cable is plugged in.
        state: As a manager says: `ready`, `down`, `unknown`, or empty when none could be asked.
        role: `manager` or `worker`, and `leader` for the one that leads the managers.
    """

    name: str
    address: str
    socket: str
    on: bool
    connected: bool
    state: str = ""
    role: str = ""


def check_root() -> None:
    """Raise `LabError` for somebody who may not make network namespaces."""
    if os.geteuid() != 0:
        raise LabError("The lab makes network namespaces and needs root: put sudo before it.")


def check() -> None:
    """Find out whether this machine can run a lab at all.

    Kinds of network devices that its kernel lacks are told when the first one is made.

    Raises:
        LabError: What is missing, and how to get it.
    """
    check_root()
    if missing := [name for name in PROGRAMS if shutil.which(name) is None]:
        raise LabError(
            f"Not installed: {', '.join(missing)}. On Debian:"
            " apt-get install -y docker.io iproute2 iptables"
        )
    if "overlay" not in Path("/proc/filesystems").read_text().split() and not works(
        "modprobe", "overlay"
    ):
        raise LabError(
            "This kernel has no overlay file system, and `modprobe overlay` did not bring it."
        )


class Lab:
    """A lab on this machine, running or not.

    Args:
        plan: What it is called and made of.
        say: Is told what goes on.
    """

    def __init__(self, plan: Plan, say: Say = keep_quiet) -> None:
        self.plan = plan
        self._say = say

    @classmethod
    def find(cls, name: str, say: Say = keep_quiet) -> Lab:
        """Find one that is up by its name.

        Raises:
            LabError: There is none.
        """
        check_root()
        directory = _directory(Plan(name=name))
        try:
            kept = json.loads((directory / KEPT).read_text())
        except (OSError, ValueError):
            raise LabError(
                f"There is no lab called {name}; make one with `up --name {name}`."
            ) from None
        kept["subnet"] = IPv4Network(kept["subnet"])
        return cls(Plan(name=name, state=directory.parent, **kept), say)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nobody else makes or removes the lab meanwhile.

        The kernel frees an abstract address when its holder dies, and no file is left behind.
        """
        deadline = time.monotonic() + LOCKED_S
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as lock:
            while True:
                try:
                    lock.bind(f"\0grapevine-lab-{self.plan.name}")
                    break
                except OSError:
                    if time.monotonic() > deadline:
                        raise LabError(
                            f"Another command makes, keeps or removes lab {self.plan.name};"
                            " wait for it, or take another --name."
                        ) from None
                time.sleep(0.1)
            yield

    def up(self) -> None:
        """Make the lab; what a crash left of one of the same name is removed first.

        Raises:
            LabError: Why it cannot be made, or that it is up already. What was made until then is
                removed again.
        """
        check()
        if (_directory(self.plan) / FINISHED).exists() and self._on():
            raise LabError(
                f"Lab {self.plan.name} is up already: look at it with `status`, remove it with"
                " `down`, or make another one with --name and --subnet."
            )
        if found := self.find_leftovers():
            more = f" and {len(found) - 1} more" if found[1:] else ""
            self._say(f"Removing what is left of an earlier lab: {found[0]}{more}")
            self.down()
        self._say(f"Switching on {self.plan.nodes} nodes on {self.plan.subnet}")
        try:
            self._make()
        except BaseException:  # Ctrl-C too
            self.down()
            raise

    def _make(self) -> None:
        plan = self.plan
        plan.directory.mkdir(parents=True)
        plan.directory.chmod(0o700)
        plan.pointer.symlink_to(plan.directory)
        kept = {
            "nodes": plan.nodes,
            "managers": plan.managers,
            "subnet": str(plan.subnet),
            "heartbeat_s": plan.heartbeat_s,
        }
        (plan.directory / KEPT).write_text(json.dumps(kept))
        network.build(plan)
        for node in plan.members:
            machine.switch_on(plan, node)
        for node in plan.members:
            machine.wait(node)
        swarm.form(plan)

    def finish(self) -> None:
        """Note that all is there that was asked for: from now on `up` leaves it alone."""
        (self.plan.directory / FINISHED).touch()

    def load(self, archive: Path, names: Sequence[str] = ()) -> None:
        """Put the images of an archive on every node that is on, or on those that are named."""

        def put(node: Node) -> None:
            with archive.open("rb") as content:
                Engine(node.socket, timeout_s=600).load(content)

        chosen = {self.plan.node(name) for name in names} or set(self.plan.members)
        nodes = [node for node in self._on() if node in chosen]
        with ThreadPoolExecutor(len(nodes) or 1) as pool:
            list(pool.map(put, nodes))

    def down(self) -> None:
        """Remove everything, also of a lab that was never finished.

        Raises:
            LabError: Something could not be removed.
        """
        check_root()
        plan = replace(self.plan, state=_directory(self.plan).parent)
        for node in plan.places:
            machine.switch_off(node)
            network.detach(node)
        network.remove(plan)
        cgroups.remove(plan)
        shutil.rmtree(plan.directory, ignore_errors=True)
        if plan.state.name == STATE.name:  # a person's own directory stays, though it is empty
            with suppress(OSError):  # another lab is in it
                plan.state.rmdir()
        plan.pointer.unlink(missing_ok=True)
        if found := self.find_leftovers():
            raise LabError(f"Could not be removed: {', '.join(found)}.")

    def find_leftovers(self) -> list[str]:
        """Name all that exists of this lab, or of one that was of its name."""
        plan = replace(self.plan, state=_directory(self.plan).parent)
        found = network.find_leftovers(plan) + cgroups.find_leftovers(plan)
        found += [
            f"mount {line.split()[4]}"
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if line.split()[4].startswith(f"{plan.directory}/")
        ]
        for path in (plan.directory, plan.pointer):
            if path.exists() or path.is_symlink():
                found.append(str(path))
        return found

    def cut(self, name: str) -> None:
        """Pull a node's network cable."""
        network.cut(self.plan.node(name))

    def heal(self, name: str | None = None) -> None:
        """Put a node's cable back, or everybody's."""
        for node in self._choose(name):
            if machine.find_first(node) is not None:
                network.heal(node)

    def kill(self, name: str) -> None:
        """Switch a node off as a power failure does."""
        machine.switch_off(self.plan.node(name))

    def kill_engine(self, name: str) -> None:
        """End a node's Docker engine alone, by SIGKILL; what its containers run goes on."""
        machine.kill_engine(self.plan.node(name))

    def set_loss(self, percent: float) -> None:
        """Let every node lose so many of a hundred UDP datagrams that reach it; 0 ends it."""
        for node in self._on():
            loss.set_percent(node, percent)

    def find_loss(self) -> float:
        """Say how many percent are lost."""
        return max((loss.find_percent(node) for node in self._on()), default=0.0)

    def start(self, name: str) -> None:
        """Switch a node on again, or its engine alone; both find their disk as they left it."""
        node = self.plan.node(name)
        if (first := machine.find_first(node)) is None:
            percent = self.find_loss()
            machine.switch_on(self.plan, node)
            loss.set_percent(node, percent)
        elif not Engine(node.socket).answers():
            machine.start_engine(node, first)
        machine.wait(node)

    def engine(self, name: str) -> Engine:
        """A node's Docker engine."""
        return Engine(self.plan.node(name).socket)

    def manager(self) -> Engine:
        """A manager's engine that can say, and change, what the Swarm does.

        Raises:
            LabError: There is none: they are off, or too few of them hear each other.
        """
        managers = self.plan.members[: self.plan.managers]
        # One that is cut off answers, too, after a while, and knows nothing.
        for node in sorted(managers, key=lambda node: not network.is_connected(node)):
            with suppress(LabError):
                Engine(node.socket, timeout_s=ASK_S).get("/nodes")
                return Engine(node.socket)
        raise LabError(f"No manager of {self.plan.name} can speak for the Swarm.")

    def engine_to_build_with(self) -> Engine:
        """That of the first node that is on, with the patience that a build needs."""
        for node in self.plan.members:
            if (engine := Engine(node.socket, timeout_s=BUILD_S)).answers():
                return engine
        raise LabError(f"No node of {self.plan.name} is on; switch one on with `start`.")

    def status(self) -> Sequence[Standing]:
        """Look at every node, and ask a manager what it thinks of them."""
        known = self._ask_a_manager()
        standings = []
        for node in self.plan.members:
            theirs = known.get(node.name, {})
            leads = theirs.get("ManagerStatus", {}).get("Leader", False)
            standings.append(
                Standing(
                    name=node.name,
                    address=node.address,
                    socket=str(node.socket),
                    on=machine.find_first(node) is not None,
                    connected=network.is_connected(node),
                    state=theirs.get("Status", {}).get("State", ""),
                    role="leader" if leads else theirs.get("Spec", {}).get("Role", ""),
                )
            )
        return standings

    def _on(self) -> list[Node]:
        """The nodes that are switched on."""
        return [node for node in self.plan.members if machine.find_first(node) is not None]

    def _choose(self, name: str | None) -> Sequence[Node]:
        return self.plan.members if name is None else [self.plan.node(name)]

    def _ask_a_manager(self) -> dict[str, dict[str, Any]]:
        with suppress(LabError):
            nodes = self.manager().get("/nodes")
            return {one["Description"].get("Hostname", ""): one for one in nodes}
        return {}


def _directory(plan: Plan) -> Path:
    """Where a lab of this name is, or would be."""
    try:
        return plan.pointer.readlink()
    except OSError:
        return plan.directory
