"""The cluster: who is in it and how busy, letting a member finish or leave, and its keys."""

from __future__ import annotations

import secrets
import sys
import time
from base64 import b64encode
from pathlib import Path
from typing import Any

import click

from peer.client import Peer
from peer.commands.peers import only_peer
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
from peer.errors import BadAnswer, CommandFailed, NoPeer, PeerError
from peer.protocol import GossipTable, Ordered, ShownKeys
from peer.terminal import program

ANSWER_WITHIN_S = 3.0
"""A frozen peer must not freeze the picture: the next one is asked."""

SPREAD_WITHIN_S = 5.0
"""A changed key ring has reached every member that lives long before."""

KEY_BYTES = 32
KEY_FILE_BYTES_MAX = 4096


@click.command(
    epilog=example("peerctl table --watch"),
    short_help="Show the gossip table: who is there, and how busy.",
)
@click.option("--watch", "-w", is_flag=True, help="Refresh every second until Ctrl-C.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; with --watch, one line each.")
@talks_to_peer
def table(session: Session, *, watch: bool, as_json: bool) -> None:
    """Show the gossip table: every member, its state, and how busy it is.

    One peer of this machine is asked what it knows, so this works however many others are gone.
    AGE is how long ago a member was last heard by anybody; the * marks the leader. What has no
    room on the terminal is left out: a wider one, a pipe and --json have all of it.
    """
    if watch:
        from peer.commands.watching import watch_table

        return watch_table(session, as_json=as_json)
    _, answer = ask_any(session)
    if as_json:
        return print_json(answer)
    from peer.screen.table import cluster_table

    screen = console()
    width = screen.width if screen.is_terminal else None
    screen.print(cluster_table(shaped(GossipTable, answer), width))
    return None


def ask_any(session: Session) -> tuple[Peer, Any]:
    """Ask for the table until a peer of this machine answers; return which one did, and what.

    A frozen peer takes the question and does not answer it, so it is not waited for long.

    Raises:
        NoPeer, BadAnswer: None did, or not the one that was named.
    """
    if session.name or session.socket_path:
        candidates = [session.peer()]
    else:
        found = session.settings().places.peers()
        candidates = [Peer(place.control_socket) for place in found] or [session.peer()]
    failure: NoPeer | BadAnswer | None = None
    for candidate in candidates:
        peer = Peer(candidate.path, answer_timeout_s=ANSWER_WITHIN_S)
        try:
            return peer, peer.ask("table")
        except BadAnswer as error:
            failure = error
        except NoPeer as error:  # its socket is a leftover, as those of killed peers are
            failure = failure or error
    if isinstance(failure, BadAnswer):
        raise failure
    session.peer()  # says what to do
    assert failure is not None
    raise failure


def _complete_member(_context: click.Context, _parameter: click.Parameter, begun: str) -> list[str]:
    """Offer the living members' names to the shell."""
    try:
        _, answer = ask_any(Session())
    except PeerError:
        return []
    members = shaped(GossipTable, answer).members
    return [member.name for member in members if member.lives and member.name.startswith(begun)]


WHOM = click.argument("member", required=False, metavar="[PEER]", shell_complete=_complete_member)


@click.command(
    epilog=example("peerctl drain demo-2"),
    short_help="Let a peer finish its work and take no more.",
)
@WHOM
@click.option("--undo", is_flag=True, help="Let it take work again.")
@JSON
@talks_to_peer
def drain(session: Session, *, member: str | None, undo: bool, as_json: bool) -> None:
    """Let a peer finish what it has and take no more work, until --undo or its next start.

    PEER is any member's name or the beginning of its uid, as in `peerctl table`; without it, the
    peer of this machine.
    """
    said = "takes work again" if undo else "finishes what it has and takes no more work"
    _order(session, "resume" if undo else "drain", member, said, as_json=as_json)


@click.command(
    epilog=example("peerctl resume demo-2"),
    short_help="Let a drained or quarantined peer take work again.",
)
@WHOM
@JSON
@talks_to_peer
def resume(session: Session, *, member: str | None, as_json: bool) -> None:
    """Let a peer take work again that was drained, or that quarantined itself.

    A peer is quarantined when it fails what others then finish: look at its log first, for a full
    disk or a broken ffmpeg. PEER is any member's name or the beginning of its uid; without it, the
    peer of this machine.
    """
    _order(session, "resume", member, "takes work again", as_json=as_json)


@click.command(
    epilog=example("peerctl leave demo-2"),
    short_help="Stop a peer in good order.",
)
@WHOM
@JSON
@talks_to_peer
def leave(session: Session, *, member: str | None, as_json: bool) -> None:
    """Stop a peer in good order: it finishes what it has, says good-bye to the others, and ends.

    What is not finished within its grace (peer.stop_grace_s) is handed back. PEER is any member's
    name or the beginning of its uid; without it, the peer of this machine.
    """
    said = "finishes what it has, within its grace, and leaves"
    _order(session, "leave", member, said, as_json=as_json)


