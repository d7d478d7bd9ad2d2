"""The Swarm driver on a real Swarm of three nodes: the suite that the fake one passes, too."""

from __future__ import annotations

import pytest

from tests.contract.swarm_suite import *  # noqa: F403  the suite's tests become this module's
from tests.contract.swarm_suite_joining import *  # noqa: F403  and these
from tests.contract.swarm_suite_lease import *  # noqa: F403  and these
from tests.swarm.driver_world import RealWorld
from tests.swarm.rig import Swarm

pytestmark = pytest.mark.slow


@pytest.fixture
def world(swarm: Swarm) -> RealWorld:
    """The lab's Swarm."""
    return RealWorld(swarm)
