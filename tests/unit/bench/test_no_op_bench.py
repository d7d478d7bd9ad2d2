"""How the bench of no-op tasks judges what it measured."""

from __future__ import annotations

import pytest

from tests.bench import no_op


@pytest.mark.parametrize(("ours", "met"), [(1.9, True), (2.0, True), (2.1, False)])
def test_ours_is_judged_against_each_rival_with_the_same_promises(ours: float, met: bool) -> None:
    """The goal is what the rival took in the same run; a rival that promises less sets none."""
    medians = {
        no_op.OURS: ours,
        no_op.CELERY: 2.0,
        no_op.DRAMATIQ: 2.0,
        no_op.RECORDED: 2.0,
        "dramatiq, classic, unconfirmed": 0.1,
    }
    rows = list(no_op.rows("alone", medians))
    assert [(row.goal, row.met) for row in rows] == [(2.0, met)] * 3
