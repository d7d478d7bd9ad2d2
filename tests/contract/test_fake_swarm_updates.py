"""The fake Swarm has the fault that the driver keeps away from: what a write in the middle of an
update does was measured on a real one, and read in swarmkit."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.servers.fake_swarm import FakeSwarm
from tests.servers.fake_swarm_engine import Hooks
from tests.servers.fake_swarm_records import NANO, Container, Json

NAME = "peers"
COUNT = 4
WORK_S = 20.0


@pytest.fixture
def swarm() -> Iterator[FakeSwarm]:
    """Four containers that take 20 s to end."""
    with FakeSwarm() as swarm:
        swarm.work_s = WORK_S
        swarm.add_manager("node-1")
        swarm.create_service(
            NAME, COUNT, ContainerSpec={"Image": "peer:1", "StopGracePeriod": 60 * NANO}
        )
        swarm.advance(5.0)
        assert len(swarm.containers()) == COUNT
        yield swarm


@pytest.fixture
def told(swarm: FakeSwarm) -> list[Container]:
    """Who was told to stop."""
    told: list[Container] = []
    swarm.tell(Hooks(told_to_stop=told.append))
    return told


def _update(swarm: FakeSwarm, *, parallelism: int) -> None:
    swarm.update_service(NAME, ["VERSION=2"], Parallelism=parallelism, Monitor=2 * NANO)


def _state(swarm: FakeSwarm) -> str:
    status: Json = swarm.service(NAME).get("UpdateStatus", {})
    return str(status.get("State", ""))


def _environment(swarm: FakeSwarm) -> list[str]:
    found: list[str] = swarm.service(NAME)["Spec"]["TaskTemplate"]["ContainerSpec"].get("Env", [])
    return found


@pytest.mark.parametrize("parallelism", [1, 2, 4])
def test_so_many_at_a_time_and_then_it_watches(
    swarm: FakeSwarm, told: list[Container], parallelism: int
) -> None:
    """It is complete when the last has run for `monitor`, and goes back in the same way."""
    assert _state(swarm) == ""
    _update(swarm, parallelism=parallelism)
    swarm.advance(10.0)
    assert (_state(swarm), len(told)) == ("updating", parallelism)
    swarm.advance(25.0 * COUNT / parallelism - 10.0)
    assert (_state(swarm), len(told)) == ("completed", COUNT)
    swarm.roll_back(NAME)
    assert _state(swarm) == "rollback_started"
    swarm.advance(30.0 * COUNT)
    assert (_state(swarm), _environment(swarm)) == ("rollback_completed", [])
    assert len(told) == 2 * COUNT


def test_another_number_in_the_middle_begins_it_anew(
    swarm: FakeSwarm, told: list[Container]
) -> None:
    """A further container is told to end at once, and the way back is to the new version."""
    _update(swarm, parallelism=1)
    swarm.advance(10.0)
    assert len(told) == 1
    swarm.scale(NAME, COUNT + 1)
    assert _state(swarm) == "updating"
    swarm.advance(2.0)
    assert len(told) == 2
    swarm.advance(30.0 * COUNT)
    assert (_state(swarm), len(told)) == ("completed", COUNT)
    swarm.roll_back(NAME)
    swarm.advance(30.0)
    assert (_state(swarm), _environment(swarm)) == ("rollback_completed", ["VERSION=2"])
    assert len(swarm.containers()) == COUNT


def test_another_number_alone_is_no_update(swarm: FakeSwarm, told: list[Container]) -> None:
    """Nobody is replaced, and there is no status, not even that of the last update."""
    _update(swarm, parallelism=4)
    swarm.advance(40.0)
    assert (_state(swarm), len(told)) == ("completed", COUNT)
    for count in (COUNT + 2, COUNT + 1):
        swarm.scale(NAME, count)
        assert _state(swarm) == ""
        swarm.advance(30.0)
        assert (_state(swarm), len(swarm.containers())) == ("", count)
    assert len(told) == COUNT + 1
