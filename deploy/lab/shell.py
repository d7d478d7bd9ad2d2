"""Programs of the system, run to their end."""

from __future__ import annotations

import subprocess

from deploy.lab.errors import LabError

BOUND = ("setpriv", "--pdeathsig", "KILL")
"""Before a program that takes long: the kernel ends it with this process, however that ends."""


def run(*argv: str, timeout_s: float = 60.0) -> str:
    """Run a program and return what it printed.

    Raises:
        LabError: With the last line of its complaint.
    """
    try:
        done = subprocess.run(
            argv,
            check=True,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            stdin=subprocess.DEVNULL,
            timeout=timeout_s,
        )
    except FileNotFoundError:
        raise LabError(f"{argv[0]} is not installed.") from None
    except subprocess.TimeoutExpired:
        raise LabError(f"`{' '.join(argv)}` did not end within {timeout_s:.0f} s.") from None
    except subprocess.CalledProcessError as error:
        lines = (error.stderr or error.stdout).strip().splitlines() or [
            f"exit code {error.returncode}"
        ]
        raise LabError(f"`{' '.join(argv)}` failed: {lines[-1]}") from None
    return done.stdout


def works(*argv: str) -> bool:
    """Whether a program ends with exit code 0."""
    try:
        run(*argv)
    except LabError:
        return False
    return True
