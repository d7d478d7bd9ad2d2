"""Tables of many things, one row each: tasks, peers, checks, events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from peer.protocol import Check, LocalEvent, PeerStatus
from peer.screen.console import NARROW
from peer.screen.words import (
    about_text,
    clock_text,
    one_line,
    peer_state,
    percent_text,
    place_text,
    short_ids,
    since,
    size_text,
)
from peer.terminal import program
from pipeline.ports import Depth, EventRow
from pipeline.tasks import Priority, Progress, TaskReport, TaskState

BAR_WIDTH = 12


Heading = str | tuple[str, dict[str, Any]]
"""A column's heading, or a heading with more arguments for `Table.add_column`."""


def plain_table(*headings: Heading) -> Table:
    """A table without lines: a quiet heading, two blanks between the columns."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="quiet")
    for heading in headings:
        name, arguments = heading if isinstance(heading, tuple) else (heading, {})
        options: dict[str, Any] = {"no_wrap": True} | arguments
        table.add_column(name, **options)
    return table


def bar(fraction: float, width: int = BAR_WIDTH) -> ProgressBar:
    """A progress bar of so many columns."""
    return ProgressBar(total=1.0, completed=min(1.0, max(0.0, fraction)), width=width)


def tasks_table(
    reports: Sequence[TaskReport], now: datetime, width: int, *, fill: bool
) -> RenderableType:
    """The tasks, newest first, and below them one line for each that went wrong.

    A task that waits has its place in line where one that runs has its progress.

    Args:
        fill: Use the whole width, as a terminal's table should and a pipe's should not.
    """
    ids = short_ids(str(report.id) for report in reports)
    wide = width >= NARROW
    title: dict[str, Any] = {"overflow": "ellipsis", "min_width": 8} | (
        {"ratio": 1} if fill else {}
    )
    right: dict[str, Any] = {"justify": "right"}
    extra: list[Heading] = ["LADDER", ("TRY", right), ("SPEED", right)] if wide else []
    several = wide and any(report.priority is not Priority.NORMAL for report in reports)
    table = plain_table(
        "ID",
        ("TITLE", title),
        "STATE",
        *(["PRIO"] if several else []),
        *extra[:2],
        "PROGRESS",
        *extra[2:],
        ("LEFT", right),
        ("PEER", {"overflow": "ellipsis", "max_width": 16 if wide else 10}),
        ("AGE", right),
    )
    table.expand = fill
    for report in reports:
        progress = report.progress if report.state is TaskState.RUNNING else None
        table.add_row(
            ids[str(report.id)],
            Text(report.title),
            state_text(report) if wide else _with_priority(state_text(report), report.priority),
            *([_priority_text(report)] if several else []),
            *([report.ladder, f"{report.attempt}/{report.attempts_max}"] if wide else []),
            _progress_cell(report, progress),
            *([_speed(progress)] if wide else []),
            _left(report, progress, now),
            Text(report.holder or ""),
            since(report.submitted_at, now),
        )
    errors = [
        Text.assemble(
            (ids[str(report.id)], report.state.value),
            " ",
            one_line(report.error.message, width - len(ids[str(report.id)]) - 2),
        )
        for report in reports
        if report.error and report.state is not TaskState.DONE
    ]
    return Group(table, *([Text("")] if errors else []), *errors)


def state_text(report: TaskReport) -> Text:
    """The state in its colour; a task that waits for another attempt says so."""
    if report.state is TaskState.QUEUED and report.error:
        return Text("retrying", style="warn")
    return Text(report.state.value, style=report.state.value)


_ARROWS = {Priority.HIGH: " ↑", Priority.NORMAL: "", Priority.LOW: " ↓"}


def _with_priority(state: Text, priority: Priority) -> Text:
    """Where there is no room for a column, the priority is a mark behind the state."""
    return state.append(_ARROWS[priority])


def _priority_text(report: TaskReport) -> Text:
    """Only what is out of the ordinary."""
    normal = report.priority is Priority.NORMAL
    return Text("" if normal else report.priority.value)


def _progress_cell(report: TaskReport, progress: Progress | None) -> RenderableType:
    if report.state is TaskState.DONE:
        return _bar_and_percent(1.0)
    if progress:
        return _bar_and_percent(progress.fraction)
    if report.state is TaskState.QUEUED and report.place is not None:
        return Text(place_text(report.place), style="quiet")
    if report.failures:
        failed = sum(report.failures.values())
        return Text(f"failed {failed}x", style="quiet")
    return ""


def _bar_and_percent(fraction: float) -> RenderableType:
    cell = Table.grid(padding=(0, 1, 0, 0))
    cell.add_row(bar(fraction), Text(percent_text(fraction).rjust(5)))
    return cell


def _speed(progress: Progress | None) -> str:
    return f"{progress.speed:.1f}x" if progress and progress.speed else ""


def _left(report: TaskReport, progress: Progress | None, now: datetime) -> str:
    """Until the end of the work, or until the next attempt; of one in line, about how long."""
    if progress and progress.eta_s is not None:
        return clock_text(progress.eta_s)
    if report.state is TaskState.QUEUED and report.retry_at and report.retry_at > now:
        return clock_text((report.retry_at - now).total_seconds())
    if report.state is TaskState.QUEUED and report.eta_s is not None:
        return about_text(report.eta_s)
    return ""


@dataclass(frozen=True, slots=True)
class PeerRow:
    """A peer as a table shows it; no status while it starts or when it is gone."""

    name: str
    pid: int
    state: str
    status: PeerStatus | None = None

    @property
    def shown_state(self) -> str:
        """The state as people understand it."""
        return self.state if self.status is None else peer_state(self.status)


def peers_table(rows: Sequence[PeerRow], now: datetime, *, fill: bool) -> RenderableType:
    """The peers of this machine and what each is doing; `fill` as for tasks."""
    right = {"justify": "right"}
    table = plain_table(
        "PEER",
        ("PID", right),
        ("STATE", {"min_width": 8}),
        ("SLOTS", right),
        ("CPU", right | {"min_width": 5}),
        ("MEMORY", right | {"min_width": 7}),
        ("UP", right | {"min_width": 4}),
        ("WORKS ON", {"overflow": "ellipsis"} | ({"ratio": 1} if fill else {})),
    )
    table.expand = fill
    troubles: list[RenderableType] = []
    for row in rows:
        status = row.status
        facts: list[RenderableType] = ["", "", "", "", ""]
        if status is not None:
            facts = [
                f"{len(status.running)}/{status.slots}",
                f"{status.cpu_percent:.0f} %",
                size_text(status.memory_bytes),
                since(status.started_at, now),
                works_on(status),
            ]
            troubles += peer_troubles(row.name, status)
        name, state = Text(row.name, style="title"), Text(row.shown_state, style=row.shown_state)
        table.add_row(name, str(row.pid), state, *facts)
    return Group(table, *troubles)


def peer_troubles(name: str, status: PeerStatus) -> Iterator[Text]:
    """A line for each thing that keeps a peer from its work, or that waits for it to pass."""
    for dependency, state in status.dependencies.items():
        if state in ("ok", "starting"):  # of course not yet
            continue
        breaker = status.breakers.get(dependency, "")
        how = f" (breaker {breaker})" if breaker not in ("", "closed") else ""
        yield Text.assemble((f"{name}: {dependency}{how} ", "bad"), state)
    if status.quarantined:
        yield Text.assemble((f"{name}: quarantined ", "bad"), status.quarantined)
        yield Text(f"→ when it is well again: {program('peerctl')} resume {name}")
    if status.spooled:
        waiting = f"{status.spooled} event{'s' if status.spooled != 1 else ''} on its disk"
        yield Text.assemble((f"{name}: {waiting} ", "warn"), "until the ledger answers")


def works_on(status: PeerStatus) -> Text:
    """Titles with how far they are."""
    return Text(", ").join(
        Text.assemble(
            run.title,
            ("" if run.progress is None else f" {percent_text(run.progress)}", "quiet"),
        )
        for run in status.running
    )


def checks_table(checks: Sequence[Check]) -> RenderableType:
    """What `doctor` found, and under each problem what to do about it."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        mark = Text("ok", style="good") if check.ok else Text("problem", style="bad")
        if check.ok and check.note:
            mark = Text("--", style="quiet")
        table.add_row(mark, Text(check.check, style="title"), Text(check.detail))
        if check.advice and not check.ok:
            table.add_row("", "", Text(f"→ {check.advice}"))
    return table


