"""A peer's conduct outlives it in a small file; what is wrong with that keeps no peer from work."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from uuid import UUID

import pytest

from peer.conduct_file import ConductFile
from pipeline.quarantine import Memory, Standing

CONVICTED = Memory(
    standing=Standing.QUARANTINED,
    failed={UUID(int=1): "ffmpeg_failed (it crashed: »äh«)", UUID(int=2): "disk_full (full)"},
    pause_s=600.0,
    left_s=400.0,
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "conduct"


def clock(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    monkeypatch.setattr(time, "time", lambda: seconds)


@pytest.mark.parametrize(
    ("later_s", "left_s"),
    [(0.0, 400.0), (150.0, 250.0), (1e6, 0.0), (-100.0, 500.0), (-1e6, 600.0)],
)
def test_what_is_kept_is_recalled(
    file: Path, monkeypatch: pytest.MonkeyPatch, later_s: float, left_s: float
) -> None:
    """The pause goes on while the peer is not there; a clock that was set makes it no longer."""
    clock(monkeypatch, 2e9)
    ConductFile(file).keep(CONVICTED)
    clock(monkeypatch, 2e9 + later_s)
    memory = ConductFile(file).recall()

    assert memory is not None
    assert (memory.standing, memory.pause_s) == (Standing.QUARANTINED, 600.0)
    assert list(memory.failed.items()) == list(CONVICTED.failed.items())
    assert memory.left_s == pytest.approx(left_s)
    assert file.stat().st_mode & 0o777 == 0o600


def test_nothing_is_kept(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Once it is trusted again there is no file, and that is no trouble."""
    diary = ConductFile(file)
    diary.keep(CONVICTED)
    for _ in range(2):
        diary.keep(None)
        assert not file.exists()
    assert diary.recall() is None
    assert caplog.records == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"{}",
        b'{"standing":"quarantined","failed":{},"pause_s":1,"until":1}',
        b'{"standing":"odd","failed":{"x":"y"},"pause_s":1,"until":1}',
        b'{"standing":"quarantined","failed":{"x":"y"},"pause_s":-1,"until":1}',
    ],
)
def test_a_file_that_cannot_be_read(
    file: Path, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    """The peer trusts itself, and the log says why."""
    file.write_bytes(content)
    assert ConductFile(file).recall() is None
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_a_disk_that_takes_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and the peer goes on."""
    ConductFile(tmp_path / "gone" / "conduct").keep(CONVICTED)
    assert [record.getMessage() for record in caplog.records] == [
        "a restart would change whether this peer trusts itself"
    ]
