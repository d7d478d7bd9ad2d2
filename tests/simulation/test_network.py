from __future__ import annotations

import itertools
import random

import pytest

from tests.simulation.clock import Clock
from tests.simulation.network import (
    Bursts,
    Fault,
    FlipFlop,
    Lossy,
    Network,
    OneWay,
    Partition,
    Weather,
)


def _network(weather: Weather, *faults: Fault) -> Network:
    network = Network(random.Random(5), weather)
    network.faults.extend(faults)
    return network


@pytest.mark.parametrize(
    ("weather", "lowest", "highest"),
    [
        (Weather(), 0.0, 0.0),
        (Weather(loss=0.3), 0.28, 0.32),
        (Weather(bursts=Bursts(share=0.1, bad_s=3.0, loss=0.9)), 0.06, 0.12),
    ],
)
def test_loses_as_many_datagrams_as_the_weather_says(
    weather: Weather, lowest: float, highest: float
) -> None:
    """Over many datagrams on many links, the share that is lost is the one that was asked for."""
    network = _network(weather)
    sent = [(step * 0.02, link) for step in range(1000) for link in range(20)]
    lost = sum(not network.delays(now, link, 100) for now, link in sent)
    assert lowest <= lost / len(sent) <= highest


def test_bursts_come_together() -> None:
    """Under bursts, a datagram after a lost one is far more often lost than others are."""
    network = _network(Weather(bursts=Bursts(share=0.1, bad_s=3.0, loss=0.9)))
    fates = [bool(network.delays(step * 0.1, 1, 2)) for step in range(50_000)]
    after_loss = [fate for before, fate in itertools.pairwise(fates) if not before]
    assert after_loss.count(False) / len(after_loss) > 0.7
    assert fates.count(False) / len(fates) < 0.15


def test_copies_and_strays_arrive_out_of_order() -> None:
    """Datagrams can arrive twice, and a later one before an earlier one."""
    network = _network(Weather(copies=0.5, stray=0.5, stray_s=0.3))
    arrivals = [[step * 0.05 + d for d in network.delays(step * 0.05, 1, 2)] for step in range(200)]
    assert 60 < sum(len(copies) == 2 for copies in arrivals) < 140
    firsts = [copies[0] for copies in arrivals]
    assert firsts != sorted(firsts)


@pytest.mark.parametrize(
    ("fault", "now", "cut", "open_links"),
    [
        (Partition({1: 1, 2: 1}), 0.0, [(1, 3), (3, 2)], [(1, 2), (3, 4)]),
        (OneWay((1,), (2, 3)), 0.0, [(1, 2), (1, 3)], [(2, 1), (1, 4)]),
        (FlipFlop(1, 20.0), 5.0, [(2, 1)], [(1, 2), (2, 3)]),
        (FlipFlop(1, 20.0), 25.0, [], [(1, 2), (2, 1)]),
        (FlipFlop(1, 20.0, inwards=False), 45.0, [(1, 2)], [(2, 1)]),
        (Lossy(1, 1.0), 0.0, [(1, 2), (2, 1)], [(2, 3)]),
    ],
)
def test_faults_cut_what_they_say(
    fault: Fault, now: float, cut: list[tuple[int, int]], open_links: list[tuple[int, int]]
) -> None:
    """A fault swallows exactly the datagrams of the links and times that it names."""
    network = _network(Weather(), fault)
    assert [network.delays(now, *link) for link in cut] == [()] * len(cut)
    assert all(network.delays(now, *link) for link in open_links)


def test_the_same_seed_has_the_same_fate() -> None:
    """Two networks from one seed treat the same datagrams alike."""
    weather = Weather(loss=0.2, bursts=Bursts(), copies=0.1, stray=0.2)
    runs = [
        [_fate for step in range(500) for _fate in network.delays(step * 0.01, step % 7, 1)]
        for network in (_network(weather), _network(weather))
    ]
    assert runs[0] == runs[1]
    assert runs[0]


def test_a_clock_maps_there_and_back() -> None:
    """A clock with an offset that drifts and jumps is still one line after the other, and true
    time comes back from what it shows."""
    clock = Clock(100.0)
    assert clock.local(3.0) == 103.0
    clock.drift(10.0, 1.1)
    assert clock.local(20.0) == pytest.approx(121.0)
    clock.jump(20.0, 60.0)
    assert clock.local(20.0) == pytest.approx(181.0)
    assert clock.true(clock.local(33.0)) == pytest.approx(33.0)
    with pytest.raises(ValueError, match="does not go back"):
        clock.jump(30.0, -1.0)
