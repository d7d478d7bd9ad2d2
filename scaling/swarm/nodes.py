"""Swarm's nodes as nodes: which are ours, in what state, and the specs that change that.

One label says it all, `grapevine.pool` by default. Its value is the pool's name while the node is
in service, which is what the service's constraint asks for; `POOL:standby` and `POOL:leaving` are
the others. A node is emptied by one write: another value, and availability `active`, for Swarm
moves nothing away from a paused node. Then replacements start elsewhere first and the old
containers finish their work. Never by `drain`: that ends the old ones first, and starts the new
ones a minute later.

An update replaces a node's whole spec, so role, availability and other labels are always copied.

Pure.
"""

from __future__ import annotations

import copy
import re
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from scaling.snapshot import NodeState
from scaling.swarm.api import Spec, SwarmNode
from scaling.swarm.config import SwarmConfig
from scaling.swarm.service import TERM

PROVIDED = "grapevine.provided"
KEEP = "grapevine.keep"
"""A person's: `docker node update --label-add grapevine.keep=true NODE`."""

STANDBY = ":standby"
LEAVING = ":leaving"


@dataclass(frozen=True, slots=True, kw_only=True)
class OurNode:
    """A node of the pool, or a twin of one."""

    raw: SwarmNode
    name: str
    state: NodeState
    fixed: bool
    provided: bool


def ours(
    nodes: Iterable[SwarmNode], config: SwarmConfig, occupied: Collection[str]
) -> tuple[OurNode, ...]:
    """The pool, by name; of two with one name, the one that is not down, or else the younger one.

    Args:
        occupied: Ids of nodes with containers that have not ended.
    """
    by_name: dict[str, list[SwarmNode]] = defaultdict(list)
    for node in nodes:
        if node.description.hostname and _is_ours(node, config):
            by_name[node.description.hostname].append(node)
    return tuple(
        _our(_foremost(twins), name, config, occupied) for name, twins in sorted(by_name.items())
    )


def twins(nodes: Iterable[SwarmNode], config: SwarmConfig) -> tuple[str, ...]:
    """Names that two nodes bear which are both there: nobody could say which is meant."""
    living: dict[str, int] = defaultdict(int)
    for node in nodes:
        if _is_ours(node, config) and node.status.state != "down":
            living[node.description.hostname] += 1
    return tuple(sorted(name for name, count in living.items() if name and count > 1))


def _is_ours(node: SwarmNode, config: SwarmConfig) -> bool:
    value = _labels(node.spec).get(config.label)
    manager = node.spec.get("Role") == "manager"
    if value is None:
        numbered = re.fullmatch(re.escape(config.pool) + r"-[0-9]+", node.description.hostname)
        return numbered is not None and not manager
    # A manager that nobody has put into service has other things to do.
    return value == config.pool or (
        value in (config.pool + STANDBY, config.pool + LEAVING) and not manager
    )


def _foremost(twins: list[SwarmNode]) -> SwarmNode:
    return max(twins, key=lambda node: (node.status.state != "down", node.created_at, node.id))


def _our(node: SwarmNode, name: str, config: SwarmConfig, occupied: Collection[str]) -> OurNode:
    labels = _labels(node.spec)
    return OurNode(
        raw=node,
        name=name,
        state=_state(node, config, node.id in occupied),
        fixed=node.spec.get("Role") == "manager"
        or labels.get(KEEP) == "true"
        or _is_set_aside(node, config),
        provided=labels.get(PROVIDED) == "true",
    )


def _state(node: SwarmNode, config: SwarmConfig, occupied: bool) -> NodeState:
    value = _labels(node.spec).get(config.label, "")
    leaving = value == config.pool + LEAVING
    match node.status.state:
        case "down":
            # One that was on its way out has arrived there, whatever it took with it.
            return NodeState.EMPTY if leaving else NodeState.DOWN
        case "ready":
            pass
        case _:
            return NodeState.UNKNOWN
    if leaving:
        return NodeState.EMPTYING if occupied else NodeState.EMPTY
    serves = value == config.pool
    if node.spec.get("Availability") != "active":
        # Out of service it is no capacity, now or to come: as good as switched off.
        return NodeState.CORDONED if serves else NodeState.DOWN
    return NodeState.READY if serves else NodeState.STANDBY


def _is_set_aside(node: SwarmNode, config: SwarmConfig) -> bool:
    """Whether a person keeps a node that is out of service from being used: it is theirs."""
    value = _labels(node.spec).get(config.label, "")
    out = value not in (config.pool, config.pool + LEAVING)
    return out and node.spec.get("Availability") != "active"


def in_service(spec: Spec, config: SwarmConfig, *, provided: bool, term: int) -> Spec:
    """The spec of a node that containers may start on."""
    return _changed(spec, config, config.pool, provided=provided, term=term)


def leaving(spec: Spec, config: SwarmConfig, *, provided: bool, term: int) -> Spec:
    """The spec of a node whose containers finish, while others start elsewhere."""
    return _changed(spec, config, config.pool + LEAVING, provided=provided, term=term)


def on_standby(spec: Spec, config: SwarmConfig, *, term: int) -> Spec:
    """The spec of a node that waits to be taken in again."""
    return _changed(spec, config, config.pool + STANDBY, provided=False, term=term)


def shut(spec: Spec, config: SwarmConfig, *, term: int) -> Spec:
    """The spec of an empty node that nothing at all shall start on until it is destroyed."""
    new = leaving(spec, config, provided=True, term=term)
    new["Availability"] = "drain"
    return new


def _changed(spec: Spec, config: SwarmConfig, value: str, *, provided: bool, term: int) -> Spec:
    new = copy.deepcopy(spec)
    new["Availability"] = "active"
    labels = {**_labels(new), config.label: value, TERM: str(term)}
    labels.pop(PROVIDED, None)
    if provided:
        labels[PROVIDED] = "true"
    new["Labels"] = labels
    return new


def _labels(spec: Spec) -> dict[str, str]:
    return dict(spec.get("Labels") or {})
