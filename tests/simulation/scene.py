"""A stage for named scenarios: a formed cluster, what is done to it, and what was said meanwhile.

A scenario reads as its story: `scene.formed()`, something happens, `scene.run(…)`, and what must
be true. Every rule of `checkers.py` is watched all the while.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from gossip.messages import Keys
from gossip.rows import Row, State
from membership.changes import Change
from membership.config import MembershipConfig
from tests.simulation.checkers import every_rule
from tests.simulation.host import Host
from tests.simulation.network import Fault, Weather
from tests.simulation.settled import rows, tables_differ
from tests.simulation.world import Checker, MakeCore, Violation, World, real_core


class Diary(Checker):
    """Every change that any core told of, with when and who."""

    def __init__(self) -> None:
        self.entries: list[tuple[float, Host, Change]] = []

    def changed(self, world: World, host: Host, change: Change) -> None:
        self.entries.append((world.now, host, change))


class Scene:
    """A cluster in a scenario.

    Args:
        size: How many hosts there are at first.
        seed: Another one gives another run of the same story.
        rules: The rules that are watched; default: all.
        make_core: What runs on the hosts; default: what runs in production.
    """

    def __init__(
        self,
        size: int,
        *,
        seed: int = 1,
        weather: Weather | None = None,
        config: MembershipConfig | None = None,
        keys: Keys | None = None,
        rules: Sequence[Checker] | None = None,
        make_core: MakeCore = real_core,
    ) -> None:
        self.diary = Diary()
        checkers = [*(every_rule() if rules is None else rules), self.diary]
        self.world = World(
            f"scene {size} {seed}",
            weather=weather,
            config=config,
            keys=keys,
            checkers=checkers,
            make_core=make_core,
        )
        self.hosts = [self.world.add() for _ in range(size)]

    # What is done --------------------------------------------------------------------------------

    def start(self, *, within_s: float = 0.5) -> None:
        """Start everybody at about the same time, with the first three as seeds."""
        for host in self.hosts:
            when = self.world.now + self.world.rng.uniform(0.0, within_s)
            self.world.at(when, self.world.start, host, self.hosts[:3])

    def formed(self, *, idle_s: float = 6.0) -> Scene:
        """Start everybody, wait until all know each other, and until they watch each other."""
        self.start()
        self.run(0.5)
        self.until(lambda: tables_differ(self.world) is None, 30.0)
        self.run(idle_s)
        self.diary.entries.clear()
        return self

    def run(self, for_s: float) -> None:
        """Let time go by."""
        self.world.run(self.world.now + for_s)

    def until(self, holds: Callable[[], bool], within_s: float, *, step_s: float = 0.05) -> float:
        """Let time go by until that holds, and return how long it took; fail when it takes longer
        than it may."""
        took_s = self.world.run_until(holds, within_s, step_s)
        if math.isinf(took_s):
            differ = tables_differ(self.world)
            raise Violation(f"not after {within_s} s; {differ}")
        return took_s

    def settled(self, within_s: float) -> float:
        """Wait until all tables are equal and true."""
        return self.until(lambda: tables_differ(self.world) is None, within_s)

    def fault(self, fault: Fault, *, hurt: Sequence[Host] = ()) -> None:
        """Let something be wrong with the network until `heal`.

        Args:
            hurt: Whom others may call dead for it.
        """
        self.world.network.faults.append(fault)
        for host in hurt:
            host.excuse(math.inf)

    def heal(self, *, excused_s: float = 30.0) -> None:
        """End every fault of the network."""
        self.world.network.faults.clear()
        for host in self.hosts:
            if host.core is not None:
                host.excused_until = min(host.excused_until, self.world.now + excused_s)

    def sent_bytes(self) -> int:
        """Return what all hosts have sent since they were put up, headers included."""
        return sum(host.sent_bytes for host in self.hosts)

    # What is seen --------------------------------------------------------------------------------

    def row(self, host: Host, subject: Host) -> Row | None:
        """Return what a host knows of another."""
        return rows(self.world, host).get(subject.uid)

    def state(self, host: Host, subject: Host) -> State | None:
        """Return the state in which a host has another."""
        row = self.row(host, subject)
        return row.state if row is not None else None

    def everywhere(
        self, subject: Host, *states: State | None, among: Sequence[Host] | None = None
    ) -> bool:
        """Tell whether all running hosts (or these) have a subject in one of these states."""
        watching = self.world.running() if among is None else among
        return all(self.state(host, subject) in states for host in watching if host is not subject)

    def told(
        self, kind: type[Change], *, about: Host | None = None, by: Host | None = None
    ) -> list[tuple[float, Host, Change]]:
        """Return what the diary has of one kind of change."""
        return [
            (when, host, change)
            for when, host, change in self.diary.entries
            if isinstance(change, kind)
            and (by is None or host is by)
            and (about is None or getattr(getattr(change, "row", None), "uid", None) == about.uid)
        ]

    def leaders(self, among: Sequence[Host] | None = None) -> list[int | None]:
        """Return whom the hosts propose, each proposal once."""
        watching = self.world.running() if among is None else among
        return list(dict.fromkeys(self.world.view(host).leader for host in watching))
