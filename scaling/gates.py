"""The user's rules, as gates: may there be more, may there be fewer, or does all stay as it is?

Two rules were written down (scaling/README.md quotes both): one by the queue's length, one by the
average CPU. A gate only opens a direction. How far to go is the need's to say (scaling/need.py),
and where is placing's. Both rules speak; to grow wins over to shrink, for a container too many
costs money for five minutes, and one too few keeps people waiting.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from scaling.config import ScalingConfig
from scaling.decision import Reason
from scaling.snapshot import Demand
from scaling.utilization import Levels
from scaling.words import parts_wait


class Direction(StrEnum):
    """Which way a gate is open."""

    UP = "up"
    SAME = "same"
    DOWN = "down"


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The open direction, and every rule that spoke for it."""

    direction: Direction
    reasons: tuple[Reason, ...]


def gate(demand: Demand, levels: Levels, config: ScalingConfig, *, present: int) -> Gate:
    """Say in which direction the rules point.

    Args:
        present: How many containers take work, or are told to.
    """
    up = _up(demand, levels, config, present=present)
    if up:
        return Gate(direction=Direction.UP, reasons=up)
    down = _down(demand, levels, config)
    if down:
        return Gate(direction=Direction.DOWN, reasons=down)
    within = Reason(
        code="queue_in_range",
        text=f"{parts_wait(demand.ready)}, "
        f"from {config.queue_low} to {config.queue_high} as wanted",
    )
    return Gate(direction=Direction.SAME, reasons=(within,))


def _up(
    demand: Demand, levels: Levels, config: ScalingConfig, *, present: int
) -> tuple[Reason, ...]:
    waits = parts_wait(demand.ready)
    reasons = []
    if demand.ready > config.queue_high:
        reasons.append(Reason(code="queue_high", text=f"{waits}, more than {config.queue_high}"))
    # Hot nodes with nothing to do for a further one are as they should be: ffmpeg takes what it
    # gets. They mean "more" only while work waits that is not too little to speak of.
    if demand.ready >= max(1, config.queue_low):
        if levels.cpu == "above":
            reasons.append(
                Reason(
                    code="cpu_high",
                    text=f"the average CPU is above {config.cpu_high:.0%} and {waits}",
                )
            )
        if levels.memory == "above" or levels.starved:
            lacking = ", ".join(starved.node for starved in levels.starved)
            said = f"memory ran out on {lacking}" if lacking else "the average memory is high"
            reasons.append(Reason(code="memory_high", text=f"{said} and {waits}"))
    if present == 0 and demand.ready + demand.running > 0:
        reasons.append(Reason(code="nobody_works", text=f"{waits} and there is no container"))
    return tuple(reasons)


def _down(demand: Demand, levels: Levels, config: ScalingConfig) -> tuple[Reason, ...]:
    waits = parts_wait(demand.ready)
    reasons = []
    if demand.ready < config.queue_low:
        reasons.append(Reason(code="queue_low", text=f"{waits}, fewer than {config.queue_low}"))
    if levels.cpu == "below":
        reasons.append(
            Reason(code="cpu_low", text=f"the average CPU is below {config.cpu_low:.0%}")
        )
    return tuple(reasons)
