"""What a peer says of its own lateness, ears and stability."""

from __future__ import annotations

import pytest

from membership.config import lan
from membership.health import Health, WindowMaximum


def test_the_largest_of_a_window_is_forgotten_after_it() -> None:
    """To within a fifth of the window, and with memory of five values."""
    window = WindowMaximum(10.0)
    window.add(0.0, 5.0)
    window.add(4.0, 3.0)
    assert window.maximum(7.9) == 5.0
    assert window.maximum(10.1) == 3.0
    assert window.maximum(14.1) == 0.0


@pytest.mark.parametrize(
    ("lag_s", "tardiness"),
    [(0.0, 0), (0.03, 0), (0.24, 0), (0.26, 1), (0.5, 1), (1.2, 2), (60.0, 7)],
)
def test_lag_is_told_in_heartbeats(lag_s: float, tardiness: int) -> None:
    """Some milliseconds, which every busy machine has, ask for no patience."""
    health = Health(lan(), 0.0)
    health.ran_late(1.0, lag_s)
    assert health.tardiness(1.0) == tardiness
    assert health.tardiness(13.0) == 0


def test_grace_is_three_times_the_worst_of_five_minutes_and_bounded() -> None:
    """Who froze once for four seconds is waited for twelve, for a while."""
    health = Health(lan(), 0.0)
    health.ran_late(1.0, 4.0)
    assert health.grace_s(200.0) == 12.0
    assert health.grace_s(400.0) == 0.0
    health.ran_late(401.0, 40.0)
    assert health.grace_s(402.0) == lan().grace_max_s


def test_a_late_loop_judges_nobody_for_one_heartbeat() -> None:
    """First what was waiting is read, and what is under way has its time."""
    health = Health(lan(), 0.0)
    assert health.calm(1.0)
    health.ran_late(1.0, 0.2)
    assert health.calm(1.0)
    health.ran_late(2.0, 0.3)
    assert not health.calm(2.4)
    assert health.calm(2.5)


def test_a_peer_that_hears_hardly_anybody_takes_itself_for_deaf_and_is_mute_for_a_while() -> None:
    """Its own ears are the likely cause; after a while, the others are really gone."""
    config = lan()
    health = Health(config, 0.0)
    health.listen(10.0, edges=8, silent=6)
    assert not health.deaf(12.9)
    health.listen(13.0, edges=8, silent=8)
    assert health.deaf(13.0)
    assert health.mute(13.0)
    assert not health.mute(10.0 + config.unreachable_s)
    assert health.deaf(10.0 + config.unreachable_s)
    health.listen(30.0, edges=8, silent=5)
    assert not health.deaf(40.0)


@pytest.mark.parametrize(("edges", "silent"), [(1, 1), (2, 1), (3, 2), (0, 0)])
def test_one_silent_edge_or_a_minority_is_the_others_fault(edges: int, silent: int) -> None:
    """Where two watch each other and one dies, the other one is not deaf."""
    health = Health(lan(), 0.0)
    health.listen(10.0, edges, silent)
    assert not health.deaf(100.0)


def test_more_than_two_refutations_in_a_minute_are_flapping() -> None:
    """It says so itself, and stops when it has been quiet for a minute."""
    health = Health(lan(), 0.0)
    for at in (0.0, 20.0):
        health.refuted(at)
    assert not health.flapping(20.0)
    health.refuted(40.0)
    assert health.flapping(60.0)
    assert not health.flapping(60.1)
