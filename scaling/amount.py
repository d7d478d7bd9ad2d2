"""How many containers there should be: the need, let through by the gate, damped.

    up      at once, when the need exceeds what there is by the band
    step    one more where a rule's words ask for it and the band says no, then a pause
    down    to the largest need of the window, when that is below what there is by the band
    same    as it is

A shrinking that has begun goes on to its end without the band: its first step would otherwise bring
what is left so close that the rest is never taken.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from scaling.config import ScalingConfig
from scaling.decision import Reason
from scaling.gates import Direction, Gate
from scaling.memory import Memory
from scaling.need import Need, drained, slots_each
from scaling.snapshot import ContainerState, Demand, NodeState, Snapshot
from scaling.words import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Amount:
    """How many containers there should be.

    Args:
        containers: What the orchestrator is to be told, within the limits.
        memory: With what was begun.
    """

    containers: int
    reasons: tuple[Reason, ...]
    memory: Memory


def amount(
    snapshot: Snapshot,
    demand: Demand,
    config: ScalingConfig,
    memory: Memory,
    *,
    gate: Gate,
    need: Need,
    reach: int,
    kept: Reason | None,
) -> Amount:
    """Say how many containers there should be.

    Args:
        reach: How many have a place on nodes in service and on their way.
        kept: Why nothing may be taken away; None when it may.
    """
    idle_by_hand = drained(snapshot.containers)
    present = max(0, snapshot.wanted - idle_by_hand)
    reach = max(0, reach - idle_by_hand)  # those have a place, and are no capacity
    wish = min(need.containers, config.containers_max)
    if gate.direction is Direction.UP:
        chosen = _up(
            snapshot, demand, config, memory, present=present, need=need, wish=wish, reach=reach
        )
    else:
        chosen = _down(demand, config, memory, gate=gate, present=present, reach=reach, kept=kept)
    reasons = list(chosen.reasons)
    if idle_by_hand:
        reasons.append(
            Reason(
                code="drained", text=f"{_containers(idle_by_hand, 'is', 'are')} drained by a person"
            )
        )
    count = chosen.containers + idle_by_hand
    bounded = min(max(count, config.containers_min), config.containers_max)
    if bounded > count:
        reasons.append(
            Reason(code="minimum", text=f"at least {_containers(bounded, 'is', 'are')} kept")
        )
    elif bounded < count:
        reasons.append(
            Reason(code="maximum", text=f"at most {_containers(bounded, 'is', 'are')} allowed")
        )
    if kept is not None and bounded < snapshot.wanted:
        bounded = snapshot.wanted
    return Amount(containers=bounded, reasons=tuple(reasons), memory=chosen.memory)


def band(present: int, config: ScalingConfig) -> float:
    """How much more or less than what there is makes a change worth it."""
    return max(1.0, config.band * present)


def _up(
    snapshot: Snapshot,
    demand: Demand,
    config: ScalingConfig,
    memory: Memory,
    *,
    present: int,
    need: Need,
    wish: int,
    reach: int,
) -> Amount:
    # What was decided stands as far as it has a place, and one beyond: an order may have failed.
    begun = min(memory.growing_to or 0, max(reach, present + 1))
    if wish - present >= band(present, config):
        target = max(wish, begun)
        reason = Reason(code="need", text=need.text)
    elif begun > present:
        target = begun
        reason = _still_growing(begun)
    elif (no_step := why_no_step(snapshot, demand, config, memory, present=present)) is not None:
        target = present
        reason = no_step
    else:
        target = present + 1
        reason = Reason(code="step", text=f"{need.text}; one more, as the rule says, and then see")
    memory = replace(
        memory,
        shrinking_to=None,
        growing_to=target if target > present else None,
        grown_s=snapshot.now_s if target > present else memory.grown_s,
    )
    return Amount(containers=target, reasons=(reason,), memory=memory)


def _still_growing(target: int) -> Reason:
    return Reason(
        code="on_its_way",
        text=f"{_containers(target, 'was', 'were')} decided; some wait for their node",
    )


def why_no_step(
    snapshot: Snapshot, demand: Demand, config: ScalingConfig, memory: Memory, *, present: int
) -> Reason | None:
    """Return why not even one more container is asked for, or None.

    What is on its way counts, and what has just come has had no time to show: to ask again on each
    look until the queue is short is what makes the literal rules overshoot.
    """
    if present >= config.containers_max:
        return Reason(
            code="maximum",
            text=f"{_containers(present, 'is there', 'are there')}, the most allowed",
        )
    if demand.ready + demand.running <= present * slots_each(snapshot.containers):
        return Reason(
            code="enough",
            text=f"{_containers(present, 'is', 'are')} enough to work on all parts at once",
        )
    coming = [
        node.name
        for node in snapshot.nodes
        if node.state is NodeState.BOOTING and node.name not in memory.boots.given_up
    ]
    unready = snapshot.wanted - sum(
        container.state is ContainerState.RUNNING and container.peer is not None
        for container in snapshot.containers
    )
    if coming or unready > 0:
        what = f"node {coming[0]}" if coming else _containers(unready)
        return Reason(code="on_its_way", text=f"{what} on the way, and the need is met")
    if memory.grown_s is not None and snapshot.now_s - memory.grown_s < config.wait_s:
        return Reason(
            code="on_its_way",
            text=f"some were added {snapshot.now_s - memory.grown_s:.0f} s ago; the effect shows "
            f"within {config.wait_s:.0f} s",
        )
    return None


def _down(
    demand: Demand,
    config: ScalingConfig,
    memory: Memory,
    *,
    gate: Gate,
    present: int,
    reach: int,
    kept: Reason | None,
) -> Amount:
    """Shrink, go on shrinking, or stay: the gate points down or says that all stays as it is."""
    growing = min(memory.growing_to or 0, reach)
    if growing > present and gate.direction is Direction.SAME:
        return Amount(containers=growing, reasons=(_still_growing(growing),), memory=memory)
    memory = replace(memory, growing_to=None)
    floor = max(memory.needs.largest, config.containers_min)
    begun = memory.shrinking_to
    stays = replace(memory, shrinking_to=None)
    if floor >= present:
        reason = Reason(
            code="needed",
            text=f"{_containers(floor, 'was', 'were')} needed lately, "
            f"{counted(present, 'is', 'are')} there",
        )
        return Amount(containers=present, reasons=(reason,), memory=stays)
    if kept is not None:
        return Amount(containers=present, reasons=(kept,), memory=stays)
    if begun is not None and begun < present:
        target = min(present, max(begun, floor))
    elif gate.direction is Direction.SAME:
        return Amount(containers=present, reasons=(), memory=stays)
    elif present - floor < band(present, config) and demand.ready + demand.running > 0:
        reason = Reason(
            code="band",
            text=f"{_containers(floor)} would do, too close to the {present} that are there",
        )
        return Amount(containers=present, reasons=(reason,), memory=stays)
    else:
        target = floor
    reason = Reason(
        code="window",
        text=f"no more than {_containers(target, 'was', 'were')} needed "
        f"for {config.down_window_s:.0f} s",
    )
    return Amount(containers=target, reasons=(reason,), memory=replace(memory, shrinking_to=target))


def _containers(number: int, one: str = "", many: str = "") -> str:
    """`1 container is`, `2 containers are`."""
    return counted(number, f"container {one}".rstrip(), f"containers {many}".rstrip())
