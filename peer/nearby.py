"""How the peers of one data directory find each other: a file with its address in each one's own.

No setting, no fixed port that only one of them could have, and no broadcast, which strangers would
hear. A dead peer's file stays, and says where nobody is, or somebody who drops what comes unread.
"""

from __future__ import annotations

from contextlib import suppress

from gossip.addresses import canonical, parse_address
from gossip.errors import GossipError
from gossip.rows import Address
from peer.files import replace_file
from peer.paths import PeerPlaces


def publish(own: PeerPlaces, address: str) -> None:
    """Say where this peer is.

    Raises:
        OSError: It could not be written.
    """
    replace_file(own.gossip_address, f"{address}\n")


def withdraw(own: PeerPlaces) -> None:
    """Say nothing any more, on leaving in good order."""
    with suppress(OSError):
        own.gossip_address.unlink(missing_ok=True)


def others(own: PeerPlaces) -> list[Address]:
    """Return where the other peers of the directory are, or once were."""
    found = []
    for file in sorted(own.directory.parent.glob(f"*/{own.gossip_address.name}")):
        if file == own.gossip_address:
            continue
        try:
            host, port = parse_address(file.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, GossipError):
            continue  # of another user, or something else
        if canonical(host) is not None:
            found.append((host, port))
    return found
