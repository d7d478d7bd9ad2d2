"""The nodes become one Swarm."""

from __future__ import annotations

import time
from typing import Any

from deploy.lab.engine import Engine
from deploy.lab.errors import LabError
from deploy.lab.plan import Node, Plan

READY_S = 60.0
PORT = 2377


def form(plan: Plan) -> None:
    """Found the Swarm on the first node, let the others join, and wait until all are ready."""
    first, *others = plan.members
    engine = Engine(first.socket)
    engine.post(
        "/swarm/init",
        _addresses(first)
        | {"Spec": {"Dispatcher": {"HeartbeatPeriod": int(plan.heartbeat_s * 1_000_000_000)}}},
    )
    for node in others:
        join(plan, node, through=first)
    wait(plan, engine)


def join(plan: Plan, node: Node, *, through: Node) -> None:
    """Let a node join, as a manager if the plan says so."""
    tokens = Engine(through.socket).get("/swarm")["JoinTokens"]
    role = "Manager" if node.number <= plan.managers else "Worker"
    Engine(node.socket, timeout_s=READY_S).post(
        "/swarm/join",
        _addresses(node)
        | {"RemoteAddrs": [f"{through.address}:{PORT}"], "JoinToken": tokens[role]},
    )


def wait(plan: Plan, engine: Engine) -> None:
    """Wait until every node is ready and every manager reachable."""
    deadline = time.monotonic() + READY_S
    while missing := find_missing(plan, engine):
        if time.monotonic() > deadline:
            raise LabError(f"Not ready within {READY_S:.0f} s: {', '.join(missing)}.")
        time.sleep(0.05)


def find_missing(plan: Plan, engine: Engine) -> list[str]:
    """Name the nodes that are not ready, or managers that are not reachable.

    One that has left and joined again is listed twice: it counts if either of them is ready.
    """
    ready = {
        node["Description"].get("Hostname") for node in engine.get("/nodes") if _is_ready(node)
    }
    return [node.name for node in plan.members if node.name not in ready]


def _addresses(node: Node) -> dict[str, Any]:
    return {
        "ListenAddr": f"{node.address}:{PORT}",
        "AdvertiseAddr": node.address,
        "DataPathAddr": node.address,
    }


def _is_ready(node: dict[str, Any]) -> bool:
    if node["Status"]["State"] != "ready":
        return False
    return "ManagerStatus" not in node or node["ManagerStatus"]["Reachability"] == "reachable"
