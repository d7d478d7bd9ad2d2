"""The known peers on disk: whole after a crash, readable after damage, nobody else's to read."""

from __future__ import annotations

import logging
import stat
from pathlib import Path

import pytest

from gossip.load import Load
from gossip.rows import Address, Body, Row, State
from membership.snapshot import (
    HEADER,
    PEERS_MAX,
    KnownPeer,
    load,
    read,
    save,
    worth_keeping,
    write,
)
from membership.view import Member, View

PEERS = (
    KnownPeer(0x0123456789ABCDEF, ("10.0.0.5", 7946)),
    KnownPeer(7, ("2001:db8::1", 7000)),
)


def member(
    uid: int, *, state: State = State.ALIVE, age_s: float = 0.0, own: bool = False
) -> Member:
    address: Address = ("10.0.0.1", uid)
    return Member(
        row=Row(uid, 1, 0, state, Body(address=address)),
        age_s=age_s,
        load=Load(),
        load_age_s=0.0,
        silent=False,
        own=own,
    )


def view(*members: Member) -> View:
    return View(
        own_uid=1,
        members=members,
        leader=None,
        candidate=None,
        quorate=True,
        deaf=False,
        suspected=False,
        mass_event=False,
    )


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    """The same peers in the same order, in a file that only its owner may read."""
    file = tmp_path / "peers"

    save(file, PEERS)
    save(file, PEERS)

    assert load(file) == PEERS
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("content", "expected", "unreadable"),
    [
        (write(PEERS), PEERS, 0),
        (write(PEERS)[:-8], PEERS[:1], 1),
        (write(PEERS) + "\x00\x00", PEERS, 1),
        (f"{HEADER}\n", (), 0),
        ("", (), 1),
        ("another file\n" + write(PEERS), (), 4),
        (f"{HEADER}\nxyz 10.0.0.5:7946\n0000000000000007\n", (), 2),
        (f"{HEADER}\n0000000000000007 tasks.peer:7946\n", (), 1),
        (f"{HEADER}\n-000000000000007 10.0.0.5:7946\n", (), 1),
    ],
)
def test_what_can_be_read_is_read(
    content: str, expected: tuple[KnownPeer, ...], unreadable: int
) -> None:
    """A damaged line costs that peer and no other; another file's lines are not believed."""
    assert read(content) == (expected, unreadable)


def test_a_damaged_file_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The peer starts without it, and says so."""
    file = tmp_path / "peers"
    file.write_bytes(b"\xff\x00" * 100)

    assert load(file) == ()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_missing_file_is_the_first_start(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nobody is known, and there is nothing to say about it."""
    assert load(tmp_path / "peers") == ()
    assert not caplog.records


def test_a_disk_that_fails_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither saving nor loading stops the peer."""
    nowhere = tmp_path / "missing" / "peers"
    folder = tmp_path / "folder"
    folder.mkdir()

    save(nowhere, PEERS)

    assert load(folder) == ()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


def test_the_file_is_bounded() -> None:
    """However many lines there are, only so many peers come of it."""
    many = [KnownPeer(number, ("10.0.0.1", number + 1)) for number in range(2 * PEERS_MAX)]

    peers, unreadable = read(write(many))

    assert list(peers) == many[:PEERS_MAX]
    assert unreadable == 0


def test_the_most_promising_are_kept() -> None:
    """The living before the dead, those heard lately first; neither itself nor the departed."""
    members = (
        member(1, own=True),
        member(2, state=State.DEAD, age_s=1.0),
        member(3, age_s=2.0),
        member(4, state=State.LEFT),
        member(5, state=State.SUSPECT, age_s=3.0),
        member(6, age_s=0.5),
    )

    assert [peer.uid for peer in worth_keeping(view(*members))] == [6, 3, 5, 2]


def test_no_more_are_kept_than_can_be_read() -> None:
    """A large cluster's file stays small."""
    crowd = (member(uid, age_s=float(uid)) for uid in range(1, 2 * PEERS_MAX))

    kept = worth_keeping(view(*crowd))

    assert [peer.uid for peer in kept] == list(range(1, PEERS_MAX + 1))
