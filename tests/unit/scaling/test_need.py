"""How many containers the work takes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scaling.config import ScalingConfig
from scaling.need import drained, need, slots_each
from scaling.snapshot import Activity, Container, Demand
from scaling.words import counted
from tests.scaling_scene import a_container, a_demand

CONFIG = ScalingConfig(wait_s=120)


@pytest.mark.parametrize(
    ("demand", "containers"),
    [
        # Nothing to do, none needed.
        (a_demand(0), 0),
        # Ten that wait for a minute each, within two minutes: five.
        (a_demand(10), 5),
        # Those that are worked on hold their containers as well.
        (a_demand(10, running=10), 10),
        # Longer than the wait: each needs a container of its own, and no more than one.
        (a_demand(10, service_s=3600), 10),
        # Short ones: one does them all.
        (a_demand(10, service_s=2), 1),
        # Nobody knows yet how long they take: as long as the wait.
        (a_demand(10, service_s=None), 10),
        (a_demand(10, service_s=-3600), 10),
        # What comes, and a tenth more: 0.1 * 60 * 1.1 = 6.6.
        (a_demand(10, running=6, arrivals_per_s=0.1), 8),
        (a_demand(4, running=6, arrivals_per_s=0.1), 7),
        # Never more than there are parts: three, and one that comes within 10 s.
        (a_demand(1, running=2, arrivals_per_s=0.1, service_s=600), 4),
        # What waits for its next attempt is no work yet.
        (a_demand(0, delayed=50), 0),
    ],
)
def test_the_need_follows_the_formula(demand: Demand, containers: int) -> None:
    """By hand, for each of the terms."""
    found = need(demand, [], CONFIG)
    assert found.containers == containers
    assert f"take {counted(containers, 'container', 'containers')}" in found.text


def test_what_is_nearly_done_frees_its_container() -> None:
    """A part whose end is known counts until then: ten seconds of two minutes, not a minute."""
    busy = [a_container(n, "a", Activity.BUSY, remaining_s=12.0) for n in range(1, 11)]
    assert need(a_demand(0, running=10), busy, CONFIG).containers == 1
    unknown = [replace(each, peer=None) for each in busy]
    assert need(a_demand(0, running=10), unknown, CONFIG).containers == 5


def test_peers_with_more_slots_need_fewer_containers() -> None:
    """A container that works on two parts at once counts for two."""
    containers = [a_container(1, "a"), a_container(2, "a")]
    wide = [replace(each, peer=replace(_peer(each), slots=2)) for each in containers]
    assert slots_each(wide) == 2
    assert slots_each([]) == 1
    assert need(a_demand(10, service_s=3600), wide, CONFIG).containers == 5


def _peer(container: Container):  # type: ignore[no-untyped-def]  # what the scene has made
    assert container.peer is not None
    return container.peer


def test_only_what_a_person_drains_is_no_capacity() -> None:
    """Parked ones can be un-parked, so they are."""
    containers = [a_container(number, "a", each) for number, each in enumerate(Activity, 1)]
    assert drained(containers) == 1
