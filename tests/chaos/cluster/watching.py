"""Samples of a cluster while it breaks: members, containers, what waits and what is done.

For the picture and for whoever looks for a cause; nothing is judged by them. Whatever does not
answer in time is missing from the sample, and that tells something, too.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

import trio

from deploy.lab.containers import Container
from deploy.lab.errors import LabError
from tests.chaos.checker import ask
from tests.chaos.cluster.site import AWAY, Site
from tests.chaos.cluster.timeline import Timeline

EVERY_S = 3.0
WITHIN_S = 4.0
BY_STATE = "SELECT state, count(*) FROM tasks GROUP BY state"
WAITING = ("high", "normal", "low")


async def watch(site: Site, timeline: Timeline, *, seed: int) -> None:
    """Take samples until cancelled."""
    rng = random.Random(f"{seed} samples")
    while True:
        running = await _within(site.stack.containers)
        sample: dict[str, Any] = {
            "containers": running and dict(Counter(one.service for one in running)),
            "members": await _within(partial(_count_members, site, _any_peer(rng, running or []))),
            "tasks": await _within(partial(_count_tasks, site)),
            "messages": await _within(partial(_count_messages, site)),
        }
        timeline.note("sample", **sample)
        await trio.sleep(EVERY_S)


async def _within(call: Callable[[], Any]) -> Any:
    with trio.move_on_after(WITHIN_S):
        try:
            return await trio.to_thread.run_sync(call, abandon_on_cancel=True)
        except (*AWAY, LabError, RuntimeError):  # the management API answers that it cannot
            return None
    return None


def _any_peer(rng: random.Random, running: list[Container]) -> Container | None:
    """A seed rather than a peer: those are not hit as often."""
    for service in ("seed", "peer"):
        if able := [one for one in running if one.service == service and not one.frozen]:
            return rng.choice(able)
    return None


def _count_members(site: Site, asked: Container | None) -> dict[str, int] | None:
    if asked is None:
        return None
    return dict(Counter(row["state"] for row in site.stack.table(asked))) or None


def _count_tasks(site: Site) -> dict[str, int]:
    return {row["state"]: row["count"] for row in site.read(BY_STATE)}


def _count_messages(site: Site) -> int:
    """Those that wait for a peer, or are in the hands of one."""
    broker = site.scene.broker
    queues = ask(broker, "GET", f"/api/queues/{quote(broker.virtual_host, safe='')}")
    return sum(
        queue.get("messages", 0) for queue in queues if queue["name"].rpartition(".")[2] in WAITING
    )
