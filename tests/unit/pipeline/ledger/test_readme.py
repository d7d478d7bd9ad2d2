"""The ledger's page shows the state machine that the code has."""

from __future__ import annotations

from importlib import resources

from pipeline.tasks import TRANSITIONS


def test_the_diagram_is_the_table() -> None:
    """The README's diagram has every transition of the table, and no other."""
    page = resources.files("pipeline.ledger").joinpath("README.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("```mermaid\n")
    diagram, _, _ = rest.partition("```")
    drawn = [line.strip() for line in diagram.splitlines() if ": " in line]
    assert drawn == [
        f"{before} --> {after}: {action}" for (before, action), after in TRANSITIONS.items()
    ]
