"""A file on its way: what is continued, what is not, and what is left in its folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.stores.s3 import partial as partial_module
from pipeline.stores.s3.partial import Partial, Version
from pipeline.stores.s3.parts import cut
from pipeline.stores.s3.threads import Stop, Stopped

VERSION = Version(bucket="films", key="a", etag='"1"', size=10, unit=4, algorithm="crc32")
PARTS = list(cut(VERSION.size, VERSION.unit))


def begin(target: Path, version: Version = VERSION) -> Partial:
    partial = Partial(target, version)
    partial.open()
    return partial


def broken_off(target: Path) -> None:
    """Two of the three parts came, and then the store went away."""
    partial = begin(target)
    for part in PARTS[:2]:
        os.pwrite(partial.descriptor, b"x" * part.size, part.offset)
        partial.note(part, bytes([part.number]))
    partial.close()


def test_it_continues(tmp_path: Path) -> None:
    """Parts that came before are there, with their digests; then nothing but the file is left."""
    broken_off(tmp_path / "target")
    assert not (tmp_path / "target").exists()
    partial = begin(tmp_path / "target")
    assert partial.done == {1: b"\1", 2: b"\2"}
    os.pwrite(partial.descriptor, b"yy", 8)
    partial.note(PARTS[2], b"\3")
    partial.publish()

    assert (tmp_path / "target").read_bytes() == b"xxxxxxxxyy"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


@pytest.mark.parametrize(
    "other",
    [
        replace(VERSION, etag='"2"'),
        replace(VERSION, key="b"),
        replace(VERSION, unit=5),
        replace(VERSION, size=9),
        replace(VERSION, algorithm=""),
    ],
)
def test_another_version_begins_anew(tmp_path: Path, other: Version) -> None:
    """A file is never made of two objects, nor of parts that were cut in another way."""
    broken_off(tmp_path / "target")
    partial = begin(tmp_path / "target", other)

    assert partial.done == {}
    assert os.fstat(partial.descriptor).st_size == other.size
    assert os.pread(partial.descriptor, 10, 0) == bytes(other.size)
    partial.discard()
    assert list(tmp_path.iterdir()) == []


def test_without_an_etag_nothing_is_continued(tmp_path: Path) -> None:
    """Nobody knows then whether it is the same version."""
    version = replace(VERSION, etag="")
    partial = begin(tmp_path / "target", version)
    partial.note(PARTS[0], b"")
    partial.close()
    again = begin(tmp_path / "target", version)

    assert again.done == {}
    again.discard()


SPOILS: dict[str, Callable[[Path], object]] = {
    "torn": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "binary": lambda path: path.write_bytes(b"\xff\xfe\0"),
    "empty": lambda path: path.write_bytes(b""),
    "gone": lambda path: path.unlink(),
}


@pytest.mark.parametrize("spoil", SPOILS)
def test_a_spoiled_journal(tmp_path: Path, spoil: str) -> None:
    """What cannot be read did not come: it is fetched again."""
    broken_off(tmp_path / "target")
    SPOILS[spoil](tmp_path / ".target.journal")
    partial = begin(tmp_path / "target")

    assert partial.done == ({1: b"\1"} if spoil == "torn" else {})
    partial.note(PARTS[0], b"\1")
    partial.close()
    assert begin(tmp_path / "target").done == {1: b"\1"}


def test_a_file_is_never_replaced(tmp_path: Path) -> None:
    """Neither one that was there, nor one that has come meanwhile."""
    target = tmp_path / "target"
    partial = begin(target)
    target.write_text("mine")
    with pytest.raises(FileExistsError):
        partial.publish()
    with pytest.raises(FileExistsError):
        begin(target)

    assert target.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_where_nothing_can_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On such a file system it is renamed."""

    def no_links(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    begin(tmp_path / "target").publish()

    assert (tmp_path / "target").read_bytes() == bytes(10)
    assert [path.name for path in tmp_path.iterdir()] == ["target"]


def test_it_is_stopped_while_it_takes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room is taken a piece at a time, all of it unless somebody asks to stop between two."""
    monkeypatch.setattr(partial_module, "PIECE_BYTES", 4)
    allocate, taken, stop = os.posix_fallocate, list[tuple[int, int]](), Stop()

    def count(descriptor: int, offset: int, size: int) -> None:
        taken.append((offset, size))
        allocate(descriptor, offset, size)

    monkeypatch.setattr("os.posix_fallocate", count)
    whole = begin(tmp_path / "target")
    assert taken == [(0, 4), (4, 4), (8, 2)]
    assert os.fstat(whole.descriptor).st_size == VERSION.size
    whole.discard()

    def once() -> None:
        if len(taken) > 3:
            stop.ask()
        stop.check()

    stopped = Partial(tmp_path / "target", VERSION)
    with pytest.raises(Stopped):
        stopped.open(once)
    assert len(taken) == 4
    stopped.discard()
    assert list(tmp_path.iterdir()) == []
