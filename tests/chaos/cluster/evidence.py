"""All that there is to know about a run that broke a promise, in its folder.

What cannot be had (an engine that is dead is asked for its logs, too) is told in the file that it
would have been in: the lack of it may be the cause.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from pprint import pformat
from typing import Any

from deploy.lab.engine import Engine
from deploy.lab.errors import LabError
from deploy.lab.plan import Node
from deploy.lab.stack import Stack
from tests.chaos.cluster.facts import Facts
from tests.chaos.cluster.site import AWAY, Site

OF_THE_LEDGER = (
    "tasks",
    "parts",
    "claims",
    "outputs",
    "interventions",
    "events",
    "standings",
    "scaling_decisions",
)
OF_THE_SWARM = ("nodes", "services", "tasks", "configs")


def keep_evidence(site: Site, facts: Facts | None, folder: Path) -> None:
    """Write it down."""
    for name, write in _everything(site, facts, folder):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            file.write_text(write())
        except (*AWAY, LabError, OSError) as error:
            file.write_text(f"It could not be had: {error}\n")


def _everything(
    site: Site, facts: Facts | None, folder: Path
) -> Iterator[tuple[str, Callable[[], str]]]:
    if facts is not None:
        yield "facts.txt", lambda: pformat(facts, width=120) + "\n"
    for table in OF_THE_LEDGER:
        yield f"ledger/{table}.jsonl", partial(_dump, site, table)
    for kind in OF_THE_SWARM:
        yield f"swarm/{kind}.json", partial(_ask_swarm, site.stack, kind)
    for node in site.stack.lab.plan.members:
        yield f"{node.name}-dockerd.log", partial(node.log.read_text, errors="replace")
        for name, container in _containers(node):
            yield f"logs/{node.name}/{name}.log", partial(Engine(node.socket).logs, container)


def _dump(site: Site, table: str) -> str:
    rows = site.read(f"SELECT * FROM {table}")
    return "".join(json.dumps(row, default=str) + "\n" for row in rows)


def _ask_swarm(stack: Stack, kind: str) -> str:
    return _as_json(stack.lab.manager().get(f"/{kind}"))


def _containers(node: Node) -> list[tuple[str, str]]:
    """Those that have ended, too, for as long as Swarm keeps them."""
    try:
        found = Engine(node.socket).get("/containers/json", all=True)
    except LabError:
        return []
    return [(one["Names"][0].strip("/"), one["Id"]) for one in found]


def _as_json(value: Any) -> str:
    return json.dumps(value, indent=1) + "\n"
