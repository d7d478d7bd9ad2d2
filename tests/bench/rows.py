"""One line of the benches' table: what was measured, what was promised, and whether it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One measurement.

    Args:
        metric: What was measured, with its unit.
        goal: The limit that was promised.
        at_most: Less is better; otherwise more is.
    """

    metric: str
    measured: float
    goal: float
    at_most: bool = False

    @property
    def met(self) -> bool:
        """Whether the promise is kept."""
        return self.measured <= self.goal if self.at_most else self.measured >= self.goal


def print_rows(rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table()
    table.add_column("metric")
    for heading in ("measured", "goal", "met"):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        met = "[green]yes[/]" if row.met else "[red]no[/]"
        sign = "≤" if row.at_most else "≥"
        table.add_row(row.metric, f"{row.measured:.3g}", f"{sign} {row.goal:g}", met)
    Console().print(table)
