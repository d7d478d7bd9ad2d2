"""What a cluster of a hundred costs, and one of three thousand: the same, or so it is promised.

    python -m tests.bench.gossip.scale                  100, 1000 and 3000 peers
    python -m tests.bench.gossip.scale 100 300          other sizes
    python -m tests.bench.gossip.scale --no-join 3000   without the join of everybody at once

The very cores that run in production, in virtual time, on a network without loss; a second of 3000
peers takes some seconds of one processor. Detection and traffic are measured in a cluster that is
handed its tables (a warm start); joining starts from nothing.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table as Sheet

from gossip.rows import AgedRow, Row, State
from membership.changes import Change, MemberDied, MemberSuspected
from membership.cluster import Cluster
from tests.bench.rows import Row as BenchRow
from tests.simulation.host import Host
from tests.simulation.world import Checker, World

SIZES = (100, 1000, 3000)
SETTLE_S = 12.0
"""Until everybody has proved to its observers to be live, and loads have gone around."""

TRAFFIC_S = 10.0
KILLS = 3
KILL_EVERY_S = 2.0
DETECT_S = 12.0
JOIN_MAX_S = 60.0
JOIN_SIZE_MAX = 300
"""More at once, all by the same three seeds, are let in at the pace of the seeds' budgets, some
twenty a second: that is a matter of minutes, virtual and real."""

FLAT = 1.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One size.

    Args:
        suspect_s, dead_s: p50 and p99, over kills and survivors, of the time from the kill until a
            survivor has it so.
        last_s: The slowest survivor of the slowest kill.
        bytes_per_s: Of one peer, sent, headers included; on average over all.
        ages_s: p50, p95, p99 and the mean of how old the loads are that peers know of each other.
        join_s: From the first start until all tables are equal; NaN when not measured.
        pace: Real seconds for one virtual one.
    """

    size: int
    suspect_s: tuple[float, float]
    dead_s: tuple[float, float]
    last_s: float
    bytes_per_s: float
    ages_s: tuple[float, float, float, float]
    join_s: float
    pace: float


class Deaths(Checker):
    """When each survivor learned of each kill."""

    def __init__(self) -> None:
        self.suspected: dict[tuple[int, int], float] = {}
        self.died: dict[tuple[int, int], float] = {}

    def changed(self, world: World, host: Host, change: Change) -> None:
        if isinstance(change, MemberSuspected):
            self.suspected.setdefault((change.row.uid, host.number), world.now)
        elif isinstance(change, MemberDied):
            self.died.setdefault((change.row.uid, host.number), world.now)


def warm(world: World, size: int) -> None:
    """Start so many peers that know each other already, as after a long time together."""
    hosts = [world.add() for _ in range(size)]
    for host in hosts:
        world.start(host)
    rows = [Row(host.uid, host.epoch, 0, State.ALIVE, host.body()) for host in hosts]
    for host in hosts:
        core = host.core
        assert isinstance(core, Cluster)
        # The core has no such entry, and needs none but here.
        spread = core._core.spread
        now = host.local(world.now)
        spread.merge(now, [AgedRow(row, 0.0) for row in rows if row.uid != host.uid])
        for row in rows:
            spread.rumours.drop(row.uid)


def measure_size(size: int, *, join: bool) -> Measured:
    """Measure one size."""
    deaths = Deaths()
    world = World(f"scale {size}", checkers=[deaths], tapped=False, sample_s=math.inf)
    warm(world, size)
    world.run(SETTLE_S)
    began = time.perf_counter()
    before = sum(host.sent_bytes for host in world.hosts)
    world.run(world.now + TRAFFIC_S)
    pace = (time.perf_counter() - began) / TRAFFIC_S
    sent = sum(host.sent_bytes for host in world.hosts) - before
    ages = _load_ages_s(world)
    kills = _kill_some(world)
    suspect_s = _delays_s(kills, deaths.suspected, world)
    dead_s = _delays_s(kills, deaths.died, world)
    return Measured(
        size=size,
        suspect_s=(_share(suspect_s, 0.5), _share(suspect_s, 0.99)),
        dead_s=(_share(dead_s, 0.5), _share(dead_s, 0.99)),
        last_s=dead_s[-1],
        bytes_per_s=sent / TRAFFIC_S / size,
        ages_s=(
            _share(ages, 0.5),
            _share(ages, 0.95),
            _share(ages, 0.99),
            sum(ages) / len(ages),
        ),
        join_s=join_all(size) if join else math.nan,
        pace=pace,
    )


