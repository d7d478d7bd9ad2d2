"""Who gets this peer's heartbeats, and for how long."""

from __future__ import annotations

from membership.config import lan
from membership.watchers import Watchers


def address(uid: int) -> tuple[str, int]:
    return (f"10.0.0.{uid}", 7946)


def test_a_lease_runs_out_and_is_renewed() -> None:
    """Heartbeats come for as long as was promised, to where they were asked for."""
    watchers = Watchers(lan())
    assert watchers.grant(0.0, 1, address(1), 30.0, (1,)) == 30.0
    assert watchers.grant(20.0, 2, address(2), 5.0, (1, 2)) == 5.0
    assert watchers.addresses(24.0) == [address(1), address(2)]
    assert watchers.addresses(25.0) == [address(1)]
    assert watchers.grant(29.0, 1, address(9), 1000.0, (1,)) == 30.0
    assert watchers.addresses(58.0) == [address(9)]


def test_who_asks_for_nothing_gets_nothing_more() -> None:
    """A lease of zero ends a watch at once."""
    watchers = Watchers(lan())
    watchers.grant(0.0, 1, address(1), 30.0, (1,))
    assert watchers.grant(1.0, 1, address(1), 0.0, (1,)) == 0.0
    assert watchers.uids() == ()


def test_leases_are_bounded_and_those_who_should_watch_come_first() -> None:
    """A storm of joins makes everybody ask the wrong peers for a moment; the right ones get in."""
    config = lan()
    watchers = Watchers(config)
    strangers = range(100, 100 + 2 * config.observers)
    for uid in strangers:
        assert watchers.grant(0.0, uid, address(uid % 200), 30.0, (1, 2)) > 0
    assert watchers.grant(0.0, 200, address(200), 30.0, (1, 2)) == 0.0
    assert watchers.grant(0.0, 1, address(1), 30.0, (1, 2)) > 0
    assert len(watchers.uids()) == 2 * config.observers
    assert 1 in watchers.uids()
    assert strangers[0] not in watchers.uids()
