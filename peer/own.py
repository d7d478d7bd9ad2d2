"""A peer's own directory, held by one process at a time.

The lock is the kernel's (`flock`), so it ends with the process, however that ends; a file with a
process id in it would outlive a crash and mean somebody else after the next start of the machine.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from peer.errors import PeerError
from peer.paths import PeerPlaces


class NotOurs(PeerError):
    """The directory belongs to another process, or cannot be used."""


@contextmanager
def own_directory(places: PeerPlaces) -> Iterator[None]:
    """Make the directory if need be, lock it, and clear what a dead predecessor left in scratch.

    Raises:
        NotOurs: Another process is this peer already, or the directory cannot be written.
    """
    try:
        _make_enterable(places.directory.parent)
        places.directory.mkdir(exist_ok=True)
        places.directory.chmod(0o700)
        lock = os.open(places.directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise NotOurs(
            f"cannot use {places.directory}: {error.strerror}; choose another with --data-dir"
        ) from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise NotOurs(
                f"a peer named {places.name} is running here already; "
                "give this one another name with --name"
            ) from error
        shutil.rmtree(places.scratch, ignore_errors=True)
        places.scratch.mkdir(mode=0o700)
        yield
    finally:
        os.close(lock)


def _make_enterable(directory: Path) -> None:
    """Make what is missing of a path so that others may pass through, but not look around.

    Root's embedded PostgreSQL runs as somebody else, who must reach its directory beside this one;
    the process's own umask would shut it out. What is there already is left as it is.
    """
    if not directory.is_dir():
        _make_enterable(directory.parent)
        directory.mkdir(exist_ok=True)
        directory.chmod(0o711)
