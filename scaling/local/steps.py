"""From the containers that are wanted and those there are to what is done next. Pure.

The order is Swarm's: what was chosen to end is told so, told to hurry when its grace is over, and
ended by force only after that; then as many are begun as are missing and have room, in the slots of
those that have failed first, on the node with the fewest.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scaling.local.containers import Found
from scaling.local.wanted import Wanted, numbered

KILL_AFTER_S = 10.0
"""Between the second SIGTERM, at which a peer hands its work back within eight, and SIGKILL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """How containers are run.

    Args:
        capacity: How many a node holds.
        grace_s: How long one may finish its work after it was told to end.
    """

    capacity: int
    grace_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Begin:
    """Start a container."""

    slot: int
    node: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Ask one to end; a second time, to hurry."""

    found: Found


@dataclass(frozen=True, slots=True)
class Kill:
    """End one by force."""

    found: Found


@dataclass(frozen=True, slots=True)
class Forget:
    """Remove the record of one that has ended."""

    found: Found


Step = Begin | Tell | Kill | Forget


@dataclass(frozen=True, slots=True, kw_only=True)
class Sorted:
    """The containers by what they are to do.

    Args:
        kept: Those that people started.
        staying: The others that run and go on running.
        ending: Those that were told to end, or are to be told.
        failed: Those that have ended by themselves, and whose places are wanted.
        over: Those of which nothing is left to do.
        missing: How many more are wanted, the failed ones included.
    """

    kept: tuple[Found, ...]
    staying: tuple[Found, ...]
    ending: tuple[Found, ...]
    failed: tuple[Found, ...]
    over: tuple[Found, ...]
    missing: int


def sort(wanted: Wanted, found: Sequence[Found]) -> Sorted:
    """Say what each container is to do."""
    serving = serving_nodes(wanted)
    count = 0 if wanted.closed else wanted.containers
    kept = tuple(each for each in found if each.alive and each.record.kept)
    others = [each for each in found if not each.record.kept]
    staying = [each for each in others if each.alive and _may_stay(each, wanted, serving)]
    staying = staying[:count]  # the rest is nobody's wish: another ledger's, or another time's
    ids = {each.record.id for each in staying}
    ending = tuple(each for each in others if each.alive and each.record.id not in ids)
    ended = [
        each
        for each in others
        if not each.alive and not each.told_s and each.record.id not in wanted.stopping
    ]
    missing = count - len(staying)
    # One a slot, and none where somebody lives: two peers of one name cannot be.
    vacant = {each.record.slot: each for each in ended}
    for each in found:
        if each.alive:
            vacant.pop(each.record.slot, None)
    failed = tuple(vacant.values())[:missing]
    lasting = {each.record.id for each in (*kept, *staying, *ending, *failed)}
    over = tuple(each for each in found if each.record.id not in lasting)
    return Sorted(
        kept=kept, staying=tuple(staying), ending=ending, failed=failed, over=over, missing=missing
    )


def steps(
    wanted: Wanted,
    found: Sequence[Found],
    waits: Mapping[int, float],
    rules: Rules,
    *,
    now_s: float,
) -> list[Step]:
    """Say what is to be done now.

    Args:
        waits: Until when no container is begun again in a slot, because the last ones failed.
        now_s: On the machine's clock, which `waits` and `Found.told_s` are on.
    """
    seen = sort(wanted, found)
    done: list[Step] = [Forget(each) for each in seen.over]
    for each in seen.ending:
        if (step := _ending(each, rules, now_s=now_s)) is not None:
            done.append(step)
    load = Counter(each.record.node for each in (*seen.kept, *seen.staying))
    used = {each.record.slot for each in (*seen.kept, *seen.staying, *seen.ending, *seen.failed)}
    waiting = [each for each in seen.failed if waits.get(each.record.slot, 0.0) > now_s]
    ready = [each for each in seen.failed if each not in waiting]
    slots = [each.record.slot for each in ready] + free_slots(used, seen.missing - len(seen.failed))
    for slot in slots:
        node = _roomiest(wanted, load, rules)
        if node is None:
            break
        load[node] += 1
        done += [Forget(each) for each in ready if each.record.slot == slot]
        done.append(Begin(slot=slot, node=node))
    return done


def serving_nodes(wanted: Wanted) -> tuple[str, ...]:
    """The nodes where containers may be begun."""
    return tuple(node.name for node in wanted.nodes if not node.emptying)


def free_slots(used: set[int], count: int) -> list[int]:
    """The lowest numbers that nobody has."""
    free: list[int] = []
    slot = 1
    while len(free) < count:
        if slot not in used:
            free.append(slot)
        slot += 1
    return free


def _ending(each: Found, rules: Rules, *, now_s: float) -> Step | None:
    """The next thing to say to one that is to end, if it is time for it."""
    if not each.pid:
        return None  # in a moment
    match each.told_s:
        case ():
            return Tell(each)
        case (first,) if now_s - first > rules.grace_s:
            return Tell(each)
        case (_, second, *_) if now_s - second > KILL_AFTER_S:
            return Kill(each)
    return None


def _may_stay(each: Found, wanted: Wanted, serving: Sequence[str]) -> bool:
    return not each.told_s and each.record.id not in wanted.stopping and each.record.node in serving


def _roomiest(wanted: Wanted, load: Counter[str], rules: Rules) -> str | None:
    nodes = [name for name in serving_nodes(wanted) if load[name] < rules.capacity]
    return min(nodes, key=lambda name: (load[name], numbered(name)), default=None)
