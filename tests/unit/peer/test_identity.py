"""A peer's identity: the uid stays, the epoch only rises, and a broken file is said to be one."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from peer import identity


def test_the_uid_stays_and_the_epoch_rises(tmp_path: Path) -> None:
    """Two lives of one peer are told apart by the epoch, also within one second."""
    first, second, third = (identity.renew(tmp_path / "identity") for _ in range(3))

    assert first.uid == second.uid == third.uid
    assert first.epoch < second.epoch < third.epoch


def test_the_epoch_starts_at_the_time(tmp_path: Path) -> None:
    """A peer that lost its directory still outranks its earlier life."""
    before = int(time.time())

    assert before <= identity.renew(tmp_path / "identity").epoch <= int(time.time())


def test_a_clock_that_was_set_back_does_not_lower_the_epoch(tmp_path: Path) -> None:
    """The saved epoch is in the future; the next one is larger still."""
    file = tmp_path / "identity"
    file.write_text("00000000000000ff 99999999999\n")

    renewed = identity.renew(file)

    assert renewed == identity.Identity(uid="00000000000000ff", epoch=100000000000)
    assert file.read_text() == "00000000000000ff 100000000000\n"


def test_two_peers_have_different_uids(tmp_path: Path) -> None:
    """64 random bits."""
    assert identity.renew(tmp_path / "a").uid != identity.renew(tmp_path / "b").uid


@pytest.mark.parametrize(
    "content",
    ["", "xyz", "00000000000000ff", "00000000000000ff -1", "00000000000000FF 1", "a b c", "\x00"],
)
def test_a_file_that_is_not_an_identity_is_refused(tmp_path: Path, content: str) -> None:
    """The message names the file and the way out; nothing is overwritten."""
    file = tmp_path / "identity"
    file.write_text(content)

    with pytest.raises(identity.IdentityUnusable, match="remove it"):
        identity.renew(file)
    assert file.read_text() == content


def test_a_directory_that_is_not_there_is_said(tmp_path: Path) -> None:
    """The message names what could not be written."""
    with pytest.raises(identity.IdentityUnusable, match="cannot write"):
        identity.renew(tmp_path / "nowhere" / "identity")


def test_a_life_that_does_not_end_well_is_known_to_the_next(tmp_path: Path) -> None:
    """A first start has none before it; what was not marked has crashed; what was marked has not,
    and its mark is not the next life's."""
    file = tmp_path / "identity"
    assert identity.crashed(file) is None
    first = identity.renew(file)
    assert identity.crashed(file) == first
    identity.mark_left(file, first)
    assert identity.crashed(file) is None
    second = identity.renew(file)
    assert (second.uid, second.epoch > first.epoch) == (first.uid, True)
    assert identity.crashed(file) == second


@pytest.mark.parametrize("mark", [b"lef", b"left left", b"\xff", b"LEFT", b"\x00left"])
def test_a_damaged_mark_is_none(tmp_path: Path, mark: bytes) -> None:
    """The identity in front of it is good all the same."""
    file = tmp_path / "identity"
    file.write_bytes(b"00000000000000ff 7 " + mark)
    assert identity.crashed(file) == identity.Identity(uid="00000000000000ff", epoch=7)
    assert identity.renew(file).uid == "00000000000000ff"


def test_a_mark_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    """What was there before is there still."""
    own = identity.Identity(uid="00000000000000ff", epoch=7)
    with pytest.raises(identity.IdentityUnusable, match="cannot write"):
        identity.mark_left(tmp_path / "nowhere" / "identity", own)
