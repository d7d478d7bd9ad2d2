"""The peers of this machine: what they are doing, and what is wrong here."""

from __future__ import annotations

import sys
from datetime import UTC, datetime

import click

from peer.client import Peer, find_peer, start_command
from peer.commands.session import (
    EXIT_FAILED,
    EXIT_USAGE,
    JSON,
    Session,
    console,
    example,
    print_json,
    shaped,
    talks_to_peer,
)
from peer.errors import BadAnswer, CommandFailed, NoPeer, PeerError
from peer.protocol import Check, PeerStatus
from peer.screen.words import peer_state
from peer.terminal import program


def answering(session: Session) -> list[Peer]:
    """Every peer that answers: the one that was named, or all of the data directory.

    Raises:
        NoPeer: None does.
    """
    places = session.settings().places
    first = find_peer(places, socket_path=session.socket_path, name=session.name)
    if session.socket_path or session.name:
        return [first]
    found = []
    for place in places.peers():
        try:
            found.append(find_peer(places, socket_path=place.control_socket, name=None))
        except NoPeer:
            continue
    return found


def only_peer(session: Session) -> Peer:
    """The peer that answers, where it matters which: of several, one must be named.

    Raises:
        NoPeer: None does.
        CommandFailed: Several do.
    """
    peers = answering(session)
    if len(peers) > 1:
        names = ", ".join(peer.path.parent.name for peer in peers)
        raise CommandFailed(f"several peers answer; say which one: {names}", kind="usage")
    return peers[0]


@click.command(
    epilog=example("peerctl status --json"),
    short_help="Show the peers of this machine.",
)
@JSON
@talks_to_peer
def status(session: Session, as_json: bool) -> None:
    """Show the peers of this machine: state, load, and what each is working on."""
    answers = []
    for peer in answering(session):
        try:
            answers.append(peer.ask("status"))
        except (NoPeer, BadAnswer):
            continue  # it stopped between two questions
    if not answers:
        raise NoPeer(f"no peer answers; start one with: {start_command(session.settings().places)}")
    if as_json:
        return print_json(answers)
    from peer.screen.tables import PeerRow, peers_table

    statuses = shaped(list[PeerStatus], answers)
    rows = [PeerRow(status.name, status.pid, status.state, status) for status in statuses]
    screen = console()
    screen.print(peers_table(rows, datetime.now(UTC), fill=screen.is_terminal))
    return None


@click.command(
    epilog=example("peerctl doctor"),
    short_help="Look what is wrong on this machine and say what to do.",
)
@click.option(
    "--notify", is_flag=True, help="Send a test notice to the administrators of notify.urls, too."
)
@JSON
@talks_to_peer
def doctor(session: Session, *, notify: bool, as_json: bool) -> None:
    """Look what is wrong on this machine and say what to do about it.

    Works without a running peer; with one, its connections are tried as well.
    """
    checks = all_checks(session, notify=notify)
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(checks))
    else:
        from peer.screen.tables import checks_table

        console().print(checks_table(checks))
    if not all(check.ok for check in checks):
        sys.exit(EXIT_FAILED)


def all_checks(session: Session, *, notify: bool) -> list[Check]:
    """What can be found from here: of this machine, and by each running peer.

    Args:
        notify: Have the first of them send a test notice.
    """
    from peer.doctor import local_checks

    try:
        settings = session.settings()
    except PeerError as error:
        return [Check(check="settings", ok=False, detail=str(error), advice="correct it")]
    return [*local_checks(settings), *_peer_checks(session, notify=notify)]


def _peer_checks(session: Session, *, notify: bool) -> list[Check]:
    """What each running peer finds; no peer is a problem only where one was asked for, or where an
    orchestrator has started one: in a peer's own container.

    Args:
        notify: Have the first of them send a test notice.
    """
    try:
        peers = answering(session)
    except NoPeer as error:
        contained = session.settings().peer.container is not None
        needed = notify or bool(session.name or session.socket_path) or contained
        advice = (
            "wait until it has started, or read its container's log" if contained else "start it"
        )
        return [
            Check(check="peer", ok=not needed, note=not needed, detail=str(error), advice=advice)
        ]
    found: list[Check] = []
    for number, peer in enumerate(peers):
        name = peer.path.parent.name
        try:
            status = shaped(PeerStatus, peer.ask("status"))
            version = f"version {status.version}, {peer_state(status)}, process {status.pid}"
            draining = status.state in ("draining", "parked")
            if status.state == "draining":
                version += "; it takes no work until it is resumed or started again"
            if status.state == "parked":
                version += "; it takes no work, as the scaler is about to stop it"
            if status.quarantined:
                version += f": {status.quarantined}"
            well = status.state not in ("waiting", "quarantined")
            advice = (
                f"look at its log; when it is well again: {program('peerctl')} resume {status.name}"
                if status.quarantined
                else ""
            )
            found.append(Check(check=name, ok=well, note=draining, detail=version, advice=advice))
            sends = {"notify": True} if notify and number == 0 else {}
            for check in shaped(list[Check], peer.ask("doctor", **sends)):
                found.append(
                    Check(
                        check=f"{name}: {check.check}",
                        ok=check.ok,
                        detail=check.detail,
                        advice=check.advice,
                        note=check.note,
                    )
                )
        except PeerError as error:
            found.append(
                Check(check=name, ok=False, detail=str(error), advice="look at the peer's log")
            )
    return found


SHELLS = ("bash", "zsh")


@click.command(
    epilog=example('eval "$(peerctl completion bash)"'),
    short_help="Print what makes a shell complete peerctl's commands.",
)
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print what makes a shell complete peerctl's commands, options and task ids.

    Put the example's line into ~/.bashrc, or with zsh for bash into ~/.zshrc.
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:  # cannot be: SHELLS are among click's own
        sys.exit(EXIT_USAGE)
    click.echo(kind(ctx.find_root().command, {}, "peerctl", "_PEERCTL_COMPLETE").source())
