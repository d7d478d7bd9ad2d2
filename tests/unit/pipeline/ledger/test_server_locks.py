"""Locks between processes: who gets one, and that a dead process holds none."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.ledger.server_locks import FileLock, Kind


@pytest.mark.parametrize(
    ("held", "wanted", "granted"),
    [
        (Kind.SHARED, Kind.SHARED, True),
        (Kind.SHARED, Kind.EXCLUSIVE, False),
        (Kind.EXCLUSIVE, Kind.SHARED, False),
        (Kind.EXCLUSIVE, Kind.EXCLUSIVE, False),
    ],
)
def test_who_gets_it(tmp_path: Path, held: Kind, wanted: Kind, granted: bool) -> None:
    """Many may share a lock, or one has it alone; and a closed lock is in nobody's way."""
    with FileLock(tmp_path / "lock") as first, FileLock(tmp_path / "lock") as second:
        assert first.acquire_nowait(held)
        assert second.acquire_nowait(wanted) == granted
        first.close()
        first.close()
        assert second.acquire_nowait(wanted)


def test_waiting_ends_at_the_deadline(tmp_path: Path) -> None:
    """What is not granted in time is given up, and a deadline in the past asks once."""
    with FileLock(tmp_path / "lock") as first, FileLock(tmp_path / "lock") as second:
        assert first.acquire(Kind.EXCLUSIVE, deadline=0.0)
        before = time.monotonic()
        assert not second.acquire(Kind.EXCLUSIVE, deadline=before + 0.05)
        assert time.monotonic() >= before + 0.05


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    """The kernel gives the lock back, and a child that inherited it has kept it until then."""
    with FileLock(tmp_path / "lock") as ours, FileLock(tmp_path / "lock") as other:
        assert ours.acquire_nowait(Kind.EXCLUSIVE)
        child = subprocess.Popen(
            [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[ours.fileno()]
        )
        ours.close()
        assert not other.acquire_nowait(Kind.SHARED)
        child.kill()
        child.communicate()
        assert other.acquire_nowait(Kind.EXCLUSIVE)


def test_a_link_is_no_lock(tmp_path: Path) -> None:
    """Where somebody put a symbolic link, nothing is opened or made."""
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic link"):
        FileLock(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()
