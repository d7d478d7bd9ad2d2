from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from peer import doctor
from peer.config import Config, load
from peer.doctor import FREE_BYTES_MIN, local_checks
from peer.protocol import Check
from pipeline.errors import ToolMissing
from pipeline.media.confinement import Layer

Examine = Callable[..., dict[str, Check]]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter, unlike pytest's own; root's server is somebody else."""
    directory = Path(tempfile.mkdtemp(prefix="grapevine-doctor-"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def examine(place: Path) -> Examine:
    """Run the checks on settings that are this test's own; answers by name."""

    def examine(**flags: Any) -> dict[str, Check]:
        file = place / "empty.toml"
        file.touch()
        given = {"peer.data_dir": str(place / "data")} | flags
        settings: Config = load(given, file=file, environment={})
        return {check.check: check for check in local_checks(settings)}

    return examine


def test_a_good_machine(examine: Examine) -> None:
    """Where the tests run everything is there, so everything is ok, with details."""
    checks = examine()
    assert list(checks) == ["ffmpeg", "postgresql", "data directory", "disk", "clock"]
    assert [check.check for check in checks.values() if not check.ok] == []
    assert "not there yet" in checks["data directory"].detail


@pytest.mark.parametrize(
    ("calls", "files", "told"),
    [
        ("", "", "kept from the network and other processes and from other files"),
        (
            "",
            "old",
            "kept from the network and other processes, but not kept from other files (old)",
        ),
        (
            "no",
            "old",
            "not kept from the network and other processes (no) and from other files (old)",
        ),
    ],
)
def test_what_ffmpeg_is_kept_from_is_told(
    calls: str, files: str, told: str, examine: Examine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What this kernel cannot do is said with the reason, and is no problem."""
    monkeypatch.setattr(doctor, "attempt", lambda: {Layer.CALLS: calls, Layer.FILES: files})
    check = examine()["ffmpeg"]
    assert check.ok
    assert check.detail.endswith(f", {told}")
    off = examine(**{"transcode.limits.fenced": False})["ffmpeg"]
    assert off.detail.endswith("kept from nothing (transcode.limits.fenced is false)")


@pytest.mark.parametrize(
    ("flags", "check", "detail"),
    [
        ({"transcode.ffmpeg": "/no/such/ffmpeg"}, "ffmpeg", "/no/such/ffmpeg"),
        ({"ledger.postgres": "/no/such/bin"}, "postgresql", "/no/such/bin"),
        ({"peer.data_dir": "/proc/grapevine"}, "data directory", "cannot write to /proc"),
    ],
)
def test_what_is_missing_is_named(
    examine: Examine, flags: dict[str, str], check: str, detail: str
) -> None:
    """A problem names the thing; the other checks are made all the same."""
    checks = examine(**flags)
    assert not checks[check].ok
    assert detail in checks[check].detail + checks[check].advice
    assert len(checks) == 5


def test_a_ledger_by_url_needs_no_server_here(examine: Examine) -> None:
    """Nobody must install what will not be used."""
    checks = examine(**{"ledger.url": "postgresql://x/y", "ledger.postgres": "/no/such/bin"})
    assert checks["postgresql"].ok


@pytest.fixture
def _no_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the checks that start programs, which are not what the test is about."""

    def find(*_: object) -> None:
        raise ToolMissing("left out: by this test")

    monkeypatch.setattr(doctor, "find_tools", find)
    monkeypatch.setattr(doctor, "find_programs", find)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
@pytest.mark.usefixtures("_no_programs")
def test_a_private_directory_above_roots_data(examine: Examine, place: Path) -> None:
    """A root's server must get to its data; what it cannot enter is said before it is tried."""
    place.chmod(0o700)
    check = examine()["data directory"]
    assert not check.ok
    assert check.detail.endswith(f"who cannot enter {place}")


class Usage(NamedTuple):
    total: int
    used: int
    free: int


@pytest.mark.usefixtures("_no_programs")
def test_a_full_disk(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room is a problem, and says how much there must be."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10, 10, FREE_BYTES_MIN - 1))
    check = examine()["disk"]
    assert (check.ok, check.detail) == (False, "only 2.0 GB free")
    assert "free at least 2.0 GB" in check.advice


@pytest.mark.usefixtures("_no_programs")
@pytest.mark.parametrize("mark", ["", " left"])
@pytest.mark.parametrize(
    ("ahead_s", "ok"), [(-1000, True), (0, True), (200, True), (400, False), (86_400, False)]
)
def test_a_clock_that_went_back(
    examine: Examine, place: Path, ahead_s: float, ok: bool, mark: str
) -> None:
    """A peer's saved epoch that lies in the future means that the clock was set back."""
    identity = place / "data" / "peers" / "one" / "identity"
    identity.parent.mkdir(parents=True)
    identity.write_text(f"00000000000000aa {int(time.time() + ahead_s)}{mark}\n")
    assert examine()["clock"].ok is ok


@pytest.mark.usefixtures("_no_programs")
def test_a_clock_of_1970(examine: Examine, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a clock begins in 1970; that is found without any peer's help."""
    monkeypatch.setattr(time, "time", lambda: 1000.0)
    check = examine()["clock"]
    assert (check.ok, check.detail) == (False, "it says 1970-01-01 00:16:40 UTC")
    assert "set the clock" in check.advice
