"""The spool on a real disk: what was kept comes back, in order, once, whenever the peer died."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.spool import Found, Spool, decode_lines, encode_line

ENTRIES: list[dict[str, Any]] = [{"n": n, "text": "é\n\u2028\0" * n} for n in range(5)]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where the spool lies; it makes that itself."""
    return tmp_path / "peers" / "ada" / "spool"


@pytest.fixture
def spool(directory: Path) -> Iterator[Spool]:
    """An empty spool."""
    spool = Spool(directory)
    yield spool
    spool.close()


def files(directory: Path) -> list[Path]:
    return sorted(directory.iterdir())


def test_an_empty_spool_leaves_no_trace(spool: Spool, directory: Path) -> None:
    """A peer whose ledger never is away has no directory for the other case."""
    assert spool.read() == Found(entries=[], damaged=[])
    spool.clear()
    spool.close()
    assert not directory.exists()


def test_what_is_appended_is_read_in_its_order(spool: Spool) -> None:
    """Also by the next life, and with what that appends in a file of its own."""
    spool.append(ENTRIES[:2])
    spool.append(ENTRIES[2:3])
    assert spool.read() == Found(entries=ENTRIES[:3], damaged=[])

    spool.append(ENTRIES[3:4])
    assert spool.read().entries == ENTRIES[:4]


def test_every_life_has_a_file_of_its_own(spool: Spool, directory: Path) -> None:
    """Behind a torn end nothing is written: it would be lost with it."""
    spool.append(ENTRIES[:2])
    os.truncate(files(directory)[0], files(directory)[0].stat().st_size - 3)
    next_life = Spool(directory)
    next_life.append(ENTRIES[2:])
    next_life.close()

    assert spool.read() == Found(entries=[ENTRIES[0], *ENTRIES[2:]], damaged=[])
    assert len(files(directory)) == 2


def test_only_its_owner_can_read_it(spool: Spool, directory: Path) -> None:
    """Events name files and machines."""
    spool.append(ENTRIES)
    assert [path.stat().st_mode & 0o777 for path in (directory, *files(directory))] == [
        0o700,
        0o600,
    ]


def test_cleared_is_empty(spool: Spool, directory: Path) -> None:
    """And it can be used again."""
    spool.append(ENTRIES)
    spool.clear()
    assert files(directory) == []
    assert spool.read().entries == []

    spool.append(ENTRIES[:1])
    assert spool.read().entries == ENTRIES[:1]


def test_it_is_bounded(directory: Path) -> None:
    """What would exceed the bound is refused as a whole; the files of former lives count too."""
    size = sum(len(encode_line(entry)) for entry in ENTRIES[:3])
    former = Spool(directory, bytes_max=size)
    former.append(ENTRIES[:2])
    former.close()
    spool = Spool(directory, bytes_max=size)
    with pytest.raises(OSError, match="the spool is full"):
        spool.append(ENTRIES[2:4])
    assert spool.read().entries == ENTRIES[:2]

    spool.append(ENTRIES[2:3])
    with pytest.raises(OSError, match="the spool is full"):
        spool.append([{}])
    spool.clear()
    spool.append(ENTRIES[:3])
    assert spool.read().entries == ENTRIES[:3]
    spool.close()


class FullDisk:
    """`os.write` on a disk with room for so many bytes."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._write = os.write

    def __call__(self, descriptor: int, data: Any) -> int:
        if not self.room:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._write(descriptor, bytes(data)[: self.room])
        self.room -= written
        return written


@pytest.mark.parametrize("room", [0, 1, 30, 60, 100])
def test_a_full_disk_takes_nothing(
    spool: Spool, directory: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    """The call fails, what was there stays, nothing is half there, and later it works again."""
    spool.append(ENTRIES[:2])
    disk = FullDisk(room)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", disk)
        for _ in range(3):
            with pytest.raises(OSError, match="No space left"):
                spool.append(ENTRIES[2:] * 3)
            disk.room = 0
    assert spool.read() == Found(entries=ENTRIES[:2], damaged=[])
    assert len(files(directory)) == 1, "tries leave no files behind"

    spool.append(ENTRIES[2:])
    assert spool.read().entries == ENTRIES


def test_a_disk_that_fails_to_sync_is_believed_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a failed sync the kernel may have thrown the pages away: another file is begun."""
    spool.append(ENTRIES[:1])

    def fail(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", fail)
        with pytest.raises(OSError, match="Input/output"):
            spool.append(ENTRIES[1:2])
    spool.append(ENTRIES[1:])
    assert spool.read().entries == ENTRIES


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)
entries_lists = st.lists(st.dictionaries(st.text(), json_values, max_size=3), max_size=6)


