"""Progress that moves on a terminal, and plain lines where nobody watches one.

Both are fed with the same reports. On a terminal the bars are redrawn in place; in a pipe or a CI
log a line is written when something has changed that a reader would want to know: the step, the
attempt, the state, or another tenth of the work.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from peer.protocol import ShownTask
from peer.screen.console import moves
from peer.screen.page import pace_text, progress_rows
from peer.screen.words import percent_text, size_text
from pipeline.tasks import Progress, RenditionProgress, TaskReport, TaskState

TENTHS = 10


class Watcher(Protocol):
    """**Protocol**: something that shows a task while it goes on. Enter it before showing."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def show(self, report: ShownTask) -> None:
        """Show where the task stands now."""
        ...


def watcher(console: Console) -> Watcher:
    """Choose by what the console writes to."""
    return Bars(console) if moves(console) else Lines(console)


class Bars:
    """A bar for the task and one for each rendition, redrawn in place."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def show(self, report: ShownTask) -> None:
        """Redraw."""
        self._live.update(task_bars(report))


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

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        return None

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
