"""Looking at the gossip table while it changes: redrawn in place, or written on where nobody looks.

Whichever peer of this machine answers is asked, and another one when that is gone: to watch the
cluster come apart is what this is for.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import click
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from peer.client import Peer
from peer.commands.cluster import ask_any
from peer.commands.session import Session, console, shaped
from peer.errors import BadAnswer, NoPeer
from peer.protocol import GossipTable
from peer.screen.console import moves
from peer.screen.table import cluster_table

REFRESH_S = 1.0


def watch_table(session: Session, *, as_json: bool) -> None:
    """Show the table every second until Ctrl-C.

    Raises:
        NoPeer: None answered at the very beginning; later that is waited out.
    """
    ask_any(session)  # that nobody answers at all is said at once
    if as_json:
        for answer in _answers(session):
            if not isinstance(answer, str):
                click.echo(json.dumps(answer, ensure_ascii=False))
        return
    screen = console()
    if not moves(screen):
        for answer in _answers(session):
            shown = answer if isinstance(answer, str) else _table(answer, None, None)
            screen.print(shown, Text(""), soft_wrap=True)
        return
    last: RenderableType = ""
    # The picture is drawn here only, so that a resized terminal is drawn to its new size.
    with Live(console=screen, auto_refresh=False, vertical_overflow="crop") as live:
        for answer in _answers(session):
            if isinstance(answer, str):
                live.update(Group(Text(answer, style="warn"), last), refresh=True)
            else:
                last = _fitted(answer, screen)
                live.update(last, refresh=True)


def _fitted(answer: Any, screen: Console) -> RenderableType:
    """One line less than the terminal has: where the cursor stands, Ctrl-C leaves its mark."""
    return Group(_table(answer, screen.width, screen.height - 1), "")


def _table(answer: Any, width: int | None, height: int | None) -> RenderableType:
    return cluster_table(shaped(GossipTable, answer), width, height)


def _answers(session: Session) -> Iterator[Any]:
    """Yield a table every second; a sentence when nobody can say."""
    peer: Peer | None = None
    while True:
        began = time.monotonic()
        try:
            if peer is None:
                peer, answer = ask_any(session)
            else:
                answer = peer.ask("table")
        except (NoPeer, BadAnswer) as error:
            if peer is not None:
                peer = None
                continue  # perhaps another one can say
            yield f"{error}; still looking"
        else:
            yield answer
        time.sleep(max(0.0, REFRESH_S - (time.monotonic() - began)))
