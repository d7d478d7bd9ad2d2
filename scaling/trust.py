"""Whether what was observed may be acted on, and whether anything may be taken away.

Doing nothing is always safe: containers go on, and the queue waits. So whatever is missing, old or
in doubt means hold, and after a change of leader nothing is taken away before the new one has
watched for a whole window.

While the orchestrator itself replaces all containers their number is its own business. To hold
everything then was rejected: an update waits for ever for a container that has no place, so nodes
still come, and for all containers that are wanted.
"""

from __future__ import annotations

from collections.abc import Iterator

from scaling.config import ScalingConfig
from scaling.decision import Reason
from scaling.snapshot import NodeState, Snapshot
from scaling.window import Window

SETTLE_TICKS = 2
"""A new leader's first look may show its predecessor's last change half done."""


def why_held(snapshot: Snapshot, config: ScalingConfig) -> Reason | None:
    """Return why nothing at all may be changed, or None."""
    return next(_doubts(snapshot, config), None)


def _doubts(snapshot: Snapshot, config: ScalingConfig) -> Iterator[Reason]:
    demand = snapshot.demand
    if snapshot.trouble:
        yield Reason(code="trouble", text=f"the orchestrator: {snapshot.trouble}")
    if not snapshot.quorate:
        yield Reason(
            code="no_quorum", text="fewer than half of the recent members are seen from here"
        )
    if demand is None:
        yield Reason(code="no_demand", text="nobody knows how much work there is")
    elif demand.age_s > config.stale_s:
        yield Reason(
            code="stale",
            text=f"the work was counted {demand.age_s:.0f} s ago, more than {config.stale_s:.0f} s",
        )
    unknown = [node.name for node in snapshot.nodes if node.state is NodeState.UNKNOWN]
    if unknown:
        yield Reason(
            code="nodes_unknown",
            text=f"the orchestrator does not know how it is with {', '.join(unknown)}",
        )
    settle_s = SETTLE_TICKS * config.interval_s
    if snapshot.leading_s < settle_s:
        yield Reason(
            code="settling",
            text=f"leading for {snapshot.leading_s:.0f} s: the first {settle_s:.0f} s are to look",
        )


def why_left_alone(snapshot: Snapshot) -> Reason | None:
    """Return why the number of containers stays whatever it should be, or None.

    Nobody is parked for it and no node is emptied either: an update lasts for hours, and to Swarm
    a new container that is moved away right after its start is a failure of the update, which is
    rolled back for that.
    """
    if not snapshot.update:
        return None
    return Reason(
        code="update_under_way",
        text=f"{snapshot.update}: the number of containers is left alone until that is over",
    )


def why_kept(snapshot: Snapshot, config: ScalingConfig, needs: Window) -> Reason | None:
    """Return why nothing may be taken away, or None; more may be added meanwhile."""
    if snapshot.leading_s < config.down_window_s:
        return Reason(
            code="new_leader",
            text=f"leading for {snapshot.leading_s:.0f} s: nothing is taken away before "
            f"{config.down_window_s:.0f} s",
        )
    if not needs.covers(config.down_window_s):
        return Reason(
            code="window",
            text="the work has not been watched without a gap for "
            f"{config.down_window_s:.0f} s: nothing is taken away",
        )
    return None
