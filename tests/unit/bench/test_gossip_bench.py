"""What the bench of gossip makes of the products' lines, and of its numbers."""

from __future__ import annotations

import itertools
import json
import random
import re
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import pytest

from tests.bench.gossip.fleet import Fleet, TimedOut
from tests.bench.gossip.goals import Goal, Outcome, percentile
from tests.bench.gossip.mistakes import FROZEN_S, freezes
from tests.bench.gossip.ours import Ours
from tests.bench.gossip.processes import Crashed, Process, Processes
from tests.bench.gossip.products import Agent, Dump, Kind, Said
from tests.bench.gossip.serf import Serf

SIZE = 3
AGENT = """
trap 'for other in $OTHERS; do echo joined $other; done' USR2
trap 'echo died agent-0' USR1
echo ready
[ -z "$JOIN" ] || kill -USR2 $$
while :; do sleep 0.01; done
"""


class Scripts:
    """A product whose agents are shell scripts that say what they are made to say."""

    name = "script"
    lossy: Sequence[str] = ()
    spreads_suspicion = True

    def command(self, index: int, *, join: Sequence[str]) -> list[str]:
        """Return how to start a script; it meets the others when it is told to."""
        others = " ".join(f"agent-{other}" for other in range(SIZE) if other != index)
        return ["env", f"OTHERS={others}", f"JOIN={' '.join(join)}", "sh", "-c", AGENT]

    def read(self, agent: Agent, at: float, text: str) -> Said | None:
        """Understand one of its lines."""
        if text == "ready":
            agent.key, agent.ready = f"agent-{agent.index}", True
        found = re.fullmatch(r"(joined|died) (\S+)", text)
        return Said(at, agent.index, Kind(found[1]), found[2], "") if found else None

    def join(self, agents: Sequence[Agent], seed: str) -> None:
        """Tell them."""
        assert seed
        for agent in agents:
            agent.process.signal(signal.SIGUSR2)

    def start_loads(self, agents: Sequence[Agent]) -> None:
        """There are none."""

    def stop_loads(self) -> None:
        """There are none."""

    def dump(self, fleet: Fleet, agents: Sequence[Agent]) -> list[Dump]:
        """Nothing is known."""
        return []


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Scripts that are stopped at the end."""
    with Processes(nice=0) as processes:
        yield Fleet(Scripts(), SIZE, processes, random.Random(1))


def test_a_death_is_a_mistake_unless_it_was_one(fleet: Fleet) -> None:
    """What is said of a killed agent is true until it is back, and false before and after."""
    assert len(fleet.start()) == SIZE
    assert _mistakes_after_a_lie(fleet) == 1
    fleet.kill(0)
    assert _mistakes_after_a_lie(fleet) == 1
    for other in fleet.agents[1:]:
        other.process.signal(signal.SIGUSR2)  # they welcome it once more
    fleet.restart(0)
    assert _mistakes_after_a_lie(fleet) == 2


def _mistakes_after_a_lie(fleet: Fleet) -> int:
    """Let one agent say that the first is dead; return how many such mistakes there are."""
    told = len(fleet.said)
    fleet.agents[2].process.signal(signal.SIGUSR1)
    fleet.wait(lambda: any(said.kind is Kind.DIED for said in fleet.said[told:]), 10, "lie")
    return len(fleet.mistakes(Kind.DIED))


def test_an_agent_that_ends_by_itself_ends_the_scenario(fleet: Fleet) -> None:
    """It is told with its name, and is never waited for."""
    fleet.start()
    fleet.agents[1].process.signal(signal.SIGTERM)
    with pytest.raises(Crashed, match="script-001 has ended by itself"):
        fleet.run(10)


def test_waiting_ends(fleet: Fleet) -> None:
    """What never happens is not waited for longer than was allowed."""
    fleet.start()
    with pytest.raises(TimedOut, match="no miracle within 0 s"):
        fleet.wait(lambda: False, 0.05, "miracle")


class Sleeper:
    """A process that notes its signals, and has its turn only when the machine lets it."""

    def __init__(self) -> None:
        self.naps = 0
        self.signals: list[tuple[float, signal.Signals]] = []
        self.now = 0.0

    def signal(self, number: signal.Signals) -> None:
        """Note it."""
        self.signals.append((self.now, number))


@pytest.mark.parametrize("busy_s", [0.0, 2.0])
def test_freezes_are_as_long_as_was_promised(busy_s: float) -> None:
    """Between two freezes everybody has had its turn, also where it has to wait long for one."""
    sleepers = [Sleeper() for _ in range(4)]
    actions = freezes(cast("Sequence[Process]", sleepers), random.Random(7))
    for at, act in itertools.takewhile(lambda action: action[0] < 60, actions):
        for sleeper in sleepers:
            sleeper.now = at
            resumed = [when for when, number in sleeper.signals if number is signal.SIGCONT]
            if resumed and at >= resumed[-1] + busy_s:
                sleeper.naps = len(resumed)
        act()
    for sleeper in sleepers:
        times = [when for when, _ in sleeper.signals]
        kinds = [number for _, number in sleeper.signals]
        assert len(times) > 10
        assert set(kinds[::2]) == {signal.SIGSTOP}
        assert set(kinds[1::2]) == {signal.SIGCONT}
        frozen = [end - begin for begin, end in zip(times[::2], times[1::2], strict=False)]
        awake = [end - begin for begin, end in zip(times[1::2], times[2::2], strict=False)]
        assert all(FROZEN_S[0] <= each <= FROZEN_S[1] + 1e-9 for each in frozen)
        assert all(each >= max(0.1 - 1e-9, busy_s) for each in awake)


@pytest.mark.parametrize(
    ("text", "kind", "subject"),
    [
        ("[INFO] serf: EventMemberJoin: serf-003 127.0.1.4", Kind.JOINED, "serf-003"),
        ("[INFO] serf: EventMemberFailed: serf-003 127.0.1.4", Kind.DIED, "serf-003"),
        (
            "[INFO] memberlist: Suspect serf-003 has failed, no acks received",
            Kind.SUSPECTED,
            "serf-003",
        ),
        ("[INFO] serf: EventMemberJoin: serf-001 127.0.1.2", None, ""),
        ("[INFO] agent: Received event: member-failed", None, ""),
    ],
)
def test_serf_is_understood(text: str, kind: Kind | None, subject: str) -> None:
    """Its log says who else joined, is doubted, has failed; of itself an agent says nothing."""
    agent = Agent(index=1, process=cast("Process", None))
    said = Serf("serf").read(agent, 5.0, text)
    assert (said and (said.kind, said.subject, said.at)) == (kind and (kind, subject, 5.0))


def test_our_agents_are_understood(tmp_path: Path) -> None:
    """The first line names the agent, a change is about another, a dump is an answer."""
    product, agent = Ours(tmp_path), Agent(index=1, process=cast("Process", None))
    change = {"change": "MemberSuspected", "uid": "ab", "epoch": 7, "incarnation": 2}
    lines = [{"change": "Started", "uid": "cd"}, change, {"dump": {}}, {"change": "Refuted"}]
    said = [product.read(agent, 5.0, json.dumps(line)) for line in lines]
    assert agent.ready
    assert agent.key == "cd"
    assert agent.answers == ['{"dump": {}}']
    assert said == [None, Said(5.0, 1, Kind.SUSPECTED, "ab", "ab.7.2"), None, None]
    assert product.read(agent, 5.0, "Traceback (most recent call last):") is None


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([3.0], 0.99, 3.0), ([1.0, 2.0, 3.0, 4.0], 0.5, 2.0), ([*map(float, range(100))], 0.99, 98.0)],
)
def test_percentiles_are_values_that_were_measured(
    values: list[float], share: float, expected: float
) -> None:
    """The smallest value that so many do not exceed; order does not matter."""
    assert percentile(values, share) == percentile(values[::-1], share) == expected


@pytest.mark.parametrize(
    ("outcome", "met"),
    [
        (Outcome(measured={"dead_s": 7.6}), True),
        (Outcome(measured={"dead_s": 7.7}), False),
        (Outcome(measured={"dead_s": float("inf")}), False),
        (Outcome(measured={}), False),
        (Outcome(measured={"dead_s": 1.0}, failed="it broke"), False),
    ],
)
def test_only_what_was_measured_is_met(outcome: Outcome, met: bool) -> None:
    """A scenario that failed, or a number that is missing, keeps no promise."""
    goal = Goal(scenario="kill", measure="dead_s", title="dead", at_most=7.6)
    assert goal.met(outcome) is met
