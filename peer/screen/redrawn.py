"""What changes is redrawn in place on a terminal, and told line by line where nobody watches one.

Whoever shows something opens a context and gets a function, to be called with each scene; neither
knows which of the two it is. Two classes with an `__enter__` of their own would say no more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.live import Live

from peer.screen.console import moves

Scene = TypeVar("Scene")


def shown(
    console: Console,
    *,
    picture: Callable[[Scene], RenderableType],
    lines: Callable[[Scene], None],
    transient: bool = False,
) -> AbstractContextManager[Callable[[Scene], None]]:
    """Choose by what the console writes to.

    Args:
        picture: Draws a scene anew, for a terminal.
        lines: Writes what is new in a scene, for everything else.
        transient: The last picture goes when the context ends; otherwise it stays.
    """
    return _redrawn(console, picture, transient) if moves(console) else nullcontext(lines)


@contextmanager
def _redrawn(
    console: Console, picture: Callable[[Scene], RenderableType], transient: bool
) -> Iterator[Callable[[Scene], None]]:
    with Live(console=console, auto_refresh=False, transient=transient) as live:
        yield lambda scene: live.update(picture(scene), refresh=True)
