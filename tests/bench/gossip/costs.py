"""What a peer costs: bytes for loads that change every second, processor and memory for waiting."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from functools import partial

from tests.bench.gossip.fleet import Fleet
from tests.bench.gossip.goals import Outcome, percentile
from tests.bench.gossip.namespace import count_traffic
from tests.bench.gossip.setting import CALM_S, Setting, Watch

SMALL = 5
SAMPLE_INTERVAL_S = 2.0
SAMPLED_AT_ONCE = 4


def loads(setting: Setting) -> Outcome:
    """Every agent says something new of itself once a second; how old is what the others know?

    Ages are those of all others' loads, at agents and moments drawn at random.
    """
    chance = setting.chance()
    ages: list[Sequence[float]] = []

    def sample(fleet: Fleet) -> None:
        observers = chance.sample(fleet.agents, min(SAMPLED_AT_ONCE, fleet.size))
        ages.extend(dump.load_ages_s for dump in setting.product.dump(fleet, observers))

    with setting.fleet() as fleet:
        setting.product.start_loads(fleet.agents)
        try:
            fleet.run(CALM_S)
            watch, before = Watch(), count_traffic()
            rounds = int(setting.plan.loads_s / SAMPLE_INTERVAL_S)
            moments = [SAMPLE_INTERVAL_S * number for number in range(1, rounds)]
            fleet.run(setting.plan.loads_s, [(at, partial(sample, fleet)) for at in moments])
            seconds, after = watch.seconds, count_traffic()
            ran = watch.tell(fleet)
        finally:
            setting.product.stop_loads()
    pooled = [age for each in ages for age in each]
    setting.records.write(
        "loads",
        setting.product.name,
        ["sample", "age_s"],
        [[number, age] for number, each in enumerate(ages) for age in each],
    )
    return Outcome(
        measured={
            "bytes_per_s": (after.bytes - before.bytes) / seconds / fleet.size,
            "packets_per_s": (after.packets - before.packets) / seconds / fleet.size,
            "age_p50_s": percentile(pooled, 0.5),
            "age_p99_s": percentile(pooled, 0.99),
            "known": statistics.mean(len(each) for each in ages),
        },
        ran=ran,
    )


def idle(setting: Setting) -> Outcome:
    """Let a cluster wait for something to happen, a large one and a small one."""
    with setting.fleet(SMALL) as fleet:
        small, _ = rest(setting, fleet)
    with setting.fleet() as fleet:
        start_cpu_s = statistics.mean(agent.process.cpu_s for agent in fleet.agents)
        watch = Watch()
        large, bytes_per_s = rest(setting, fleet)
        resident = [agent.process.resident_bytes / 1e6 for agent in fleet.agents]
        ran = watch.tell(fleet)
    setting.records.write(
        "idle",
        setting.product.name,
        ["peer", "cpu_percent", "resident_mb"],
        [[index, *numbers] for index, numbers in enumerate(zip(large, resident, strict=True))],
    )
    return Outcome(
        measured={
            "cpu_percent": statistics.mean(large),
            "cpu_worst_percent": max(large),
            "cpu_small_percent": statistics.mean(small),
            "bytes_per_s": bytes_per_s,
            "resident_mb": statistics.mean(resident),
            "start_cpu_s": start_cpu_s,
        },
        ran=ran,
    )


def rest(setting: Setting, fleet: Fleet) -> tuple[list[float], float]:
    """Let it rest; return each agent's CPU in percent of a core, and the bytes sent per second."""
    fleet.run(CALM_S)
    traffic, watch = count_traffic(), Watch()
    before = [agent.process.cpu_s for agent in fleet.agents]
    fleet.run(setting.plan.idle_s)
    after = [agent.process.cpu_s for agent in fleet.agents]
    seconds = watch.seconds
    sent = count_traffic().bytes - traffic.bytes
    used = [100 * (end - begin) / seconds for begin, end in zip(before, after, strict=True)]
    return used, sent / seconds / fleet.size
