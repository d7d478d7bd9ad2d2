"""Which server programs are taken, with shell scripts in their place; and the real ones' places."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.errors import LedgerUnavailable, ToolMissing
from pipeline.ledger import server_programs
from pipeline.ledger.server_programs import Programs, find_programs, make_reachable


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Install a server that says its version, where a wheel or Debian would; nothing else is."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    monkeypatch.setattr(server_programs, "DEBIAN", tmp_path / "debian")
    monkeypatch.setattr(server_programs, "WHEEL", "some_wheel")

    def put(place: str, version: str) -> Path:
        directory = tmp_path / place / "bin"
        directory.mkdir(parents=True)
        for name in ("postgres", "initdb"):
            (directory / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
            (directory / name).chmod(0o755)
        return directory

    return put


WHEEL_18, WHEEL_16 = "site/some_wheel/pginstall18", "site/some_wheel/pginstall"


@pytest.mark.parametrize(
    ("installed", "explicit", "major", "expected"),
    [
        ({WHEEL_18: "18.4", WHEEL_16: "16.14", "debian/15": "15.18"}, None, None, WHEEL_18),
        ({WHEEL_18: "18.4", WHEEL_16: "16.14", "debian/15": "15.18"}, None, 16, WHEEL_16),
        ({WHEEL_18: "18.4", "debian/15": "15.18 (Debian 15.18-0)"}, None, 15, "debian/15"),
        (
            {"debian/9.6": "9.6.1", "debian/15": "15.18", "debian/17": "17beta1"},
            None,
            None,
            "debian/17",
        ),
        ({WHEEL_18: "18.4", "own": "14.2"}, "own", None, "own"),
    ],
)
def test_which_is_taken(
    *,
    install: Callable[[str, str], Path],
    tmp_path: Path,
    installed: dict[str, str],
    explicit: str | None,
    major: int | None,
    expected: str,
) -> None:
    """The named one, else the wheel's, else Debian's, the newest first; data decide the version."""
    directories = {place: install(place, version) for place, version in installed.items()}
    found = find_programs(tmp_path / explicit / "bin" if explicit else None, major)

    assert found.directory == directories[expected]
    assert found.major == int(installed[expected].split(".")[0].removesuffix("beta1"))


@pytest.mark.parametrize(
    ("installed", "explicit", "major", "message"),
    [
        ({}, None, None, "no PostgreSQL server is installed: install the package"),
        ({WHEEL_18: "18.4"}, None, 15, "made by PostgreSQL 15, and here is only 18 in .*: install"),
        ({WHEEL_18: "18.4"}, "nowhere", None, "nowhere/bin does not hold a PostgreSQL server"),
        (
            {"own": "14.2", WHEEL_16: "16.1"},
            "own",
            16,
            "made by PostgreSQL 16, and here is only 14",
        ),
        ({WHEEL_18: "unknown"}, None, None, "no PostgreSQL server is installed"),
    ],
)
def test_what_is_said_when_there_is_none(
    *,
    install: Callable[[str, str], Path],
    tmp_path: Path,
    installed: dict[str, str],
    explicit: str | None,
    major: int | None,
    message: str,
) -> None:
    """The error says what was looked for and what to install."""
    for place, version in installed.items():
        install(place, version)
    with pytest.raises(ToolMissing, match=message):
        find_programs(tmp_path / explicit / "bin" if explicit else None, major)


def test_programs_that_run_are_not_copied(
    install: Callable[[str, str], Path], tmp_path: Path
) -> None:
    """Reachable programs are used where they are."""
    programs = Programs(directory=install(WHEEL_18, "18.4"), major=18)

    assert make_reachable(programs, None, tmp_path / "copies") == programs
    assert not (tmp_path / "copies").exists()


def test_foreign_programs_are_not_copied(tmp_path: Path) -> None:
    """Only the wheel can be moved: any other installation that cannot run is an error."""
    with pytest.raises(
        LedgerUnavailable, match=r"cannot run .* install PostgreSQL where everybody"
    ):
        make_reachable(
            Programs(directory=tmp_path / "own/bin", major=18), None, tmp_path / "copies"
        )
    assert not (tmp_path / "copies").exists()


def test_the_wheel_is_found_without_importing_it() -> None:
    """Its import warns, takes a lock for all users of the machine, and may add users to it."""
    program = (
        "import sys\n"
        "from pipeline.ledger.server_programs import WHEEL, find_programs\n"
        "found = find_programs(None, None)\n"
        "print(found.major, WHEEL in str(found.directory), WHEEL in sys.modules)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )

    assert answer.stdout.split() == ["18", "True", "False"]
