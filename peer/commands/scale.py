"""How many containers and nodes there are, why, and letting nothing be changed for a while."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import click

from peer.commands.session import (
    EXIT_FAILED,
    JSON,
    InOrder,
    Session,
    console,
    example,
    print_json,
    shaped,
    talks_to_peer,
)
from peer.errors import BadAnswer
from peer.scale.protocol import ShownDecision, ShownPause, ShownScaling
from peer.terminal import program


@click.group(
    cls=InOrder,
    invoke_without_command=True,
    epilog=example("peerctl scale explain"),
    short_help="Show how many containers and nodes there are, and why.",
)
@JSON
@talks_to_peer
@click.pass_context
def scale(context: click.Context, session: Session, *, as_json: bool) -> None:
    """Show how many containers and nodes there are, how many there should be, and who sees to it.

    Any peer answers, from what the leader has put down in the ledger a few seconds ago.
    """
    if context.invoked_subcommand is not None:
        if session != Session() or as_json:
            raise click.UsageError("write options after the subcommand", context)
        return None
    answer = session.peer().ask("scale")
    if as_json:
        return print_json(answer)
    from peer.screen.scale import scaling_page

    screen = console()
    for part in scaling_page(shaped(ShownScaling, answer), datetime.now(UTC)):
        screen.print(part, soft_wrap=True)
    return None


@scale.command(
    epilog=example("peerctl scale explain --limit 20"),
    short_help="Show the last decisions, with reasons and what became of them.",
)
@click.option(
    "--limit", type=click.IntRange(1, 200), default=5, show_default=True, metavar="NUMBER"
)
@click.option(
    "--replay",
    is_flag=True,
    help="Decide again from what was recorded, and say whether the answer is the same.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document a line.")
@talks_to_peer
def explain(session: Session, *, limit: int, replay: bool, as_json: bool) -> None:
    """Show why it scaled, and why it did not: the last decisions, the newest last.

    Decisions in a row that differ in their numbers only are one, with a count: the work as it was
    at the first of them, the reasons as they were at the last. With --replay, this program makes
    each decision again; the exit code is 1 if one of them comes out differently, as it may after an
    upgrade.
    """
    items = [item for item in session.peer().follow("scale_explain", limit=limit) if item]
    items = [item for item in items if "number" in item][::-1]
    differences = {item["number"]: _difference(item["considered"]) for item in items if replay}
    if as_json:
        for item in items:
            more = {"replayed": differences[item["number"]] or "same"} if replay else {}
            click.echo(json.dumps({**item, **more}, ensure_ascii=False))
    else:
        _print(items, differences)
    if any(differences.values()):
        sys.exit(EXIT_FAILED)


def _print(items: list[Any], differences: Mapping[int, str]) -> None:
    from peer.screen.scale import decision_page

    screen = console()
    if not items:
        screen.print("No leader has decided anything yet.")
    for item in items:
        decision = shaped(ShownDecision, item)
        replayed = differences.get(decision.number)
        for part in decision_page(decision, replayed=replayed):
            screen.print(part, soft_wrap=True)


def _difference(considered: Mapping[str, Any]) -> str:
    """What is decided now from the same; empty when it is the same as it was."""
    import msgspec

    from scaling.record import Considered
    from scaling.words import counted

    try:
        recorded = Considered.decode(msgspec.json.encode(considered))
    except msgspec.ValidationError as error:
        raise BadAnswer(
            f"a decision was recorded by another version ({error}); replay it with that one"
        ) from error
    now, then = recorded.repeated(), recorded.decision
    if now == then:
        return ""
    desired = now.desired
    codes = ", ".join(reason.code for reason in now.reasons)
    held = "held at " if now.held else ""
    containers = counted(desired.containers, "container", "containers")
    said = f"{held}{containers} on {counted(desired.nodes, 'node', 'nodes')} ({codes})"
    # Otherwise what is told would be, word for word, what was decided then.
    texts = [
        f"{after.text!r} instead of {before.text!r}"
        for before, after in zip(then.reasons, now.reasons, strict=False)
        if before.code == after.code and before.text != after.text
    ]
    return "; ".join([said, *texts])


@scale.command(
    epilog=example('peerctl scale pause --why "moving the racks"'),
    short_help="Let nothing be changed, whoever leads.",
)
@click.option("--why", default="", help="For those who wonder why nothing is scaled.")
@JSON
@talks_to_peer
def pause(session: Session, *, why: str, as_json: bool) -> None:
    """Let no leader start or stop anything until `resume`; it goes on looking and deciding.

    It holds for the whole cluster and outlives every peer. What a leader is doing at this very
    moment is finished. Who is parked takes work again after peer.park_s (ten minutes).
    """
    answer = session.peer().ask("scale_pause", why=why, by=getpass.getuser())
    if as_json:
        return print_json(answer)
    shown = shaped(ShownPause, answer)
    said = f": {shown.why}" if shown.why else ""
    click.echo(f"Scaling is paused by {shown.by}{said}.")
    click.echo(f"To go on: {program('peerctl')} scale resume")
    return None


@scale.command(epilog=example("peerctl scale resume"), short_help="End a pause.")
@JSON
@talks_to_peer
def resume(session: Session, *, as_json: bool) -> None:
    """Let leaders start and stop containers and nodes again."""
    answer = session.peer().ask("scale_resume")
    if as_json:
        return print_json(answer)
    click.echo("Scaling goes on." if answer["was_paused"] else "Scaling was not paused.")
    return None
