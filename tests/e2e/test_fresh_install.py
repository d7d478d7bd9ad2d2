"""The built wheel in a new virtual environment: what a person gets who installs the package.

Nothing of this source tree is on the way: the wheel is installed with the locked dependencies, and
runs from an empty directory with a home and an environment of its own.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

pytestmark = pytest.mark.slow

SOURCE = Path(__file__).parents[2]
INSTALL_WITHIN_S = 600
DEMO_WITHIN_S = 240


@dataclass(frozen=True, slots=True)
class Installation:
    """A virtual environment with the wheel, and a home for who uses it."""

    top: Path

    def run(self, *command: str, within_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one of its programs from an empty directory; both streams are in `stdout`."""
        elsewhere = self.top / "empty"
        elsewhere.mkdir(exist_ok=True)
        return subprocess.run(
            [self.top / "venv/bin" / command[0], *command[1:]],
            cwd=elsewhere,
            env={
                "PATH": str(self.top / "system"),
                "HOME": str(self.top / "home"),
                "COLUMNS": "200",
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=within_s,
            check=False,
        )

    def processes(self) -> list[list[str]]:
        """What still runs of it: programs, or anything that works in one of its directories."""
        found = []
        for process in psutil.process_iter():
            try:
                where = [process.cwd(), process.exe(), *process.cmdline()]
            except (psutil.NoSuchProcess, psutil.AccessDenied):
                continue
            if any(str(self.top) in part for part in where):
                found.append(where)
        return found


@pytest.fixture(scope="module")
def installation() -> Iterator[Installation]:
    """Build the wheel and install it."""
    # Not pytest's directory: as root, the server's account must be able to enter it.
    top = Path(tempfile.mkdtemp(prefix="grapevine-fresh-"))
    top.chmod(0o711)
    try:
        (top / "home").mkdir()
        link_system(top / "system")
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(top / "dist")]
        succeed(build, cwd=SOURCE)
        [wheel] = (top / "dist").glob("grapevine-*.whl")
        # Our own pip installs into it: Debian's Python has none to give.
        succeed([sys.executable, "-m", "venv", "--without-pip", str(top / "venv")])
        pip = [sys.executable, "-m", "pip", "--python", str(top / "venv/bin/python")]
        pip += ["--disable-pip-version-check", "--no-input", "--quiet"]
        locked = ["--require-hashes", "--only-binary", ":all:", "-r", f"{SOURCE}/requirements.lock"]
        succeed([*pip, "install", *locked])
        succeed([*pip, "install", "--no-deps", str(wheel)])
        succeed([*pip, "check"])
        yield Installation(top)
    finally:
        shutil.rmtree(top)


def link_system(directory: Path) -> None:
    """Make a PATH with this machine's programs but its ffmpeg: the package brings its own."""
    directory.mkdir()
    for program in Path("/usr/bin").iterdir():
        if program.name not in ("ffmpeg", "ffprobe"):
            (directory / program.name).symlink_to(program)


def succeed(command: list[str], cwd: Path | None = None) -> None:
    """Run a program that must succeed."""
    answer = subprocess.run(
        command,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_WITHIN_S,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout


def test_it_does_not_use_the_source_tree(installation: Installation) -> None:
    """All five packages come from the wheel, with what is not Python: types and migrations."""
    program = (
        "import gossip, membership, peer, pipeline, scaling\n"
        "from importlib.resources import files\n"
        "print(*(m.__path__[0] for m in (gossip, membership, peer, pipeline, scaling)))\n"
        "names = [file.name for file in files('pipeline.ledger.migrations').iterdir()]\n"
        "print(any(name.endswith('.sql') for name in names))\n"
    )
    answer = installation.run("python", "-c", program)
    paths, migrations = answer.stdout.strip().splitlines()

    assert all(path.startswith(str(installation.top)) for path in paths.split())
    assert migrations == "True"


@pytest.mark.parametrize("command", ["peer", "peerctl"])
def test_its_commands_are_there(installation: Installation, command: str) -> None:
    """Both scripts start, say their version and explain themselves."""
    version = installation.run(command, "--version")
    explained = installation.run(command, "--help")

    assert version.returncode == explained.returncode == 0
    assert any(character.isdigit() for character in version.stdout)
    assert "Usage:" in explained.stdout


def test_the_demo_runs(installation: Installation) -> None:
    """Three peers turn a clip into a ladder, list the outputs, end well, and nothing stays."""
    data = installation.top / "data"
    options = ("--ladder", "160x90@100k", "--data-dir", str(data))
    demo = installation.run("peerctl", "demo", *options, within_s=DEMO_WITHIN_S)
    outputs = [path for path in data.rglob("*.mp4") if "/tasks/" in str(path)]

    assert demo.returncode == 0, demo.stdout
    assert len(outputs) == 1
    assert outputs[0].stat().st_size > 1000
    assert str(outputs[0]) in demo.stdout.replace("\n", "")
    assert installation.processes() == []