def depth_table(depth: Depth) -> RenderableType:
    """How many messages the queue holds, and what each number means."""
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True, style="title")
    table.add_column(overflow="fold", style="quiet")
    unknown = depth.unacknowledged is None
    dead = f"set aside; the newest: {depth.dead_reason or 'no reason was given'}"
    for name, count, meaning in (
        ("ready", str(depth.ready), "for the next free slot"),
        (
            "unacknowledged",
            "?" if unknown else str(depth.unacknowledged),
            "not known: no answer at queue.management_url" if unknown else "in the hands of peers",
        ),
        ("delayed", str(depth.delayed), "for a later attempt"),
        ("dead", str(depth.dead), dead if depth.dead else ""),
    ):
        table.add_row(name, count, meaning)
    return table


def event_line(event: EventRow, width: int | None, *, of_one_task: bool = False) -> Text:
    """One event: when, what, which task, where, and its facts as far as they fit.

    Args:
        width: In columns; None for whole lines.
    """
    local = event.at.astimezone()
    task = "" if of_one_task else f"{str(event.task_id or '')[:8].ljust(8)}  "
    line = Text.assemble(
        (f"{local:%H:%M:%S}.{local.microsecond // 1000:03}  ", "quiet"),
        (event.type.ljust(27), _event_style(event.type)),
        task,
        (f"{event.container}  ", "quiet"),
        facts_text(event.data),
    )
    if width is not None:
        line.truncate(width, overflow="ellipsis")
    line.rstrip()
    return line