def join_all(size: int) -> float:
    """Start everybody within half a second, with three seeds; return when all tables are equal."""
    world = World(f"join {size}", tapped=False)
    hosts = [world.add() for _ in range(size)]
    for host in hosts:
        world.at(world.rng.uniform(0.0, 0.5), world.start, host, hosts[:3])
    world.run(0.5)
    return 0.5 + world.run_until(lambda: _equal(world), JOIN_MAX_S, step_s=0.1)


def _equal(world: World) -> bool:
    first: int | None = None
    for host in world.running():
        core = host.core
        assert isinstance(core, Cluster)
        now = host.local(world.now)
        mark = core.fingerprint(now)
        if first is None:
            first = mark
            if len(core.view(now).members) < len(world.hosts):
                return False
        if mark != first:
            return False
    return True


def _kill_some(world: World) -> dict[int, float]:
    """Kill a few, one after the other; return when each was killed, by uid."""
    kills: dict[int, float] = {}
    for victim in world.rng.sample(world.hosts, KILLS):
        kills[victim.uid] = world.now
        world.crash(victim, for_good=True)
        world.run(world.now + KILL_EVERY_S)
    world.run(world.now + DETECT_S)
    return kills


def _delays_s(
    kills: dict[int, float], learned: dict[tuple[int, int], float], world: World
) -> list[float]:
    """Return every survivor's delay for every kill, in order; infinity where it never learned."""
    return sorted(
        learned.get((uid, host.number), math.inf) - when
        for uid, when in kills.items()
        for host in world.running()
    )


def _load_ages_s(world: World) -> list[float]:
    """Return how old the loads are that a sample of peers knows of the others, in order."""
    watching = world.rng.sample(world.running(), min(50, len(world.hosts)))
    return sorted(
        member.load_age_s
        for host in watching
        for member in world.view(host).members
        if not member.own and member.load is not None
    )


def _share(values: Sequence[float], share: float) -> float:
    return values[min(len(values) - 1, int(share * len(values)))]


def sheet(measured: Sequence[Measured]) -> Sheet:
    """Return the table."""
    table = Sheet(title="Simulated, without loss; times in seconds")
    for heading in (
        "peers",
        "SUSPECT p50/p99",
        "DEAD p50/p99/last",
        "B/s per peer",
        "load age p50/p95/p99/mean",
        "all join",
        "real s per s",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    for one in measured:
        table.add_row(
            str(one.size),
            "/".join(f"{value:.2f}" for value in one.suspect_s),
            "/".join(f"{value:.2f}" for value in (*one.dead_s, one.last_s)),
            f"{one.bytes_per_s:.0f}",
            "/".join(f"{value:.1f}" for value in one.ages_s),
            "" if math.isnan(one.join_s) else f"{one.join_s:.1f}",
            f"{one.pace:.2f}",
        )
    return table


def flatness(measured: Sequence[Measured]) -> list[BenchRow]:
    """Return the promise: between the sizes, neither detection nor traffic grows by a tenth."""
    rows = []
    for metric, values in (
        ("detection p99, largest / smallest", [one.dead_s[1] for one in measured]),
        ("bytes per peer, largest / smallest", [one.bytes_per_s for one in measured]),
    ):
        growth = values[-1] / values[0]
        rows.append(BenchRow(metric=metric, measured=growth, goal=FLAT, at_most=True))
    return rows


def measure(sizes: Sequence[int] = (100, 300)) -> list[BenchRow]:
    """Measure sizes that take less than a minute, for `make bench`."""
    measured = [measure_size(size, join=True) for size in sizes]
    largest = measured[-1]
    return [
        BenchRow(
            metric="DEAD everywhere, p99, s", measured=largest.dead_s[1], goal=7.6, at_most=True
        ),
        BenchRow(
            metric="join of 100 at once, s", measured=measured[0].join_s, goal=3.0, at_most=True
        ),
        BenchRow(metric="bytes/s per peer", measured=largest.bytes_per_s, goal=8000, at_most=True),
        *flatness(measured),
    ]


def main(arguments: list[str] | None = None) -> int:
    """Print the table; exit status 1 when something grows."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.gossip.scale")
    parser.add_argument("sizes", type=int, nargs="*", default=list(SIZES), help="how many peers")
    parser.add_argument("--no-join", action="store_true", help="leave out the join of all at once")
    chosen = parser.parse_args(arguments)
    console = Console(width=None if sys.stdout.isatty() else 140)
    measured = []
    for size in chosen.sizes:
        measured.append(measure_size(size, join=not chosen.no_join and size <= JOIN_SIZE_MAX))
        console.print(sheet(measured))
    flat = flatness(measured)
    for row in flat:
        verdict = "flat" if row.met else "NOT flat"
        console.print(f"{row.metric}: {row.measured:.3f} ({verdict} within 10 %)")
    return 0 if all(row.met for row in flat) else 1


if __name__ == "__main__":
    sys.exit(main())
