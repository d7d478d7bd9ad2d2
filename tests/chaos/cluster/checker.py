"""Whether a cluster has kept its promises, said from the facts of a run that is over. Pure.

    each task has exactly one committed and verified result, or one escalation
    events tell a history that is possible (`tests.chaos.trail`)
    nothing is left: no message, no object that is nobody's, no claim, no intent, no container
    who lives is in the table of everybody who lives, within the promised time
    nobody's work is ended but by what was done to him: above all not by scaling

Rules look at the end only. A checker that watches while things break would have to know what a
cluster may look like in the middle of a power failure, and would end by forgiving too much.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import timedelta

from pipeline.tasks import PartState
from tests.chaos.cluster.facts import PEER_SERVICES, Facts, Handed, Held, Hit, Look
from tests.chaos.cluster.orders import RATE, SECONDS, Way
from tests.chaos.cluster.schedule import Lane
from tests.chaos.trail import Trail, objections

MET_WITHIN_S = 60.0
"""After the last change: as the simulator demands it of the same protocol (`tests.simulation`)."""

AFTERMATH = timedelta(seconds=45)
"""For how long what was done may still cost somebody a claim: a minority's peers are held for dead
and hear of it late, a service comes back, and a lease of 15 s runs out after that."""


def check(facts: Facts) -> list[str]:
    """All that is wrong, each in one sentence; empty if nothing is.

    Where work goes on, nobody can tell what is lost from what waits: then only that is said.
    """
    if not facts.over:
        return [*_what_is_not_over(facts), *_the_cluster_is_well(facts)]
    rules = (
        _every_order_has_its_task,
        _every_task_has_one_end,
        _outputs_are_whole,
        _nothing_is_left_in_the_store,
        _nothing_is_left_in_the_queues,
        _nothing_is_held,
        _the_cluster_is_well,
        _no_work_was_ended_for_nothing,
    )
    return [objection for rule in rules for objection in rule(facts)]


def objections_to(look: Look) -> list[str]:
    """All that a cluster at rest would not look like."""
    return [*_containers_are_those_wanted(look), *_tables_are_equal(look)]


def _what_is_not_over(facts: Facts) -> Iterator[str]:
    states = Counter(str(trail.state) for trail in facts.trails)
    tasks = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    yield (
        f"work was not over in the time that was given: {tasks},"
        f" and {sum(facts.left.values())} messages are left"
    )


def _every_order_has_its_task(facts: Facts) -> Iterator[str]:
    """One, if its client was told so, or can have it be told for ever; at most one otherwise."""
    titles = Counter(facts.titles.values())
    ids = {title: task_id for task_id, title in facts.titles.items()}
    for handed in facts.handed:
        order, count = handed.order, titles.pop(handed.order.name, 0)
        if order.way is not Way.PEERCTL and not handed.answered:
            yield f"{order.name}: nobody took it, although its client asked until the end"
        if handed.answered and count == 0:
            yield f"{order.name}: it was taken, and is lost"
        if count > 1:
            yield f"{order.name}: there are {count} tasks of it"
        if count == 1 and order.way is not Way.PEERCTL and ids[order.name] != order.task_id:
            yield f"{order.name}: it has another id than its client gave it"
    for title, count in titles.items():
        yield f"{count} tasks called {title!r} came from nowhere"


def _every_task_has_one_end(facts: Facts) -> Iterator[str]:
    """The end that its film must come to, by a history that is possible."""
    orders = {handed.order.name: handed for handed in facts.handed}
    for trail in facts.trails:
        yield from objections(trail)
        handed = orders.get(facts.titles.get(trail.task_id, ""))
        if handed is not None and (objection := _objection_to_end(trail, handed)):
            yield f"{trail.name} ({handed.order.name}): {objection}"


def _objection_to_end(trail: Trail, handed: Handed) -> str | None:
    over = trail.state in (PartState.DONE, PartState.ESCALATED, PartState.CANCELLED)
    if over and trail.state not in handed.order.ends:
        return f"a {handed.order.clip} film, and it is {trail.state}"
    if handed.cancelled and trail.state is not PartState.CANCELLED:
        return f"its client was told that it is cancelled, and it is {trail.state}"
    return None


def _outputs_are_whole(facts: Facts) -> Iterator[str]:
    """What is committed is there, with the very bytes that were verified, and can be watched: all
    of its source's pictures."""
    clips = {handed.order.name: handed.order.clip for handed in facts.handed}
    for output in facts.committed:
        stored = facts.objects.get(output.key)
        if stored is None:
            yield f"output {output.key} is not in the store"
        elif stored.size != output.size:
            yield f"output {output.key} has {stored.size} bytes, not {output.size}"
        elif output.sha256 is not None and stored.sha256 != output.sha256:
            yield f"output {output.key} has other bytes than were made"
        elif output.rendition:
            clip = clips.get(facts.titles.get(output.task_id, ""))
            whole = RATE * SECONDS[clip] if clip in SECONDS else 0
            if stored.pictures != whole:
                yield f"output {output.key} has {stored.pictures} pictures, not {whole}"


