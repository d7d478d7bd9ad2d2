"""What to do next about machines that are ordered, boot, never join, or are to go: a pure decision.

Every round looks at everything anew (claims, machines, nodes) and says, for each name, the one
next step: claim it, order the machine, adopt a dead leader's claim, destroy what never joined,
release the claim. There is no script that runs from start to end and must survive its leader:
whoever leads next sees the same three lists and goes on from there. A state machine kept in a store
was rejected, because the provider's own list is the truth about what costs money, whatever a store
may say.

Three rules hold it together:

1. Only who holds a name's claim creates or destroys its machine, and it looks at the claim right
   before (`View.intents` is listed last).
2. What another leader began may still take effect for `settle_s`: no longer, because no call to a
   provider lasts longer. So whoever adopts a claim does nothing under it before that.
3. Time is counted in looks. While the orchestrator is in trouble, or this process stood still,
   nobody could see a node join, so no machine grows older by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from scaling.backoff import Backoff
from scaling.decision import Reason
from scaling.intents import Intent
from scaling.ports import Machine
from scaling.snapshot import Node, NodeState

LOOK_MAX_S = 30.0
"""The longest time that one look counts for: after a longer gap, most of it was not watched."""

_UNSEEN_S = -LOOK_MAX_S
"""The age of an adoption that was tried: the look that first sees it makes that 0."""

JOINED = frozenset(
    {
        NodeState.STANDBY,
        NodeState.READY,
        NodeState.CORDONED,
        NodeState.EMPTYING,
        NodeState.EMPTY,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpkeepRules:
    """The limits.

    Args:
        pool: Machines are called `<pool>-<slot>`; of others nothing is created or destroyed.
        machines_max: Nothing is created while there are so many.
        boot_timeout_s: Who has not joined by then never will.
        settle_s: How much later than a look at the claims a call to the provider that follows from
            it may take effect, and be seen: the time-outs of both, and how far the provider's list
            lags behind.
        parallel: How many machines are ordered in one round at most.
    """

    pool: str
    machines_max: int
    boot_timeout_s: float
    settle_s: float
    parallel: int = 4

    def names(self, name: str) -> bool:
        """Whether a machine of this name belongs to the pool."""
        return re.fullmatch(rf"{re.escape(self.pool)}-[0-9]{{1,4}}", name) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What was seen, in this order: nodes, machines, intents.

    Args:
        term: Of the leader that looks.
        nodes: As the orchestrator says; several may have one name after a machine was replaced.
        trouble: Why the orchestrator cannot be trusted now; empty when it can.
    """

    now_s: float
    term: int
    nodes: tuple[Node, ...]
    machines: tuple[Machine, ...]
    intents: tuple[Intent, ...]
    trouble: str = ""


@dataclass(frozen=True, slots=True)
class Claim:
    """Claim a name."""

    name: str


@dataclass(frozen=True, slots=True)
class Adopt:
    """Take over the claim of a leader whose term is over."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class Create:
    """Order the machine, under a claim that was seen a moment ago."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class Destroy:
    """Give the machine back, under a claim that was seen a moment ago."""

    intent: Intent


@dataclass(frozen=True, slots=True)
class Release:
    """Give the claim up: all is done."""

    intent: Intent


