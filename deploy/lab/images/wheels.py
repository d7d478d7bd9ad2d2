"""Python packages for images, fetched by this machine's pip: the engines have no network."""

from __future__ import annotations

import platform
import sys
from pathlib import Path

from deploy.lab.errors import LabError
from deploy.lab.images import base
from deploy.lab.shell import BOUND, run, works

ROOT = Path(__file__).resolve().parents[3]
GLIBC_MINOR = 36
FETCH_S = 600.0


def fetch(requirements: list[Path], into: Path) -> None:
    """Fetch the wheels of locked requirements, by their hashes, for the base's Python.

    Raises:
        LabError: There is no pip, or it says why not.
    """
    machine = platform.machine()
    # pip takes these as they are, and does not know that a newer one includes the older ones.
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 4, -1)]
    platforms += [f"--platform=manylinux2014_{machine}", f"--platform=manylinux2010_{machine}"]
    run(
        *_find_pip(), "download", f"--dest={into}", "--no-deps", "--require-hashes",
        "--only-binary=:all:", f"--python-version={base.PYTHON}", "--implementation=cp", *platforms,
        *(f"--requirement={path}" for path in requirements),
        timeout_s=FETCH_S,
    )  # fmt: skip


def _find_pip() -> tuple[str, ...]:
    """pip of the tree's own environment, or of the Python that runs this."""
    for python in (str(ROOT / ".venv/bin/python"), sys.executable):
        if works(python, "-m", "pip", "--version"):
            return (*BOUND, python, "-m", "pip", "--disable-pip-version-check", "--quiet")
    raise LabError(
        "The image needs pip: make .venv/runtime.stamp puts it into .venv, as a user who is not"
        " root."
    )
