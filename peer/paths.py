"""Where a peer's files lie, in one place, so that nobody else joins path segments.

    <data_dir>/postgres/              the embedded PostgreSQL, shared by the peers of this machine
    <data_dir>/store/                 the directory store
    <data_dir>/gossip.keys            the keys that this machine's peers share, mode 0600, unless
                                      a key is configured
    <data_dir>/containers/            which peers scaling has started here, and their logs
    <data_dir>/peers/<name>/          what belongs to one peer alone, mode 0700
        identity                      its uid and epoch, and whether its last life ended well
        gossip.keys                   the key ring, once it was changed while the peer ran
        gossip.address                where it listens, for the other peers of this directory
        members                       whom it knew, for a restart when no seed answers
        conduct                       that it does not trust itself, and why; not there if it does
        control.sock                  what `peerctl` talks to
        scratch/                      one directory for each claim in progress
        spool/                        events that wait for the ledger

A UNIX socket's address holds 107 bytes, and data directories can be longer. The usual way out is a
second, short directory somewhere below /tmp, which two processes with different environments do
not agree on and which must be defended against its neighbours. `socket_address` opens the socket's
directory instead and names the socket through that descriptor, so that it always lies where this
page says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SOCKET_NAME = "control.sock"
KEYS_NAME = "gossip.keys"
ADDRESS_BYTES_MAX = 107
"""The kernel's `sun_path` has 108 bytes, the last one for a NUL."""


@dataclass(frozen=True, slots=True)
class PeerPlaces:
    """What belongs to one peer; nothing here is created by looking at it."""

    directory: Path

    @property
    def name(self) -> str:
        """The peer's name, which is its directory's."""
        return self.directory.name

    @property
    def identity(self) -> Path:
        """The file with the peer's uid and epoch."""
        return self.directory / "identity"

    @property
    def memory_kills(self) -> Path:
        """How often the kernel had ended something in its container, when it was last looked."""
        return self.directory / "memory-kills"

    @property
    def gossip_keys(self) -> Path:
        """The key ring that was changed while it ran."""
        return self.directory / KEYS_NAME

    @property
    def gossip_address(self) -> Path:
        """Where its UDP socket is; a dead peer's stays, and does no harm."""
        return self.directory / "gossip.address"

    @property
    def members(self) -> Path:
        """Whom it knew."""
        return self.directory / "members"

    @property
    def conduct(self) -> Path:
        """Why it does not trust itself, for its next life."""
        return self.directory / "conduct"

    @property
    def control_socket(self) -> Path:
        """Where it listens for `peerctl`; connect and bind through `socket_address`."""
        return self.directory / SOCKET_NAME

    @property
    def scratch(self) -> Path:
        """Its workspaces; the content means nothing once the peer is gone."""
        return self.directory / "scratch"

    @property
    def spool(self) -> Path:
        """Where its events wait while the ledger is away; a killed peer's are sent when it starts
        again."""
        return self.directory / "spool"


@dataclass(frozen=True, slots=True)
class Places:
    """What lies in a data directory; nothing here is created by looking at it."""

    data_dir: Path

    @property
    def postgres(self) -> Path:
        """The embedded server's directory."""
        return self.data_dir / "postgres"

    @property
    def store(self) -> Path:
        """The directory store's root, unless another one is configured."""
        return self.data_dir / "store"

    @property
    def gossip_keys(self) -> Path:
        """The key ring of those peers that were given no key."""
        return self.data_dir / KEYS_NAME

    @property
    def containers(self) -> Path:
        """Which peers are started and stopped by scaling."""
        return self.data_dir / "containers"

    def peer(self, name: str) -> PeerPlaces:
        """The places of the peer of that name."""
        return PeerPlaces(self.data_dir / "peers" / name)

    def peers(self) -> list[PeerPlaces]:
        """Every peer that has a control socket here, running or not, by name."""
        found = (self.data_dir / "peers").glob(f"*/{SOCKET_NAME}")
        return [PeerPlaces(socket.parent) for socket in sorted(found)]


@contextmanager
def socket_address(path: Path) -> Iterator[str]:
    """Give an address for `bind` or `connect` that the kernel takes, however long the path is.

    It is good only inside the `with` block.

    Raises:
        OSError: The directory does not exist or cannot be entered.
    """
    if len(os.fsencode(path)) <= ADDRESS_BYTES_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
