"""`peerctl`: everything a person types.

A thin program: it asks a running peer over a UNIX socket and prints the answer. It never touches
the ledger or the store itself, so it needs neither their libraries nor their passwords, and answers
before one notices. The commands are in `peer/commands/`.
"""

from __future__ import annotations

import click

from peer.commands import bundle, cluster, demo, events, fetch, peers, scale, store, tasks
from peer.commands.session import Boundary

EPILOG = """\b
Start with:  peerctl demo
Settings come from options, then GRAPEVINE_* variables, then a TOML file.
Exit codes: 0 done, 1 failed, 2 wrong usage, 3 no peer answers.
"""


@click.group(
    cls=Boundary,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(package_name="grapevine")
def main() -> None:
    """Grapevine turns videos into ladders of renditions on a cluster that looks after itself."""


for command in (
    demo.demo,
    tasks.submit,
    tasks.tasks,
    tasks.task,
    fetch.fetch,
    tasks.escalations,
    tasks.retry,
    tasks.cancel,
    events.events,
    cluster.table,
    peers.status,
    tasks.queue,
    cluster.drain,
    cluster.resume,
    cluster.leave,
    scale.scale,
    cluster.keys,
    store.store,
    peers.doctor,
    bundle.bundle,
    peers.completion,
):
    main.add_command(command)


if __name__ == "__main__":
    main(prog_name="peerctl")
