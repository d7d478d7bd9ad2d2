"""What may be changed, and what is then written: the present object with the wish laid over it.

Each function takes what the engine has now and what somebody wishes to be there, compares the two,
and returns what to write. It is made of the engine's own words and of the few values that may
change, never of the wish as a whole: Go reads JSON keys in any case and takes the last of two, so
two parsers can differ about what a text says, and nobody needs to find out.

Values in, values out.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from scaling.swarm import nodes
from scaling.swarm.api import Spec, SwarmNode
from scaling.swarm.config import SwarmConfig
from scaling.swarm.intents import DATA as INTENT_DATA
from scaling.swarm.intents import NODE, RELEASED
from scaling.swarm.intents import SERVICE as INTENT_SERVICE
from scaling.swarm.lease import BEAT, HOLDER
from scaling.swarm.lease import DATA as LEASE_DATA
from scaling.swarm.proxy.asking import Forbidden
from scaling.swarm.service import LEADER, REASON, TERM

SERVICE_LABELS = (TERM, LEADER, REASON)
LEASE_LABELS = (HOLDER, TERM, BEAT)
INTENT_LABELS = (INTENT_SERVICE, NODE, TERM, RELEASED)
AVAILABILITIES = ("active", "drain")

LABEL_LETTERS_MAX = 600
"""Reasons have 500."""

_MACHINE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")


@dataclass(frozen=True, slots=True)
class Bounds:
    """Within what the gate's caller may act.

    Args:
        containers_max: More than that the service is never told to run, whoever asks.
    """

    swarm: SwarmConfig
    containers_max: int

    @property
    def lease(self) -> str:
        """The name of the config that holds the lease."""
        return f"{self.swarm.service}-lease"

    @property
    def claims(self) -> str:
        """What the names of configs that claim machines begin with."""
        return f"{self.swarm.service}-intent-"


def service(found: Spec, wish: Any, bounds: Bounds) -> Spec:
    """Another number of containers, with the leader's labels. Raises `Forbidden`."""
    spec = copy.deepcopy(found)
    count = _at(wish, "Mode", "Replicated", "Replicas")
    if "Replicated" not in (spec.get("Mode") or {}):
        raise Forbidden("the service is not replicated")
    if type(count) is not int or not 0 <= count <= bounds.containers_max:
        raise Forbidden(
            f"the service may be told to run 0 to {bounds.containers_max} containers, by a number"
        )
    spec["Mode"]["Replicated"]["Replicas"] = count
    spec["Labels"] = _labels(found, wish, SERVICE_LABELS)
    return _same(spec, wish, "the number of containers and the leader's labels")


def node(found: SwarmNode, wish: Any, bounds: Bounds) -> Spec:
    """Our label of one of our workers, and whether it takes containers. Raises `Forbidden`."""
    _check_worker(found, bounds)
    label = bounds.swarm.label
    spec = copy.deepcopy(found.spec)
    spec["Labels"] = _labels(found.spec, wish, (label, TERM, nodes.PROVIDED))
    pool = bounds.swarm.pool
    if spec["Labels"].get(label) not in (pool, pool + nodes.STANDBY, pool + nodes.LEAVING):
        raise Forbidden(f"the label {label} says which of the pool's nodes are in service: {pool}")
    availability = _at(wish, "Availability")
    if availability not in AVAILABILITIES:
        raise Forbidden(f"a node's availability may be {' or '.join(AVAILABILITIES)}")
    spec["Availability"] = availability
    return _same(spec, wish, "the pool's label and the availability of a node")


def removable_node(found: SwarmNode, bounds: Bounds) -> None:
    """Raise `Forbidden` unless the node is a machine of ours that was emptied."""
    _check_worker(found, bounds)
    labels = found.spec.get("Labels") or {}
    if labels.get(bounds.swarm.label) != bounds.swarm.pool + nodes.LEAVING:
        raise Forbidden("only a node that was emptied before is removed")


def _check_worker(found: SwarmNode, bounds: Bounds) -> None:
    if found.spec.get("Role") != "worker":
        raise Forbidden("a manager is never changed through this proxy")
    if not nodes.ours([found], bounds.swarm, ()):
        raise Forbidden(f"the node is not one of the pool {bounds.swarm.pool}")