@given(entries_lists)
def test_any_entry_survives(entries: list[dict[str, Any]]) -> None:
    """Whatever its texts hold, an entry is one line and comes back as it was."""
    data = b"".join(map(encode_line, entries))
    assert data.count(b"\n") == len(entries)
    assert decode_lines(data) == Found(entries=entries, damaged=[])


@given(st.lists(entries_lists.filter(bool), min_size=1, max_size=4), st.data())
def test_killed_at_any_byte(appends: list[list[dict[str, Any]]], data: st.DataObject) -> None:
    """What was synced comes back, in order, once; of the write that was cut, a beginning or
    nothing. And what the next life adds comes after it."""
    with tempfile.TemporaryDirectory() as top:
        spool = Spool(Path(top))
        synced = []
        for entries in appends[:-1]:
            spool.append(entries)
            synced += entries
        size = sum(path.stat().st_size for path in files(Path(top)))
        spool.append(appends[-1])
        spool.close()
        [file] = files(Path(top))
        os.truncate(file, data.draw(st.integers(size, file.stat().st_size), label="cut at"))

        next_life = Spool(Path(top))
        found = next_life.read()
        rest = list(found.entries[len(synced) :])
        assert found.damaged == []
        assert found.entries[: len(synced)] == synced
        assert rest == appends[-1][: len(rest)]

        next_life.append([{"next": "life"}])
        assert next_life.read().entries == [*synced, *rest, {"next": "life"}]
        next_life.close()


@given(entries_lists.filter(bool), st.data())
def test_damaged_anywhere(entries: list[dict[str, Any]], data: st.DataObject) -> None:
    """One wrong byte costs its line alone, or two where it was the end between them; what was
    behind is read, nothing false is, and the damaged line is there as it lies on the disk."""
    lines = [encode_line(entry) for entry in entries]
    good = b"".join(lines)
    at = data.draw(st.integers(0, len(good) - 1), label="damaged at")
    bad = bytes([good[at] ^ data.draw(st.integers(1, 255), label="by")])
    damaged = good[:at] + bad + good[at + 1 :]
    found = decode_lines(damaged)

    before = good[:at].count(b"\n")
    costs = 2 if good[at : at + 1] == b"\n" else 1
    assert found.entries == [*entries[:before], *entries[before + costs :]]
    assert found.damaged or at == len(good) - 1, "only a lost end of the last line is no loss"
    assert all(line in damaged for line in found.damaged)


def test_damage_in_one_file_leaves_the_others(directory: Path) -> None:
    """What other lives have told has nothing to do with it."""
    for entries in (ENTRIES[:3], ENTRIES[3:]):
        spool = Spool(directory)
        spool.append(entries)
        spool.close()
    first = files(directory)[0]
    data = bytearray(first.read_bytes())
    data[data.index(b"\n") + 12] ^= 1
    first.write_bytes(data)

    damaged = data.split(b"\n")[1]
    assert Spool(directory).read() == Found(
        entries=[ENTRIES[0], *ENTRIES[2:]], damaged=[bytes(damaged)]
    )


def test_what_is_set_aside_stays(spool: Spool, directory: Path) -> None:
    """It is not read again, outlives what is cleared, and is there once however often it is set
    aside: a peer that is killed before it has told the rest finds all of it again."""
    lines = [b"not one of ours", encode_line(ENTRIES[0]).rstrip(b"\n")]
    spool.append(ENTRIES)
    assert spool.set_aside(lines[:1]) == 0
    assert spool.set_aside(lines) == 0
    spool.clear()

    assert spool.read() == Found(entries=[], damaged=[])
    [aside] = files(directory)
    assert (aside.name, aside.stat().st_mode & 0o777) == ("aside.damaged", 0o600)
    assert aside.read_bytes() == b"".join(line + b"\n" for line in lines)


def test_what_is_set_aside_is_bounded(directory: Path) -> None:
    """What does not fit any more is counted, and takes nothing from what waits."""
    spool = Spool(directory, bytes_max=1000, aside_bytes_max=25)
    assert spool.set_aside([b"0123456789", b"abcdefghij", b"too much"]) == 1
    assert (directory / "aside.damaged").read_bytes() == b"0123456789\nabcdefghij\n"
    spool.append(ENTRIES)
    assert spool.read().entries == ENTRIES
    spool.close()
