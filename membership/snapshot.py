"""The peers that were known, in a file: whom to ask after a restart that has no seeds.

One line for each, `uid address`, below a first line that says what the file is. An address may
belong to somebody else by now, or to nobody, so nothing here is believed; it is asked. Hence the
file may be old, partly unreadable or missing, and the peer starts all the same.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from gossip.addresses import canonical, format_address, parse_address
from gossip.errors import BadAddress
from gossip.rows import Address
from membership.view import View

logger = logging.getLogger(__name__)

HEADER = "grapevine peers 1"
PEERS_MAX = 256
_FILE_BYTES_MAX = 64 * 1024


class KnownPeer(NamedTuple):
    """A peer and where it was."""

    uid: int
    address: Address


def worth_keeping(view: View) -> tuple[KnownPeer, ...]:
    """Choose the members to remember: the most recently heard others, not the departed.

    The dead are kept behind the living: after a power cut, everybody was dead to the last one.
    """
    others = [
        member for member in view.members if not member.own and member.row.state.name != "LEFT"
    ]
    others.sort(key=lambda member: (member.row.state, member.age_s, member.row.uid))
    return tuple(
        KnownPeer(member.row.uid, member.row.body.address) for member in others[:PEERS_MAX]
    )


def write(peers: Iterable[KnownPeer]) -> str:
    """Write the file's content."""
    lines = [f"{peer.uid:016x} {format_address(peer.address)}" for peer in peers]
    return "\n".join([HEADER, *lines, ""])


def read(content: str) -> tuple[tuple[KnownPeer, ...], int]:
    """Read the file's content as far as it can be read.

    Returns:
        The peers, at most `PEERS_MAX`, and how many lines could not be read. Without the first
        line it is another file, and no line can.
    """
    header, *lines = content.splitlines() or [""]
    if header != HEADER:
        return (), 1 + len(lines)
    peers = [peer for line in lines if (peer := _peer(line)) is not None]
    return tuple(peers[:PEERS_MAX]), len(lines) - len(peers)


def save(file: Path, peers: Iterable[KnownPeer]) -> None:
    """Replace the file, mode 0600, so that a crash leaves the old content or the new.

    Blocks: call it in a thread. A disk that is full costs the snapshot, and a warning.
    """
    fresh = file.with_name(f".{file.name}.new")
    try:
        fresh.unlink(missing_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(write(peers))
            stream.flush()
            os.fsync(stream.fileno())
        fresh.replace(file)
    except OSError as error:
        logger.warning(
            "known peers not saved: a restart will need its seeds",
            extra={"action": "snapshot", "file": str(file), "error": str(error)},
        )


def load(file: Path) -> tuple[KnownPeer, ...]:
    """Return whom the file knows; nobody, when it is missing or is no such file."""
    try:
        with file.open("rb") as stream:
            content = stream.read(_FILE_BYTES_MAX)
    except FileNotFoundError:
        return ()
    except OSError as error:
        logger.warning(
            "known peers not read: going on without",
            extra={"action": "snapshot", "file": str(file), "error": str(error)},
        )
        return ()
    peers, unreadable = read(content.decode(errors="replace"))
    if unreadable:
        logger.warning(
            "known peers read in part: the file is damaged, and is written anew in a minute",
            extra={"action": "snapshot", "file": str(file), "lines_unreadable": unreadable},
        )
    return peers


def _peer(line: str) -> KnownPeer | None:
    try:
        digits, where = line.split()
        uid, address = bytes.fromhex(digits), parse_address(where)
        if len(uid) != 8 or canonical(address.host) is None:
            return None
        return KnownPeer(int.from_bytes(uid), (address.host, address.port))
    except (ValueError, BadAddress):
        return None
