"""A night's report: one line a run, written anew after each, so that it is there in the morning
whatever became of the last one."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.cluster.report import PICTURE, TEXT
from tests.chaos.cluster.run import Setting, Verdict

REPORT = "report.md"


@dataclass
class Night:
    """The runs of a night.

    Args:
        folder: For the report; those of the runs are in it.
    """

    folder: Path
    runs: list[tuple[Setting, Verdict]] = field(default_factory=list)

    @property
    def broken(self) -> int:
        """In how many runs a promise was broken."""
        return sum(bool(verdict.objections) for _, verdict in self.runs)

    @property
    def text(self) -> str:
        """How it stands."""
        return f"{len(self.runs)} runs, {self.broken} of them with broken promises: {self.folder}"

    def add(self, setting: Setting, verdict: Verdict) -> None:
        """Put down one more, and write the report."""
        self.runs.append((setting, verdict))
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / REPORT).write_text("\n".join(self._lines()) + "\n")

    def _lines(self) -> list[str]:
        lines = ["# Chaos", "", f"{len(self.runs)} runs, {self.broken} with broken promises.", ""]
        for setting, verdict in self.runs:
            name = setting.folder.name
            told = f"{len(verdict.objections)} objections" if verdict.objections else "kept"
            lines += [
                f"## Seed {setting.seed}: {told}",
                "",
                f"[report]({name}/{TEXT}), again: `{setting.again}`",
                "",
                *(f"- {objection}" for objection in verdict.objections),
                f"![timeline]({name}/{PICTURE})",
                "",
            ]
        return lines
