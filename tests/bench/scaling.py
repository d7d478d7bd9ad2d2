"""The policy against made-up days, in virtual time: what it costs, and what it must never do.

The whole table, with its rivals, is `python -m tests.simulation.scaling`; here are the promises.
Each number is the mean of three seeds; what must not happen is counted over all of them.
"""

from __future__ import annotations

from tests.bench.rows import Row, print_rows
from tests.simulation.scaling.run import Outcome
from tests.simulation.scaling.table import HOURS, SEEDS, Cell, Mean, cells_of, mean, simulate_all
from tests.simulation.scaling.traces import TRACES

GOAL_BOOTS = 20
GOAL_REVERSALS = 12
GOAL_WAIT_S = 40.0
GOAL_LATE_PERCENT = 1.0
GOAL_SCALE_DOWNS = 1000
GOALS_COST = {
    "steady": 1.10,
    "diurnal": 1.10,
    "heavy tail": 1.10,
    "MMPP": 1.35,
    "on/off": 1.60,
}
"""Over the clairvoyant's. The bursts have none: 300 parts at once are more than the cluster can do
within two minutes."""


def measure() -> list[Row]:
    """Run every trace with three seeds."""
    outcomes = simulate_all(cells_of(HOURS, SEEDS, list(TRACES), ["grapevine"]))
    found = {name: mean(_of(name, outcomes)) for name in TRACES}
    ended = sum(outcome.ended for outcome in outcomes.values())
    busy = sum(outcome.ended_busy + outcome.redone for outcome in outcomes.values())
    steady = found["steady"]
    return [
        Row(metric="scale-downs simulated", measured=ended, goal=GOAL_SCALE_DOWNS),
        Row(metric="busy tasks killed, stopped or redone", measured=busy, goal=0, at_most=True),
        Row(metric="steady 6 h: node boots", measured=steady.boots, goal=GOAL_BOOTS, at_most=True),
        Row(
            metric="steady 6 h: reversals within 10 min",
            measured=steady.reversals,
            goal=GOAL_REVERSALS,
            at_most=True,
        ),
        *(_cost(name, found[name], goal) for name, goal in GOALS_COST.items()),
        *(_wait(name, found[name]) for name in ("steady", "diurnal")),
        *(_late(name, found[name]) for name in ("steady", "diurnal", "heavy tail")),
    ]


def _of(name: str, outcomes: dict[Cell, Outcome]) -> list[Outcome]:
    return [outcome for cell, outcome in outcomes.items() if cell.trace == name]


def _cost(name: str, found: Mean, goal: float) -> Row:
    metric = f"{name}: cost ÷ clairvoyant"
    return Row(metric=metric, measured=found.to_clairvoyant, goal=goal, at_most=True)


def _wait(name: str, found: Mean) -> Row:
    metric = f"{name}: p95 wait (s)"
    return Row(metric=metric, measured=found.p95_s, goal=GOAL_WAIT_S, at_most=True)


def _late(name: str, found: Mean) -> Row:
    metric = f"{name}: waited longer than 120 s (%)"
    return Row(metric=metric, measured=100 * found.late, goal=GOAL_LATE_PERCENT, at_most=True)


if __name__ == "__main__":
    print_rows(measure())
