"""One console for everything that is printed with rich, and the few colours in use.

Colours are the sixteen that every terminal maps to something readable on its own background; light
yellow, white and black are left out because one of the two backgrounds swallows each. rich leaves
colours out by itself when the output is a pipe or `NO_COLOR` is set.
"""

from __future__ import annotations

import sys
from typing import TextIO

from rich.console import Console
from rich.theme import Theme

PIPE_WIDTH = 200
"""Where nobody looks at a terminal's edge, rows stay whole for grep."""

NARROW = 110
"""Below this many columns a table shows only what cannot be left out."""

THEME = Theme(
    {
        "queued": "cyan",
        "running": "blue",
        "ready": "cyan",
        "working": "green",
        "waiting": "magenta",
        "draining": "magenta",
        "parked": "magenta",
        "quarantined": "red",
        "starting": "cyan",
        "stopped": "dim",
        "killed": "red",
        "done": "green",
        "escalated": "red",
        "cancelled": "dim",
        "claimed": "blue",
        "alive": "green",
        "suspect": "magenta",
        "dead": "red",
        "left": "dim",
        "good": "green",
        "bad": "red",
        "warn": "magenta",
        "quiet": "dim",
        "title": "bold",
        "bar.complete": "blue",
        "bar.finished": "green",
        "bar.back": "dim",
    }
)


def moves(console: Console) -> bool:
    """Whether pictures can be redrawn there; `TERM=dumb` names a terminal that only writes on."""
    return console.is_terminal and not console.is_dumb_terminal


def make_console(stream: TextIO | None = None) -> Console:
    """Make the console of a command; None means standard output.

    Square brackets are text: half of what is printed are names that other people chose.
    """
    target = sys.stdout if stream is None else stream
    width = None if target.isatty() else PIPE_WIDTH
    return Console(
        file=target, theme=THEME, width=width, highlight=False, emoji=False, markup=False
    )
