"""What every scenario is given: how much to run, and a fleet when it wants one."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import psutil

from tests.bench.gossip.fleet import Fleet
from tests.bench.gossip.goals import Records
from tests.bench.gossip.processes import Processes
from tests.bench.gossip.products import Product

SETTLE_S = 5.0
"""After a join, and after a restart: until everybody watches whom it will watch."""

CALM_S = 15.0
"""Until nothing is left of the join of all: neither the rows that everybody told, nor the bytes
that they took, nor that loops ran late."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How many, how often, how long."""

    peers: int = 100
    kills: int = 30
    join_rounds: int = 3
    loss30_s: float = 240.0
    hogged_s: float = 240.0
    freeze_s: float = 240.0
    loads_s: float = 120.0
    idle_s: float = 60.0

    def for_anchor(self) -> Plan:
        """Return what is enough for serf: its kills take longer, and it fails sooner."""
        return replace(
            self,
            kills=min(self.kills, 5),
            join_rounds=min(self.join_rounds, 2),
            loss30_s=min(self.loss30_s, 120.0),
            hogged_s=min(self.hogged_s, 60.0),
            freeze_s=min(self.freeze_s, 120.0),
            loads_s=min(self.loads_s, 60.0),
        )


def full(peers: int) -> Plan:
    """Return what gives the whole table in about 45 minutes."""
    return Plan(peers=peers)


def quick(peers: int) -> Plan:
    """Return a smoke test of a few minutes, whose numbers prove nothing."""
    return Plan(
        peers=peers,
        kills=2,
        join_rounds=1,
        loss30_s=10.0,
        hogged_s=10.0,
        freeze_s=10.0,
        loads_s=10.0,
        idle_s=5.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One scenario's surroundings, for one product.

    Args:
        seed: Victims and moments are drawn from it, alike for both products.
    """

    product: Product
    plan: Plan
    processes: Processes
    records: Records
    seed: int

    def chance(self) -> random.Random:
        """Return a generator that draws the same for both products."""
        return random.Random(self.seed)

    @contextmanager
    def fleet(self, size: int | None = None) -> Iterator[Fleet]:
        """Bring up a cluster, let it settle, and take it down at the end."""
        fleet = Fleet(self.product, size or self.plan.peers, self.processes, self.chance())
        try:
            fleet.start()
            fleet.run(SETTLE_S)
            yield fleet
        finally:
            fleet.stop()


class Watch:
    """How long something took, and how busy the machine was meanwhile."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before = self._idle_s()

    def _idle_s(self) -> float:
        times = psutil.cpu_times()
        return float(times.idle + times.iowait)

    @property
    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._began

    def tell(self, fleet: Fleet, extra: str = "") -> str:
        """Return what was run, in a few words."""
        processors = os.cpu_count() or 1
        busy = 1 - (self._idle_s() - self._before) / (self.seconds * processors)
        words = [f"N={fleet.size}", extra, f"{self.seconds:.0f} s", f"machine {busy:.0%} busy"]
        return ", ".join(word for word in words if word)
