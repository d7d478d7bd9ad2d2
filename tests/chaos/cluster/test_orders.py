"""What clients hand in: repeatable, no two tasks of one name, and something of everything."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.tasks import PartState
from tests.chaos.cluster.orders import BURST, Clip, Way, draw_burst, draw_orders

SEEDS = st.integers(0, 1_000_000)


@given(SEEDS, st.floats(10, 1200))
def test_a_seed_is_one_day_of_work(seed: int, for_s: float) -> None:
    """The same seed draws the same orders, by their times, until then and no longer."""
    orders = draw_orders(seed, for_s)
    assert orders == draw_orders(seed, for_s)
    assert [order.at_s for order in orders] == sorted(order.at_s for order in orders)
    assert all(0 <= order.at_s < for_s for order in orders)


@given(SEEDS)
def test_no_two_orders_are_mistaken_for_each_other(seed: int) -> None:
    """Names and ids are unique, also among those of the bursts."""
    orders = [*draw_orders(seed, 420), *draw_burst(seed, 1), *draw_burst(seed, 2)]
    assert len({order.name for order in orders}) == len(orders)
    assert len({order.task_id for order in orders}) == len(orders)
    assert len(draw_burst(seed, 1)) == BURST


@given(SEEDS)
def test_ten_minutes_have_everything(seed: int) -> None:
    """Each film and each way is there, and somebody thinks better of it."""
    orders = draw_orders(seed, 420)
    assert {order.clip for order in orders} == set(Clip)
    assert {order.way for order in orders} == set(Way)
    assert any(order.cancel_after_s is not None for order in orders)


@given(SEEDS)
def test_a_film_has_the_ends_that_it_deserves(seed: int) -> None:
    """A broken one is escalated and a good one done, unless its client may have cancelled it."""
    for order in draw_orders(seed, 420):
        good = order.clip in (Clip.SHORT, Clip.LONG)
        assert (PartState.DONE in order.ends) == good
        assert (PartState.ESCALATED in order.ends) != good
        assert (PartState.CANCELLED in order.ends) == (order.cancel_after_s is not None)
