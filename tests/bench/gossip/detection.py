"""How long it takes until everybody knows of a death, and until everybody knows everybody."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from contextlib import suppress

from tests.bench.gossip.fleet import Fleet, TimedOut
from tests.bench.gossip.goals import Outcome, percentile
from tests.bench.gossip.mistakes import count_mistakes
from tests.bench.gossip.products import Kind
from tests.bench.gossip.setting import CALM_S, SETTLE_S, Setting, Watch

DETECTION_TIMEOUT_S = 60.0


def kill(setting: Setting) -> Outcome:
    """Kill one agent after the other with SIGKILL; each is back before the next one's turn.

    An observer that hears of the death without having heard of the suspicion suspects at that
    moment. Judged is, for each kill, the last survivor to know.
    """
    chance = setting.chance()
    suspected: list[list[float]] = []
    dead: list[list[float]] = []
    rows = []
    with setting.fleet() as fleet:
        fleet.run(CALM_S)
        watch = Watch()
        for number in range(setting.plan.kills):
            # So that no victim dies always at the same point of everybody's rounds.
            fleet.run(chance.random())
            victim = chance.randrange(fleet.size)
            at, key, began = fleet.kill(victim), fleet.agents[victim].key, len(fleet.said)
            survivors = set(range(fleet.size)) - {victim}
            moments = _first_moments(fleet, key, began, survivors)
            dead.append([moments[Kind.DIED].get(one, math.inf) - at for one in survivors])
            suspected.append([moments[Kind.SUSPECTED].get(one, math.inf) - at for one in survivors])
            rows += [
                [number, victim, at, one, suspect_s, dead_s]
                for one, suspect_s, dead_s in zip(survivors, suspected[-1], dead[-1], strict=True)
            ]
            if number + 1 < setting.plan.kills:
                fleet.restart(victim)
                fleet.run(SETTLE_S)
        mistakes = count_mistakes("kill", setting, fleet)
        ran = watch.tell(fleet, f"{setting.plan.kills} kills")
    setting.records.write(
        "kill",
        setting.product.name,
        ["kill", "victim", "at_s", "survivor", "suspect_s", "dead_s"],
        rows,
    )
    everywhere = [max(each) for each in dead]
    everywhere_suspected = (
        {"suspect_p99_s": percentile([max(each) for each in suspected], 0.99)}
        if setting.product.spreads_suspicion
        else {}
    )
    return Outcome(
        measured={
            **everywhere_suspected,
            "dead_p99_s": percentile(everywhere, 0.99),
            "dead_p50_s": percentile(everywhere, 0.5),
            "dead_first_s": min(min(each) for each in dead),
            **mistakes,
        },
        ran=ran,
    )


def _first_moments(
    fleet: Fleet, key: str, began: int, survivors: set[int]
) -> Mapping[Kind, Mapping[int, float]]:
    moments: dict[Kind, dict[int, float]] = {Kind.SUSPECTED: {}, Kind.DIED: {}}
    read = began

    def everybody_knows() -> bool:
        nonlocal read
        for said in fleet.said[read:]:
            if said.subject == key and said.kind is not Kind.JOINED:
                for kind in {said.kind, Kind.SUSPECTED}:
                    moments[kind].setdefault(said.observer, said.at)
        read = len(fleet.said)
        return moments[Kind.DIED].keys() >= survivors

    # Those who never know stay infinitely late: that is a result.
    with suppress(TimedOut):
        fleet.wait(everybody_knows, DETECTION_TIMEOUT_S, "death")
    return moments


def join(setting: Setting) -> Outcome:
    """Let all agents, started and waiting, join the first one at the same moment.

    Tables are equal once every agent has told of every other; where a product has a fingerprint
    of its table, they must be equal, too.
    """
    rounds: list[list[float]] = []
    equal = True
    watch = Watch()
    for _ in range(setting.plan.join_rounds):
        fleet = Fleet(setting.product, setting.plan.peers, setting.processes, setting.chance())
        try:
            rounds.append(fleet.start())
            fleet.run(SETTLE_S)
            dumps = setting.product.dump(fleet, fleet.agents)
            equal = equal and len({dump.fingerprint for dump in dumps}) == 1
        finally:
            fleet.stop()
        ran = watch.tell(fleet, f"{setting.plan.join_rounds} rounds")
    setting.records.write(
        "join",
        setting.product.name,
        ["round", "peer", "complete_s"],
        [[number, *one] for number, each in enumerate(rounds) for one in enumerate(each)],
    )
    return Outcome(
        measured={
            "last_s": max(max(each) for each in rounds) if equal else math.inf,
            "median_s": statistics.median(value for each in rounds for value in each),
        },
        ran=ran,
    )
