"""The quiet time: wait until the cluster is well again, and until all that was handed in is over.

How long tables took to agree is counted from the last change that anybody made: the last fault's
end, or the last container that came or went since (the scaler goes on with its work). All of it
must hold at the same moment, or a cluster that never comes to rest would pass.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import trio

from deploy.lab.errors import LabError
from tests.chaos.checker import left_over
from tests.chaos.cluster.checker import objections_to
from tests.chaos.cluster.facts import Look
from tests.chaos.cluster.look import take_look
from tests.chaos.cluster.site import AWAY, Site
from tests.chaos.cluster.timeline import Timeline

T = TypeVar("T")

POLL_S = 1.0
WORKING_POLL_S = 5.0
"""Where work goes on: to ask every peer for its table costs what the work needs."""

UNSETTLED = "SELECT count(*) FROM tasks WHERE state IN ('queued', 'running')"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How it ended.

    Args:
        look: The last one; an empty one if nobody ever answered.
        met_after_s: How long after the last change all tables were equal; None: they were not.
        over: Whether no task and no message was left.
    """

    look: Look
    met_after_s: float | None
    over: bool


async def settle(site: Site, timeline: Timeline, *, until_s: float) -> Settled:
    """Wait until all is well and over, or until that moment."""
    changed_s, shape = timeline.now_s, None
    met_after_s: float | None = None
    look = Look()
    over = False
    with trio.move_on_after(until_s - timeline.now_s):  # one look may take minutes
        while met_after_s is None or not over:
            try:
                look = await _in_thread(partial(take_look, site.stack))
                if look.shape != shape:
                    shape, changed_s, met_after_s = look.shape, timeline.now_s, None
                elif found := objections_to(look):
                    met_after_s = None
                    timeline.note("not settled", why=found)
                else:
                    met_after_s = met_after_s or timeline.now_s - changed_s
                over = await _in_thread(partial(_is_over, site))
            except (*AWAY, LabError, RuntimeError) as error:
                timeline.note("not settled", why=[str(error)])
            await trio.sleep(POLL_S if over else WORKING_POLL_S)
    settled = met_after_s is not None and over
    timeline.note("settled" if settled else "never settled", met_after_s=met_after_s, over=over)
    return Settled(look=look, met_after_s=met_after_s, over=over)


def _is_over(site: Site) -> bool:
    if site.read(UNSETTLED)[0]["count"]:
        return False
    return not any(left_over(site.scene, but_dead=True))


async def _in_thread(call: Callable[[], T]) -> T:
    return await trio.to_thread.run_sync(call, abandon_on_cancel=True)
