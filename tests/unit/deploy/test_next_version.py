"""The patch that makes the next version fits this one: else only the long test of it would tell."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.swarm.next_version.patch import EDITS, patch

ROOT = Path(__file__).resolve().parents[3]


def test_the_patch_fits(tmp_path: Path) -> None:
    """Each place that it changes is there once."""
    for name, _, after in EDITS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
        assert after not in (tmp_path / name).read_text()
    patch(tmp_path)
    for name, _, after in EDITS:
        assert after in (tmp_path / name).read_text()
