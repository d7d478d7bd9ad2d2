"""Every scaler on every trace, a few seeds each, as one table and one picture.

python -m tests.simulation.scaling                     six hours, three seeds
python -m tests.simulation.scaling --hours 1 --seeds 1 a look
python -m tests.simulation.scaling --picture day.png   also draws what each did on one seed
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from tests.simulation.scaling.picture import draw_picture, save_picture
from tests.simulation.scaling.run import CONFIG, Outcome, World
from tests.simulation.scaling.scalers import Grapevine, Keda, Literal, Scaler
from tests.simulation.scaling.traces import TRACES, draw

HOURS = 6.0
SEEDS = 3

SCALERS: dict[str, Callable[[int], Scaler]] = {
    "grapevine": lambda _: Grapevine(config=CONFIG),
    "literal": lambda _: Literal(config=CONFIG),
    "literal + 60 s": lambda _: Literal(config=CONFIG, cooldown_s=60.0),
    "KEDA-like": lambda seed: Keda(config=CONFIG, rng=random.Random(seed)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run to be made."""

    trace: str
    scaler: str
    seed: int
    hours: float


def simulate(cell: Cell) -> Outcome:
    """Make one run."""
    world = World(
        draw(cell.trace, cell.seed, cell.hours), SCALERS[cell.scaler](cell.seed), seed=cell.seed
    )
    return world.run(cell.hours * 3600)


def simulate_all(cells: Sequence[Cell], jobs: int | None = None) -> dict[Cell, Outcome]:
    """Make many runs, side by side in processes of their own."""
    with multiprocessing.get_context("spawn").Pool(jobs or os.cpu_count()) as pool:
        return dict(zip(cells, pool.map(simulate, cells, chunksize=1), strict=True))


def cells_of(hours: float, seeds: int, traces: Sequence[str], scalers: Sequence[str]) -> list[Cell]:
    """List the runs of a table."""
    return [
        Cell(trace=trace, scaler=scaler, seed=seed, hours=hours)
        for trace in traces
        for scaler in scalers
        for seed in range(seeds)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mean:
    """The mean of one scaler's runs on one trace."""

    p95_s: float
    cost: float
    to_clairvoyant: float
    boots: float
    reversals: float
    redone: int
    late: float


def mean(outcomes: Sequence[Outcome]) -> Mean:
    """Average what can be averaged, and add up what must not happen."""
    return Mean(
        p95_s=fmean(each.p95_s for each in outcomes),
        cost=fmean(each.cost for each in outcomes),
        to_clairvoyant=fmean(each.cost / each.clairvoyant for each in outcomes),
        boots=fmean(each.boots for each in outcomes),
        reversals=fmean(each.reversals for each in outcomes),
        redone=sum(each.redone for each in outcomes),
        late=fmean(each.late for each in outcomes),
    )


def as_table(outcomes: dict[Cell, Outcome]) -> Table:
    """Lay the outcomes out, a line a trace and a scaler."""
    table = Table(
        title="cost: node-seconds times containers a node, over the seconds of work",
        box=SIMPLE,
        padding=(0, 1),
        collapse_padding=True,
        pad_edge=False,
    )
    table.caption = (
        "best: who knows the future; turns: reversals within 10 min; "
        "redone: parts that a scale-down killed; late: waited longer than 120 s"
    )
    for heading in ("trace", "scaler"):
        table.add_column(heading, no_wrap=True)
    for heading in (
        "p95 s", "cost", "÷ best", "boots", "turns", "redone", "late",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    groups: dict[tuple[str, str], list[Outcome]] = {}
    for cell, outcome in outcomes.items():
        groups.setdefault((cell.trace, cell.scaler), []).append(outcome)
    last = ""
    for (trace, scaler), group in groups.items():
        if last and trace != last:
            table.add_section()
        found = mean(group)
        table.add_row(
            trace if trace != last else "",
            scaler,
            f"{found.p95_s:.0f}",
            f"{found.cost:.2f}",
            f"{found.to_clairvoyant:.2f}",
            f"{found.boots:.0f}",
            f"{found.reversals:.0f}",
            f"{found.redone}",
            f"{found.late:.1%}",
        )
        last = trace
    return table


def main(arguments: list[str] | None = None) -> int:
    """Do what was asked for; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.scaling")
    parser.add_argument("--hours", type=float, default=HOURS, help=f"default {HOURS:.0f}")
    parser.add_argument("--seeds", type=int, default=SEEDS, help=f"default {SEEDS}")
    parser.add_argument("--trace", action="append", choices=list(TRACES), help="only this one")
    parser.add_argument("--jobs", type=int, help="processes side by side")
    parser.add_argument(
        "--picture", type=Path, metavar="FILE", help="draw the first seed: .png or .svg"
    )
    chosen = parser.parse_args(arguments)
    traces = chosen.trace or list(TRACES)
    cells = cells_of(chosen.hours, chosen.seeds, traces, list(SCALERS))
    outcomes = simulate_all(cells, chosen.jobs)
    Console().print(as_table(outcomes))
    if chosen.picture is not None:
        first = {
            (cell.trace, cell.scaler): outcome.series
            for cell, outcome in outcomes.items()
            if cell.seed == 0
        }
        save_picture(draw_picture(first, hours=chosen.hours), chosen.picture)
    return 0 if not any(outcome.faults for outcome in outcomes.values()) else 1
