"""What one sees of a burst: the queue, the containers by node, and why they come and go."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from peer.demo.growth import Growth
from peer.demo.recovery import Milestone
from peer.demo.view import milestone_line, panel
from peer.protocol import GossipTable, TableMember
from peer.scale.protocol import ShownLook, ShownNode, ShownScaling
from peer.screen.redrawn import shown
from peer.screen.tables import PeerRow, bar, plain_table
from peer.screen.words import clock_text
from pipeline.tasks import TaskReport, TaskState
from scaling.words import counted

STORY_LINES = 8


@dataclass(slots=True)
class BurstScene:
    """Everything the picture shows.

    Args:
        doing: What happens now, in a few words.
        began, began_at: When the demo began, on the monotonic clock and on the other one.
        task_ids: Of the burst, as far as it was handed in.
        most: How many containers there were at most.
    """

    title: str
    doing: str
    began: float = field(default_factory=time.monotonic)
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    took_s: float = 0.0
    peers: Sequence[PeerRow] = ()
    table: GossipTable | None = None
    scaling: ShownScaling | None = None
    growth: Growth | None = None
    task_ids: list[str] = field(default_factory=list)
    tasks: Sequence[TaskReport] = ()
    most: int = 0

    @property
    def seconds(self) -> float:
        """For how long the demo has been running."""
        return time.monotonic() - self.began

    @property
    def is_done(self) -> bool:
        """Whether nothing of the burst is left to do."""
        return len(self.tasks) == len(self.task_ids) > 0 and not (
            self.count(TaskState.QUEUED) or self.count(TaskState.RUNNING)
        )

    @property
    def look(self) -> ShownLook | None:
        """What the leader saw last; an earlier demo's leader does not count."""
        look = None if self.scaling is None else self.scaling.look
        return look if look is not None and look.at >= self.began_at else None

    def count(self, state: TaskState) -> int:
        """How many tasks are in that state."""
        return sum(report.state is state for report in self.tasks)

    def note_containers(self) -> None:
        """Keep in mind how many there were."""
        running = [member for member in members(self.table) if member.state == "alive"]
        self.most = max(self.most, len(running))


ShowBurst = Callable[[BurstScene], None]
"""Shows how things stand; called several times a second."""


def view_for(console: Console) -> AbstractContextManager[ShowBurst]:
    """Panels, of which the last ones stay; or lines."""
    return shown(console, picture=picture, lines=Report(console).show)


def members(table: GossipTable | None) -> list[TableMember]:
    """Those that live."""
    return [] if table is None else [member for member in table.members if member.lives]


def picture(scene: BurstScene) -> RenderableType:
    """The panels: the work, the nodes with their containers, and the story so far."""
    parts = [
        panel(_queue(scene), scene.title, clock_text(scene.seconds)),
        panel(_nodes(scene), "containers by node", scene.doing),
    ]
    if scene.growth is not None:
        story = _story(scene, scene.growth)
        parts.append(panel(story, "what scaling does, and why", "seconds after the burst"))
    # The terminal writes its `^C` where the cursor stands.
    return Group(*parts, "")


def _queue(scene: BurstScene) -> RenderableType:
    grid = plain_table("", "", "", "")
    grid.show_header = False
    done = scene.count(TaskState.DONE)
    handed_in = len(scene.task_ids)
    grid.add_row(
        bar(done / handed_in if handed_in else 0.0, width=24),
        Text(counted(scene.count(TaskState.QUEUED), "waits", "wait"), style="queued"),
        Text(counted(scene.count(TaskState.RUNNING), "is", "are") + " worked on", style="running"),
        Text(f"{done} of {handed_in} done", style="done"),
    )
    return grid


def _nodes(scene: BurstScene) -> RenderableType:
    look = scene.look
    if look is None:
        return Text("nobody scales yet", style="quiet")
    grid = plain_table("NODE", "STATE", "CONTAINERS")
    for node in look.nodes:
        grid.add_row(Text(node.name, "title"), _state(node), _containers(scene, node))
    return Group(grid, Text(_numbers(look), style="quiet"))


def _state(node: ShownNode) -> Text:
    style = {"ready": "good", "standby": "quiet"}.get(node.state, "warn")
    return Text(node.state, style=style)


def _containers(scene: BurstScene, node: ShownNode) -> Text:
    shown = [
        Text.assemble((member.name, "title" if member.leader else ""), " ", _doing(member))
        for member in members(scene.table)
        if member.node == node.name
    ]
    return Text("   ").join(shown) if shown else Text("none", style="quiet")


def _doing(member: TableMember) -> tuple[str, str]:
    for flag in ("draining", "parked"):
        if flag in member.flags:
            return flag, flag
    if member.state != "alive":
        return member.state, member.state
    working = member.load is not None and member.load.running > 0
    return ("works", "working") if working else ("ready", "ready")


def _numbers(look: ShownLook) -> str:
    return (
        f"{counted(look.wanted, 'container', 'containers')}, should be {look.desired_containers} "
        f"on {counted(look.desired_nodes, 'node', 'nodes')}: {why(look)}"
    )


def why(look: ShownLook) -> str:
    """The reasons of the last decision, in one line."""
    return "; ".join(reason.text for reason in look.reasons)


def _story(scene: BurstScene, growth: Growth) -> RenderableType:
    lines = [milestone_line(milestone) for milestone in growth.milestones][-STORY_LINES:]
    return Group(*(Text(line, no_wrap=True, overflow="ellipsis") for line in lines))


def told(milestone: Milestone) -> RenderableType:
    """In full; what does not fit the line goes on under the text."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, justify="right")
    grid.add_column(overflow="fold")
    grid.add_row(f"{milestone.at_s:5.1f} s", milestone.text)
    return grid


class Report:
    """A line when something has changed that a reader of a log would want to know."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._doing = ""
        self._containers: dict[str, str] = {}
        self._codes: tuple[object, ...] = ()
        self._told: set[str] = set()

    def show(self, scene: BurstScene) -> None:
        """Write what is new."""
        if scene.doing != self._doing:
            self._doing = scene.doing
            self._say(scene.doing)
        for member in members(scene.table):
            doing, _ = _doing(member)
            if self._containers.get(member.name) != doing:
                self._containers[member.name] = doing
                self._say(f"{member.name} on {member.node}: {doing}")
        look = scene.look
        if look is not None:
            codes = (look.desired_containers, look.desired_nodes, *(r.code for r in look.reasons))
            if codes != self._codes:
                self._codes = codes
                self._say(f"decided: {_numbers(look)}")
        for milestone in scene.growth.milestones if scene.growth else ():
            if milestone.stage not in self._told:
                self._told.add(milestone.stage)
                self._say(milestone_line(milestone))

    def _say(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)
