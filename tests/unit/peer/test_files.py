"""Small files: whole or not at all, private, and made by exactly one of many."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from peer.files import create_file, replace_file


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    """The new content stands there, readable by the owner alone, and nothing is left beside it."""
    file = tmp_path / "state"
    file.write_text("old")
    file.chmod(0o644)
    replace_file(file, "new")
    assert file.read_text() == "new"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]


def test_what_cannot_be_replaced_stays(tmp_path: Path) -> None:
    """Where the new content cannot take the place, the place is as before."""
    (tmp_path / "state").mkdir()
    with pytest.raises(OSError, match="state"):
        replace_file(tmp_path / "state", "new")
    assert list(tmp_path.iterdir()) == [tmp_path / "state"]


def test_of_many_who_create_one_does(tmp_path: Path) -> None:
    """Eight at once: one of them made it, and all find the same whole content."""
    file = tmp_path / "key"
    together = threading.Barrier(8)
    made: list[bool] = []
    read: list[str] = []

    def create(number: int) -> None:
        together.wait()
        made.append(create_file(file, str(number) * 1000))
        read.append(file.read_text())

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(made) == [False] * 7 + [True]
    assert set(read) == {file.read_text()}
    assert len(file.read_text()) == 1000
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(tmp_path.iterdir()) == [file]
