"""The policy over made-up days, in virtual time, with and without misfortunes.

A few seeds and short days; `python -m tests.bench.run scaling` runs all of it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

import pytest

from scaling.snapshot import Activity, ContainerState, NodeState, Snapshot
from tests.scaling_scene import a_container
from tests.simulation.scaling.order import victims
from tests.simulation.scaling.run import CONFIG, Outcome, Weather, World
from tests.simulation.scaling.scalers import Grapevine, Keda, Literal, Scaler
from tests.simulation.scaling.swarm import Swarm
from tests.simulation.scaling.traces import TRACES, draw

HOUR_S = 3600.0
ROUGH = Weather(
    crash_every_s=60.0, never_joins=0.2, changes_of_leader_s=(1900.0, 1905.0, 5000.0, 9000.0)
)


def _run(
    trace: str,
    *,
    seed: int = 0,
    hours: float = 1.0,
    scaler: Scaler | None = None,
    weather: Weather | None = None,
    rest_s: float = 0.0,
) -> tuple[Outcome, World]:
    world = World(
        draw(trace, seed, hours),
        Grapevine(config=CONFIG) if scaler is None else scaler,
        seed=seed,
        weather=weather,
    )
    return world.run(hours * HOUR_S + rest_s), world


@pytest.mark.parametrize("trace", TRACES)
def test_no_day_costs_a_part(trace: str) -> None:
    """On no trace is a container told to end while it works, nor a part begun in vain."""
    outcome, _ = _run(trace, hours=2.0)
    assert outcome.done > 100
    assert outcome.ended_busy == 0
    assert outcome.redone == 0
    assert outcome.faults == ()


def test_a_thousand_scale_downs_in_rough_weather_stop_nobody_who_works() -> None:
    """While containers crash every minute, nodes do not come and leaders change: a thousand
    containers are told to end, and not one of them has work."""
    ended, crashed = 0, 0
    for seed in (1, 2):
        outcome, _ = _run("on/off", seed=seed, hours=4.0, weather=ROUGH)
        ended += outcome.ended
        crashed += outcome.crashed
        assert outcome.ended_busy == 0
        assert outcome.redone == 0
        assert outcome.faults == ()
    assert ended >= 1000
    assert crashed > 50


def test_a_steady_day_is_calm_quick_and_cheap() -> None:
    """Six hours of the same load: the issue's numbers, with one seed."""
    outcome, _ = _run("steady", hours=6.0)
    assert outcome.boots <= 20
    assert outcome.reversals <= 12
    assert outcome.p95_s <= 40
    assert outcome.cost / outcome.clairvoyant <= 1.10


@pytest.mark.parametrize("trace", ["bursts", "on/off", "steady"])
def test_all_is_done_and_given_back_in_the_end(trace: str) -> None:
    """When no more work comes, everything that came is done, and what is left is the least."""
    outcome, world = _run(trace, seed=3, weather=ROUGH, rest_s=HOUR_S)
    assert outcome.left == 0
    assert world.swarm.wanted == CONFIG.containers_min
    assert [machine.name for machine in world.swarm.machines.values()] == ["manager"]


def test_a_burst_is_answered_by_the_second_look() -> None:
    """From the burst to the first write is 10 s at most: the broker's sample and a tick."""
    outcome, world = _run("bursts", hours=0.2)
    after = [at_s for at_s, change in world.swarm.writes if at_s > 600.0 and change > 0]
    ordered = [machine.ordered_s for machine in world.swarm.machines.values()]
    first = min([*after, *(at_s for at_s in ordered if at_s > 600.0)])
    assert first - 600.0 <= 10.0
    assert outcome.boots == 19


def test_a_new_leader_takes_nothing_away_for_a_window() -> None:
    """After each change of leader no container ends and no node goes for five minutes."""
    changes = (4000.0, 6000.0, 8000.0)
    _, world = _run("on/off", hours=3.0, weather=Weather(changes_of_leader_s=changes))
    downs = [at_s for at_s, change in world.swarm.writes if change < 0]
    assert downs
    for changed_s in changes:
        assert not [at_s for at_s in downs if changed_s <= at_s < changed_s + 300.0]


