"""The rules that a run on a cluster ends with can fail: each is broken once, and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from pipeline.ledger.parts import Outcome
from pipeline.tasks import PartState, Step
from tests.chaos.cluster.checker import AFTERMATH, MET_WITHIN_S, check
from tests.chaos.cluster.facts import (
    Committed,
    Contained,
    Facts,
    Handed,
    Held,
    Hit,
    Look,
    Stored,
    Table,
    Wanted,
)
from tests.chaos.cluster.orders import Clip, Order, Way
from tests.chaos.cluster.schedule import Lane
from tests.chaos.story import BEGAN, Story

GOOD, BROKEN, GONE = UUID(int=7), UUID(int=8), UUID(int=9)
KEY = "tasks/7/attempt-1/240p.mp4"
ALIVE = {("a1", 1): "t1", ("b2", 5): "t2"}
BAD_MESSAGE = '{"colour": "red"}'


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def order(task_id: UUID, **more: Any) -> Order:
    plain = Order(
        name=f"clip-{task_id.int}", task_id=task_id, at_s=0.0, clip=Clip.SHORT, way=Way.MESSAGE
    )
    return replace(plain, **more)


def held(**more: Any) -> Held:
    plain = Held(
        token=UUID(int=70),
        task_id=GOOD,
        container="t1",
        node="node-2",
        claimed_at=at(1),
        ended_at=at(9),
        expired=True,
    )
    return replace(plain, **more)


def hit(**more: Any) -> Hit:
    plain = Hit(
        lane=Lane.PEERS,
        what="peer killed",
        node="node-2",
        container="t1",
        began_at=at(2),
        ended_at=at(2),
    )
    return replace(plain, **more)


def kept() -> Facts:
    """A run in which every promise was kept, with one task of each end and a claim that was lost
    when its holder was killed."""
    good, broken, gone = Story(), Story(), Story()
    good.attempt(Step.FINISHED, Outcome.DONE)
    broken.attempt(Step.PULLED, Outcome.ESCALATED)
    gone.attempt(Step.PULLED, Outcome.CANCELLED)
    gone.intervene("cancel")
    gone.claims[0] = replace(gone.claims[0], ended_at=gone.people[0].at)
    orders = [order(GOOD), order(BROKEN, clip=Clip.NOISE), order(GONE, cancel_after_s=1.0)]
    return Facts(
        handed=[
            Handed(order=each, answered=True, cancelled=each.task_id == GONE) for each in orders
        ],
        titles={each.task_id: each.name for each in orders},
        trails=[
            good.trail(PartState.DONE, task_id=GOOD),
            broken.trail(PartState.ESCALATED, task_id=BROKEN),
            gone.trail(PartState.CANCELLED, task_id=GONE),
        ],
        held=[held()],
        hits=[hit()],
        committed=[Committed(task_id=GOOD, key=KEY, size=3, sha256="abc", rendition=True)],
        objects={KEY: Stored(size=3, sha256="abc", pictures=50)},
        abandoned=["tasks/8/attempt-1/"],
        unfinished=[],
        left={"grapevine.normal": 0},
        nonsense=[BAD_MESSAGE],
        dead=[BAD_MESSAGE, BAD_MESSAGE],
        look=Look(
            containers=[
                Contained(node="node-1", id="c1", service="seed", task="t1"),
                Contained(node="node-2", id="c2", service="peer", task="t2"),
                Contained(node="node-1", id="c3", service="store", task="t3"),
            ],
            wanted=[
                Wanted(service="seed", id="t1", node="node-1", runs=True),
                Wanted(service="peer", id="t2", node="node-2", runs=True),
                Wanted(service="store", id="t3", node="node-1", runs=True),
            ],
            tables=[
                Table(name="seed-node-1", own=("a1", 1), alive=ALIVE, leader="a1"),
                Table(name="peer.1", own=("b2", 5), alive=ALIVE, leader="a1"),
            ],
        ),
        intents=[],
        lease_holder="a1",
        met_after_s=12.0,
    )


def test_who_kept_all_promises_is_left_in_peace() -> None:
    """No objection, also where a client does not know whether `peerctl` had handed it in."""
    facts = kept()
    assert check(facts) == []
    unsure = Handed(order=order(UUID(int=10), way=Way.PEERCTL), answered=False)
    assert check(replace(facts, handed=[*facts.handed, unsure])) == []


def lost(facts: Facts) -> Facts:
    more = Handed(order=order(UUID(int=10)), answered=True)
    return replace(facts, handed=[*facts.handed, more])


def refused(facts: Facts) -> Facts:
    more = Handed(order=order(UUID(int=10)), answered=False)
    return replace(facts, handed=[*facts.handed, more])


def doubled(facts: Facts) -> Facts:
    return replace(facts, titles={**facts.titles, UUID(int=11): "clip-7"})


def renamed(facts: Facts) -> Facts:
    titles = {**facts.titles, UUID(int=11): facts.titles[GOOD]}
    del titles[GOOD]
    return replace(facts, titles=titles)


def from_nowhere(facts: Facts) -> Facts:
    return replace(facts, titles={**facts.titles, UUID(int=11): "a stranger"})


def ended(facts: Facts, number: int, state: PartState) -> Facts:
    trails = list(facts.trails)
    trails[number] = replace(trails[number], state=state)
    return replace(facts, trails=trails)


def without_end(facts: Facts) -> Facts:
    return ended(facts, 0, PartState.QUEUED)


def good_but_escalated(facts: Facts) -> Facts:
    return replace(facts, handed=[*facts.handed[:1], replace(facts.handed[1], order=order(BROKEN))])


def cancelled_in_vain(facts: Facts) -> Facts:
    good = Handed(order=order(GOOD, cancel_after_s=1.0), answered=True, cancelled=True)
    return replace(facts, handed=[good, *facts.handed[1:]])


def stored(**changes: Any) -> Callable[[Facts], Facts]:
    def change(facts: Facts) -> Facts:
        return replace(facts, objects={KEY: replace(facts.objects[KEY], **changes)})

    return change


def more_stored(key: str) -> Callable[[Facts], Facts]:
    def change(facts: Facts) -> Facts:
        return replace(facts, objects={**facts.objects, key: Stored(size=1, sha256="x")})

    return change


def with_(**changes: Any) -> Callable[[Facts], Facts]:
    return lambda facts: replace(facts, **changes)


def table(number: int, **changes: Any) -> Callable[[Facts], Facts]:
    def change(facts: Facts) -> Facts:
        tables = list(facts.look.tables)
        tables[number] = replace(tables[number], **changes)
        return seen(facts, tables=tables)

    return change


def seen(facts: Facts, **changes: Any) -> Facts:
    return replace(facts, look=replace(facts.look, **changes))


def not_running(facts: Facts) -> Facts:
    wanted = facts.look.wanted
    return seen(facts, wanted=[*wanted[:2], replace(wanted[2], runs=False)])


def with_a_stranger(facts: Facts) -> Facts:
    stranger = Contained(node="node-2", id="c4", service="peer", task="t9")
    return seen(facts, containers=[*facts.look.containers, stranger])


def with_one_fewer(facts: Facts) -> Facts:
    return seen(facts, containers=facts.look.containers[1:])


def with_a_silent_peer(facts: Facts) -> Facts:
    return seen(facts, tables=facts.look.tables[:1])


EARLY = hit(lane=Lane.NODES, began_at=at(-99), ended_at=at(8) - AFTERMATH)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lost, "clip-10: it was taken, and is lost"),
        (refused, "clip-10: nobody took it"),
        (doubled, "clip-7: there are 2 tasks of it"),
        (renamed, "clip-7: it has another id"),
        (from_nowhere, "1 tasks called 'a stranger' came from nowhere"),
        (without_end, "it came to no end"),
        (good_but_escalated, "a short film, and it is escalated"),
        (cancelled_in_vain, "told that it is cancelled, and it is done"),
        (with_(objects={}), f"output {KEY} is not in the store"),
        (stored(size=2), "has 2 bytes, not 3"),
        (stored(sha256="other"), "has other bytes than were made"),
        (stored(pictures=0), "has 0 pictures, not 50"),
        (stored(pictures=49), "has 49 pictures, not 50"),
        (more_stored("tasks/8/attempt-1/x.mp4"), "of an abandoned attempt, and was not cleared"),
        (more_stored("tasks/9/attempt-3/x.mp4"), "tasks/9/attempt-3/x.mp4 is nobody's"),
        (with_(unfinished=["tasks/7/x"]), "the upload of tasks/7/x was never finished"),
        (with_(left={"grapevine.low": 2}), "queue grapevine.low: 2 messages are left"),
        (with_(dead=[BAD_MESSAGE, "{}"]), "among the dead letters there is '{}'"),
        (with_(dead=[]), "is not among the dead letters"),
        (with_(held=[held(ended_at=None, expired=False)]), "is still t1's on node-2"),
        (with_(intents=["m-3"]), "m-3 is still said to be about to be created"),
        (with_(lease_holder="c3"), "the lease to scale is c3's, who does not live"),
        (with_(lease_holder=""), "the lease to scale is nobody's"),
        (not_running, "a container of store that is wanted on 'node-1' does not run"),
        (with_a_stranger, "is an orphan"),
        (with_one_fewer, "and no engine has it"),
        (table(1, alive={("b2", 5): "t2"}), "of those who live it misses ['t1']"),
        (table(1, alive={**ALIVE, ("c3", 1): "t8"}), "and it has ['t8'] besides"),
        (table(1, alive={("a1", 2): "t1", ("b2", 5): "t2"}), "not all tables are of the same"),
        (with_a_silent_peer, "container t2 tells no table"),
        (table(1, leader="b2"), "the tables' leaders are ['a1', 'b2']"),
        (table(1, leader=None), "the tables' leaders are"),
        (with_(met_after_s=None), "tables were equal never"),
        (with_(over=False), "work was not over in the time that was given: 1 cancelled, 1 done, "),
        (with_(met_after_s=MET_WITHIN_S + 1), "tables were equal after 61.0 s"),
        (with_(hits=[]), "was lost by t1 on node-2, and nothing had been done"),
        (with_(hits=[hit(container="t2")]), "was lost by t1 on node-2"),
        (with_(hits=[hit(lane=Lane.NODES, node="node-3")]), "was lost by t1 on node-2"),
        (with_(hits=[EARLY]), "was lost by t1 on node-2"),
        (with_(hits=[hit(began_at=at(10), ended_at=at(11))]), "was lost by t1 on node-2"),
    ],
)
def test_what_must_never_happen_is_said(change: Callable[[Facts], Facts], said: str) -> None:
    """Each promise, broken, is an objection."""
    found = check(change(kept()))
    assert any(said in objection for objection in found), found


@pytest.mark.parametrize(
    "hit_by",
    [
        hit(lane=Lane.NODES, container=""),
        hit(lane=Lane.NODES, container="", node=""),
        hit(lane=Lane.SERVICES, container="", node=""),
        hit(lane=Lane.NETWORK, container="", node="", began_at=at(-20), ended_at=at(-10)),
    ],
)
def test_what_was_done_to_a_peer_explains_what_it_lost(hit_by: Hit) -> None:
    """Its node's fault, everybody's, and one that is over only just."""
    assert check(replace(kept(), hits=[hit_by])) == []
