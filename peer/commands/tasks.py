"""Tasks: list them, look at one, hand one in, and decide about those that wait for a person."""

from __future__ import annotations

import getpass
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import uuid4

import click

from peer.commands.session import (
    EXIT_FAILED,
    JSON,
    Session,
    TakesVideo,
    console,
    example,
    print_json,
    shaped,
    talks_to_peer,
)
from peer.errors import CommandFailed
from peer.protocol import Copied, Escalation, ShownTask
from peer.terminal import program
from pipeline.ports import Depth
from pipeline.stores.locations import is_location
from pipeline.tasks import Priority, Strictness, TaskReport, TaskState

PIPE = Path("-")
STATES = [state.value for state in TaskState]


def complete_id(ctx: click.Context, _param: click.Parameter, begun: str) -> list[Any]:
    """Offer the ids of recent tasks to the shell, each with its title."""
    from click.shell_completion import CompletionItem

    from peer.errors import PeerError

    try:
        reports = Session(data_dir=ctx.params.get("data_dir")).peer().ask("tasks", limit=50)
    except PeerError:
        return []
    return [
        CompletionItem(report["id"], help=f"{report['title']} ({report['state']})")
        for report in reports
        if report["id"].startswith(begun)
    ]


ID = click.argument("id", shell_complete=complete_id)


def _reason(_ctx: click.Context, _param: click.Parameter, given: str | None) -> str:
    """The cause that is recorded: what the person says, or at least who it was."""
    if given:
        return given
    try:
        return f"asked for by {getpass.getuser()}"
    except (KeyError, OSError):  # a user id without a name, as in many containers
        return "asked for with peerctl"


REASON = click.option(
    "--reason", callback=_reason, metavar="TEXT", help="Why; recorded with the task."
)


@click.command(
    epilog=example("peerctl tasks --state running"),
    short_help="List tasks, the newest first.",
)
@click.option("--state", type=click.Choice(STATES), help="Only tasks in this state.")
@click.option("--limit", type=click.IntRange(1, 10_000), default=30, show_default=True)
@JSON
@talks_to_peer
def tasks(session: Session, state: str | None, limit: int, as_json: bool) -> None:
    """List tasks, the newest first, with how far they are and what went wrong."""
    answer = session.peer().ask("tasks", state=state, limit=limit)
    if as_json:
        return print_json(_as_list(answer))
    reports = shaped(list[TaskReport], answer)
    if not reports:
        which = f" {state}" if state else ""
        click.echo(f"There are no{which} tasks. Hand one in: {program('peerctl')} submit VIDEO")
        return None
    from peer.screen.tables import tasks_table

    screen = console()
    screen.print(tasks_table(reports, datetime.now(UTC), screen.width, fill=screen.is_terminal))
    return None


NOT_IN_LISTS = ("outputs", "segments", "attempts", "interventions")


def _as_list(answer: Any) -> Any:
    """Leave out what a list never fills: an empty one would say that a task has made nothing."""
    return [
        {key: value for key, value in task.items() if value or key not in NOT_IN_LISTS}
        for task in answer
    ]


@click.command(
    epilog=example("peerctl task 3f2a"),
    short_help="Show everything about one task.",
)
@ID
@click.option(
    "--all-outputs", is_flag=True, help="List every segment, not only how many there are."
)
@JSON
@talks_to_peer
def task(session: Session, *, id: str, all_outputs: bool, as_json: bool) -> None:
    """Show everything about one task: outputs, progress, error, history.

    ID is the task's id, or enough of its beginning to be unambiguous.
    """
    peer = session.peer()
    answer = peer.ask("task", id=id)
    if all_outputs:
        *batches, _ = peer.follow("outputs", id=id)
        answer |= {"outputs": [output for batch in batches for output in batch], "segments": []}
    if as_json:
        return print_json(answer)
    from peer.screen.page import task_page

    screen = console()
    for part in task_page(
        shaped(ShownTask, answer),
        datetime.now(UTC),
        screen.width,
        whole=not screen.is_terminal,
    ):
        screen.print(part, soft_wrap=True)
    return None


