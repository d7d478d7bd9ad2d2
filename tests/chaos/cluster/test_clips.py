"""The films of a run are what they are said to be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.cluster.clips import count_pictures, make_clips
from tests.chaos.cluster.orders import BROKEN, RATE, SECONDS, Clip

pytestmark = pytest.mark.slow


def test_good_films_can_be_watched_and_broken_ones_cannot(tmp_path: Path) -> None:
    """The good ones have all of their pictures, the one cut short has fewer, and noise has none."""
    counted = {}
    for clip, film in make_clips(tmp_path).items():
        file = tmp_path / "film"
        file.write_bytes(film)
        counted[clip] = count_pictures(file)
    assert {*SECONDS, *BROKEN} == set(Clip)
    assert all(counted[clip] == RATE * seconds for clip, seconds in SECONDS.items())
    assert counted[Clip.CUT_SHORT] < counted[Clip.SHORT]
    assert counted[Clip.NOISE] == 0
