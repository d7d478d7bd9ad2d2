"""`peer`: start a peer on this machine and run it until it is told to stop.

Exit status: 143 after SIGTERM and 130 after Ctrl-C, once the current work is finished or handed
back; 0 when the process that started it (`--lifeline`) is gone; 1 when it cannot start or breaks;
2 for a wrong setting.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import trio

from peer import config, flags, logs
from peer.agent import Agent
from peer.errors import ConfigError, PeerError
from peer.likeness import Likeness
from peer.terminal import print_whatever_comes
from pipeline.errors import PipelineError

log = logging.getLogger("peer")


class Program(click.Command):
    """The command of this program."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run it."""
        print_whatever_comes()
        return super().main(*args, **kwargs)


@click.command(
    cls=Program,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Example: peer --name one --slots 2   (then, in another terminal: peerctl status)",
)
@flags.peer_options
@click.option(
    "--lifeline",
    type=int,
    metavar="FD",
    help="Stop when this inherited file descriptor reaches its end.",
)
@click.version_option(package_name="grapevine")
def main(
    config_file: Path | None, assignments: tuple[str, ...], lifeline: int | None, **given: Any
) -> None:
    """Start a peer: it takes transcoding tasks from the queue until it is told to stop."""
    typed = flags.settings(given)
    try:
        settings = config.load(typed, assignments=assignments, file=config_file)
    except ConfigError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(2)
    logs.configure(settings.peer.log_format, settings.peer.log_level, peer=settings.peer.name)
    os.umask(0o077)
    likeness = Likeness.of(config_file, assignments, typed, lifeline)
    sys.exit(_run(settings, likeness))


def _run(settings: config.Config, likeness: Likeness) -> int:
    try:
        return trio.run(Agent(settings, likeness).run)
    except* (PeerError, PipelineError) as group:
        for error in _leaves(group):
            # One sentence for a person; a traceback would only hide it.
            log.critical("cannot go on", extra={"action": "failed", "error": str(error)})
    except* Exception:
        log.exception("broken", extra={"action": "broken"})
    return 1


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error
