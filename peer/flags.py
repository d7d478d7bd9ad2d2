"""Settings as command-line flags, the same for every program that reads the configuration.

Only what people type by hand has a flag of its own; everything else is `--set section.key=value`,
so that `--help` stays one page.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

CONFIG = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="TOML file with settings.",
)
DATA_DIR = click.option("--data-dir", metavar="DIR", help="Where everything is kept.")
SET = click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Any other setting, such as retry.base_s=5 (repeatable).",
)

_PEER = (
    CONFIG,
    click.option("--name", metavar="NAME", help="What people call this peer."),
    DATA_DIR,
    click.option("--slots", metavar="N", help="How many videos at the same time."),
    click.option("--ledger-url", metavar="URL", help="PostgreSQL; without it, an embedded one."),
    click.option("--queue-url", metavar="URL", help="RabbitMQ; without it, in the ledger."),
    click.option(
        "--join",
        multiple=True,
        metavar="ADDRESS",
        callback=lambda _context, _option, given: given or None,
        help="A peer of another machine, as host or host:port (repeatable).",
    ),
    click.option("--listen", metavar="HOST:PORT", help="Where the other peers' datagrams come."),
    click.option("--advertise", metavar="HOST[:PORT]", help="Where the others send theirs."),
    click.option("--stop-grace-s", metavar="S", help="How long work may go on after SIGTERM."),
    click.option(
        "--dry-run",
        flag_value="true",
        default=None,
        help="While this peer leads the scaling: decide, and change nothing.",
    ),
    click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error."),
    click.option("--log-format", metavar="FORMAT", help="console or json."),
    SET,
)
_PATHS = {
    "name": "peer.name",
    "data_dir": "peer.data_dir",
    "slots": "peer.slots",
    "stop_grace_s": "peer.stop_grace_s",
    "dry_run": "scaling.dry_run",
    "log_level": "peer.log_level",
    "log_format": "peer.log_format",
    "ledger_url": "ledger.url",
    "queue_url": "queue.url",
    "join": "gossip.join",
    "listen": "gossip.listen",
    "advertise": "gossip.advertise",
}
_SWITCHES = frozenset({"dry_run"})
"""Flags that take no value."""


def peer_options(command: F) -> F:
    """Give a click command the flags of a peer.

    They arrive as keyword arguments: `config_file`, `assignments`, and the rest for `settings`.
    """
    for option in reversed(_PEER):
        command = option(command)
    return command


def typed(path: str, value: object) -> tuple[str, ...]:
    """What people type to give the setting of that path this value."""
    name = next(name for name, known in _PATHS.items() if known == path)
    flag = "--" + name.replace("_", "-")
    return (flag,) if name in _SWITCHES else (flag, str(value))


def settings(arguments: dict[str, Any]) -> dict[str, Any]:
    """Name the flags as `config.load` takes them; others are left out."""
    return {path: arguments[name] for name, path in _PATHS.items() if name in arguments}
