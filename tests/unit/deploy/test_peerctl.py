"""deploy/peerctl, with a `docker` that says what it was asked."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[3] / "deploy" / "peerctl"

DOCKER = """#!/bin/sh
case $* in
    ps*"service.name=$HAS") echo 0123456789ab ;;
    exec*) echo "$@" ;;
esac
"""


def run(directory: Path, *, has: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run it where a container of the service `has` runs, without a terminal."""
    (directory / "docker").write_text(DOCKER)
    (directory / "docker").chmod(0o755)
    environment = {"PATH": f"{directory}:{os.environ['PATH']}", "HAS": has, **variables}
    return subprocess.run(
        [PROGRAM, "task", "3f2a", "--json"],
        env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("has", "variables"),
    [("grapevine_seed", {}), ("grapevine_peer", {}), ("film_seed", {"GRAPEVINE_STACK": "film"})],
)
def test_it_runs_in_the_seed_or_in_a_peer(
    tmp_path: Path, has: str, variables: dict[str, str]
) -> None:
    """With all that was typed, and no terminal where there is none: a pipe stays as it is."""
    done = run(tmp_path, has=has, **variables)
    assert done.stdout == "exec --interactive 0123456789ab peerctl task 3f2a --json\n"


def test_where_nobody_is_it_says_so(tmp_path: Path) -> None:
    """With the exit code that peerctl has for it."""
    done = run(tmp_path, has="another_peer")
    assert (done.returncode, done.stdout) == (3, "")
    assert "no peer of the stack grapevine runs on this machine: try a manager" in done.stderr
