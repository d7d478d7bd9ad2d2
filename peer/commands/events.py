"""What has happened: the recorded events, and those that come."""

from __future__ import annotations

import json
from typing import Any, get_args

import click

from membership.changes import Change
from peer.commands.session import Session, console, example, shaped, talks_to_peer
from peer.commands.tasks import complete_id
from peer.errors import CommandFailed
from peer.events import EVENT_KINDS
from peer.protocol import LocalEvent
from pipeline.ports import EventRow

NOTICED = sorted(
    {"HeartbeatReceived", "GossipTableMerged", *(c.__name__ for c in get_args(Change))}
)
"""What a peer keeps for itself: two of the events, and the changes of the cluster."""


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
    type=EventType(sorted({*EVENT_KINDS, *NOTICED}), case_sensitive=False),
    metavar="TYPE",
    help="Only of this type, such as TaskReceived.",
)
@click.option(
    "--local",
    is_flag=True,
    help="What this peer heard from the others, from its memory: heartbeats, merges, changes.",
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
    local: bool,
    limit: int,
    follow: bool,
    as_json: bool,
) -> None:
    """Show what has happened, the newest last.

    Events are recorded in the ledger. What happens many times a second (HeartbeatReceived,
    GossipTableMerged) is counted there, one row a minute; each of the newest is in the memory of
    the peer that it happened to: --local.
    """
    if local:
        return _show_local(session, task_id, type_, limit, follow=follow, as_json=as_json)
    arguments = {"task_id": task_id, "type": type_, "limit": limit, "follow": follow}
    given = {key: value for key, value in arguments.items() if value is not None}
    rows = (row for row in session.peer().follow("events", **given) if "type" in row)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
        return None
    from peer.screen.tables import event_line

    screen = console()
    for row in rows:
        line = event_line(shaped(EventRow, row), screen.width if screen.is_terminal else None)
        screen.print(line, soft_wrap=True)
    return None


def _show_local(
    session: Session,
    task_id: str | None,
    type_: str | None,
    limit: int,
    *,
    follow: bool,
    as_json: bool,
) -> None:
    if task_id is not None or type_ not in (None, *NOTICED):
        raise CommandFailed(
            f"--local knows no tasks, only {', '.join(NOTICED)}; leave it out", kind="usage"
        )
    given = {"limit": limit, "follow": follow, **({"type": type_} if type_ else {})}
    rows = (row for row in session.peer().follow("local_events", **given) if "type" in row)
    if as_json:
        for row in rows:
            click.echo(json.dumps(row, ensure_ascii=False))
        return
    from peer.screen.tables import local_event_line

    screen = console()
    for row in rows:
        line = local_event_line(
            shaped(LocalEvent, row), screen.width if screen.is_terminal else None
        )
        screen.print(line, soft_wrap=True)
