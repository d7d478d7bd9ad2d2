from __future__ import annotations

import math

import pytest

from tests.bench.gossip.scale import flatness, measure_size, sheet


def test_the_bench_at_scale_measures_what_it_says() -> None:
    """A small cluster, measured as a large one would be, keeps the promises; and its own numbers
    are found flat."""
    measured = measure_size(16, join=True)
    assert measured.dead_s[0] <= measured.dead_s[1] <= measured.last_s <= 7.6
    assert measured.suspect_s[1] <= 4.3
    assert 500 < measured.bytes_per_s <= 8000
    assert 0 < measured.ages_s[0] <= measured.ages_s[2] <= 3.0
    assert measured.join_s <= 3.0
    assert not math.isinf(measured.last_s)
    assert [row.measured for row in flatness([measured, measured])] == pytest.approx([1.0, 1.0])
    assert sheet([measured]).row_count == 1