def _nothing_is_left_in_the_store(facts: Facts) -> Iterator[str]:
    committed = {output.key for output in facts.committed}
    for key in facts.objects:
        if key not in committed:
            whose = f"{key.rpartition('/')[0]}/"
            if whose in facts.abandoned:
                yield f"object {key} is of an abandoned attempt, and was not cleared away"
            else:
                yield f"object {key} is nobody's"
    for key in facts.unfinished:
        yield f"the upload of {key} was never finished, and is still there"


def _nothing_is_left_in_the_queues(facts: Facts) -> Iterator[str]:
    """No message, and of dead letters those that nobody can understand, each at least once."""
    for queue, count in facts.left.items():
        if count:
            yield f"queue {queue}: {count} messages are left"
    for body in sorted(set(facts.dead) - set(facts.nonsense)):
        yield f"among the dead letters there is {body!r}"
    for body in sorted(set(facts.nonsense) - set(facts.dead)):
        yield f"{body!r} cannot be understood, and is not among the dead letters"


def _nothing_is_held(facts: Facts) -> Iterator[str]:
    """No claim, no intent, and the scaler's lease is in the hands of somebody who lives."""
    for held in facts.held:
        if held.ended_at is None:
            yield f"a claim of task {held.task_id} is still {held.container}'s on {held.node}"
    for name in facts.intents:
        yield f"{name} is still said to be about to be created or destroyed"
    living = {table.own[0] for table in facts.look.tables}
    if not any(facts.lease_holder.startswith(uid) for uid in living):
        yield f"the lease to scale is {facts.lease_holder or 'nobody'}'s, who does not live"


def _the_cluster_is_well(facts: Facts) -> Iterator[str]:
    """At the end, and soon enough after the last change."""
    yield from objections_to(facts.look)
    if facts.met_after_s is None or facts.met_after_s > MET_WITHIN_S:
        after = "never" if facts.met_after_s is None else f"after {facts.met_after_s:.1f} s"
        yield f"tables were equal {after}, not within {MET_WITHIN_S:g} s of the last change"


def _containers_are_those_wanted(look: Look) -> Iterator[str]:
    wanted = {task.id: task for task in look.wanted}
    for task in look.wanted:
        if not task.runs:
            yield f"a container of {task.service} that is wanted on {task.node!r} does not run"
    for container in look.containers:
        if (known := wanted.get(container.task)) is None or known.node != container.node:
            whose = container.service or "nobody"
            yield f"container {container.id[:12]} on {container.node} is an orphan of {whose}'s"
    running = {container.task for container in look.containers}
    for task in look.wanted:
        if task.runs and task.id not in running:
            yield f"Swarm says that {task.service} runs on {task.node}, and no engine has it"


def _tables_are_equal(look: Look) -> Iterator[str]:
    """Every peer's container has a table, and all tables have exactly these, and one leader."""
    there = {task.id for task in look.wanted if task.service in PEER_SERVICES and task.runs}
    told = set()
    for table in look.tables:
        told.add(table.alive.get(table.own, ""))
        if (alive := set(table.alive.values())) != there or len(table.alive) != len(there):
            more, fewer = sorted(alive - there), sorted(there - alive)
            yield f"{table.name}: of those who live it misses {fewer}, and it has {more} besides"
    for container in sorted(there - told):
        yield f"the peer of container {container} tells no table"
    if len({tuple(sorted(table.alive)) for table in look.tables}) > 1:
        yield "not all tables are of the same lives"
    leaders = {table.leader for table in look.tables}
    if len(leaders) != 1 or None in leaders:
        yield f"the tables' leaders are {sorted(map(str, leaders))}"


def _no_work_was_ended_for_nothing(facts: Facts) -> Iterator[str]:
    """Who has lost a claim was hit, or could not reach what he needs to keep it. A container that
    scaling takes away finishes first, so its name is never here."""
    for held in facts.held:
        if held.expired and not any(_explains(hit, held) for hit in facts.hits):
            yield (
                f"a claim of task {held.task_id} was lost by {held.container} on {held.node}, and"
                " nothing had been done to that"
            )


def _explains(hit: Hit, held: Held) -> bool:
    if held.ended_at is None:
        return False
    if not hit.began_at <= held.ended_at <= hit.ended_at + AFTERMATH:
        return False
    if hit.lane is Lane.PEERS:
        return hit.container == held.container
    return hit.node in ("", held.node)
