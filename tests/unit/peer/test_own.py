"""A peer's directory belongs to one process at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from peer.own import NotOurs, own_directory
from peer.paths import PeerPlaces


def test_the_second_peer_of_a_name_is_refused(tmp_path: Path) -> None:
    """And told to take another name."""
    places = PeerPlaces(tmp_path / "one")

    with own_directory(places), pytest.raises(NotOurs, match="--name"), own_directory(places):
        pytest.fail("two processes would share a control socket")


def test_the_directory_is_free_again_afterwards(tmp_path: Path) -> None:
    """A restart finds it unlocked."""
    places = PeerPlaces(tmp_path / "one")
    entered = 0

    for _ in range(2):
        with own_directory(places):
            entered += 1

    assert entered == 2


def test_only_its_owner_may_look_inside(tmp_path: Path) -> None:
    """The control socket in it gives full control of the peer."""
    with own_directory(PeerPlaces(tmp_path / "one")) as _:
        assert (tmp_path / "one").stat().st_mode & 0o777 == 0o700


def test_a_dead_peers_workspaces_are_removed(tmp_path: Path) -> None:
    """A killed peer leaves half an encode behind; the next life starts with an empty scratch."""
    places = PeerPlaces(tmp_path / "one")
    with own_directory(places):
        (places.scratch / "claim").mkdir()
        (places.scratch / "claim" / "720p.mp4").write_bytes(b"half")

    with own_directory(places):
        assert list(places.scratch.iterdir()) == []


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """The message names the directory and the flag that chooses another."""
    (tmp_path / "file").write_text("")

    with pytest.raises(NotOurs, match="--data-dir"), own_directory(PeerPlaces(tmp_path / "file/x")):
        pytest.fail("a file is not a directory")


def test_others_may_pass_through_but_not_look_around(tmp_path: Path) -> None:
    """Root's PostgreSQL runs as another user, in a directory beside the peers'."""
    before = os.umask(0o077)
    try:
        with own_directory(PeerPlaces(tmp_path / "deep/data/peers/one")):
            made = ["deep", "deep/data", "deep/data/peers", "deep/data/peers/one"]
            modes = [(tmp_path / path).stat().st_mode & 0o777 for path in made]
    finally:
        os.umask(before)

    assert modes == [0o711, 0o711, 0o711, 0o700]
