"""One lab for all tests of a session: after each it is as it was made, and that is looked at.

To make a lab anew for every test would cost five seconds for the nodes and half a minute for the
peer's image on each. So what a test deployed, wrote, cut off and switched off is put right instead;
and since whatever is forgotten here would be the next test's riddle, the last word has
`find_traces`, which asks the managers and every engine what they have.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from deploy.lab import swarm
from deploy.lab.cluster import Lab
from deploy.lab.engine import Engine, EngineError
from deploy.lab.errors import LabError
from deploy.lab.plan import Node

AS_MADE: dict[str, Any] = {"Labels": {}, "Availability": "active"}


def repair(lab: Lab) -> None:
    """Switch every node on, put every cable in, and let who has left the Swarm join again."""
    lab.heal()
    with ThreadPoolExecutor(lab.plan.nodes) as pool:
        list(pool.map(lambda node: lab.start(node.name), lab.plan.members))
    for node in lab.plan.members:
        if Engine(node.socket).get("/info")["Swarm"]["LocalNodeState"] == "inactive":
            swarm.join(lab.plan, node, through=lab.plan.members[0])


def empty(lab: Lab) -> None:
    """Remove all that was deployed or written; some of it is gone a moment later."""
    manager = find_manager(lab)
    for kind in ("services", "configs"):
        for one in manager.get(f"/{kind}"):
            _remove(manager, f"/{kind}/{one['ID']}")
    with ThreadPoolExecutor(lab.plan.nodes) as pool:
        list(pool.map(_end_containers, lab.plan.members))
    for network in _networks(manager):
        _remove(manager, f"/networks/{network['Id']}")
    for node in manager.get("/nodes"):
        if node["Status"]["State"] == "down":  # each machine that is there was seen to be ready
            _remove(manager, f"/nodes/{node['ID']}")
        elif _differs(node):
            spec, version = {**node["Spec"], **AS_MADE}, node["Version"]["Index"]
            manager.post(f"/nodes/{node['ID']}/update", spec, version=version)


def find_traces(lab: Lab) -> list[str]:
    """Name what tells this lab from one that was made just now."""
    manager, found = find_manager(lab), []
    for kind in ("services", "configs"):
        found += [f"{kind}: {one['Spec']['Name']}" for one in manager.get(f"/{kind}")]
    nodes = manager.get("/nodes")
    found += [f"node: {node['Description']['Hostname']} {node['Spec']}" for node in nodes
              if _differs(node) or node["Status"]["State"] != "ready"]  # fmt: skip
    if len(nodes) != lab.plan.nodes:
        found.append(f"{len(nodes)} nodes")
    for member in lab.plan.members:
        engine = Engine(member.socket)
        found += [f"{member.name}: {one['Names']}" for one in engine.get("/containers/json", all=1)]
        found += [f"{member.name}: {network['Name']}" for network in _networks(engine)]
    return found


def is_as_made(lab: Lab) -> bool:
    """Remove what is there, and look whether anything still is.

    To be called until it is so: a network goes only after its last container, and a leader that was
    about to write when its own was ended may have written since.

    Raises:
        LabError: What is still there, or no manager that could say.
    """
    if missing := swarm.find_missing(lab.plan, find_manager(lab)):
        raise LabError(f"Not ready: {', '.join(missing)}.")
    empty(lab)
    if found := find_traces(lab):
        raise LabError(f"Still there: {'; '.join(found)}.")
    return True


def find_manager(lab: Lab) -> Engine:
    """Find the first manager whose engine answers."""
    for node in lab.plan.members[: lab.plan.managers]:
        if (engine := Engine(node.socket)).answers():
            return engine
    raise LabError("No manager answers.")


def _end_containers(node: Node) -> None:
    engine = Engine(node.socket)
    for container in engine.get("/containers/json", all=True):
        _remove(engine, f"/containers/{container['Id']}", force=True)


def _networks(engine: Engine) -> Iterator[dict[str, Any]]:
    """What was made for services: all but the Swarm's own, and each engine's."""
    for network in engine.get("/networks"):
        if network["Driver"] == "overlay" and not network.get("Ingress"):
            yield network


def _differs(node: dict[str, Any]) -> bool:
    return any((node["Spec"].get(key) or value) != value for key, value in AS_MADE.items())


def _remove(engine: Engine, path: str, **query: Any) -> None:
    """Remove it; what cannot be removed yet, or is gone by itself, is seen in the next look."""
    try:
        engine.delete(path, **query)
    except EngineError as error:
        if error.status >= 500 or error.status == 401:
            raise
