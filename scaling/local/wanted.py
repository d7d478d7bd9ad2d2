"""What is wanted of one machine's containers, and every change a leader may make to it. Pure.

Each part carries the version in which it was changed last, so that a leader's changes of one round
(a node taken in, then containers for it) do not stand in each other's way, and those of two leaders
do.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, replace

from scaling.ports import Conflict, Superseded


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedNode:
    """A node that is in service, or was and is being emptied.

    Args:
        since_s: Since when, in seconds of the epoch, by the database's clock.
        changed: In which version.
    """

    name: str
    emptying: bool = False
    since_s: float
    changed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """How it should be.

    Args:
        place: Whose processes; see `scaling.local.records`.
        closed: All containers end.
        containers: How many, besides those that people started.
        changed: In which version that was changed last.
        stopping: Ids of those that were chosen to end.
        nodes: Those in service or being emptied.
        now_s: When it was read, by the database's clock, in seconds of the epoch.
    """

    place: str
    closed: bool = False
    containers: int = 0
    changed: int = 0
    stopping: tuple[str, ...] = ()
    nodes: tuple[WantedNode, ...]
    version: int = 0
    term: int = 0
    now_s: float = 0.0

    @property
    def mark(self) -> str:
        """The version of every part, as `Sight.version`."""
        return " ".join(
            [str(self.changed), *(f"{node.name}@{node.changed}" for node in self.nodes)]
        )

    def node(self, name: str) -> WantedNode | None:
        """Find a node that is in service or being emptied."""
        return next((node for node in self.nodes if node.name == name), None)


def with_containers(
    now: Wanted, count: int, stopping: Collection[str], *, mark: str, term: int
) -> Wanted:
    """Want so many besides those that people started; the named ones end.

    Raises:
        Conflict, Superseded: As `Orchestrator` says; so do the others here.
    """
    _fence(now, term)
    if str(now.changed) != mark.split(" ", 1)[0]:
        raise Conflict("the number of containers was changed meanwhile; look again")
    version = now.version + 1
    return replace(
        now,
        containers=count,
        changed=version,
        stopping=tuple(sorted(stopping)),
        version=version,
        term=term,
    )


def with_node(now: Wanted, name: str, *, mark: str, term: int) -> Wanted:
    """Take a node into service, also back from being emptied."""
    known = _seen(now, name, mark, term)
    if known is not None and not known.emptying:
        return now
    return _with(now, WantedNode(name=name, since_s=now.now_s), term)


def with_emptying(now: Wanted, name: str, *, mark: str, term: int) -> Wanted:
    """Take a node out of service; its containers end, and their successors start elsewhere."""
    known = _seen(now, name, mark, term)
    if known is None or known.emptying:
        return now
    if sum(not node.emptying for node in now.nodes) == 1:
        raise Conflict(f"the node {name} is the only one in service: it is not emptied")
    return _with(now, WantedNode(name=name, emptying=True, since_s=now.now_s), term)


def without_node(now: Wanted, name: str, *, mark: str, term: int) -> Wanted:
    """Put a node that is empty on standby."""
    known = _seen(now, name, mark, term)
    if known is None:
        return now
    if not known.emptying:
        raise Conflict(f"the node {name} is in service, not empty: it is not retired")
    nodes = tuple(node for node in now.nodes if node.name != name)
    return replace(now, nodes=nodes, version=now.version + 1, term=term)


def closed(now: Wanted, nodes: Collection[str]) -> Wanted:
    """Let all containers end. Who opens it again begins with none, on the first nodes."""
    if now.closed:
        return now
    version = now.version + 1
    first = tuple(node for node in now.nodes if node.name in nodes and not node.emptying)
    kept = {node.name for node in first}
    missing = tuple(
        WantedNode(name=name, since_s=now.now_s, changed=version)
        for name in nodes
        if name not in kept
    )
    return replace(
        now,
        closed=True,
        containers=0,
        changed=version,
        stopping=(),
        nodes=tuple(sorted((*first, *missing), key=lambda node: numbered(node.name))),
        version=version,
    )


def opened(now: Wanted) -> Wanted:
    """Let containers run again."""
    return replace(now, closed=False, version=now.version + 1) if now.closed else now


def numbered(name: str) -> tuple[str, int]:
    """A node's name for sorting: worker-2 comes before worker-10."""
    found = re.fullmatch(r"(.*?)(\d+)", name)
    return (found[1], int(found[2])) if found else (name, 0)


def _with(now: Wanted, node: WantedNode, term: int) -> Wanted:
    version = now.version + 1
    others = [other for other in now.nodes if other.name != node.name]
    nodes = sorted([*others, replace(node, changed=version)], key=lambda each: numbered(each.name))
    return replace(now, nodes=tuple(nodes), version=version, term=term)


def _seen(now: Wanted, name: str, mark: str, term: int) -> WantedNode | None:
    """The node as it is, if it is as it was seen and no later leader has written."""
    _fence(now, term)
    seen = dict(part.rsplit("@", 1) for part in mark.split(" ")[1:])
    known = now.node(name)
    if seen.get(name) != (None if known is None else str(known.changed)):
        raise Conflict(f"the node {name} was changed meanwhile; look again")
    return known


def _fence(now: Wanted, term: int) -> None:
    if now.term > term:
        raise Superseded(
            f"term {now.term} has written already, and this leader has term {term}: "
            "it leads no more"
        )
