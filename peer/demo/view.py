"""What one sees of the demo: a picture that moves on a terminal, and lines everywhere else."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.box import ROUNDED
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from peer.demo.recovery import STAGES, Milestone, Recovery
from peer.protocol import GossipTable, ShownTask
from peer.screen.live import Lines, task_bars
from peer.screen.redrawn import shown
from peer.screen.table import cluster_table, heading
from peer.screen.tables import PeerRow, peers_table
from peer.screen.words import clock_text


@dataclass(slots=True)
class Scene:
    """Everything the picture shows.

    Args:
        doing: What happens now, in a few words.
        began: When the demo began, on the monotonic clock.
    """

    video: str
    ladder: str
    doing: str
    began: float = field(default_factory=time.monotonic)
    peers: Sequence[PeerRow] = ()
    table: GossipTable | None = None
    report: ShownTask | None = None
    recovery: Recovery | None = None

    @property
    def seconds(self) -> float:
        """For how long the demo has been running."""
        return time.monotonic() - self.began


Show = Callable[[Scene], None]
"""Shows how things stand; called several times a second."""


def view_for(console: Console) -> AbstractContextManager[Show]:
    """The panels, the peers above the work, of which the last ones stay; or lines."""

    def draw(scene: Scene) -> RenderableType:
        return picture(scene, console.width, console.height)

    return shown(console, picture=draw, lines=Report(console).show)


def picture(scene: Scene, width: int, height: int) -> RenderableType:
    """The panels: the peers, the gossip table, the work, and what follows from a kill.

    Where there is not enough room for all, the peers give way to the table, which says more.

    The last line is empty: the terminal writes its `^C` where the cursor stands, and on a full line
    that would begin another one and shift the picture.
    """
    work: RenderableType = Text(scene.doing, style="quiet")
    if scene.report is not None:
        work = task_bars(scene.report)
    below = [
        panel(
            work,
            f"{scene.video} → {scene.ladder}",
            "" if scene.report is None else scene.doing,  # inside already
        )
    ]
    if scene.recovery is not None:
        below.append(panel(_milestones(scene.recovery), "what follows", ""))
    above = []
    clock = clock_text(scene.seconds)
    if scene.table is None or _lines(scene) < height:
        peers = peers_table(scene.peers, datetime.now(UTC), fill=True)
        above.append(panel(peers, "peers", clock))
    if scene.table is not None:
        shown = cluster_table(scene.table, width - 4)
        above.append(panel(shown, "gossip table", "" if above else clock))
    return Group(*above, *below, "")


def _lines(scene: Scene) -> int:
    """How many lines all panels take: each has two for its frame, and tables one for a heading."""
    lines = 3 + len(scene.peers) + 1
    if scene.table is not None:
        lines += 3 + len(heading(scene.table)) + len(scene.table.members)
    progress = scene.report.progress if scene.report else None
    lines += 3 + (len(progress.renditions) if progress else 0)
    return lines + (2 + len(STAGES) if scene.recovery else 0)


def _milestones(recovery: Recovery) -> RenderableType:
    return Group(
        *(
            Text(milestone_line(milestone), no_wrap=True, overflow="ellipsis")
            for milestone in recovery.milestones
        )
    )


def milestone_line(milestone: Milestone) -> str:
    """`  6.2 s  dead: …`: when, after the kill, and what."""
    return f"{milestone.at_s:5.1f} s  {milestone.text}"


def panel(inside: RenderableType, title: str, note: str) -> RenderableType:
    """A frame with a title above, and a note below."""
    return Panel(
        inside,
        box=ROUNDED,
        border_style="quiet",
        title=Text(f" {title} ", style="title"),
        title_align="left",
        subtitle=Text(f" {note} ", style="quiet") if note else None,
        subtitle_align="right",
        padding=(0, 1),
    )


class Report:
    """A line when something has changed that a reader of a log would want to know."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._lines = Lines(console)
        self._doing = ""
        self._states: dict[str, str] = {}
        self._cluster = ""
        self._milestones: set[str] = set()

    def show(self, scene: Scene) -> None:
        """Write what is new."""
        if scene.doing != self._doing:
            self._doing = scene.doing
            self._console.print(scene.doing, soft_wrap=True)
        for peer in scene.peers:
            if self._states.get(peer.name) != peer.shown_state:
                self._states[peer.name] = peer.shown_state
                self._console.print(f"{peer.name}: {peer.shown_state} (process {peer.pid})")
        if scene.table is not None and (cluster := heading(scene.table)[0].plain) != self._cluster:
            self._cluster = cluster
            self._console.print(f"gossip table: {cluster}", soft_wrap=True)
        for milestone in scene.recovery.milestones if scene.recovery else ():
            if milestone.stage not in self._milestones:
                self._milestones.add(milestone.stage)
                self._console.print(milestone_line(milestone), soft_wrap=True)
        if scene.report is not None:
            self._lines.show(scene.report)