def new_config(wish: Any, bounds: Bounds) -> Spec:
    """The lease, or a claim on a machine; nothing that a container could read as its settings."""
    name = _at(wish, "Name")
    if not is_ours(name, bounds):
        raise Forbidden(
            f"the only configs made here are {bounds.lease} and those that begin with "
            f"{bounds.claims}"
        )
    data = LEASE_DATA if name == bounds.lease else INTENT_DATA
    spec = {"Name": name, "Data": data, "Labels": _labels({}, wish, _names(name, bounds))}
    return _same(spec, wish, "its labels")


def config(found: Spec, wish: Any, bounds: Bounds) -> Spec:
    """The labels of one of our configs. Raises `Forbidden`."""
    name = str(found.get("Name"))
    if not is_ours(name, bounds):
        raise Forbidden("the config is not one of scaling's")
    spec = {**copy.deepcopy(found), "Labels": _labels(found, wish, _names(name, bounds))}
    return _same(spec, wish, "the labels of a config")


def removable_config(found: Spec, bounds: Bounds) -> None:
    """Raise `Forbidden` unless it is a claim that its holder has given up."""
    name = found.get("Name")
    if not is_ours(name, bounds) or name == bounds.lease:
        raise Forbidden("the config is not a claim on a machine")
    if RELEASED not in (found.get("Labels") or {}):
        raise Forbidden("the claim has not been released: it is removed only after that")


def is_ours(name: Any, bounds: Bounds) -> bool:
    """Whether a config of that name is the lease or a claim."""
    if not isinstance(name, str):
        return False
    claimed = name.removeprefix(bounds.claims)
    return name == bounds.lease or (claimed != name and bool(_MACHINE.fullmatch(claimed)))


def _names(name: str, bounds: Bounds) -> tuple[str, ...]:
    return LEASE_LABELS if name == bounds.lease else INTENT_LABELS


def _labels(found: Mapping[str, Any], wish: Any, ours: tuple[str, ...]) -> dict[str, str]:
    """Those that were there, with ours as they are wished."""
    wished = _at(wish, "Labels")
    if not isinstance(wished, dict):
        raise Forbidden("its labels are missing")
    labels = {k: v for k, v in (found.get("Labels") or {}).items() if k not in ours}
    for name in ours:
        if name in wished:
            value = wished[name]
            if not isinstance(value, str) or len(value) > LABEL_LETTERS_MAX:
                raise Forbidden(f"the label {name} must be a text of {LABEL_LETTERS_MAX} letters")
            labels[name] = value
    return labels


def _at(wish: Any, *keys: str) -> Any:
    for key in keys:
        wish = wish.get(key) if isinstance(wish, dict) else None
    return wish


def _same(spec: Spec, wish: Any, what: str) -> Spec:
    """Give back what is to be written, if that is all that was wished."""
    if place := _difference(spec, wish, ""):
        raise Forbidden(f"only {what} may be changed here, and this would change {place}")
    return spec


def _difference(ours: Any, theirs: Any, place: str) -> str:
    """Where two JSON values differ first, as `TaskTemplate.ContainerSpec.Image`; "" if nowhere."""
    if isinstance(ours, dict) and isinstance(theirs, dict):
        for key in [*ours, *theirs]:
            inner = f"{place}.{key}" if place else str(key)
            if key not in ours or key not in theirs:
                return ascii(inner)[1:121].rstrip("'")
            if found := _difference(ours[key], theirs[key], inner):
                return found
        return ""
    if isinstance(ours, list) and isinstance(theirs, list) and len(ours) == len(theirs):
        pairs = enumerate(zip(ours, theirs, strict=True))
        return next(
            (found for i, (a, b) in pairs if (found := _difference(a, b, f"{place}[{i}]"))), ""
        )
    # 1 and true are equal in Python, and 1 and 1.0; in Docker's specs they are not.
    same = type(ours) is type(theirs) and ours == theirs
    return "" if same else place or "all of it"