def test_the_same_seed_is_the_same_day() -> None:
    """Nothing but the seed decides: two runs are equal in every number."""
    first, _ = _run("MMPP", seed=5, weather=ROUGH)
    second, _ = _run("MMPP", seed=5, weather=ROUGH)
    assert first == second


@dataclass(kw_only=True)
class TwoLeaders:
    """Both believe that they lead, look in turn, and do what they decide."""

    leaders: tuple[Grapevine, Grapevine] = field(
        default_factory=lambda: (Grapevine(config=CONFIG), Grapevine(config=CONFIG))
    )
    turn: int = 0
    interval_s: float = 2.5
    grace_s: float = 600.0

    def tick(self, snapshot: Snapshot, swarm: Swarm) -> None:
        """Let the other one look."""
        self.turn += 1
        self.leaders[self.turn % 2].tick(snapshot, swarm)


def test_two_leaders_want_the_same() -> None:
    """What is wanted is absolute and nodes have names: two who act at once order no more nodes
    than one does, and stop nobody who works."""
    alone, _ = _run("steady")
    both, world = _run("steady", scaler=TwoLeaders())
    assert both.ended_busy == 0
    assert both.redone == 0
    assert both.boots <= alone.boots + 3
    names = [machine.name for machine in world.swarm.machines.values()]
    assert len(set(names)) == len(names)


# -- the simulator itself


def test_the_rivals_show_the_faults_that_are_looked_for() -> None:
    """A checker that finds nothing in anybody would prove nothing: the literal rules flap, and
    random victims with a short grace lose work."""
    literal, _ = _run("steady", scaler=Literal(config=CONFIG), hours=2.0)
    assert literal.boots > 100
    assert literal.ended_busy > 0
    keda, _ = _run("bursts", scaler=Keda(config=CONFIG, rng=random.Random(1)), hours=2.0)
    assert keda.redone > 0


@pytest.mark.parametrize(
    ("layout", "count", "expected"),
    [
        # Equal loads: the highest slot of any.
        ("abababab", 7, ["c8"]),
        ("abababab", 5, ["c8", "c7", "c6"]),
        # The fullest node first, until it is as the others are.
        ("aaabbbbbbbb", 8, ["c11", "c10", "c9"]),
        ("aab", 1, ["c2", "c3"]),
    ],
)
def test_victims_are_those_of_swarmkit(layout: str, count: int, expected: list[str]) -> None:
    """The measured order: numbered on each node by slot, and the tail is cut."""
    containers = [
        a_container(number, node, Activity.BUSY) for number, node in enumerate(layout, start=1)
    ]
    assert list(victims(containers, count)) == expected


def test_what_does_not_run_goes_first_on_its_own_node_only() -> None:
    """Three run on one node and one has failed on another: a running one goes."""
    containers = [
        a_container(1, "full"),
        a_container(2, "full"),
        a_container(3, "full"),
        a_container(4, "other", None, state=ContainerState.FAILED),
    ]
    assert victims(containers, 3) == ("c3",)
    containers[3] = a_container(4, "full", None, state=ContainerState.FAILED)
    assert victims(containers, 3) == ("c4",)


def test_an_emptied_nodes_containers_start_elsewhere_before_they_end() -> None:
    """Make before break: 2 s until the successors are there, 3 s until those that leave are told;
    who works finishes."""
    world = World([], Grapevine(config=CONFIG), seed=0)
    swarm = world.swarm
    swarm.add("a", fixed=True)
    swarm.add("b", fixed=False)
    swarm.set_containers(2)
    world.timeline.run(10.0)
    for part in draw("steady", 0, 0.1)[:2]:
        swarm.work.arrive(part)
    swarm.empty("b")
    world.timeline.run(16.0)
    assert sum(task.state is ContainerState.RUNNING for task in swarm.tasks) == 2
    assert sum(task.state is ContainerState.STOPPING for task in swarm.tasks) == 1
    world.timeline.run(900.0)
    assert swarm.work.redone == 0
    assert swarm.work.done == 2
    assert swarm.machines["b"].state is NodeState.EMPTY
