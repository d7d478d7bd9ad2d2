"""What has happened: the recorded events, and those that come."""

from __future__ import annotations

import json
from typing import Any

import click

from peer.commands.session import Session, console, example, shaped, talks_to_peer
from peer.commands.tasks import complete_id
from peer.events import EVENT_KINDS
from pipeline.ports import EventRow


class EventType(click.Choice[str]):
    """An event's name in any case; where it is wrong, the names are listed as they are written."""

    def get_invalid_choice_message(self, value: Any, ctx: click.Context | None) -> str:
        """Say what there is."""
        return f"{value!r} is not an event; known are {', '.join(self.choices)}"


@click.command(
    epilog=example("peerctl events --task 3f2a --follow"),
    short_help="Show what has happened.",
)
@click.option(
    "--task", "task_id", metavar="ID", shell_complete=complete_id, help="Only of this task."
)
@click.option(
    "--type",
    "type_",
    type=EventType(sorted(EVENT_KINDS), case_sensitive=False),
    metavar="TYPE",
    help="Only of this type, such as TaskReceived.",
)
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True)
@click.option("--follow", "-f", is_flag=True, help="Go on with new ones until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
@talks_to_peer
def events(
    session: Session,
    *,
    task_id: str | None,
    type_: str | None,
    limit: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Show what has happened, the newest last."""
    arguments = {"task_id": task_id, "type": type_, "limit": limit, "follow": follow}
    given = {key: value for key, value in arguments.items() if value is not None}
    rows = (row for row in session.peer().follow("events", **given) if "type" in row)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
        return
    from peer.screen.tables import event_line

    screen = console()
    for row in rows:
        line = event_line(shaped(EventRow, row), screen.width if screen.is_terminal else None)
        screen.print(line, soft_wrap=True)
