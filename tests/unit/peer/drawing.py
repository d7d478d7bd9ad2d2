"""What stands on a terminal, as text."""

from __future__ import annotations

import io

from rich.console import Console, RenderableType

from peer.screen.console import THEME


def draw(*parts: RenderableType, width: int = 80, soft: bool = False) -> str:
    """What stands on a terminal of that width, without colours."""
    console = Console(file=io.StringIO(), theme=THEME, width=width, no_color=True, markup=False)
    for part in parts:
        console.print(part, soft_wrap=soft)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