def _order(session: Session, command: str, member: str | None, said: str, *, as_json: bool) -> None:
    peer = only_peer(session) if member is None else session.peer()
    answer = peer.ask(command, member=member)
    if as_json:
        return print_json(answer)
    click.echo(f"{shaped(Ordered, answer).name} {said}.")
    return None


@click.group(
    cls=InOrder,
    epilog=example("peerctl keys generate | peerctl keys install -"),
    short_help="Show and change the keys that gossip is sealed with.",
)
def keys() -> None:
    """Show and change the keys that gossip is sealed with, while the cluster runs.

    \b
    To replace a key:
      install   every peer opens what is sealed with the new one, too
      use       every peer seals with the new one
      remove    nobody opens what is sealed with the old one any more

    Each peer saves the ring. Put the new key into your settings as well, for peers to come.
    """


@keys.command("list", epilog=example("peerctl keys list"), short_help="Show the ring.")
@JSON
@talks_to_peer
def list_keys(session: Session, as_json: bool) -> None:
    """Show the keys by their fingerprints, and which members have which version of the ring."""
    answer = session.peer().ask("keys")
    _show_keys(answer, as_json=as_json)


@keys.command(
    epilog=example("peerctl keys generate > cluster.key"), short_help="Make a key and print it."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")
def generate(as_json: bool) -> None:
    """Make a new key and print it; it is not used anywhere yet.

    Keep it in a file that only the peers' user can read, and name that file in gossip.key_file or
    GRAPEVINE_GOSSIP_KEY_FILE; the same key for every peer of the cluster.
    """
    key = b64encode(secrets.token_bytes(KEY_BYTES)).decode()
    if as_json:
        return print_json({"key": key})
    click.echo(key)
    return None


@keys.command(
    epilog=example("peerctl keys install new.key"),
    short_help="Let every peer open what a new key seals.",
)
@click.argument("file", type=click.Path(allow_dash=True, dir_okay=False, path_type=Path))
@JSON
@talks_to_peer
def install(session: Session, *, file: Path, as_json: bool) -> None:
    """Add the key in FILE (- is standard input) to the ring of every peer.

    The command line would show a key to everybody on the machine; so it is read from a file.
    """
    try:
        with click.open_file(str(file)) as stream:
            key = stream.read(KEY_FILE_BYTES_MAX).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CommandFailed(f"cannot read {file}: {error}", kind="usage") from error
    _change_keys(session, as_json=as_json, action="install", key=key)


KEY = click.argument("key", metavar="KEY")
FORCE = click.option(
    "--force", is_flag=True, help="Even if a living member does not have the ring yet."
)


@keys.command(epilog=example("peerctl keys use 3f2a1b2c"), short_help="Seal with another key.")
@KEY
@FORCE
@JSON
@talks_to_peer
def use(session: Session, *, key: str, force: bool, as_json: bool) -> None:
    """Let every peer seal with KEY, an id or the beginning of a fingerprint of `keys list`.

    Refused while a living member does not have the whole ring: it would not be able to read.
    """
    _change_keys(session, as_json=as_json, action="use", key=key, force=force)


@keys.command(epilog=example("peerctl keys remove 7c01d9e4"), short_help="Forget a key.")
@KEY
@FORCE
@JSON
@talks_to_peer
def remove(session: Session, *, key: str, force: bool, as_json: bool) -> None:
    """Remove KEY, an id or the beginning of a fingerprint, from the ring of every peer.

    Refused while a living member may still seal with it. Whoever is away meanwhile and has no other
    key must be given one in its settings to come back.
    """
    _change_keys(session, as_json=as_json, action="remove", key=key, force=force)


def _change_keys(session: Session, *, as_json: bool, action: str, **arguments: Any) -> None:
    """Make a change, and wait until every living member has it, or is late."""
    peer = session.peer()
    answer = peer.ask("keys", action=action, **arguments)
    deadline = time.monotonic() + SPREAD_WITHIN_S
    while late := _late(answer):
        if time.monotonic() > deadline:
            break
        time.sleep(0.1)
        answer = peer.ask("keys")
    _show_keys(answer, as_json=as_json)
    if late:
        click.echo(
            f"{', '.join(late)} did not get it within {SPREAD_WITHIN_S:g} s; it is sent again "
            f"until they have it. Look with: {program('peerctl')} keys list",
            err=True,
        )
        sys.exit(EXIT_FAILED)


def _late(answer: Any) -> list[str]:
    """Who does not have the ring yet."""
    shown = shaped(ShownKeys, answer)
    return [holder.name for holder in shown.holders if not holder.current]


def _show_keys(answer: Any, *, as_json: bool) -> None:
    if as_json:
        return print_json(answer)
    from peer.screen.keys import keys_page

    screen = console()
    for part in keys_page(shaped(ShownKeys, answer)):
        screen.print(part, soft_wrap=True)
    return None
