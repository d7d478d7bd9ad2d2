"""The service's spec: what is read from it, how it is changed, and what is wrong with it.

A change takes the spec as it was stored, without the engine's defaults, and alters the number of
replicas and our labels: with anything else different, Swarm would restart every container. Both in
one write, so that the term fences the number.

Pure.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

from scaling.swarm.api import Spec, SwarmService
from scaling.swarm.config import SwarmConfig

TERM = "grapevine.term"
LEADER = "grapevine.leader"
REASON = "grapevine.reason"
REASON_LETTERS_MAX = 500

GRACE_S = 10.0
"""Docker's own, where a service does not say."""
NANO = 1_000_000_000

UNDER_WAY = {
    "updating": "is being updated",
    "rollback_started": "is being rolled back",
    "paused": "has an update that failed and stands still",
    "rollback_paused": "has a rollback that failed and stands still",
}
"""States of an update that is not over. One that stands still was stopped so that it ends no more
containers, and the next write of the service, of whatever, begins it anew."""


def changed(spec: Spec, *, replicas: int, term: int, leader: str, reasons: Sequence[str]) -> Spec:
    """The spec to write."""
    new = copy.deepcopy(spec)
    new["Mode"]["Replicated"]["Replicas"] = replicas
    new["Labels"] = {
        **(new.get("Labels") or {}),
        TERM: str(term),
        LEADER: leader,
        REASON: "; ".join(reasons)[:REASON_LETTERS_MAX],
    }
    return new


def replicas(spec: Spec) -> int:
    """How many it is told to run; one that does not say means one."""
    return int(((spec.get("Mode") or {}).get("Replicated") or {}).get("Replicas", 1))


def term(spec: Spec) -> int:
    """Of the leader that changed it last; also of a node's or a config's spec."""
    said = (spec.get("Labels") or {}).get(TERM, "0")
    return int(said) if said.isascii() and said.isdigit() else 0


def grace_s(spec: Spec) -> float:
    """How long its containers may take to finish."""
    container = spec["TaskTemplate"].get("ContainerSpec") or {}
    return float(container.get("StopGracePeriod", GRACE_S * NANO)) / NANO


def per_node_max(spec: Spec) -> int | None:
    """How many containers Swarm puts on one node at most; None: it does not care."""
    return int(_placement(spec).get("MaxReplicas", 0)) or None


def update(found: SwarmService, config: SwarmConfig) -> str:
    """Say that an update of the service is not over, as a sentence; empty when there is none.

    To Swarm each write of a service is an update, one of `replicas`, too: it forgets how far the
    last one was, and the spec that it finds becomes the one to go back to (swarmkit,
    manager/controlapi/service.go, `UpdateService`). So a write in the middle of an update begins it
    anew, beside the containers that already finish, and a rollback then "goes back" to the new one.

    A write of ours is never seen here later: where no task differs from the service's template,
    and `replicas` is not in it, the updater returns before it gives the service a status
    (manager/orchestrator/update/updater.go, `Run`).

    Between a person's write and the status lie the milliseconds until the updater runs. Its status
    is another version of the service, so only who looks and writes within them is not stopped.
    """
    status = found.update_status
    if status is None or status.state not in UNDER_WAY:
        return ""
    # The message says who began a rollback, or which container's end stopped it.
    why = f" ({status.message})" if status.state != "updating" and status.message else ""
    return f"the service {config.service} {UNDER_WAY[status.state]}{why}"


def fault(spec: Spec, config: SwarmConfig) -> str:
    """Why this service cannot be scaled at all, as a sentence; empty when it can."""
    name = config.service
    if "Replicated" not in (spec.get("Mode") or {}):
        return (
            f"the service {name} is not replicated: a number of containers cannot be set; "
            "deploy it again with `mode: replicated`"
        )
    asked = [
        str(constraint).replace(" ", "") for constraint in _placement(spec).get("Constraints") or []
    ]
    if config.constraint not in asked:
        return (
            f"the service {name} is not bound to nodes in service: emptying a node would move "
            f"nothing; add the placement constraint {config.constraint!r}, or correct "
            "scaling.swarm.label and scaling.swarm.pool"
        )
    return ""


def warnings(spec: Spec, config: SwarmConfig) -> tuple[str, ...]:
    """What will do harm sooner or later, as sentences for `peerctl doctor`."""
    name, found = config.service, []
    template = spec["TaskTemplate"]
    restart = template.get("RestartPolicy") or {}
    if restart.get("Condition", "any") != "any":
        found.append(
            f"the service {name} restarts containers only {restart['Condition']!r}: one that ends "
            "with exit code 0 is never replaced and still counts; set the restart policy's "
            "condition to any"
        )
    if restart.get("MaxAttempts", 0):
        found.append(
            f"the service {name} gives up after {restart['MaxAttempts']} restarts; leave "
            "`max_attempts` out"
        )
    if grace_s(spec) <= GRACE_S:
        found.append(
            f"the service {name} kills its containers {grace_s(spec):g} s after SIGTERM: work is "
            "lost; set `stop_grace_period` to more than the longest part takes"
        )
    if per_node_max(spec) is None:
        found.append(
            f"the service {name} has no limit of containers on a node; set "
            f"`max_replicas_per_node: {config.containers_per_node}`"
        )
    return tuple(found)


def _placement(spec: Spec) -> Spec:
    return spec["TaskTemplate"].get("Placement") or {}
