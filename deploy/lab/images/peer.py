"""Grapevine's own image, built of deploy/Dockerfile as everybody builds it.

An engine of the lab builds it: the lab runs what users run. The engine has no network, so what the
Dockerfile would fetch comes along: the base image is our own Debian, and the Python packages are
wheels that this machine's pip fetched, by the hashes of the lock. All of it takes a quarter of a
minute, and what comes out is kept: the nodes load it from an archive, and the next lab does too.

Docker's older builder does it, which every engine has within itself; BuildKit would need a plugin
on this machine to speak to it. To write the image without an engine, as `tiny` does, would be
faster by seconds, and a second description of the same thing.
"""

from __future__ import annotations

import platform
import tarfile
from collections.abc import Iterator
from pathlib import Path

from deploy.lab.engine import Engine
from deploy.lab.images import base
from deploy.lab.images.archive import anonymous, digest
from deploy.lab.images.cache import Cache
from deploy.lab.images.wheels import ROOT, fetch

TAG = "grapevine:lab"
BASE = "grapevine-base"

DOCKERFILE = "deploy/Dockerfile"
LOCKS = ("requirements-image.lock", "requirements-build.lock")
SOURCES = (
    DOCKERFILE, *LOCKS, "pyproject.toml", "README.md", "LICENSE",
    "gossip", "membership", "pipeline", "scaling", "peer",
)  # fmt: skip
"""What is sent to the engine: the Dockerfile, and what it copies."""


def write(cache: Cache, engine: Engine) -> Path:
    """Return the archive of the image of this tree's code, built if it is not there yet.

    Args:
        engine: Builds it, and has it from then on.
    """
    base_layer, wheels = base.layer(cache), _wheels(cache)

    def make(path: Path, work: Path) -> None:
        _build(engine, TAG, base_layer, wheels, work / "context.tar")
        with path.open("wb") as archive:
            engine.save(TAG, archive)

    files = [(str(path.relative_to(ROOT)), digest(path)) for path in _files()]
    return cache.get("peer", [base_layer.name, wheels.name, files], make, "Building the image")


def rebuild(cache: Cache, engine: Engine, tag: str, work: Path) -> None:
    """Build it once more on an engine, and take no layer from an earlier build.

    Args:
        tag: Of what comes out; the engine gets it, and nobody else.
        work: An empty directory.
    """
    _build(engine, tag, base.layer(cache), _wheels(cache), work / "context.tar", fresh=True)


def _wheels(cache: Cache) -> Path:
    return cache.get(
        "wheels",
        [[(ROOT / lock).read_text() for lock in LOCKS], base.PYTHON, platform.machine()],
        _fetch_wheels,
        "Fetching the locked Python packages",
    )


def _build(
    engine: Engine, tag: str, base_layer: Path, wheels: Path, context: Path, *, fresh: bool = False
) -> None:
    _pack(context, wheels)
    base_tag = f"{BASE}:{base_layer.stem}"
    if not engine.has_image(base_tag):
        with base_layer.open("rb") as tree:
            engine.import_image(tree, base_tag)
    arguments = {"BASE": base_tag, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": "/source/wheels"}
    with context.open("rb") as content:
        engine.build(content, tag, dockerfile=DOCKERFILE, arguments=arguments, fresh=fresh)


def _files() -> Iterator[Path]:
    """Every file that is sent, in an order that is always the same."""
    for source in SOURCES:
        path = ROOT / source
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        yield from (one for one in inside if one.is_file() and "__pycache__" not in one.parts)


def _pack(context: Path, wheels: Path) -> None:
    with tarfile.open(context, "w") as tar:
        for path in _files():
            tar.add(path, str(path.relative_to(ROOT)), filter=anonymous)
        with tarfile.open(wheels) as fetched:
            for entry in fetched:
                tar.addfile(entry, fetched.extractfile(entry))


def _fetch_wheels(path: Path, work: Path) -> None:
    fetch([ROOT / lock for lock in LOCKS], work)
    with tarfile.open(path, "w") as tar:
        for wheel in sorted(work.iterdir()):
            tar.add(wheel, f"wheels/{wheel.name}", filter=anonymous)
