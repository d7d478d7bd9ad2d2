"""What is shipped and what it stands on: the wheel's contents, and the lock files."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
ROOMS = ("peer", "gossip", "membership", "pipeline", "scaling")
LOCKS = ("requirements.lock", "requirements-build.lock", "requirements-dev.lock")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def wheel_names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """What a wheel built from this tree holds."""
    directory = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = directory.iterdir()
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_packages(wheel_names: set[str]) -> None:
    """Modules, and the SQL and other files that they read, and nothing of the tests."""
    files = {
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    shipped = {name for name in wheel_names if ".dist-info/" not in name}
    assert shipped == files
    assert {f"{room}/py.typed" for room in ROOMS} <= shipped


def test_the_wheel_brings_its_licence_and_its_commands(wheel_names: set[str]) -> None:
    """The licence travels with the code, and the commands are declared."""
    assert [name for name in wheel_names if name.endswith("licenses/LICENSE")]
    assert PROJECT["project"]["scripts"] == {
        "peer": "peer.__main__:main",
        "peerctl": "peer.cli:main",
        "docker-gate": "scaling.swarm.proxy.command:main",
    }


def _locked(name: str) -> dict[str, str]:
    pins = re.findall(r"^([\w.-]+)==([^ ;\\]+)", (ROOT / name).read_text(), flags=re.MULTILINE)
    return {canonicalize_name(package): version for package, version in pins}


def _wanted(name: str) -> list[str]:
    project = PROJECT["project"]
    runtime: list[str] = project["dependencies"]
    build: list[str] = PROJECT["dependency-groups"]["build"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    lines: dict[str, list[str]] = {
        "requirements.lock": runtime,
        "requirements-build.lock": build + PROJECT["build-system"]["requires"],
        "requirements-dev.lock": runtime + build + extras,
    }
    return lines[name]


@pytest.mark.parametrize("name", LOCKS)
def test_what_is_asked_for_is_locked(name: str) -> None:
    """Every dependency in pyproject.toml is pinned to a version that it allows: `make lock`."""
    locked = _locked(name)
    for line in _wanted(name):
        requirement = Requirement(line)
        if requirement.name != PROJECT["project"]["name"]:
            version = locked.get(canonicalize_name(requirement.name), "")
            assert version, f"{requirement.name} is not in {name}: make lock"
            assert requirement.specifier.contains(version), f"{name} has {version}, not {line}"


def test_the_locks_agree() -> None:
    """The tests run on the very versions that the product is installed with."""
    everything = _locked("requirements-dev.lock")
    for name in LOCKS:
        assert _locked(name).items() <= everything.items()


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes(name: str) -> None:
    """Nothing is installed that was not looked at when the lock was made."""
    blocks = re.split(r"^(?=[\w.-]+==)", (ROOT / name).read_text(), flags=re.MULTILINE)[1:]
    assert blocks
    assert not [block.split()[0] for block in blocks if "--hash=sha256:" not in block]
