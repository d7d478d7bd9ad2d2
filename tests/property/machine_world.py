"""A provider, an orchestrator's claims and nodes, and leaders that share them, on a heap of events.

Every call takes effect at some moment after it was made and is answered at a later one; in
between, anything may happen: another leader's call, an error, the caller's death. What a dead
leader has sent still takes effect. There is no trio here: the coroutines under test are resumed by
hand, so one seed is one run.
"""

from __future__ import annotations

import heapq
import itertools
import random
import types
from collections.abc import Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any

from scaling.creating import Creator
from scaling.intents import Intent
from scaling.ports import Machine, OrchestratorUnavailable, ProviderFailed
from scaling.snapshot import Node, NodeState
from scaling.upkeep import UpkeepRules

POOL = "pool"
CALL_MAX_S = 20.0
RULES = UpkeepRules(
    pool=POOL,
    machines_max=6,
    boot_timeout_s=300.0,
    # A look at the claims, the provider's own look, and its call.
    settle_s=3 * CALL_MAX_S + 1,
)


@dataclass(frozen=True, slots=True)
class _Call:
    effect: Callable[[], Any]
    failure: type[Exception]


@dataclass(frozen=True, slots=True)
class _Sleep:
    seconds: float


@dataclass(frozen=True, slots=True)
class _Together:
    coroutines: Sequence[Coroutine[Any, Any, Any]]


@types.coroutine
def _ask(request: Any) -> Generator[Any, Any, Any]:
    return (yield request)


@dataclass(slots=True)
class Body:
    """A machine that exists."""

    name: str
    joins_at: float


@dataclass(slots=True)
class Chances:
    """How often what goes wrong."""

    error: float = 0.1
    never_joins: float = 0.2
    crash: float = 0.02


