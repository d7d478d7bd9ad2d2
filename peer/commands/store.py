"""The cluster's store: saying that it has moved."""

from __future__ import annotations

import click

from peer.commands.peers import only_peer
from peer.commands.session import (
    JSON,
    InOrder,
    Session,
    example,
    print_json,
    shaped,
    talks_to_peer,
)
from peer.protocol import Adopted


@click.group(
    cls=InOrder,
    epilog=example("peerctl store adopt"),
    short_help="Say that the cluster's store is another one now.",
)
def store() -> None:
    """Say which store is the cluster's.

    Every store has a mark, and peers use none that has not the right one: a disk that is not
    mounted, or another bucket, would look as if all videos had gone.
    """


@store.command(
    epilog=example("peerctl store adopt"),
    short_help="Make the store of this machine's peer the cluster's.",
)
@click.option("--force", is_flag=True, help="Also while tasks are being worked on.")
@JSON
@talks_to_peer
def adopt(session: Session, *, force: bool, as_json: bool) -> None:
    """Make the store that this machine's peer is set to the cluster's, in place of the one before.

    \b
    To move a cluster:
      1. drain the peers, and wait until nothing runs any more
      2. copy `sources` and `tasks` to the new store
      3. start the peers with the new settings
      4. say this on one of them

    Peers that still use the other store take no more work from then on, and what they are at waits.
    Nothing is copied. To go back, say it on a peer with the former settings. Where several peers of
    this machine answer, --peer says which one's store is meant.
    """
    answer = only_peer(session).ask("adopt_store", force=force)
    if as_json:
        return print_json(answer)
    adopted = shaped(Adopted, answer)
    if adopted.changed:
        click.echo(f"{adopted.url} is the cluster's store now. Peers that use another one wait.")
    else:
        click.echo(f"{adopted.url} is the cluster's store already.")
    return None