class Source(click.Path):
    """A file to hand in, `-`, or the address of what lies in S3 already, which stays a text."""

    def __init__(self) -> None:
        super().__init__(exists=True, dir_okay=False, allow_dash=True, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Take addresses as they are."""
        if isinstance(value, str) and is_location(value):
            return value
        return super().convert(value, param, ctx)


@click.command(
    cls=TakesVideo,
    epilog=example("peerctl submit holiday.mp4 --ladder 1280x720@2500k,640x360@800k --wait"),
    short_help="Hand in a video.",
)
@click.argument("video", metavar="VIDEO|s3://BUCKET/KEY|-", type=Source())
@click.option("--title", metavar="NAME", help="What to call it; by default as the file is called.")
@click.option(
    "--ladder",
    default="web",
    show_default=True,
    help="web, hls, or a list such as 1280x720@2500k,640x360@800k.",
)
@click.option(
    "--strictness",
    type=click.Choice([choice.value for choice in Strictness]),
    default=Strictness.STRICT.value,
    show_default=True,
    help="What to do with a damaged video: ask a person, or make what can be made.",
)
@click.option("--lenient", is_flag=True, help="The same as --strictness lenient.")
@click.option(
    "--attempts-max", type=click.IntRange(1, 100), help="Failures until a person is asked."
)
@click.option(
    "--priority",
    type=click.Choice([priority.value for priority in Priority]),
    default=Priority.NORMAL.value,
    show_default=True,
    help="What is taken first; the low ones get their share, too.",
)
@click.option("--wait", is_flag=True, help="Watch it to its end; the exit code is 0 only if done.")
@JSON
@talks_to_peer
def submit(
    session: Session,
    *,
    video: Path | str,
    title: str | None,
    ladder: str,
    strictness: str,
    lenient: bool,
    attempts_max: int | None,
    priority: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Hand in a video to be turned into a ladder of renditions.

    A file is copied into the store, and so is what comes through a pipe (`-`), which needs the same
    space in the data directory meanwhile. What lies in S3 already (s3://BUCKET/KEY) stays where it
    is, and must stay there until the task is done.
    """
    task_id = str(uuid4())
    arguments: dict[str, Any] = {
        "task_id": task_id,
        "ladder": ladder,
        "strictness": Strictness.LENIENT.value if lenient else strictness,
        "priority": priority,
    }
    if attempts_max is not None:
        arguments["attempts_max"] = attempts_max
    if title is not None:
        arguments["title"] = title
    if isinstance(video, str):
        _hand_in(session, arguments | {"source": video}, None)
    else:
        with from_pipe(session) if video == PIPE else nullcontext(video) as file:
            _hand_in(session, arguments | {"path": str(file.absolute())}, file)
    if wait:
        return _wait(session, task_id, as_json)
    if as_json:
        return print_json({"task_id": task_id})
    click.echo(
        f"{task_id}\nWatch it: {program('peerctl')} task {task_id[:8]}"
        if sys.stdout.isatty()
        else task_id
    )
    return None


@contextmanager
def from_pipe(session: Session) -> Iterator[Path]:
    """Put standard input into a file that the peer can read, and remove that in the end."""
    if sys.stdin.isatty():
        raise click.UsageError("a video is nothing to be typed: put `< VIDEO` behind it")
    session.peer()  # that there is none is said before anything is read
    data_dir = session.settings().places.data_dir
    with ExitStack() as stack:
        try:
            directory = TemporaryDirectory(prefix="submit-", dir=data_dir)
            file = Path(stack.enter_context(directory), "standard-input")
            with file.open("wb") as spool:
                shutil.copyfileobj(sys.stdin.buffer, spool)
        except OSError as error:
            raise CommandFailed(f"cannot write below {data_dir}: {error.strerror}") from error
        yield file


def _hand_in(session: Session, arguments: dict[str, Any], video: Path | None) -> None:
    """Submit, and draw a bar for the copy into the store where somebody watches."""
    answers = session.submit(**arguments)
    if video is None or not sys.stderr.isatty():
        for _ in answers:
            pass
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    from peer.screen.console import make_console

    columns = (TextColumn("{task.description}"), BarColumn(24), DownloadColumn())
    with Progress(*columns, console=make_console(sys.stderr), transient=True) as bars:
        copy = bars.add_task(f"copying {video.name}", total=video.stat().st_size)
        for answer in answers:
            if "copied" in answer:
                copied = shaped(Copied, answer)
                bars.update(copy, completed=copied.copied, total=copied.size)


def _wait(session: Session, task_id: str, as_json: bool) -> None:
    """Follow the task to its end; leave with 1 when that is not `done`."""
    from rich.text import Text

    from peer.screen.console import make_console
    from peer.screen.live import watcher
    from peer.screen.page import error_block, needs_text, output_lines, what_to_type

    try:
        with watcher(make_console(sys.stderr) if as_json else console()) as show:
            for report in session.watch(task_id):
                show(report)
    except KeyboardInterrupt:
        look = f"{program('peerctl')} task {task_id[:8]}"
        click.echo(f"The task goes on. Look at it: {look}", err=True)
        raise
    answer = session.peer().ask("task", id=task_id)
    shown = shaped(ShownTask, answer)
    if as_json:
        print_json(answer)
    elif shown.state is TaskState.DONE:
        screen = console()
        screen.print(Text.assemble(("done", "done"), f" {task_id}"))
        for warning in shown.warnings:
            screen.print(Text.assemble(("warning:", "warn"), f" {warning}"), soft_wrap=True)
        for line in output_lines(shown.outputs, shown.segments, screen.width):
            screen.print(line, soft_wrap=True)
    if shown.state is not TaskState.DONE:
        screen = make_console(sys.stderr)
        screen.print(
            Text.assemble((shown.state.value, shown.state.value), f"{needs_text(shown)} {task_id}")
        )
        if shown.error:
            screen.print(error_block(shown.error), soft_wrap=True)
        screen.print(what_to_type(shown))
        sys.exit(EXIT_FAILED)


@click.command(
    epilog=example("peerctl escalations"),
    short_help="List the tasks that wait for a person.",
)
@click.option("--limit", type=click.IntRange(1, 1000), default=30, show_default=True)
@JSON
@talks_to_peer
def escalations(session: Session, limit: int, as_json: bool) -> None:
    """List the tasks that wait for a person, the newest escalation first.

    With each: what went wrong, how often and where, and what to type to resume it.
    """
    answer = session.peer().ask("escalations", limit=limit)
    if as_json:
        return print_json(answer)
    waiting = shaped(list[Escalation], answer)
    if not waiting:
        click.echo("No task waits for a person.")
        return None
    from peer.screen.page import escalations_list

    console().print(escalations_list(waiting, datetime.now(UTC)))
    return None


@click.command(
    epilog=example('peerctl retry 3f2a --reason "the disk was full; there is space again"'),
    short_help="Let an escalated or cancelled task start again.",
)
@ID
@REASON
@JSON
@talks_to_peer
def retry(session: Session, id: str, reason: str, as_json: bool) -> None:
    """Let an escalated or cancelled task start again, its failure counters at zero."""
    _decide(session, "retry", id, reason, as_json)


@click.command(
    epilog=example('peerctl cancel 3f2a --reason "the wrong file"'),
    short_help="Stop a task.",
)
@ID
@REASON
@JSON
@talks_to_peer
def cancel(session: Session, id: str, reason: str, as_json: bool) -> None:
    """Stop a task; `peerctl retry` takes it up again."""
    _decide(session, "cancel", id, reason, as_json)


@click.command(
    epilog=example("peerctl queue"),
    short_help="Count what waits in the queue.",
)
@JSON
@talks_to_peer
def queue(session: Session, as_json: bool) -> None:
    """Count the queue's messages: one for each part of a task that somebody may work on.

    The tasks themselves, with their places in line, are listed by `peerctl tasks`.
    """
    answer = session.peer().ask("queue")
    if as_json:
        return print_json(answer)
    from peer.screen.tables import depth_table

    console().print(depth_table(shaped(Depth, answer)))
    return None


def _decide(session: Session, command: str, id: str, reason: str, as_json: bool) -> None:
    answer = session.peer().ask(command, id=id, reason=reason)
    if as_json:
        return print_json(answer)
    report = shaped(TaskReport, answer)
    click.echo(f"{report.title} ({str(report.id)[:8]}) is {report.state.value}.")
    return None
