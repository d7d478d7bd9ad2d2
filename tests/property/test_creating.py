"""Two leaders who both believe that they lead, interleaved at every await, dying at any of them."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from scaling.upkeep import UpkeepRules
from tests.property.machine_world import RULES, Chances, World

SEEDS = st.integers(min_value=0, max_value=2**32)


def _settle(world: World) -> None:
    """Nothing goes wrong any more; everything that was begun must come to an end."""
    world.chances = Chances(error=0.0, never_joins=0.0, crash=0.0)
    world.run(7_200)


def _assert_clean(world: World) -> None:
    names = sorted(body.name for body in world.bodies.values())
    assert names == [f"pool-{number}" for number in range(1, world.wanted + 1)]
    assert not world.claims
    assert [node.name for node in world.nodes()] == names


@settings(max_examples=40)
@given(seed=SEEDS, wanted=st.integers(1, 4), crash=st.sampled_from([0.0, 0.02, 0.1]))
def test_two_leaders_never_own_more_than_wanted(seed: int, wanted: int, crash: float) -> None:
    """No name is ever made twice, and in the end there is what was wanted, and no claim is left."""
    world = World(rng=random.Random(seed), chances=Chances(crash=crash))
    world.want(wanted)
    world.lead()
    world.lead()
    world.run(2_400)
    _settle(world)
    _assert_clean(world)


@settings(max_examples=40)
@given(seed=SEEDS, wishes=st.lists(st.integers(0, 4), min_size=2, max_size=5))
def test_wishes_that_change_are_met_in_the_end(seed: int, wishes: list[int]) -> None:
    """However often the number changes meanwhile, the last one counts, and nothing else is left."""
    world = World(rng=random.Random(seed))
    world.lead()
    world.lead()
    for wish in wishes:
        world.want(wish)
        world.run(random.Random(seed).uniform(30, 900))
    _settle(world)
    _assert_clean(world)


def test_the_world_notices_who_does_not_wait() -> None:
    """Were claims adopted without waiting, machines would be made twice: here it is seen."""
    hasty = replace(RULES, settle_s=0.0)
    mistakes = [mistake for seed in range(30) if (mistake := _first_mistake(seed, hasty))]
    assert mistakes
    assert all("two machines of one name" in mistake for mistake in mistakes)


def _first_mistake(seed: int, rules: UpkeepRules) -> str | None:
    world = World(rng=random.Random(seed), rules=rules, chances=Chances(crash=0.1))
    world.want(3)
    world.lead()
    world.lead()
    try:
        world.run(2_400)
    except AssertionError as mistake:
        return str(mistake)
    return None
