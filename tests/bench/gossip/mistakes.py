"""Whether anybody is called dead who is not: packets lost, processors hogged, peers frozen.

A false DEAD is counted once for each agent that says so. A false SUSPECT is counted once for each
suspicion: serf's agents each have their own, ours hear of one and the same.
"""

from __future__ import annotations

import heapq
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter

from tests.bench.gossip.fleet import Action, Fleet
from tests.bench.gossip.goals import Outcome, percentile
from tests.bench.gossip.namespace import losing, require
from tests.bench.gossip.processes import Process
from tests.bench.gossip.products import Kind
from tests.bench.gossip.setting import SETTLE_S, Setting, Watch

LOSS = 0.3
FROZEN_SHARE = 0.1
FROZEN_S = (1.0, 5.0)
AWAKE_S = (0.1, 0.5)
TURN_S = 0.05
BURNERS_PER_PROCESSOR = 2
HOG_NICE = 19
HOGS = f"an ffmpeg at nice {HOG_NICE} and {BURNERS_PER_PROCESSOR} burners for each processor"


def loss30(setting: Setting) -> Outcome:
    """Lose 30 % of everything that arrives; with serf, of its TCP, too."""
    with setting.fleet() as fleet:
        watch = Watch()
        with losing(LOSS, setting.product.lossy):
            fleet.run(setting.plan.loss30_s)
        return _outcome("loss30", setting, fleet, watch, extra="+".join(setting.product.lossy))


def hogged(setting: Setting) -> Outcome:
    """Keep every processor busy: with an ffmpeg at nice 19 each, and two burners at nice 0 each."""
    with setting.fleet() as fleet:
        before = _lateness(setting, fleet)
        watch = Watch()
        with _hogs(setting):
            fleet.run(setting.plan.hogged_s)
            late = _lateness(setting, fleet)
        late.subtract(before)
        outcome = _outcome("hogged", setting, fleet, watch, extra=HOGS)
    if late.total() == 0:
        return outcome
    setting.records.write("lag", setting.product.name, ["at_most_s", "times"], sorted(late.items()))
    measured = {
        **outcome.measured,
        "lag_p999_ms": 1000 * percentile(sorted(late.elements()), 0.999),
    }
    return Outcome(measured=measured, ran=outcome.ran)


def _lateness(setting: Setting, fleet: Fleet) -> Counter[float]:
    late: Counter[float] = Counter()
    for dump in setting.product.dump(fleet, fleet.agents):
        late.update(dump.late)
    return late


@contextmanager
def _hogs(setting: Setting) -> Iterator[None]:
    ffmpeg = [require("ffmpeg", "ffmpeg"), "-nostdin", "-v", "error", "-f", "lavfi"]
    endless = ["-i", "testsrc2=size=1280x720:rate=30", "-c:v", "libx264", "-f", "null", "-"]
    burner = [sys.executable, "-S", "-c", "while True: pass"]
    hogs = []
    try:
        for number in range(os.cpu_count() or 1):
            encoder = setting.processes.start(
                f"ffmpeg-{number}", [*ffmpeg, *endless], nice=HOG_NICE
            )
            hogs.append(encoder)
            for _ in range(BURNERS_PER_PROCESSOR):
                hogs.append(setting.processes.start(f"burner-{number}", burner))
        yield
    finally:
        setting.processes.stop(hogs)


def freeze(setting: Setting) -> Outcome:
    """Stop a tenth of the agents for 1 to 5 s each, let them run for 0.1 to 0.5 s, and again."""
    chance = setting.chance()
    seconds = setting.plan.freeze_s
    with setting.fleet() as fleet:
        victims = chance.sample(fleet.agents, max(1, round(FROZEN_SHARE * fleet.size)))
        watch = Watch()
        fleet.run(seconds, freezes([agent.process for agent in victims], chance))
        for victim in victims:
            victim.process.signal(signal.SIGCONT)
        # What is said of the last freezes.
        fleet.run(SETTLE_S)
        return _outcome("freeze", setting, fleet, watch, extra=f"{len(victims)} of them")


def freezes(victims: Sequence[Process], chance: random.Random) -> Iterator[Action]:
    """Say whom to stop and to resume, and when, without end.

    On a busy machine a victim may not have had its turn until it is to be stopped again. It is
    then stopped as soon as it has had it: two freezes in a row would be longer than was promised.
    """
    # Each has a generator of its own, so that a delay of one changes nothing for the others.
    draws = [random.Random(chance.random()) for _ in victims]
    naps = [-1] * len(victims)
    queue = [(draw.uniform(0, FROZEN_S[1]), number, True) for number, draw in enumerate(draws)]
    heapq.heapify(queue)

    def act() -> None:
        at, number, awake = heapq.heappop(queue)
        victim, draw = victims[number], draws[number]
        if awake and victim.naps == naps[number]:
            heapq.heappush(queue, (at + TURN_S, number, True))
        elif awake:
            victim.signal(signal.SIGSTOP)
            heapq.heappush(queue, (at + draw.uniform(*FROZEN_S), number, False))
        else:
            naps[number] = victim.naps
            victim.signal(signal.SIGCONT)
            heapq.heappush(queue, (at + draw.uniform(*AWAKE_S), number, True))

    while True:
        yield queue[0][0], act


def _outcome(
    scenario: str, setting: Setting, fleet: Fleet, watch: Watch, extra: str = ""
) -> Outcome:
    return Outcome(measured=count_mistakes(scenario, setting, fleet), ran=watch.tell(fleet, extra))


def count_mistakes(scenario: str, setting: Setting, fleet: Fleet) -> Mapping[str, float]:
    """Count what was said of agents that were not dead, and write it down."""
    dead, suspect = fleet.mistakes(Kind.DIED), fleet.mistakes(Kind.SUSPECTED)
    places = {agent.key: agent.index for agent in fleet.agents}
    setting.records.write(
        f"{scenario}-mistakes",
        setting.product.name,
        ["at_s", "observer", "said", "subject", "place", "episode"],
        [
            [said.at, said.observer, said.kind.value, said.subject, place, said.episode]
            for said in sorted([*dead, *suspect], key=attrgetter("at"))
            for place in [places.get(said.subject, "")]
        ],
    )
    return {
        "false_dead": len(dead),
        "falsely_dead_peers": len({said.subject for said in dead}),
        "false_suspect": len({said.episode for said in suspect}),
        "falsely_suspected_peers": len({said.subject for said in suspect}),
    }
