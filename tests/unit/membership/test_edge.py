"""One link: what establishes it, what it learns of its losses, and when it has been silent."""

from __future__ import annotations

import pytest

from membership.edge import ESTABLISHED_BEATS, GAP_MAX, Edge


def established(loss: float = 0.0) -> Edge:
    edge = Edge(1, 100, heard_at=0.0)
    edge.consented = True
    for number in range(1, ESTABLISHED_BEATS + 1):
        edge.beat(0.5 * number, number, tardiness=0, grace_s=0.0)
    edge.loss = loss
    return edge


def test_consent_and_three_heartbeats_establish_an_edge() -> None:
    """Neither alone does: a peer that was asked in passing has promised nothing."""
    edge = Edge(1, 100, heard_at=0.0)
    assert not edge.established
    edge.consented = True
    assert not edge.established
    for number in range(1, ESTABLISHED_BEATS + 1):
        assert not edge.established
        edge.beat(0.5 * number, number, tardiness=0, grace_s=0.0)
    assert edge.established


def test_gaps_in_the_numbers_are_the_loss() -> None:
    """Three of ten missing, for long enough, is a loss of about 30 %."""
    edge = established()
    for number in range(4, 1004):
        if number % 10 not in (3, 6, 9):
            edge.beat(0.5 * number, number, tardiness=0, grace_s=0.0)
    assert edge.loss == pytest.approx(0.3, abs=0.06)


def test_a_cut_is_not_mistaken_for_loss() -> None:
    """An hour without a heartbeat counts as a few lost ones, and is soon forgotten."""
    edge = established()
    edge.beat(3600.0, 7200, tardiness=0, grace_s=0.0)
    assert edge.loss <= 1 - (1 - 1 / 32) ** GAP_MAX
    for number in range(7201, 7201 + 120):
        edge.beat(3600.0 + number / 2, number, tardiness=0, grace_s=0.0)
    assert edge.loss < 0.02


def test_an_overtaken_heartbeat_changes_nothing() -> None:
    """Datagrams come out of order; the newer one has said it all."""
    edge = established()
    edge.beat(5.0, 10, tardiness=3, grace_s=2.0)
    before = (edge.loss, edge.sequence, edge.tardiness, edge.grace_s)
    edge.beat(5.1, 9, tardiness=0, grace_s=0.0)
    assert (edge.loss, edge.sequence, edge.tardiness, edge.grace_s) == before


@pytest.mark.parametrize(("tardiness", "limit_s"), [(0, 2.75), (1, 3.75), (7, 9.75)])
def test_a_late_subject_is_waited_for(tardiness: int, limit_s: float) -> None:
    """Two more beats for each by which it may be late."""
    edge = established()
    edge.tardiness = tardiness
    edge.be_patient(misses=5, interval_s=0.5, at_first_s=6.0)
    assert edge.patience_s == limit_s


def test_an_edge_that_was_never_established_is_given_time() -> None:
    """Nobody has promised heartbeats yet, so only a long complete silence means anything."""
    edge = Edge(1, 100, heard_at=0.0)
    edge.be_patient(misses=5, interval_s=0.5, at_first_s=6.0)
    assert edge.patience_s == 6.0


def test_evidence_never_goes_back() -> None:
    """What is heard late about an earlier moment does not lengthen the silence."""
    edge = established()
    edge.hear(9.0)
    edge.hear(4.0)
    assert edge.silent_s(10.0) == 1.0
