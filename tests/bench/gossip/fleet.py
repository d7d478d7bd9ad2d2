"""A cluster of one product's agents: brought up, watched, hurt and mended."""

from __future__ import annotations

import math
import random
import signal
import time
from collections.abc import Callable, Iterable, Sequence

from tests.bench.gossip.namespace import address
from tests.bench.gossip.processes import Processes
from tests.bench.gossip.products import Agent, Kind, Product, Said

START_TIMEOUT_S = 180.0
JOIN_TIMEOUT_S = 120.0
ANSWER_TIMEOUT_S = 60.0
SEEDS = 3

Action = tuple[float, Callable[[], None]]
"""What to do, and how many seconds after the beginning."""


class TimedOut(Exception):
    """What a scenario waited for has not come."""


class Fleet:
    """The agents of one product, one per address.

    Args:
        rng: Draws which agents a restarted one asks to let it in.
    """

    def __init__(
        self, product: Product, size: int, processes: Processes, rng: random.Random
    ) -> None:
        self.product = product
        self.size = size
        self.agents: list[Agent] = []
        self.said: list[Said] = []
        self._processes = processes
        self._rng = rng
        self._away: dict[str, list[tuple[float, float]]] = {}
        self._met: list[set[str]] = [set() for _ in range(size)]
        self._met_at = [0.0] * size

    def start(self) -> list[float]:
        """Start the agents, wait until all are ready, and let them join the first one at once.

        Returns:
            How long each took to know all others, in seconds from the word to join.

        Raises:
            TimedOut: Some never were ready, or never knew all others.
        """
        self.agents = [self._spawn(index, join=()) for index in range(self.size)]
        self.wait(lambda: all(agent.ready for agent in self.agents), START_TIMEOUT_S, "start")
        began = time.monotonic()
        self.product.join(self.agents, address(0))
        self.wait(self._all_met, JOIN_TIMEOUT_S, "join")
        return [at - began for at in self._met_at]

    def start_among(self, seed: str, strangers: int) -> None:
        """Start one agent that joins others who are no agents of this fleet.

        Raises:
            TimedOut: It does not come to know so many of them.
        """
        self.agents = [self._spawn(0, join=[seed])]
        self.wait(lambda: len(self._met[0]) >= strangers, JOIN_TIMEOUT_S, "join")

    def _all_met(self) -> bool:
        return all(len(met) >= self.size - 1 for met in self._met)

    def stop(self) -> None:
        """Kill all agents."""
        self._processes.stop([agent.process for agent in self.agents])
        self.agents = []

    def kill(self, index: int) -> float:
        """Kill an agent as `kill -9` does, and return when."""
        agent = self.agents[index]
        at = time.monotonic()
        self._processes.stop([agent.process])
        self._away.setdefault(agent.key, []).append((at, math.inf))
        return at

    def restart(self, index: int) -> None:
        """Start a killed agent again at its address, and wait until it and all others have met.

        Raises:
            TimedOut: They have not.
        """
        others = [agent.index for agent in self.agents if agent.index != index]
        seeds = self._rng.sample(others, min(SEEDS, len(others)))
        began = len(self.said)
        self._met[index] = set()
        agent = self._spawn(index, join=[address(seed) for seed in seeds])
        self.agents[index] = agent

        def met() -> bool:
            welcomed = {
                said.observer
                for said in self.said[began:]
                if said.kind is Kind.JOINED and said.subject == agent.key
            }
            return bool(agent.key) and welcomed >= set(others) and self._knows_all(agent)

        self.wait(met, JOIN_TIMEOUT_S, f"rejoin of {agent.process.name}")
        if agent.key in self._away:
            # It is called what it was called before, and is to be alive from now on.
            killed_at, _ = self._away[agent.key].pop()
            self._away[agent.key].append((killed_at, time.monotonic()))

    def _knows_all(self, agent: Agent) -> bool:
        return self._met[agent.index] >= {other.key for other in self.agents} - {agent.key}

    def run(self, seconds: float, actions: Iterable[Action] = ()) -> None:
        """Listen for so long, and act when it is time to; actions come in order."""
        began = time.monotonic()
        for after_s, action in actions:
            if after_s > seconds:
                break
            self._listen_until(began + after_s)
            action()
        self._listen_until(began + seconds)

    def _listen_until(self, deadline: float) -> None:
        while (left_s := deadline - time.monotonic()) > 0:
            self._listen(left_s)

    def wait(self, happened: Callable[[], bool], timeout_s: float, what: str) -> None:
        """Listen until something is true.

        Raises:
            TimedOut: It has not become true in time.
        """
        deadline = time.monotonic() + timeout_s
        while not happened():
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                raise TimedOut(f"{self.product.name}: no {what} within {timeout_s:.0f} s")
            self._listen(min(left_s, 1.0))

    def ask(self, agents: Sequence[Agent], question: signal.Signals) -> list[str]:
        """Send a signal to which each agent answers with one line, and return the lines.

        Raises:
            TimedOut: One does not answer.
        """
        for agent in agents:
            agent.answers.clear()
            agent.process.signal(question)
        self.wait(lambda: all(agent.answers for agent in agents), ANSWER_TIMEOUT_S, "answer")
        return [agent.answers.pop() for agent in agents]

    def mistakes(self, kind: Kind) -> list[Said]:
        """What was said of agents that were running, or only frozen."""
        return [
            said
            for said in self.said
            if said.kind is kind
            and not any(
                killed_at <= said.at <= back_at
                for killed_at, back_at in self._away.get(said.subject, ())
            )
        ]

    def _spawn(self, index: int, *, join: Sequence[str]) -> Agent:
        name = f"{self.product.name}-{index:03d}"
        process = self._processes.start(name, self.product.command(index, join=join))
        return Agent(index=index, process=process)

    def _listen(self, timeout_s: float) -> None:
        by_process = {agent.process: agent for agent in self.agents}
        for line in self._processes.listen(timeout_s):
            agent = by_process.get(line.process)
            if agent is None:
                continue
            said = self.product.read(agent, line.at, line.text)
            if said is None:
                continue
            self.said.append(said)
            if said.kind is Kind.JOINED and said.subject not in self._met[agent.index]:
                self._met[agent.index].add(said.subject)
                self._met_at[agent.index] = said.at
