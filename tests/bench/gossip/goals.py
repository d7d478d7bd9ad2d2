"""The table of goals: what was promised, what serf did, what we did, and whether it is kept."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one scenario gave for one product.

    Args:
        measured: By the name of the measure.
        ran: What was really run: how many agents, for how long.
        failed: Why it gave nothing; empty when it did.
    """

    measured: Mapping[str, float] = field(default_factory=dict)
    ran: str = ""
    failed: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """One line of the table.

    Args:
        scenario, measure: Which number of which scenario it is about.
        title: What that is, with its unit.
        at_most: The promise; None where the number is only told.
    """

    scenario: str
    measure: str
    title: str
    at_most: float | None = None

    def met(self, ours: Outcome) -> bool:
        """Whether the promise is kept. What was not measured is not kept."""
        if self.at_most is None:
            return True
        measured = ours.measured.get(self.measure, math.nan)
        return not ours.failed and measured <= self.at_most


GOALS = (
    Goal(
        scenario="kill",
        measure="suspect_p99_s",
        title="kill -9 → SUSPECT at the last survivor, p99 (s)",
        at_most=4.3,
    ),
    Goal(
        scenario="kill",
        measure="dead_p99_s",
        title="kill -9 → DEAD at the last survivor, p99 (s)",
        at_most=7.6,
    ),
    Goal(scenario="kill", measure="dead_p50_s", title="the same, p50 (s)"),
    Goal(scenario="kill", measure="false_dead", title="falsely DEAD meanwhile", at_most=0),
    Goal(scenario="loss30", measure="false_dead", title="30 % loss: falsely DEAD", at_most=0),
    Goal(scenario="loss30", measure="false_suspect", title="… falsely SUSPECT", at_most=1),
    Goal(scenario="hogged", measure="false_dead", title="cores hogged: falsely DEAD", at_most=0),
    Goal(scenario="hogged", measure="false_suspect", title="… falsely SUSPECT"),
    Goal(scenario="hogged", measure="lag_p999_ms", title="… loop lag, p99.9 (ms)", at_most=100),
    Goal(
        scenario="freeze",
        measure="false_dead",
        title="a tenth frozen for 1 to 5 s, again and again: falsely DEAD",
        at_most=0,
    ),
    Goal(scenario="freeze", measure="false_suspect", title="… SUSPECT"),
    Goal(
        scenario="loads",
        measure="bytes_per_s",
        title="loads at 1 Hz: sent by each peer, IP headers included (B/s)",
        at_most=8000,
    ),
    Goal(scenario="loads", measure="age_p50_s", title="… age of others' loads, p50 (s)"),
    Goal(scenario="loads", measure="age_p99_s", title="… age of others' loads, p99 (s)", at_most=3),
    Goal(scenario="idle", measure="cpu_percent", title="idle: CPU (% of a core)", at_most=1),
    Goal(scenario="idle", measure="cpu_small_percent", title="… among 5 (% of a core)"),
    Goal(scenario="idle", measure="bytes_per_s", title="… sent by each peer (B/s)"),
    Goal(scenario="idle", measure="resident_mb", title="… RSS (MB)"),
    Goal(scenario="idle", measure="start_cpu_s", title="… CPU until all have joined, each (s)"),
    Goal(
        scenario="memory",
        measure="resident_mb",
        title="RSS with a simulated table of 1000 (MB)",
        at_most=40,
    ),
    Goal(scenario="memory", measure="part_mb", title="… without the interpreter and trio (MB)"),
    Goal(scenario="memory", measure="cpu_percent", title="… CPU (% of a core)"),
    Goal(scenario="join", measure="last_s", title="all join at once → equal tables (s)", at_most=3),
    Goal(scenario="join", measure="median_s", title="… at the median peer (s)"),
)


def print_table(outcomes: Mapping[str, Mapping[str, Outcome]]) -> bool:
    """Print the goals of the scenarios that were run; return whether all are kept.

    Args:
        outcomes: By scenario and product.
    """
    table = Table()
    table.add_column("")
    for heading in ("goal", "serf", "ours", "met"):
        table.add_column(heading, justify="right", no_wrap=True)
    kept = True
    for goal in GOALS:
        if (by_product := outcomes.get(goal.scenario)) is None:
            continue
        serf, ours = by_product.get("serf"), by_product.get("ours")
        told = "" if goal.at_most is None or ours is None else "yes" if goal.met(ours) else "MISS"
        kept = kept and told != "MISS"
        color = {"yes": "green", "MISS": "red"}.get(told, "")
        table.add_row(
            goal.title,
            "" if goal.at_most is None else f"≤ {goal.at_most:g}",
            _show(goal, serf),
            _show(goal, ours),
            f"[{color}]{told}[/]" if color else "",
        )
    console = Console()
    console.print(table)
    for scenario, by_product in outcomes.items():
        for product, outcome in by_product.items():
            console.print(f"{scenario} ran with {product}: {outcome.failed or outcome.ran}")
    return kept


def tell(scenario: str, product: str, outcome: Outcome) -> str:
    """Return an outcome as a line of text."""
    if outcome.failed:
        return f"{scenario} {product}: FAILED: {outcome.failed}"
    numbers = " ".join(f"{name}={value:.4g}" for name, value in outcome.measured.items())
    return f"{scenario} {product} ({outcome.ran}): {numbers}"


def _show(goal: Goal, outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    if outcome.failed:
        return "failed"
    value = outcome.measured.get(goal.measure)
    return "—" if value is None else f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the values that at least this share of them does not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


class Records:
    """The raw numbers: a file of comma-separated values for each scenario and product."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def write(
        self, scenario: str, product: str, head: Sequence[str], rows: Iterable[Sequence[object]]
    ) -> None:
        """Write one file."""
        with (self.directory / f"{scenario}-{product}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(head)
            writer.writerows(rows)
