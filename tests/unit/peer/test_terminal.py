"""Hints that can be typed, and output that any terminal takes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from peer.terminal import program


@pytest.mark.parametrize(
    ("called", "on_path", "typed"),
    [
        ("peerctl", True, "peer"),
        ("peerctl", False, "{bin}/peer"),
        ("pytest", False, "peer"),
    ],
)
def test_programs_are_named_as_they_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, on_path: bool, typed: str
) -> None:
    """A bare name where the shell finds it; else with the directory this one was called from."""
    for name in ("peer", "peerctl"):
        (tmp_path / name).touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path) if on_path else "/nowhere")
    monkeypatch.setattr(sys, "argv", [str(tmp_path / called)])
    assert program("peer") == typed.replace("{bin}", str(tmp_path))


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("peer.cli", ["task", "é…", "--data-dir", "/no/such/directory"]),
        ("peer", ["--set", "é…=1"]),
    ],
)
def test_ascii_is_enough(module: str, arguments: list[str]) -> None:
    """A terminal that knows ASCII only gets question marks, and no traceback."""
    ended = subprocess.run(
        [sys.executable, "-X", "utf8=0", "-m", module, *arguments],
        env=os.environ | {"PYTHONIOENCODING": "ascii:strict"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode in (2, 3)
    assert "Traceback" not in ended.stderr
    assert "Error: " in ended.stderr
