"""What a cluster looks like at one moment: Swarm's tasks, engines' containers, all gossip tables.

The three are asked within a second or two, not at once; so a look is worth something only when
nothing has changed since the one before, which `settling` waits for.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from deploy.lab import machine
from deploy.lab.containers import STACK_LABEL, Container
from deploy.lab.engine import Engine
from deploy.lab.stack import NAME, Stack
from tests.chaos.cluster.facts import PEER_SERVICES, Contained, Look, Table, Wanted

AT_ONCE = 3
TASK = "com.docker.swarm.task.id"
SERVICE = "com.docker.swarm.service.name"


def take_look(stack: Stack) -> Look:
    """Look, and ask every peer for its table.

    Raises:
        LabError: No manager answers.
    """
    peers = [one for one in stack.containers() if one.service in PEER_SERVICES]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = pool.map(lambda one: read_table(stack, one), peers)
        told = [table for table in asked if table is not None]
    return Look(wanted=_read_wanted(stack), containers=_read_containers(stack), tables=told)


def read_table(stack: Stack, container: Container) -> Table | None:
    """Ask a peer whom it knows; None if it does not answer."""
    rows = stack.table(container)
    own = next((row for row in rows if row["own"]), None)
    if own is None:
        return None
    return Table(
        name=own["name"],
        own=(own["uid"], own["epoch"]),
        alive={
            (row["uid"], row["epoch"]): row["container"] for row in rows if row["state"] == "alive"
        },
        leader=next((row["uid"] for row in rows if row["leader"]), None),
    )


def _read_wanted(stack: Stack) -> list[Wanted]:
    manager = stack.lab.manager()
    names = {node["ID"]: node["Description"].get("Hostname", "") for node in manager.get("/nodes")}
    services = {one["ID"]: name for name, one in stack.services().items()}
    filters = {"desired-state": ["running"], "label": [f"{STACK_LABEL}={NAME}"]}
    return [
        Wanted(
            service=services.get(task["ServiceID"], ""),
            id=task["ID"],
            node=names.get(task.get("NodeID", ""), ""),
            runs=task["Status"]["State"] == "running",
        )
        for task in manager.get("/tasks", filters=filters)
    ]


def _read_containers(stack: Stack) -> list[Contained]:
    """Whatever runs on any engine, ours or not."""
    found = []
    for node in stack.lab.plan.members:
        if machine.find_first(node) is None:
            continue
        for one in Engine(node.socket).get("/containers/json"):
            labels = one["Labels"]
            found.append(
                Contained(
                    node=node.name,
                    id=one["Id"],
                    service=labels.get(SERVICE, "").removeprefix(f"{NAME}_"),
                    task=labels.get(TASK, ""),
                )
            )
    return found
