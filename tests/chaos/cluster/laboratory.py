"""The lab that runs are on: nodes, images, and where what is left of a run is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from deploy.lab.cluster import Lab
from tests.swarm.lab_process import LabProcess, load_image

FOLDERS = Path(__file__).resolve().parents[3] / "build" / "chaos"
NODES = 3
MANAGERS = 3
"""All of them, so that each may be lost, and the leader's own node with it."""


@contextmanager
def laboratory(*, nodes: int = NODES, managers: int = MANAGERS) -> Iterator[Lab]:
    """A lab with all images; gone afterwards, also if this process is killed."""
    process = LabProcess("c", managers=managers, nodes=nodes)
    try:
        lab = process.start()
        load_image(lab)
        load_image(lab, "services")
        yield lab
    finally:
        process.stop()


def new_folder(root: Path, seed: int) -> Path:
    """Name a folder for a run that begins now."""
    return root / f"{datetime.now(UTC):%Y%m%d-%H%M%S}-seed-{seed}"
