"""What may be drawn, and what never is: a schedule that proves nothing lets every test pass."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.chaos.cluster.schedule import (
    DECKS,
    LEASE_S,
    RECOVERY_S,
    SERVICES,
    WARM_UP_S,
    Fault,
    Ground,
    Kind,
    Lane,
    Schedule,
    draw_schedule,
)


@st.composite
def grounds(draw: st.DrawFn) -> Ground:
    """Clusters of one to seven nodes."""
    count = draw(st.integers(1, 7))
    nodes = [f"node-{number}" for number in range(1, count + 1)]
    return Ground(
        nodes=nodes,
        managers=draw(st.sampled_from([odd for odd in (1, 3, 5) if odd <= count])),
        data=draw(st.sampled_from(nodes)),
    )


SEEDS = st.integers(0, 1_000_000)
MINUTES = st.floats(1, 60)
THREE = Ground(nodes=["node-1", "node-2", "node-3"], managers=3, data="node-1")


def of(schedule: Schedule, lane: Lane) -> list[Fault]:
    return [fault for fault in schedule.faults if fault.lane is lane]


def meet(one: Fault, other: Fault) -> bool:
    return one.at_s < other.ends_s and other.at_s < one.ends_s


@given(SEEDS, MINUTES, grounds())
def test_a_seed_is_one_schedule(seed: int, minutes: float, ground: Ground) -> None:
    """The same seed draws the same faults."""
    assert draw_schedule(seed, minutes, ground) == draw_schedule(seed, minutes, ground)


@given(SEEDS, MINUTES, grounds())
def test_all_is_over_before_it_is_quiet(seed: int, minutes: float, ground: Ground) -> None:
    """Every fault begins after the warm-up and is undone before the quiet time, which is there."""
    schedule = draw_schedule(seed, minutes, ground)
    assert schedule.chaos_s < schedule.ends_s == minutes * 60
    for fault in schedule.faults:
        assert WARM_UP_S <= fault.at_s <= fault.ends_s <= schedule.chaos_s
    assert list(schedule.faults) == sorted(schedule.faults, key=lambda fault: fault.at_s)


@given(SEEDS, MINUTES, grounds())
def test_a_majority_of_the_managers_stays(seed: int, minutes: float, ground: Ground) -> None:
    """One node at a time is away, and the next goes only when it is well again; managers that
    cannot spare one stay."""
    nodes = of(draw_schedule(seed, minutes, ground), Lane.NODES)
    for one, following in pairwise(nodes):
        assert following.at_s >= one.ends_s + RECOVERY_S
    if ground.managers < 3:
        assert not {fault.target for fault in nodes} & set(ground.nodes[: ground.managers])


@given(SEEDS, MINUTES, grounds())
def test_a_service_that_is_away_is_not_stopped(seed: int, minutes: float, ground: Ground) -> None:
    """What is done to a service is done while its node is there."""
    schedule = draw_schedule(seed, minutes, ground)
    away = [fault for fault in of(schedule, Lane.NODES) if fault.target == ground.data]
    for fault in of(schedule, Lane.SERVICES):
        assert fault.target in SERVICES
        assert not any(meet(fault, other) for other in away)


@given(SEEDS, MINUTES, grounds())
def test_a_lane_does_one_thing_at_a_time(seed: int, minutes: float, ground: Ground) -> None:
    """Nothing overlaps on a lane; and what lasts, lasts as its card says."""
    schedule = draw_schedule(seed, minutes, ground)
    for lane in Lane:
        faults = of(schedule, lane)
        assert not any(meet(one, other) for one, other in combinations(faults, 2))
        lengths = {card.kind: card.lasts_s for card in DECKS[lane].cards}
        for fault in faults:
            shortest, longest = lengths[fault.kind]
            assert shortest <= fault.lasts_s <= longest


@given(SEEDS)
def test_ten_minutes_have_everything(seed: int) -> None:
    """In the run that CI does, each kind of fault happens, and each service is hit."""
    schedule = draw_schedule(seed, 10, THREE)
    assert {fault.kind for fault in schedule.faults} == set(Kind)
    assert {fault.target for fault in of(schedule, Lane.SERVICES)} == set(SERVICES)


def test_a_short_and_a_long_freeze_differ_by_the_lease() -> None:
    """After the one the holder still has its claim, after the other it has lost it."""
    lengths = {card.kind: card.lasts_s for card in DECKS[Lane.PEERS].cards}
    assert lengths[Kind.FREEZE_SHORT][1] < LEASE_S < lengths[Kind.FREEZE_LONG][0]