Step = Claim | Adopt | Create | Destroy | Release
_Goal = Callable[[Intent], Step | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one leader remembers from look to look; a new leader begins with none of it.

    Args:
        at_s: When it looked last; None before the first look, and after trouble.
        unjoined_s: For how long each machine without a node has been watched.
        stopped_s: For how long each of them has been DOWN.
        ordered_s: How old each order of this leader is that has not joined.
        adopted_s: For how long this leader has been seen to hold each claim that it adopted.
        doomed: Names whose machines are to go.
        create_after_s, destroy_after_s: When a call may be repeated, by name, on the clock.
    """

    at_s: float | None = None
    unjoined_s: Mapping[str, float] = field(default_factory=dict)
    stopped_s: Mapping[str, float] = field(default_factory=dict)
    ordered_s: Mapping[str, float] = field(default_factory=dict)
    adopted_s: Mapping[str, float] = field(default_factory=dict)
    doomed: frozenset[str] = frozenset()
    create_after_s: Mapping[str, float] = field(default_factory=dict)
    destroy_after_s: Mapping[str, float] = field(default_factory=dict)
    backoff: Backoff = field(default_factory=Backoff)

    def ordering(self, name: str) -> Memory:
        """With one order more; an order that stands keeps its age."""
        return replace(self, ordered_s={name: 0.0, **self.ordered_s})

    def dooming(self, name: str) -> Memory:
        """With a machine that is to go; an order for it is forgotten."""
        return replace(self, doomed=self.doomed | {name}, ordered_s=_without(self.ordered_s, name))

    def created(self, name: str, now_s: float, rules: UpkeepRules) -> Memory:
        """After the provider took an order."""
        return replace(self, create_after_s={**self.create_after_s, name: now_s + rules.settle_s})

    def create_failed(self, name: str, now_s: float, why: str, rules: UpkeepRules) -> Memory:
        """After an order that failed, or may have."""
        backoff = self.backoff.failed(now_s, why)
        after_s = max(backoff.until_s, now_s + rules.settle_s)
        return replace(self, backoff=backoff, create_after_s={**self.create_after_s, name: after_s})

    def create_refused(self, name: str, now_s: float, why: str) -> Memory:
        """After an order that certainly was not taken, and never will be."""
        backoff = self.backoff.failed(now_s, why)
        return replace(self, backoff=backoff, ordered_s=_without(self.ordered_s, name))

    def destroyed(self, name: str, now_s: float, rules: UpkeepRules) -> Memory:
        """After a call to give a machine back, however it went."""
        after_s = {**self.destroy_after_s, name: now_s + rules.settle_s}
        return replace(self, destroy_after_s=after_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What `upkeep` answers.

    Args:
        steps: At most one for each name; they do not depend on each other.
        booting: Names on their way, and for how long: these count as capacity to come.
        findings: What a person may want to know.
    """

    steps: tuple[Step, ...]
    memory: Memory
    booting: Mapping[str, float]
    findings: tuple[Reason, ...]


def upkeep(view: View, memory: Memory, rules: UpkeepRules) -> Round:
    """Decide the next step for every name."""
    if view.trouble:
        blind = replace(memory, at_s=None, unjoined_s={}, stopped_s={}, adopted_s=_zeroed(memory))
        held = Reason(code="trouble", text=f"machines are left alone: {view.trouble}")
        return Round(steps=(), memory=blind, booting={}, findings=(held,))
    if (later := max((intent.term for intent in view.intents), default=0)) > view.term:
        # Whoever leads now decides anew; a wish of ours that survived would undo theirs.
        over = Reason(code="superseded", text=f"term {later} has claimed: this one is over")
        return Round(steps=(), memory=Memory(), booting={}, findings=(over,))
    memory = _older(view, memory)
    room = min(rules.parallel, rules.machines_max - len({m.name for m in view.machines}))
    desk = _Desk(view, memory, rules, room=room)
    names = {
        *(intent.name for intent in view.intents),
        *(machine.name for machine in view.machines),
        *memory.ordered_s,
        *memory.doomed,
    }
    steps = [step for name in sorted(names) if (step := desk.next_step(name)) is not None]
    return Round(
        steps=tuple(steps),
        memory=desk.memory,
        booting=_booting(view, desk.memory, rules),
        findings=(*desk.findings, *_strangers(view, rules)),
    )


class _Desk:
    """One round: goes through the names, and notes what changes."""

    def __init__(self, view: View, memory: Memory, rules: UpkeepRules, *, room: int) -> None:
        self._view, self._rules, self._room = view, rules, room
        self.memory = memory
        self.findings: list[Reason] = []
        self._intents = {intent.name: intent for intent in view.intents}
        self._machines = {machine.name: machine for machine in view.machines}
        self._joined = _joined(view)
        self._known = {node.name for node in view.nodes}

    def next_step(self, name: str) -> Step | None:
        """What brings the name nearer to its goal; None when there is nothing to do, or to wait."""
        intent = self._intents.get(name)
        if not self._rules.names(name):
            return None
        goal = self._goal(name, intent)
        return None if goal is None else self._toward(name, intent, goal)

    def _goal(self, name: str, intent: Intent | None) -> _Goal | None:
        if name in self._joined and name not in self.memory.doomed:
            self._note_joined(name)
        elif name in self._machines:
            return self._destroy if self._is_to_go(name, intent) else None
        elif name in self.memory.ordered_s:
            return self._create
        else:
            self.memory = replace(self.memory, doomed=self.memory.doomed - {name})
        return None if intent is None else self._give_up

    def _note_joined(self, name: str) -> None:
        if name in self.memory.ordered_s:
            ordered_s = _without(self.memory.ordered_s, name)
            self.memory = replace(self.memory, ordered_s=ordered_s, backoff=Backoff())
        if name not in self._machines:
            self._find("no_machine", f"{name} has joined, and its provider does not list it")

    def _is_to_go(self, name: str, intent: Intent | None) -> bool:
        """Whether a machine that has not joined (or is doomed) must be destroyed."""
        memory, rules = self.memory, self._rules
        if name in memory.doomed:
            return True
        if name in self._known and intent is None:
            return False  # it had joined, and is down: whoever decides about nodes decides on it
        stopped_s = memory.stopped_s.get(name, 0.0)
        if stopped_s >= rules.settle_s:
            self._fail(name, "boot_failed", f"{name} has stopped before it joined")
        elif memory.unjoined_s.get(name, 0.0) >= rules.boot_timeout_s:
            limit_s = rules.boot_timeout_s
            self._fail(name, "boot_timeout", f"{name} has not joined within {limit_s:g} s")
        else:
            return False
        return True

    def _toward(self, name: str, intent: Intent | None, goal: _Goal) -> Step | None:
        """Get the claim, wait until what others began has settled, then act."""
        if intent is None:
            return Claim(name)
        if intent.term < self._view.term:
            adopted_s = {**self.memory.adopted_s, name: _UNSEEN_S}
            self.memory = replace(self.memory, adopted_s=adopted_s)
            self._find("adopted", f"{name} was claimed under term {intent.term}, which is over")
            return Adopt(intent)
        if self.memory.adopted_s.get(name, self._rules.settle_s) < self._rules.settle_s:
            return None
        return goal(intent)

    def _destroy(self, intent: Intent) -> Step | None:
        if self._view.now_s < self.memory.destroy_after_s.get(intent.name, 0.0):
            return None
        return Destroy(intent)

    def _create(self, intent: Intent) -> Step | None:
        name, memory, rules = intent.name, self.memory, self._rules
        if self._view.now_s < memory.create_after_s.get(name, 0.0):
            return None
        waits = memory.backoff.waits(self._view.now_s)
        if memory.ordered_s[name] >= rules.boot_timeout_s:
            self.memory = self.memory.dooming(name)
            if not waits:  # else its failure is one that was counted already
                limit_s = rules.boot_timeout_s
                self._fail(name, "order_timeout", f"{name} has not appeared within {limit_s:g} s")
            return Release(intent)
        if waits:
            return None
        if self._room <= 0:
            self._find("machines_max", f"{name} has to wait: there are as many machines as may be")
            return None
        self._room -= 1
        return Create(intent)

    def _give_up(self, intent: Intent) -> Step | None:
        """Release the claim, unless a call that was made under it may still take effect."""
        if self._view.now_s < self.memory.create_after_s.get(intent.name, 0.0):
            return None
        return Release(intent)

    def _fail(self, name: str, code: str, text: str) -> None:
        """A boot that failed is found once, though it takes some rounds to clear it away."""
        self.memory = replace(
            self.memory.dooming(name), backoff=self.memory.backoff.failed(self._view.now_s, text)
        )
        self._find(code, text)

    def _find(self, code: str, text: str) -> None:
        self.findings.append(Reason(code=code, text=text))


def _older(view: View, memory: Memory) -> Memory:
    """Count the time since the last look, for what is still there."""
    since_s = 0.0 if memory.at_s is None else min(view.now_s - memory.at_s, LOOK_MAX_S)
    joined = _joined(view)
    unjoined = {machine.name for machine in view.machines} - joined
    stopped = {m.name for m in view.machines if m.state is NodeState.DOWN} & unjoined
    mine = {intent.name for intent in view.intents if intent.term == view.term}
    return replace(
        memory,
        at_s=view.now_s,
        unjoined_s=_aged(memory.unjoined_s, unjoined, since_s),
        stopped_s=_aged(memory.stopped_s, stopped, since_s),
        ordered_s={name: age_s + since_s for name, age_s in memory.ordered_s.items()},
        adopted_s={
            name: max(0.0, age_s + since_s)
            for name, age_s in memory.adopted_s.items()
            if name in mine
        },
        create_after_s=_pending(memory.create_after_s, view.now_s),
        destroy_after_s=_pending(memory.destroy_after_s, view.now_s),
    )


def _aged(ages_s: Mapping[str, float], names: set[str], since_s: float) -> dict[str, float]:
    return {name: ages_s[name] + since_s if name in ages_s else 0.0 for name in sorted(names)}


def _pending(times_s: Mapping[str, float], now_s: float) -> dict[str, float]:
    return {name: time_s for name, time_s in times_s.items() if time_s > now_s}


def _zeroed(memory: Memory) -> dict[str, float]:
    return dict.fromkeys(memory.adopted_s, 0.0)


def _without(mapping: Mapping[str, float], name: str) -> dict[str, float]:
    return {key: value for key, value in mapping.items() if key != name}


def _joined(view: View) -> set[str]:
    return {node.name for node in view.nodes if node.state in JOINED}


def _booting(view: View, memory: Memory, rules: UpkeepRules) -> dict[str, float]:
    """Machines without a node, and orders without a machine, except what is to go or a stranger."""
    known = {node.name for node in view.nodes}
    on_their_way = {
        name: age_s
        for name, age_s in {**memory.ordered_s, **memory.unjoined_s}.items()
        if rules.names(name)
        and name not in memory.doomed
        and (name not in known or name in memory.ordered_s)
    }
    return dict(sorted(on_their_way.items()))


def _strangers(view: View, rules: UpkeepRules) -> Iterator[Reason]:
    """Machines that the provider counts as ours, and whose names we would never have given."""
    for machine in view.machines:
        if not rules.names(machine.name):
            text = f"{machine.name} is none of the pool {rules.pool}: it is left alone"
            yield Reason(code="stranger", text=text)
