"""Made-up days of work, each from a seed: when a part comes, and how long it takes.

All have parts of a minute in the mean, as the notes' simulation had, and a load that a cluster of
twenty nodes with four containers each can do, except for the bursts, which it can only outlive.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

SERVICE_S = 60.0
PER_S = 0.25
"""The mean load: fifteen containers."""


@dataclass(frozen=True, slots=True)
class Part:
    """One part of work.

    Args:
        at_s: When it comes.
        work_s: How long a container works on it.
    """

    at_s: float
    work_s: float


def _poisson(
    rng: random.Random, until_s: float, rate: Callable[[float], float], rate_max: float
) -> Iterator[float]:
    """Draw the times of a Poisson process whose rate changes, by thinning (Lewis, Shedler 1979)."""
    now_s = 0.0
    while True:
        now_s += rng.expovariate(rate_max)
        if now_s >= until_s:
            return
        if rng.random() * rate_max < rate(now_s):
            yield now_s


def _exponential(rng: random.Random) -> float:
    return max(1.0, rng.expovariate(1 / SERVICE_S))


def steady(rng: random.Random, until_s: float) -> list[Part]:
    """The same rate all day."""
    return [Part(at, _exponential(rng)) for at in _poisson(rng, until_s, lambda _: PER_S, PER_S)]


def diurnal(rng: random.Random, until_s: float) -> list[Part]:
    """A day and a night in six hours, from a fifth of the mean to nine fifths."""

    def rate(now_s: float) -> float:
        return PER_S * (1 - 0.8 * math.cos(2 * math.pi * now_s / 21600))

    times = _poisson(rng, until_s, rate, 1.8 * PER_S)
    return [Part(at, _exponential(rng)) for at in times]


def heavy_tail(rng: random.Random, until_s: float) -> list[Part]:
    """The same rate all day; most parts are short, and one in a hundred takes many minutes."""
    sigma = 1.5
    mu = math.log(SERVICE_S) - sigma**2 / 2
    times = _poisson(rng, until_s, lambda _: PER_S, PER_S)
    return [Part(at, min(3600.0, max(1.0, rng.lognormvariate(mu, sigma)))) for at in times]


def switching(rng: random.Random, until_s: float) -> list[Part]:
    """A Poisson process of two rates (MMPP), each for ten minutes in the mean."""
    edges, now_s = [], 0.0
    while now_s < until_s:
        now_s += rng.expovariate(1 / 600)
        edges.append(now_s)

    def rate(at_s: float) -> float:
        passed = sum(edge <= at_s for edge in edges)
        return 0.05 if passed % 2 == 0 else 0.45

    return [Part(at, _exponential(rng)) for at in _poisson(rng, until_s, rate, 0.45)]


def on_off(rng: random.Random, until_s: float) -> list[Part]:
    """Ten minutes of much, ten of nothing."""

    def rate(at_s: float) -> float:
        return 0.5 if at_s % 1200 < 600 else 0.0

    return [Part(at, _exponential(rng)) for at in _poisson(rng, until_s, rate, 0.5)]


def bursts(rng: random.Random, until_s: float) -> list[Part]:
    """A trickle, and three hundred at once every half an hour."""
    trickle = [Part(at, _exponential(rng)) for at in _poisson(rng, until_s, lambda _: 0.02, 0.02)]
    heaps = [
        Part(600.0 + 1800.0 * number + rng.random(), _exponential(rng))
        for number in range(math.ceil((until_s - 600.0) / 1800.0))
        for _ in range(300)
    ]
    return sorted(trickle + heaps, key=lambda part: part.at_s)


TRACES: dict[str, Callable[[random.Random, float], list[Part]]] = {
    "steady": steady,
    "diurnal": diurnal,
    "heavy tail": heavy_tail,
    "MMPP": switching,
    "on/off": on_off,
    "bursts": bursts,
}


def draw(name: str, seed: int, hours: float) -> list[Part]:
    """Draw one trace, from its name and a seed, the same each time."""
    return TRACES[name](random.Random(f"{name} {seed}"), hours * 3600)
