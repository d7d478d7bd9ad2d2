"""How a program stands to the terminal it was typed in: what it was called, what it may print.

A hint that one cannot type helps nobody, and a hint that must be corrected is worse than a long
one; so the programs are named as this one was called wherever the shell would not find them.
"""

from __future__ import annotations

import io
import shlex
import shutil
import sys
from pathlib import Path

PROGRAMS = ("peer", "peerctl")


def program(name: str) -> str:
    """What a person types to run `peer` or `peerctl`.

    Its bare name where the shell finds it, else the one beside the program that runs now.
    """
    called = Path(sys.argv[0])
    beside = called.with_name(name)
    if called.name not in PROGRAMS or shutil.which(name) is not None or not beside.is_file():
        return name
    return shlex.quote(str(beside))


def print_whatever_comes() -> None:
    """Replace what the terminal's encoding does not know, rather than end with a traceback."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