def local_event_line(event: LocalEvent, width: int | None) -> Text:
    """What one peer noticed: when, what, and its facts as far as they fit.

    Args:
        width: In columns; None for whole lines.
    """
    local = event.at.astimezone()
    line = Text.assemble(
        (f"{local:%H:%M:%S}.{local.microsecond // 1000:03}  ", "quiet"),
        (event.type.ljust(19), _LOCAL_STYLES.get(event.type, "")),
        facts_text(event.data),
    )
    if width is not None:
        line.truncate(width, overflow="ellipsis")
    line.rstrip()
    return line


_LOCAL_STYLES = {
    "MemberDied": "bad",
    "IdentityLost": "bad",
    "MemberSuspected": "warn",
    "Refuted": "warn",
    "LeaderProposed": "title",
}


def facts_text(data: dict[str, Any]) -> str:
    """An event's data on one line: numbers short, what is empty left out, the rest in full.

    A group of facts is told without its name: `width=1280 audio=(codec:aac channels:2)`.
    """
    parts = [
        facts_text(value) if isinstance(value, dict) else f"{key}={_fact_text(value)}"
        for key, value in data.items()
        if value not in _EMPTY
    ]
    return " ".join(" ".join(parts).split())


_EMPTY: tuple[Any, ...] = (None, "", [], {})


def _fact_text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list):
        # Sentences have commas of their own.
        sentences = any(isinstance(each, str) and " " in each for each in value)
        return ("; " if sentences else ",").join(map(_fact_text, value))
    if isinstance(value, dict):
        inside = (f"{k}:{_fact_text(inner)}" for k, inner in value.items() if inner not in _EMPTY)
        return f"({' '.join(inside)})"
    return str(value)


def _event_style(type: str) -> str:
    if type == "ContainerErrorEscalation":
        return "bad"
    if type in ("ContainerErrorRetry", "ContainerFailureDetected"):
        return "warn"
    return "title" if type in ("TaskReceived", "WorkloadProcessingFinished") else ""
