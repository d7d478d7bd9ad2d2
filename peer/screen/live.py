"""Progress that moves on a terminal, and plain lines where nobody watches one.

Both are fed with the same reports. On a terminal the bars are redrawn in place; in a pipe or a CI
log a line is written when something has changed that a reader would want to know: the step, the
attempt, the state, or another tenth of the work.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from rich.console import Console, RenderableType
from rich.text import Text

from peer.protocol import ShownTask
from peer.screen.page import pace_text, progress_rows
from peer.screen.redrawn import shown
from peer.screen.words import percent_text, size_text
from pipeline.tasks import Progress, RenditionProgress, TaskReport, TaskState

TENTHS = 10


def watcher(console: Console) -> AbstractContextManager[Callable[[ShownTask], None]]:
    """A bar for the task and one for each rendition, gone at the end; or lines."""
    return shown(console, picture=task_bars, lines=Lines(console).show, transient=True)


def task_bars(report: ShownTask) -> RenderableType:
    """The bars of one task, and a sentence where there are none."""
    if report.state is TaskState.DONE:
        return progress_rows(report.title, finished(report))
    if report.progress and report.state is TaskState.RUNNING:
        return progress_rows(report.title, report.progress)
    return Text.assemble((report.title, "title"), "  ", (waiting_text(report), "quiet"))


def finished(report: ShownTask) -> Progress:
    """The progress of a task that is done: every rendition with its size."""
    sizes: dict[str, int] = {}
    for made in report.made:
        if made.rendition:
            sizes[made.rendition] = sizes.get(made.rendition, 0) + made.size
    renditions = tuple(
        RenditionProgress(name=name, fraction=1.0, step=size_text(size))
        for name, size in sorted(sizes.items(), key=lambda pair: -pair[1])
    )
    return Progress(step=report.state.value, fraction=1.0, renditions=renditions)


def waiting_text(report: TaskReport) -> str:
    """Why nothing moves: in the queue, waiting for another attempt, just taken, or over."""
    if report.state is TaskState.QUEUED:
        return f"waits for another attempt: {report.error.message}" if report.error else "queued"
    if report.state is TaskState.RUNNING:
        return f"taken by {report.holder}" if report.holder else "taken"
    return report.state.value


class Lines:
    """One line for each thing worth knowing."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._last: tuple[object, ...] | None = None

    def show(self, report: ShownTask) -> None:
        """Write a line if this is news."""
        progress = report.progress if report.state is TaskState.RUNNING else None
        tenth = int(progress.fraction * TENTHS) if progress else None
        news = (report.state, report.attempt, progress.step if progress else None, tenth)
        if news == self._last:
            return
        self._last = news
        self._console.print(progress_line(report), soft_wrap=True)


def progress_line(report: TaskReport) -> str:
    """`clip.mp4: 45 % transcode, 2.1x, 0:12 left (1080p 45 %, 720p 45 %) on demo-2`."""
    if report.state is not TaskState.RUNNING or not report.progress:
        return f"{report.title}: {waiting_text(report)}"
    progress = report.progress
    each = ", ".join(f"{part.name} {percent_text(part.fraction)}" for part in progress.renditions)
    holder = f" on {report.holder}" if report.holder else ""
    return (
        f"{report.title}: {percent_text(progress.fraction)} {pace_text(progress)}"
        f"{f' ({each})' if each else ''}{holder}"
    )
