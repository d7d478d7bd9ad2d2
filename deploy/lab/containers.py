"""The containers of a lab: found on their own engines, frozen, thawed and killed.

The engines are asked, not the Swarm: a cut-off node's containers go on while the Swarm has given
them up, and those are just what a test of failures wants to see. And signals are sent by this
machine, past the engine, as the kernel's own killer would: `docker kill` would note that somebody
wanted the end, and `docker pause` would stop the health checks, too.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeVar

from deploy.lab import cgroups, machine
from deploy.lab.engine import Engine
from deploy.lab.errors import LabError
from deploy.lab.plan import Node, Plan

T = TypeVar("T")

LABEL = "com.docker.swarm."
STACK_LABEL = "com.docker.stack.namespace"

ASK_S = 5.0
FREEZE_S = 5.0
STOPPED = "T"


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container of a service that runs.

    Args:
        service: Its name in the stack file.
        name: Short, for people: `peer.3`, or `seed.node-1` where each node has one.
        task: Swarm's id of it.
        task_name: Swarm's name of it, which the peers of the service `peer` have, too.
        node: Host name.
        id: The engine's.
        pid: Of its first process, as this machine counts.
        healthy: Whether its health check says so.
        frozen: Whether its first process stands still.
    """

    service: str
    name: str
    task: str
    task_name: str
    node: str
    id: str
    pid: int
    healthy: bool
    frozen: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """What a container has written, also one that has ended.

    Args:
        name: Of the container, as `Container` has it.
        service: Its name in the stack file.
        text: Both streams as they came.
    """

    name: str
    service: str
    text: str


def find_all(plan: Plan, stack: str) -> list[Container]:
    """Find the containers of a stack that run, on all nodes whose engines answer, by name."""

    def look(node: Node) -> Iterator[Container]:
        for one in _list(node, stack):
            if (container := _read(plan, node, stack, one)) is not None:
                yield container

    found = _ask_all(plan, lambda node: list(look(node)))
    return sorted(found, key=lambda one: (one.name, one.task))


def read_logs(plan: Plan, stack: str, name: str, lines: int | str) -> list[Log]:
    """Read the logs of one container, or of a service's, or of all (no name), the oldest first."""

    def look(node: Node) -> Iterator[tuple[int, Log]]:
        for one in _list(node, stack, all=True):
            service, short, _ = _names(node, stack, one)
            if name in {"", service, short}:
                text = Engine(node.socket, timeout_s=ASK_S).logs(one["Id"], lines=lines)
                yield one["Created"], Log(name=short, service=service, text=text)

    found = _ask_all(plan, lambda node: list(look(node)))
    return [log for _, log in sorted(found, key=lambda one: one[0])]


def freeze(plan: Plan, container: Container) -> None:
    """Let every process of it stand still; its sockets stay open, and nobody answers."""
    deadline = time.monotonic() + FREEZE_S
    # One that runs may start another until it stands itself.
    while moving := [one for one in _find_processes(plan, container) if _state(one) not in "TZX"]:
        for process in moving:
            _send(process, signal.SIGSTOP)
        if time.monotonic() > deadline:
            raise LabError(f"Processes {moving} of {container.name} do not stand still.")
        time.sleep(0.01)


def thaw(plan: Plan, container: Container) -> None:
    """Let it go on."""
    for process in _find_processes(plan, container):
        _send(process, signal.SIGCONT)


def kill(container: Container, number: int = signal.SIGKILL) -> None:
    """Send its first process a signal, as the machine's kernel or somebody on it would.

    Raises:
        LabError: It is gone already.
    """
    try:
        os.kill(container.pid, number)
    except ProcessLookupError:
        raise LabError(f"{container.name} does not run any more.") from None


def _ask_all(plan: Plan, ask: Callable[[Node], list[T]]) -> list[T]:
    """Ask every node that is on at the same time."""
    nodes = [node for node in plan.members if machine.find_first(node) is not None]
    with ThreadPoolExecutor(len(nodes) or 1) as pool:
        return list(chain.from_iterable(pool.map(ask, nodes)))


def _list(node: Node, stack: str, **query: Any) -> list[dict[str, Any]]:
    filters = {"label": [f"{STACK_LABEL}={stack}"]}
    try:
        found: list[dict[str, Any]] = Engine(node.socket, timeout_s=ASK_S).get(
            "/containers/json", filters=filters, **query
        )
    except LabError:
        return []  # its engine is dead, or stands still: nobody knows
    return found


def _names(node: Node, stack: str, one: dict[str, Any]) -> tuple[str, str, str]:
    """Return the service's name, the container's short one, and the task's."""
    labels = one["Labels"]
    service = labels[f"{LABEL}service.name"].removeprefix(f"{stack}_")
    task_name = labels[f"{LABEL}task.name"]
    # The number, or for a service that has one on each node that node's id.
    place = task_name.split(".")[-2]
    return service, f"{service}.{place if place.isdecimal() else node.name}", task_name


def _read(plan: Plan, node: Node, stack: str, one: dict[str, Any]) -> Container | None:
    service, name, task_name = _names(node, stack, one)
    processes = cgroups.find_processes(plan, node, one["Id"])
    first = next((p for p in processes if machine.find_numbers(p)[-1:] == [1]), None)
    if first is None:
        return None  # it has just ended
    return Container(
        service=service,
        name=name,
        task=one["Labels"][f"{LABEL}task.id"],
        task_name=task_name,
        node=node.name,
        id=one["Id"],
        pid=first,
        # "Up 5 minutes (healthy)"; without a health check nothing stands there.
        healthy="(" not in one["Status"] or "(healthy)" in one["Status"],
        frozen=_state(first) == STOPPED,
    )


def _find_processes(plan: Plan, container: Container) -> list[int]:
    return cgroups.find_processes(plan, plan.node(container.node), container.id)


def _state(process: int) -> str:
    """One letter, as the kernel writes it; X for one that is gone."""
    try:
        stat = (machine.PROC / str(process) / "stat").read_text()
    except OSError:
        return "X"
    return stat.rpartition(")")[2].split()[0]


def _send(process: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(process, number)
