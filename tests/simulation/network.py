"""The wire between simulated hosts: for each datagram, how many copies of it arrive, and when.

`Network` holds the weather that everybody shares (loss, bursts, copies, delays) and a list of
faults, each a value that says with what probability it swallows a datagram between two hosts at a
time. Rejected: a matrix of links, because almost every fault is a rule about many links at once.

Hosts are numbers here. All chance comes from the one generator that is passed in.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


class Fault(Protocol):
    """Something that is wrong with the network for a while."""

    def loss(self, now: float, source: int, target: int) -> float:
        """Return the probability with which a datagram is lost to this fault."""


@dataclass(frozen=True)
class Partition:
    """Hosts of different sides hear nothing of each other; a host without a side is on side 0."""

    sides: Mapping[int, int]

    def loss(self, now: float, source: int, target: int) -> float:
        return float(self.sides.get(source, 0) != self.sides.get(target, 0))


@dataclass(frozen=True)
class OneWay:
    """What `sources` say does not reach `targets`; the other direction works."""

    sources: tuple[int, ...]
    targets: tuple[int, ...]
    share: float = 1.0

    def loss(self, now: float, source: int, target: int) -> float:
        return self.share if source in self.sources and target in self.targets else 0.0


@dataclass(frozen=True)
class FlipFlop:
    """A host's links work for `period_s`, then do not for as long, and so on (Rapid, figure 9).

    Args:
        inwards: It is the host's ears that come and go; otherwise its voice.
    """

    host: int
    period_s: float = 20.0
    inwards: bool = True

    def loss(self, now: float, source: int, target: int) -> float:
        if (target if self.inwards else source) != self.host:
            return 0.0
        return float(int(now / self.period_s) % 2 == 0)


@dataclass(frozen=True)
class Lossy:
    """A host whose every datagram, in and out, is at risk: a bad cable."""

    host: int
    share: float

    def loss(self, now: float, source: int, target: int) -> float:
        return self.share if self.host in (source, target) else 0.0


@dataclass(frozen=True, kw_only=True)
class Bursts:
    """Gilbert-Elliott: each link is mostly good, and sometimes bad for a while.

    Args:
        share: Of the time that a link is bad.
        bad_s: How long it stays so, on average.
        loss: While it is bad.
    """

    share: float = 0.1
    bad_s: float = 3.0
    loss: float = 0.9

    @property
    def good_s(self) -> float:
        """How long a link stays good, on average."""
        return self.bad_s * (1 - self.share) / self.share


@dataclass(frozen=True, kw_only=True)
class Weather:
    """What every link suffers from.

    Args:
        loss: The share of datagrams that vanish, each by itself.
        bursts: Losses that come together; None for none.
        copies: The share of datagrams that arrive twice.
        delay_s: The shortest and the longest way.
        stray: The share of datagrams that take up to `stray_s` longer, so later ones overtake.
    """

    loss: float = 0.0
    bursts: Bursts | None = None
    copies: float = 0.0
    delay_s: tuple[float, float] = (0.0002, 0.002)
    stray: float = 0.0
    stray_s: float = 0.3


class Network:
    """Decides what becomes of every datagram."""

    def __init__(self, rng: random.Random, weather: Weather | None = None) -> None:
        self._rng = rng
        self.weather = weather or Weather()
        self.faults: list[Fault] = []
        # Until when a link stays as it is, and whether it is bad.
        self._links: dict[tuple[int, int], tuple[float, bool]] = {}

    def delays(self, now: float, source: int, target: int) -> tuple[float, ...]:
        """Return how long each copy takes; nothing for one that is lost."""
        rng = self._rng
        for fault in self.faults:
            share = fault.loss(now, source, target)
            if share and (share >= 1 or rng.random() < share):
                return ()
        weather = self.weather
        if weather.loss and rng.random() < weather.loss:
            return ()
        if weather.bursts is not None and self._in_burst(now, source, target, weather.bursts):
            return ()
        if weather.copies and rng.random() < weather.copies:
            return (self._delay_s(), self._delay_s())
        return (self._delay_s(),)

    def _delay_s(self) -> float:
        shortest, longest = self.weather.delay_s
        delay = shortest + (longest - shortest) * self._rng.random()
        if self.weather.stray and self._rng.random() < self.weather.stray:
            delay += self.weather.stray_s * self._rng.random()
        return delay

    def _in_burst(self, now: float, source: int, target: int, bursts: Bursts) -> bool:
        rng = self._rng
        until, bad = self._links.get((source, target), (-1.0, False))
        if until < 0:
            bad = rng.random() < bursts.share
            until = now + rng.expovariate(1 / (bursts.bad_s if bad else bursts.good_s))
        while until <= now:
            bad = not bad
            until += rng.expovariate(1 / (bursts.bad_s if bad else bursts.good_s))
        self._links[source, target] = (until, bad)
        return bad and rng.random() < bursts.loss
