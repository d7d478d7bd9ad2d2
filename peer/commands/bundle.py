"""A support bundle: what somebody needs who is asked for help."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import click

from peer.commands.peers import all_checks
from peer.commands.session import JSON, Session, example, print_json, talks_to_peer
from peer.paths import PeerPlaces

if TYPE_CHECKING:
    from peer.bundle.parts import Part
    from peer.config import Config

PIPE = Path("-")


@click.command(
    epilog=example("peerctl bundle -o trouble.tar.gz"),
    short_help="Put all that helps to find a fault into one file, without secrets.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Where to write it; default: grapevine-bundle-<time>.tar.gz, here. A hyphen: standard"
    " output, for a pipe out of a container.",
)
@click.option(
    "--log",
    "logs",
    type=click.Path(path_type=Path, dir_okay=False),
    multiple=True,
    metavar="FILE",
    help="A log to add the end of, where peers write to something else than files (repeatable).",
)
@JSON
@talks_to_peer
def bundle(session: Session, *, output: Path | None, logs: tuple[Path, ...], as_json: bool) -> None:
    """Put all that helps to find a fault into one file, without secrets.

    The peers of this machine, the gossip table, the newest tasks and events, what doctor says,
    settings, metrics, the ends of the logs, versions and the machine. Works without a peer and
    without any service: what cannot be had is named with the reason.
    """
    from importlib.metadata import version

    from peer.bundle.archive import write_bundle
    from peer.disclosure import Scrubber, secrets_of

    settings = session.settings()
    now = datetime.now(UTC)
    file = output or Path(f"grapevine-bundle-{now:%Y%m%dT%H%M%SZ}.tar.gz")
    piped = file == PIPE
    if piped and (as_json or sys.stdout.isatty()):
        raise click.UsageError("standard output is for the bundle: put `>FILE` behind it")
    with TemporaryDirectory() if piped else nullcontext("") as directory:
        written = Path(directory, "bundle.tar.gz") if piped else file
        entries = write_bundle(
            written,
            list(_parts(session, settings, logs)),
            Scrubber(secrets_of(settings, os.environ)),
            about={"made_at": now.isoformat(), "made_by": version("grapevine")},
        )
        if piped:
            with written.open("rb") as whole:
                shutil.copyfileobj(whole, sys.stdout.buffer)
    missing = {entry.name: entry.missing for entry in entries if entry.missing}
    if as_json:
        return print_json(
            {
                "file": str(file.absolute()),
                "size": file.stat().st_size,
                "parts": [entry.name for entry in entries if not entry.missing],
                "missing": missing,
            }
        )
    for name, why in missing.items():
        click.echo(f"without {name}: {why}", err=True)
    name = "It" if piped else str(file)
    said = f"{name} has {len(entries) - len(missing)} parts. Look through it before you send it."
    click.echo(said, err=piped)
    return None


def _parts(session: Session, settings: Config, logs: tuple[Path, ...]) -> Iterator[Part]:
    from peer.bundle.parts import cluster_parts, given_parts, machine_parts, peer_parts

    yield from machine_parts(settings, lambda: all_checks(session, notify=False))
    peers = _peers(session, settings)
    for places in peers:
        yield from peer_parts(places)
    yield from cluster_parts(peers)
    yield from given_parts(logs)


def _peers(session: Session, settings: Config) -> list[PeerPlaces]:
    """Those that the person means; of this data directory all, whether they run or not."""
    if session.socket_path is not None:
        return [PeerPlaces(session.socket_path.absolute().parent)]
    if session.name is not None:
        return [settings.places.peer(session.name)]
    return [PeerPlaces(place) for place in sorted(settings.places.data_dir.glob("peers/*/"))]
