"""A Swarm that every test finds as the one before it did, and one for tests that break managers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from deploy.lab.cluster import Lab
from tests.swarm.lab_process import LabProcess
from tests.swarm.rig import Swarm


@pytest.fixture(scope="session")
def lab_of_managers(can_run_labs: None) -> Iterator[Lab]:
    """Three nodes that are managers all, so that one may be lost."""
    process = LabProcess("m", managers=3)
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture
def swarm(lab: Lab) -> Iterator[Swarm]:
    """The Swarm of `lab`; what a test deploys, cuts off and kills is put right after it."""
    swarm = Swarm(lab)
    yield swarm
    swarm.clean()


@pytest.fixture
def swarm_of_managers(lab_of_managers: Lab) -> Iterator[Swarm]:
    """The same for `lab_of_managers`."""
    swarm = Swarm(lab_of_managers)
    yield swarm
    swarm.clean()
