"""One trace, one scaler, one seed: what it cost, how long people waited, and what was lost."""

from __future__ import annotations

import math
import random
from bisect import bisect_left
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

from scaling.config import ScalingConfig
from scaling.snapshot import ContainerState, Demand, Snapshot
from tests.simulation.scaling.clairvoyant import node_seconds
from tests.simulation.scaling.events import Timeline
from tests.simulation.scaling.scalers import Scaler
from tests.simulation.scaling.swarm import Swarm
from tests.simulation.scaling.traces import Part

CONFIG = ScalingConfig(containers_max=80, nodes_max=20)
"""The product's defaults, on as many nodes as the notes' simulation had."""

SAMPLE_S = 5.0
"""How often the broker counts its messages."""

REVERSAL_S = 600.0
SLO_S = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """What befalls the cluster besides work.

    Args:
        crash_every_s: The mean time between two crashes of a container, anywhere.
        never_joins: The share of ordered nodes that never come.
        changes_of_leader_s: When another leader begins, with nothing in its memory.
    """

    crash_every_s: float = math.inf
    never_joins: float = 0.0
    changes_of_leader_s: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one run.

    Args:
        cost: Node-seconds times containers a node, over the seconds of work done: 1 is full use.
        clairvoyant: The same for who knows the future.
        boots: How many nodes were ordered.
        reversals: How often the number of containers turned within ten minutes.
        redone: How many parts a scale-down cost.
        ended: How many containers were told to end, and `ended_busy` of them while they worked.
        late: The share of parts that waited for more than two minutes.
        faults: What must never be.
    """

    p95_s: float
    cost: float
    clairvoyant: float
    boots: int
    reversals: int
    redone: int
    crashed: int
    ended: int
    ended_busy: int
    done: int
    late: float
    left: int
    series: tuple[tuple[float, int, int, int], ...] = ()
    faults: tuple[str, ...] = ()


class World:
    """A trace, a cluster and a scaler, on one timeline."""

    def __init__(
        self,
        parts: Sequence[Part],
        scaler: Scaler,
        *,
        seed: int,
        config: ScalingConfig = CONFIG,
        weather: Weather | None = None,
    ) -> None:
        self._weather = Weather() if weather is None else weather
        self._config = config
        self._rng = random.Random(seed)
        self.timeline = Timeline()
        self.swarm = Swarm(
            self.timeline,
            self._rng,
            per_node=config.containers_per_node,
            grace_s=scaler.grace_s,
            never_joins=self._weather.never_joins,
        )
        self.scaler = scaler
        self._parts = parts
        self._began_s = 0.0
        self._samples: deque[tuple[float, int, int]] = deque([(0.0, 0, 0)], maxlen=4)
        self.series: list[tuple[float, int, int, int]] = []

    def run(self, until_s: float) -> Outcome:
        """Let all happen; return what became of it."""
        self.swarm.add("manager", fixed=True)
        self.swarm.set_containers(max(1, self._config.containers_min))
        for part in self._parts:
            self.timeline.after(part.at_s, partial(self.swarm.work.arrive, part))
        for at_s in self._weather.changes_of_leader_s:
            self.timeline.after(at_s, self._change_leader)
        self.timeline.after(2.5, self._sample)
        self.timeline.after(self.scaler.interval_s, self._tick)
        self._plan_crash()
        self.timeline.run(until_s)
        return self._outcome()

    def snapshot(self) -> Snapshot:
        """Return what a leader sees now."""
        now_s = self.timeline.now_s
        counted_s, ready, running = self._samples[-1]
        work = self.swarm.work
        return Snapshot(
            now_s=now_s,
            leading_s=now_s - self._began_s + 3600.0 * (self._began_s == 0.0),
            term=1,
            demand=Demand(
                ready=ready,
                delayed=0,
                running=running,
                arrivals_per_s=self._rate(counted_s),
                service_s=work.service_s,
                age_s=now_s - counted_s,
            ),
            containers=self.swarm.containers(),
            nodes=self.swarm.nodes(),
            wanted=self.swarm.wanted,
        )

    def _rate(self, at_s: float) -> float:
        times = self.swarm.work.arrivals_s
        return max(
            (bisect_left(times, at_s) - bisect_left(times, at_s - span_s)) / span_s
            for span_s in (120.0, 300.0)
        )

    def _sample(self) -> None:
        work = self.swarm.work
        self._samples.append((self.timeline.now_s, work.ready, work.running))
        self.timeline.after(SAMPLE_S, self._sample)

    def _tick(self) -> None:
        self.scaler.tick(self.snapshot(), self.swarm)
        self.series.append(
            (
                self.timeline.now_s,
                self.swarm.work.ready,
                self.swarm.wanted,
                len(self.swarm.machines),
            )
        )
        self.timeline.after(self.scaler.interval_s, self._tick)

    def _change_leader(self) -> None:
        self._began_s = self.timeline.now_s
        if hasattr(self.scaler, "memory"):
            self.scaler.memory = type(self.scaler.memory)()

    def _plan_crash(self) -> None:
        if math.isinf(self._weather.crash_every_s):
            return
        self.timeline.after(self._rng.expovariate(1 / self._weather.crash_every_s), self._crash)

    def _crash(self) -> None:
        running = [task for task in self.swarm.tasks if task.state is ContainerState.RUNNING]
        if running:
            self.swarm.crash(self._rng.choice(running))
        self._plan_crash()

    def _outcome(self) -> Outcome:
        swarm, work, now_s = self.swarm, self.swarm.work, self.timeline.now_s
        paid_s = swarm.paid_s + sum(
            now_s - machine.ordered_s for machine in swarm.machines.values()
        )
        per_node = self._config.containers_per_node
        best_s, _ = node_seconds(self._parts, per_node=per_node)
        waits_s = sorted(work.waits_s) or [0.0]
        return Outcome(
            p95_s=waits_s[int(0.95 * (len(waits_s) - 1))],
            cost=paid_s * per_node / max(1.0, work.done_s),
            clairvoyant=best_s * per_node / sum(part.work_s for part in self._parts),
            boots=swarm.boots,
            reversals=reversals(swarm.writes),
            redone=work.redone,
            crashed=work.crashed,
            ended=swarm.ended,
            ended_busy=swarm.ended_busy,
            done=work.done,
            late=sum(wait_s > SLO_S for wait_s in waits_s) / len(waits_s),
            left=work.ready + work.running,
            series=tuple(self.series),
            faults=tuple(getattr(self.scaler, "faults", ())),
        )


def reversals(writes: Sequence[tuple[float, int]]) -> int:
    """Count the changes of direction that came within ten minutes of the change before."""
    count = 0
    for (before_s, before), (now_s, now) in pairwise(writes):
        count += (before > 0) != (now > 0) and now_s - before_s < REVERSAL_S
    return count
