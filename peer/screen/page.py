"""Everything about one task on one page: where it stands, what it made, what happened to it."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from peer.protocol import Escalation, ShownOutput, ShownSegments, ShownTask
from peer.screen.tables import bar, event_line, state_text
from peer.screen.words import (
    about_text,
    bitrate_text,
    clock_text,
    percent_text,
    place_text,
    seconds_text,
    short_ids,
    since,
    size_text,
)
from peer.terminal import program
from pipeline.tasks import (
    AttemptReport,
    Failure,
    Intervention,
    Priority,
    ProductKind,
    Progress,
    TaskReport,
    TaskState,
)


def task_page(
    task: ShownTask, now: datetime, width: int, *, whole: bool = False
) -> list[RenderableType]:
    """The whole page, to be printed with `soft_wrap=True` for the sake of the outputs' places.

    Args:
        whole: Do not cut the history's lines; for a pipe, which has no edge.
    """
    parts: list[RenderableType] = [_heading(task), _summary(task, now)]
    if task.state is TaskState.RUNNING and task.progress:
        parts += [_section("Progress"), _indented(progress_rows(task.title, task.progress))]
    if task.error and task.state is not TaskState.DONE:
        parts += [_section("Error"), _indented(error_block(task.error))]
    if task.warnings:
        parts += [_section("Warnings")]
        parts += [_indented(Text(f"• {warning}", style="warn")) for warning in task.warnings]
    if task.outputs or task.segments:
        parts += [_section("Outputs"), *output_lines(task.outputs, task.segments, width)]
    if task.attempts:
        lines = [_attempt_line(attempt) for attempt in task.attempts]
        parts += [_section("Attempts"), *map(_indented, lines)]
    if task.interventions:
        done = [_intervention_line(intervention) for intervention in task.interventions]
        parts += [_section("What people did"), *map(_indented, done)]
    if task.events:
        edge = None if whole else width - 2
        lines = [event_line(event, edge, of_one_task=True) for event in task.events]
        parts += [_section("History"), *(Text.assemble("  ", line) for line in lines)]
    if advice := what_to_type(task):
        parts += [Text(""), Text(advice)]
    return parts


def _attempt_line(attempt: AttemptReport) -> Text:
    """Which container had it, for how long, and how that ended."""
    line = Text(f"{attempt.attempt}  {attempt.peer_name}  ")
    line.append(f"{attempt.container} on {attempt.node}  ", style="quiet")
    line.append(attempt.outcome or "running", style="title")
    if attempt.ended_at:
        took = (attempt.ended_at - attempt.claimed_at).total_seconds()
        line.append(f" after {seconds_text(took)}")
    if attempt.error:
        error = attempt.error
        line.append(f"  {error.message} ({error.stage.value}: {error.code})", style="quiet")
    return line


def _intervention_line(intervention: Intervention) -> Text:
    """What a person did, when, and the reason that was given."""
    return Text.assemble(
        (f"{_moment(intervention.at)}  ", "quiet"),
        intervention.action,
        (f"  {intervention.reason or 'no reason was given'}", "quiet"),
    )


SOURCE_IS_AT_FAULT = frozenset({"not_media", "empty", "truncated", "no_video"})
"""Codes of errors that no retry can help: the file itself must be another one."""


def what_to_type(task: ShownTask) -> str:
    """The next command, where a person is needed."""
    short, peerctl = str(task.id)[:8], program("peerctl")
    if task.state is TaskState.ESCALATED and _source_is_at_fault(task):
        return f"→ {peerctl} cancel {short}    and hand in another file"
    if task.state is TaskState.ESCALATED:
        return f"→ {peerctl} retry {short}    or    {peerctl} cancel {short}"
    if task.state is TaskState.CANCELLED:
        return f"→ {peerctl} retry {short}"
    return ""


def _source_is_at_fault(task: TaskReport) -> bool:
    return task.error is not None and task.error.code in SOURCE_IS_AT_FAULT


def escalations_list(waiting: Sequence[Escalation], now: datetime) -> RenderableType:
    """The tasks that wait for a person: the cause in full, the story, and what to type."""
    ids = short_ids(str(escalation.id) for escalation in waiting)
    parts: list[RenderableType] = []
    for escalation in waiting:
        short = ids[str(escalation.id)]
        where = f"{escalation.stage}: {escalation.code}" if escalation.stage else ""
        parts += [
            Text.assemble(
                (f"{short}  ", "quiet"),
                (escalation.title, "title"),
                (f"  escalated {since(escalation.escalated_at, now)} ago", "quiet"),
            ),
            _indented(
                Text.assemble(
                    (escalation.message or "no cause was recorded", "bad"),
                    (f"  ({where})" if where else "", "quiet"),
                )
            ),
            *(_indented(Text(line, style="quiet")) for line in _tried(escalation)),
            _indented(Text(_choices(escalation, short))),
            Text(""),
        ]
    return Group(*parts[:-1])


def _tried(escalation: Escalation) -> Iterator[str]:
    """Why it is not tried again, who has tried, and what else had gone wrong on the way."""
    if escalation.reason:
        yield f"{escalation.reason}; {_who_tried(escalation)}"
    others = {told.message: told for told in escalation.story if told.message}
    others.pop(escalation.message, None)
    for told in others.values():
        yield f"before: {told.message} ({told.stage}: {told.code}, attempt {told.attempt})"


def _who_tried(escalation: Escalation) -> str:
    """The peers of the failed attempts, each once, with how often."""
    places = Counter(
        f"{told.peer} on {told.node}" for told in escalation.story if told.peer and told.node
    )
    peers = ", ".join(
        place if times == 1 else f"{place} ({times}x)" for place, times in places.items()
    )
    count = f"attempt {escalation.attempt}" if len(escalation.story) <= 1 else "tried"
    return f"{count} by {peers}" if peers else f"attempt {escalation.attempt}"


def _choices(escalation: Escalation, short: str) -> str:
    """Every command that may be the next one for a task that waits for a person."""
    peerctl = program("peerctl")
    if escalation.code in SOURCE_IS_AT_FAULT:
        return f"→ {peerctl} task {short}  |  {peerctl} cancel {short}, and hand in another file"
    return f"→ {peerctl} task {short}  |  {peerctl} retry {short}  |  {peerctl} cancel {short}"


def _heading(task: ShownTask) -> RenderableType:
    return Text.assemble(
        (task.title, "title"), "  ", state_text(task), needs_text(task), "\n",
        (str(task.id), "quiet"),
    )  # fmt: skip


def needs_text(task: TaskReport) -> str:
    """What `escalated` means, for those who read the word for the first time."""
    return " (needs a person)" if task.state is TaskState.ESCALATED else ""


def _section(title: str) -> RenderableType:
    return Text(f"\n{title}", style="title")


def _indented(inside: RenderableType) -> RenderableType:
    return Padding(inside, (0, 0, 0, 2), expand=False)


def _summary(task: ShownTask, now: datetime) -> RenderableType:
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(style="quiet", no_wrap=True)
    grid.add_column(overflow="fold")
    grid.add_row("ladder", f"{task.ladder}, {task.strictness.value}")
    if task.priority is not Priority.NORMAL:
        grid.add_row("priority", task.priority.value)
    failed = ", ".join(f"{stage.value} failed {n}x" for stage, n in task.failures.items() if n)
    grid.add_row(
        "attempt", f"{task.attempt}" + (f" ({failed} of {task.attempts_max})" if failed else "")
    )
    grid.add_row("submitted", f"{_moment(task.submitted_at)}, {since(task.submitted_at, now)} ago")
    if task.finished_at:
        took = (task.finished_at - task.submitted_at).total_seconds()
        grid.add_row("finished", f"{_moment(task.finished_at)}, after {seconds_text(took)}")
    if task.retry_at and task.state is TaskState.QUEUED and task.retry_at > now:
        wait = clock_text((task.retry_at - now).total_seconds())
        grid.add_row("next attempt", f"{_moment(task.retry_at)}, in {wait}")
    if task.place is not None and task.state is TaskState.QUEUED:
        likely = f"; done in {about_text(task.eta_s)}" if task.eta_s is not None else ""
        grid.add_row("waits", f"{place_text(task.place)}{likely}")
    if task.holder:
        grid.add_row("peer", f"{task.holder}" + (f" on {task.node}" if task.node else ""))
    grid.add_row("source", Text(task.source))
    return grid


def _moment(moment: datetime) -> str:
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def progress_rows(title: str, progress: Progress) -> RenderableType:
    """A bar for the task and one for each rendition."""
    grid = Table.grid(padding=(0, 2, 0, 0))
    grid.add_column(no_wrap=True, overflow="ellipsis", max_width=32)
    grid.add_column()
    grid.add_column(justify="right", no_wrap=True)
    grid.add_column(no_wrap=True)
    grid.add_row(
        Text(title, style="title"), bar(progress.fraction, 24), percent_text(progress.fraction),
        Text(pace_text(progress), style="quiet"),
    )  # fmt: skip
    for rendition in progress.renditions:
        grid.add_row(
            Text(f"  {rendition.name}"), bar(rendition.fraction, 24),
            percent_text(rendition.fraction), Text(rendition.step, style="quiet"),
        )  # fmt: skip
    return grid


def pace_text(progress: Progress) -> str:
    """What is being done, how fast, and how long it will still take."""
    parts = [progress.step]
    if progress.frames and progress.frames_total:
        parts.append(f"{progress.frames}/{progress.frames_total} frames")
    if progress.speed:
        parts.append(f"{progress.speed:.1f}x")
    if progress.eta_s is not None:
        parts.append(f"{clock_text(progress.eta_s)} left")
    return ", ".join(parts)


def error_block(error: Failure) -> RenderableType:
    """The sentence of cause, and below it what the tool said last."""
    cause = Text.assemble(
        (error.message, "bad"), (f"  ({error.stage.value}: {error.code})", "quiet")
    )
    if not error.log_tail.strip():
        return cause
    return Group(cause, Padding(Text(error.log_tail.rstrip(), style="quiet"), (0, 0, 0, 2)))


def output_lines(
    outputs: Sequence[ShownOutput], segments: Sequence[ShownSegments], width: int
) -> list[Text]:
    """A line for each file with its place, and one for an HLS rendition's segments.

    Where a place does not fit on the line, the directory they all lie in is said once at the top
    instead, without an indent. It may still be longer than the width: print the lines with
    `soft_wrap=True`, so that the terminal wraps them and one can copy a path whole.
    """
    rows = list(output_rows(outputs, segments))
    top = _common_directory([url for *_, url in rows])
    table = [(name, media, size_text(size), url) for name, media, size, url in rows]
    widths = [max((len(row[column]) for row in table), default=0) for column in range(4)]
    shorten = top and sum(widths) + 8 > width
    lines = [Text(top, style="quiet")] if shorten else []
    for name, media, size, url in table:
        line = Text.assemble("  ", name.ljust(widths[0]))
        line.append(f"  {media.ljust(widths[1])}" if widths[1] else "")
        line.append(f"  {size.rjust(widths[2])}", style="title")
        line.append("" if shorten else f"  {url}", style="quiet")
        lines.append(line)
    return lines


def _common_directory(urls: Sequence[str]) -> str:
    """The longest beginning of all places that ends with a slash."""
    shared = os.path.commonprefix(list(urls))  # noqa: RUF071 - cut at a slash in the next line
    return shared[: shared.rfind("/") + 1]


def output_rows(
    outputs: Sequence[ShownOutput], segments: Sequence[ShownSegments]
) -> Iterator[tuple[str, str, int, str]]:
    """Yield name, media, size in bytes and place of every row; the largest renditions first.

    The playlist of no rendition is the master, the one to open: it stands above the others.
    """
    rows: list[ShownOutput | ShownSegments] = [*outputs, *segments]
    heights = {made.rendition: _height(made) for made in rows if _height(made)}
    kinds = list(ProductKind)

    def rank(made: ShownOutput | ShownSegments) -> tuple[int, bool, int, str]:
        kind = made.kind if isinstance(made, ShownOutput) else ProductKind.SEGMENT
        height = _height(made) or heights.get(made.rendition, 0)
        return kinds.index(kind), bool(made.rendition), -height, made.url

    top = next((made.url.removesuffix(made.name) for made in outputs), "")
    for made in sorted(rows, key=rank):
        if isinstance(made, ShownOutput):
            yield made.name, media_text(made.media), made.size, made.url
        else:
            media = f"{media_text(made.media)} in {made.files} files".strip()
            inside = bool(top) and made.url.startswith(top)
            name = made.url.removeprefix(top) if inside else f"{made.rendition or 'segments'}/"
            yield name, media, made.size, made.url


def _height(made: ShownOutput | ShownSegments) -> int:
    height = made.media.get("height")
    return height if isinstance(height, int) else 0


def media_text(media: Any) -> str:
    """What is inside, as far as it is known: `1280x720 h264 2.5 Mb/s`."""
    parts = []
    if media.get("width") and media.get("height"):
        parts.append(f"{media['width']}x{media['height']}")
    codecs = media.get("codecs") or media.get("video_codec") or media.get("codec")
    if codecs:
        parts.append("+".join(codecs) if isinstance(codecs, list | tuple) else str(codecs))
    if media.get("bitrate"):
        parts.append(bitrate_text(float(media["bitrate"])))
    return " ".join(parts)