@dataclass(slots=True)
class World:
    """Everything that is outside of the leaders."""

    rng: random.Random
    wanted: int = 0
    chances: Chances = field(default_factory=Chances)
    rules: UpkeepRules = RULES
    now_s: float = 0.0
    bodies: dict[int, Body] = field(default_factory=dict)
    ghosts: dict[str, float] = field(default_factory=dict)
    claims: dict[str, tuple[int, int]] = field(default_factory=dict)
    wanted_most: int = 0
    created: int = 0
    crashes: int = 0
    _heap: list[tuple[float, int, Callable[[], None]]] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count)
    _terms: Any = field(default_factory=lambda: itertools.count(1))

    def want(self, count: int) -> None:
        """So many machines are wanted from now on."""
        self.wanted = count
        self.wanted_most = max(self.wanted_most, count)

    # The provider

    async def list_machines(self) -> list[Machine]:
        """What there is at one moment."""

        def effect() -> list[Machine]:
            return [Machine(name=b.name, state=NodeState.BOOTING) for b in self.bodies.values()]

        machines: list[Machine] = await self._call(effect, ProviderFailed)
        return machines

    async def create(self, name: str) -> None:
        """As providers do it: look, then order. In between nobody holds anything."""

        def effect() -> None:
            never = self.rng.random() < self.chances.never_joins
            joins_at = float("inf") if never else self.now_s + self.rng.uniform(1, 180)
            self.bodies[next(self._numbers)] = Body(name, joins_at)
            self.created += 1
            self.check()

        if not any(machine.name == name for machine in await self.list_machines()):
            await self._call(effect, ProviderFailed)

    async def destroy(self, name: str) -> None:
        """All of that name; their node is believed to live for a while."""

        def effect() -> None:
            for number, body in list(self.bodies.items()):
                if body.name == name:
                    del self.bodies[number]
                    if body.joins_at <= self.now_s:
                        self.ghosts[name] = self.now_s + self.rng.uniform(0, 15)

        await self._call(effect, ProviderFailed)

    # The orchestrator

    def nodes(self) -> list[Node]:
        """Those that have joined, and those that have died a moment ago."""
        self.ghosts = {name: until for name, until in self.ghosts.items() if until > self.now_s}
        joined = {b.name for b in self.bodies.values() if b.joins_at <= self.now_s}
        return [
            Node(name=name, state=NodeState.READY, since_s=0.0, capacity=4)
            for name in sorted(joined | set(self.ghosts))
        ]

    async def observe(self) -> list[Node]:
        """The nodes, at one moment."""
        nodes: list[Node] = await self._call(self.nodes, OrchestratorUnavailable)
        return nodes

    async def list_claims(self) -> list[Intent]:
        """All claims at one moment."""

        def effect() -> list[Intent]:
            return [
                Intent(name=name, term=term, version=str(version))
                for name, (term, version) in self.claims.items()
            ]

        claims: list[Intent] = await self._call(effect, OrchestratorUnavailable)
        return claims

    async def claim(self, name: str, *, term: int) -> bool:
        """Create if absent."""

        def effect() -> bool:
            if name in self.claims:
                return False
            self.claims[name] = (term, next(self._numbers))
            return True

        return bool(await self._call(effect, OrchestratorUnavailable))

    async def adopt(self, intent: Intent, *, term: int) -> bool:
        """Compare and set."""

        def effect() -> bool:
            if self.claims.get(intent.name) != (intent.term, int(intent.version)):
                return False
            self.claims[intent.name] = (term, next(self._numbers))
            return True

        return bool(await self._call(effect, OrchestratorUnavailable))

    async def release(self, intent: Intent) -> bool:
        """Compare and remove."""

        def effect() -> bool:
            if self.claims.get(intent.name) != (intent.term, int(intent.version)):
                return False
            del self.claims[intent.name]
            return True

        return bool(await self._call(effect, OrchestratorUnavailable))

    # Leaders

    def lead(self) -> None:
        """Start a leader with a term of its own; when it dies, another one follows."""
        alive = [True]
        creator = Creator(
            _Provider(self),
            _Claims(self),
            self.rules,
            term=next(self._terms),
            may_act=lambda: True,
            clock=lambda: self.now_s,
        )
        self._resume(self._leading(creator), alive, None)

    async def _leading(self, creator: Creator) -> None:
        while True:
            try:
                nodes = await self.observe()
                view = await creator.look(nodes)
            except (ProviderFailed, OrchestratorUnavailable):
                await _ask(_Sleep(self._pause_s()))
                continue
            self._want(creator, {node.name for node in nodes})
            decided = creator.decide(view)
            await _ask(_Together([creator.carry_out(step) for step in decided.steps]))
            await _ask(_Sleep(self._pause_s()))

    def _pause_s(self) -> float:
        return self.rng.choice([0.1, self.rng.uniform(1, 10)])

    def _want(self, creator: Creator, joined: set[str]) -> None:
        """A policy: the lowest names, as many as are wanted."""
        names = [f"{POOL}-{number}" for number in range(1, self.wanted + 1)]
        for name in names:
            if name not in joined:
                creator.order(name)
        for name in sorted(joined - set(names)):
            creator.remove(name)

    # The heap

    def run(self, seconds: float) -> None:
        """Let time pass."""
        until_s = self.now_s + seconds
        while self._heap and self._heap[0][0] <= until_s:
            self.now_s, _, event = heapq.heappop(self._heap)
            event()
        self.now_s = until_s

    def check(self) -> None:
        """What must hold at every moment."""
        names = [body.name for body in self.bodies.values()]
        assert len(names) == len(set(names)), f"{self.now_s}: two machines of one name: {names}"
        assert len(names) <= self.wanted_most, f"{self.now_s}: too many machines: {names}"

    async def _call(self, effect: Callable[[], Any], failure: type[Exception]) -> Any:
        return await _ask(_Call(effect, failure))

    def _at(self, time_s: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (time_s, next(self._numbers), event))

    def _resume(
        self,
        coroutine: Coroutine[Any, Any, Any],
        alive: list[bool],
        value: Any,
        ended: Callable[[], None] | None = None,
    ) -> None:
        """Go on until the next request, unless its leader has died."""
        if not alive[0]:
            coroutine.close()
            return
        try:
            if isinstance(value, Exception):
                request = coroutine.throw(value)
            else:
                request = coroutine.send(value)
        except StopIteration:
            if ended is not None:
                ended()
            return
        if isinstance(request, _Call) and self.rng.random() < self.chances.crash:
            self._die(alive)
        self._serve(request, lambda answer: self._resume(coroutine, alive, answer, ended), alive)

    def _serve(self, request: Any, answer: Callable[[Any], None], alive: list[bool]) -> None:
        match request:
            case _Call():
                self._serve_call(request, answer)
            case _Sleep(seconds):
                self._at(self.now_s + seconds, lambda: answer(None))
            case _Together([]):
                self._at(self.now_s, lambda: answer(None))
            case _Together(coroutines):
                left = [len(coroutines)]

                def one_ended() -> None:
                    left[0] -= 1
                    if not left[0]:
                        answer(None)

                for coroutine in coroutines:
                    self._resume(coroutine, alive, None, one_ended)

    def _serve_call(self, call: _Call, answer: Callable[[Any], None]) -> None:
        """It takes effect, or not; then it is answered, or not."""
        takes_s = self.rng.choice([0.1, self.rng.uniform(0, 1), self.rng.uniform(0, CALL_MAX_S)])
        effect_s = self.rng.choice([0.0, self.rng.uniform(0, takes_s), takes_s])
        fails = self.rng.random() < self.chances.error
        lost = fails and self.rng.random() < 0.5
        result: list[Any] = [call.failure("it went wrong")]

        def happen() -> None:
            value = call.effect()
            if not fails:
                result[0] = value

        if not lost:
            self._at(self.now_s + effect_s, happen)
        self._at(self.now_s + takes_s, lambda: answer(result[0]))

    def _die(self, alive: list[bool]) -> None:
        if alive[0]:
            alive[0] = False
            self.crashes += 1
            self._at(self.now_s + self.rng.choice([0.1, self.rng.uniform(0, 60)]), self.lead)


class _Provider:
    def __init__(self, world: World) -> None:
        self.list = world.list_machines
        self.create = world.create
        self.destroy = world.destroy


class _Claims:
    def __init__(self, world: World) -> None:
        self.list = world.list_claims
        self.claim = world.claim
        self.adopt = world.adopt
        self.release = world.release
