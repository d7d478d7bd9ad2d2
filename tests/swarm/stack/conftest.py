"""One stack for all tests here, which leave it as they found it; it takes half a minute."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from deploy.lab.cluster import Lab
from deploy.lab.stack import Stack
from tests.missing import do_without
from tests.swarm.rig import Swarm

PEERS, PEERS_MAX = 2, 4

SETTINGS = {
    "GRAPEVINE_SCALING_QUEUE_LOW": "1",
    "GRAPEVINE_SCALING_QUEUE_HIGH": "3",
    "GRAPEVINE_SCALING_CONTAINERS_MIN": str(PEERS),
    "GRAPEVINE_SCALING_CONTAINERS_MAX": str(PEERS_MAX),
    # Shorter than a part takes, so everything that waits wants a peer.
    "GRAPEVINE_SCALING_WAIT_S": "1",
    # One machine plays all nodes, so its processors say nothing about one of them.
    "GRAPEVINE_SCALING_CPU_HIGH": "1",
    "GRAPEVINE_SCALING_CPU_LOW": "0",
    "GRAPEVINE_SCALING_DOWN_WINDOW_S": "3",
    "GRAPEVINE_SCALING_INTERVAL_S": "1",
}


@pytest.fixture(scope="package")
def stack(lab: Lab, stack_images: None) -> Iterator[Stack]:
    """Deployed, and removed again; the lab is as it was afterwards."""
    if shutil.which("docker") is None:
        do_without("Docker's command: apt-get install -y docker.io (or docker-cli)")
    stack = Stack(lab)
    try:
        stack.deploy(peers=PEERS, settings=SETTINGS)
        stack.wait_until_well()
        yield stack
        stack.remove()
    finally:
        Swarm(lab).clean()
