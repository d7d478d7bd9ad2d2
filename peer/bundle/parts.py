"""What goes into a bundle: each part with its name in it, and how it is had.

What the cluster's ledger knows is asked of one peer; what a peer alone knows, of every peer of this
machine. Whoever asks needs no service and no password of its own: a peer has already left out what
is secret in its answers.
"""

from __future__ import annotations

import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from peer.bundle import facts
from peer.client import Peer
from peer.config import Config
from peer.disclosure import disclosed
from peer.errors import CommandFailed, NoPeer, PeerError
from peer.paths import PeerPlaces

EVENTS = 2000
TASKS = 500
DECISIONS = 20
ANSWER_WITHIN_S = 15.0
"""A peer that is frozen takes a connection, and never answers."""
LOG_BYTES_MAX = 1024 * 1024
"""The end of a log; some ten thousand lines."""


@dataclass(frozen=True, slots=True)
class Part:
    """One file of a bundle.

    Args:
        name: Its path there; what ends with `.json` is a document, all else a text.
        collect: Returns it; raises a `PeerError` or an `OSError` when it cannot be had.
    """

    name: str
    collect: Callable[[], Any]


def machine_parts(config: Config, checks: Callable[[], Any]) -> Iterator[Part]:
    """What is known without any peer.

    Args:
        checks: What `peerctl doctor` finds.
    """
    yield Part("machine.json", partial(facts.machine, config))
    yield Part("versions.json", partial(facts.versions, config))
    yield Part("settings.json", partial(disclosed, config))
    yield Part("doctor.json", checks)
    yield from (
        Part(f"logs/{file.name}", partial(tail, file))
        for file in (
            config.places.postgres / "server.log",
            *sorted((config.places.containers / "logs").glob("*.log")),
        )
        if file.exists()
    )


def peer_parts(places: PeerPlaces) -> Iterator[Part]:
    """What one peer of this machine says of itself."""
    peer, name = _peer(places), f"peers/{places.name}"
    for command in ("status", "settings", "table"):
        yield Part(f"{name}/{command}.json", partial(peer.ask, command))
    yield Part(f"{name}/noticed.json", partial(peer.gather, "local_events"))
    yield Part(f"{name}/metrics.txt", partial(peer.ask, "metrics"))
    yield Part(f"{name}/log.txt", partial(_log_of, peer))


def cluster_parts(peers: Sequence[PeerPlaces]) -> Iterator[Part]:
    """What the ledger says, asked of the first peer that answers."""

    def ask(command: str, **arguments: Any) -> Any:
        return _first(peers, lambda peer: peer.ask(command, **arguments))

    yield Part("cluster/tasks.json", lambda: _tasks(ask("tasks", limit=TASKS)))
    yield Part(
        "cluster/events.json",
        lambda: _first(peers, lambda peer: peer.gather("events", limit=EVENTS)),
    )
    yield Part("cluster/escalations.json", lambda: ask("escalations"))
    yield Part("cluster/queue.json", lambda: ask("queue"))
    yield Part("cluster/scale.json", lambda: ask("scale"))
    yield Part("cluster/decisions.json", lambda: ask("scale_explain", limit=DECISIONS))


def given_parts(files: Sequence[Path]) -> Iterator[Part]:
    """The ends of files that a person has named."""
    yield from (
        Part(f"logs/given-{number}-{file.name}", partial(tail, file))
        for number, file in enumerate(files, start=1)
    )


def _first(peers: Sequence[PeerPlaces], ask: Callable[[Peer], Any]) -> Any:
    """Ask one peer after the other until one can say; raises what all of them said."""
    said = []
    for places in peers:
        try:
            return ask(_peer(places))
        except PeerError as error:
            said.append(f"{places.name}: {error}")
    raise NoPeer("; ".join(said) or "there is no peer here")


def _peer(places: PeerPlaces) -> Peer:
    return Peer(places.control_socket, answer_timeout_s=ANSWER_WITHIN_S)


def _tasks(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "newest": len(tasks),
        "states": dict(Counter(str(task.get("state")) for task in tasks)),
        "tasks": tasks,
    }


def _log_of(peer: Peer) -> str:
    """The end of the file to which a running peer writes its log, if it is one."""
    pid = peer.ask("status")["pid"]
    link = Path(f"/proc/{pid}/fd/2")
    try:
        if stat.S_ISREG(link.stat().st_mode):
            return tail(link)
        where = os.readlink(link)  # noqa: PTH115 - it may be no path: `pipe:[4711]`
    except OSError as error:
        raise CommandFailed(
            f"where process {pid} writes its log cannot be seen from here: {error.strerror}"
        ) from error
    raise CommandFailed(
        f"its log goes to {where} and not to a file; save what has collected it (journalctl, "
        "docker service logs, …) and give it with --log"
    )


def tail(file: Path) -> str:
    """The end of a text file, from the beginning of a line. Raises OSError."""
    with file.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(0, size - LOG_BYTES_MAX))
        content = stream.read(LOG_BYTES_MAX)
    if size > LOG_BYTES_MAX:
        content = content.partition(b"\n")[2]
    return content.decode("utf-8", "replace")
