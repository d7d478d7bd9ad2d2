from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from peer.paths import ADDRESS_BYTES_MAX, Places, socket_address


def test_peers_are_found_by_their_sockets(tmp_path: Path) -> None:
    """A peer is a directory with a control socket in it; others are not shown, and none is made."""
    places = Places(tmp_path)
    assert places.peers() == []
    for name in ("two", "one", "never-started"):
        places.peer(name).directory.mkdir(parents=True)
    for name in ("two", "one"):
        places.peer(name).control_socket.touch()
    assert [peer.name for peer in places.peers()] == ["one", "two"]


@pytest.mark.parametrize("depth", [1, 5])
def test_a_socket_may_lie_deep(tmp_path: Path, depth: int) -> None:
    """Two processes meet at the path itself, also where it is longer than an address can be."""
    directory = tmp_path.joinpath(*["d" * 50] * depth)
    directory.mkdir(parents=True)
    path = directory / "control.sock"
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        with socket_address(path) as address:
            assert len(os.fsencode(address)) <= ADDRESS_BYTES_MAX
            listening.bind(address)
        listening.listen()
        assert path.is_socket()
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        with closing(socket.socket(socket.AF_UNIX)) as connection, socket_address(path) as address:
            connection.connect(address)
        assert len(list(Path("/proc/self/fd").iterdir())) == descriptors


def test_a_missing_directory_is_an_os_error(tmp_path: Path) -> None:
    """Nobody there looks the same for long paths as for short ones: an OSError."""
    path = tmp_path.joinpath(*["d" * 50] * 4, "control.sock")
    with pytest.raises(FileNotFoundError), socket_address(path):
        pass
