"""What was planned is carried out while it may be, and stops at the first refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from scaling.creating import Creator
from scaling.decision import (
    Action,
    EmptyNode,
    Park,
    Reason,
    RetireNode,
    SetContainers,
    StartNode,
    Unpark,
)
from scaling.executor import Carried, Executor, Then
from scaling.ports import (
    Conflict,
    OrchestratorUnavailable,
    ScalingError,
    Sight,
    Superseded,
)
from scaling.snapshot import Node, NodeState, PeerSight, Snapshot

TERM = 5
SEEN = Sight(containers=(), nodes=(), wanted=1, version="9", term=4)


class Hands:
    """Orchestrator, peers and creator in one, who note what is asked of them."""

    def __init__(self, *, fails: dict[str, ScalingError] | None = None, deaf: str = "") -> None:
        self.done: list[tuple[Any, ...]] = []
        self._fails, self._deaf = fails or {}, deaf
        self.orders: dict[str, Reason] = {}

    async def _do(self, name: str, what: Any, seen: Sight, term: int) -> None:
        assert (seen, term) == (SEEN, TERM)
        if name in self._fails:
            raise self._fails[name]
        self.done.append((name, what))

    async def observe(self) -> Sight:
        return SEEN

    def victims(self, sight: Sight, count: int) -> tuple[str, ...]:
        return ()

    async def set_containers(
        self, count: int, *, seen: Sight, term: int, reasons: Sequence[str]
    ) -> None:
        assert reasons == ["because"]
        await self._do("set_containers", count, seen, term)

    async def take_in(self, node: str, *, seen: Sight, term: int) -> None:
        await self._do("take_in", node, seen, term)

    async def empty(self, node: str, *, seen: Sight, term: int) -> None:
        await self._do("empty", node, seen, term)

    async def retire(self, node: str, *, seen: Sight, term: int) -> None:
        await self._do("retire", node, seen, term)

    def leads(self) -> bool:
        return True

    def quorate(self) -> bool:
        return True

    def sights(self) -> dict[str, PeerSight]:
        return {}

    async def park(self, uid: str) -> bool:
        self.done.append(("park", uid))
        return uid != self._deaf

    async def unpark(self, uid: str) -> bool:
        self.done.append(("unpark", uid))
        return uid != self._deaf

    async def renew(self) -> None:
        self.done.append(("renew",))

    def order(self, name: str) -> Reason | None:
        self.done.append(("order", name))
        return self.orders.get(name)

    def remove(self, name: str) -> None:
        self.done.append(("remove", name))


def snapshot(*nodes: Node) -> Snapshot:
    return Snapshot(
        now_s=0.0, leading_s=99.0, term=TERM, demand=None, containers=(), nodes=nodes, wanted=1
    )


def node(name: str, state: NodeState, *, provided: bool = False) -> Node:
    return Node(name=name, state=state, since_s=0.0, capacity=4, provided=provided)


def executor(hands: Hands, *, may_act: Any = lambda: True, creator: bool = True) -> Executor:
    made: Creator | None = hands if creator else None  # type: ignore[assignment]  # as far as it is used
    return Executor(hands, hands, made, term=TERM, may_act=may_act)


async def carry(
    hands: Hands, *actions: Action, at: Snapshot | None = None, **options: Any
) -> Carried:
    return await executor(hands, **options).carry_out(
        actions, seen=SEEN, snapshot=at or snapshot(), reasons=["because"]
    )


async def test_everything_in_order() -> None:
    """Peers are told first, since that can be undone; then the plan's own order."""
    hands = Hands()
    ready, empty = node("n1", NodeState.READY), node("n2", NodeState.EMPTY)
    carried = await carry(
        hands,
        StartNode(name="worker-3"),
        SetContainers(count=3),
        Park(uid="a"),
        Unpark(uid="b"),
        EmptyNode(name="n1"),
        RetireNode(name="n2"),
        at=snapshot(ready, empty),
    )
    assert carried.then is Then.GO_ON
    assert sorted(hands.done[:2]) == [("park", "a"), ("unpark", "b")]
    assert hands.done[2:] == [
        ("order", "worker-3"),
        ("set_containers", 3),
        ("empty", "n1"),
        ("retire", "n2"),
    ]
    assert [outcome.trouble for outcome in carried.outcomes] == [""] * 6


STARTS = {
    "a new one is ordered": (None, ("order", "n1")),
    "one that boots is ordered again, which is fine": (NodeState.BOOTING, ("order", "n1")),
    "one on standby is taken in": (NodeState.STANDBY, ("take_in", "n1")),
    "an empty one is taken back": (NodeState.EMPTY, ("take_in", "n1")),
    "one that is being emptied is taken back": (NodeState.EMPTYING, ("take_in", "n1")),
}


@pytest.mark.parametrize(("state", "expected"), STARTS.values(), ids=STARTS.keys())
async def test_a_node_is_started(state: NodeState | None, expected: tuple[str, str]) -> None:
    """By who can: the orchestrator has it, or the provider makes it."""
    hands = Hands()
    at = snapshot() if state is None else snapshot(node("n1", state))
    await carry(hands, StartNode(name="n1"), at=at)
    assert hands.done == [expected]


async def test_why_no_machine_is_ordered_is_told() -> None:
    """The provider pauses after failures; or there is none at all."""
    hands = Hands()
    hands.orders["n1"] = Reason(code="backoff", text="not for 30 s")
    carried = await carry(hands, StartNode(name="n1"))
    assert carried.outcomes[0].trouble == "not for 30 s"
    carried = await carry(Hands(), StartNode(name="n1"), creator=False)
    assert "no provider" in carried.outcomes[0].trouble


async def test_a_machine_is_destroyed_after_the_orchestrator_let_it_go() -> None:
    """And while that lasts, it is not taken in again: it would vanish under its containers."""
    hands = Hands()
    hand = executor(hands)
    at = snapshot(node("n1", NodeState.EMPTY, provided=True))
    await hand.carry_out([RetireNode(name="n1")], seen=SEEN, snapshot=at, reasons=["because"])
    assert hands.done == [("retire", "n1"), ("remove", "n1")]
    carried = await hand.carry_out(
        [StartNode(name="n1")], seen=SEEN, snapshot=at, reasons=["because"]
    )
    assert "still being removed" in carried.outcomes[0].trouble
    await hand.carry_out([StartNode(name="n1")], seen=SEEN, snapshot=snapshot(), reasons=[])
    assert hands.done[2:] == [("order", "n1")], "it is gone, so the name is free again"


@pytest.mark.parametrize("state", [NodeState.STANDBY, NodeState.DOWN])
async def test_one_that_does_not_serve_leaves_the_same_way(state: NodeState) -> None:
    """It joined when nobody needed it any more, or is down for good: marked as leaving first, so
    that the orchestrator forgets it when its machine is gone."""
    hands = Hands()
    await carry(hands, RetireNode(name="n1"), at=snapshot(node("n1", state, provided=True)))
    assert hands.done == [("empty", "n1")]


REFUSALS = {
    "somebody was quicker": (Conflict("changed meanwhile"), Then.LOOK_AGAIN),
    "it cannot be reached": (OrchestratorUnavailable("no quorum"), Then.HOLD),
    "a later leader has written": (Superseded("term 6"), Then.STEP_DOWN),
}


@pytest.mark.parametrize(("error", "then"), REFUSALS.values(), ids=REFUSALS.keys())
async def test_the_first_refusal_ends_the_round(error: ScalingError, then: Then) -> None:
    """What comes after it rested on a look that is not true any more."""
    hands = Hands(fails={"set_containers": error})
    carried = await carry(hands, StartNode(name="n1"), SetContainers(count=2), EmptyNode(name="n2"))
    assert carried.then is then
    assert [outcome.trouble for outcome in carried.outcomes] == ["", str(error)]
    assert hands.done == [("order", "n1")]


async def test_nothing_is_begun_after_the_leases_end() -> None:
    """Not even a word to a peer. What was begun before is finished."""
    left = 1

    def may_act() -> bool:
        nonlocal left
        left -= 1
        return left >= 0

    hands = Hands()
    carried = await carry(
        hands, SetContainers(count=2), EmptyNode(name="n2"), StartNode(name="n1"), may_act=may_act
    )
    assert hands.done == [("set_containers", 2)]
    assert [outcome.trouble for outcome in carried.outcomes] == ["", "the lease had ended by then"]
    hands = Hands()
    carried = await carry(hands, Park(uid="a"), may_act=lambda: False)
    assert hands.done == []
    assert carried.outcomes[0].trouble == "the lease had ended by then"


async def test_peers_are_told_side_by_side() -> None:
    """One that is silent for a second does not hold up the others, nor the round; it is told."""

    class Slow(Hands):
        async def park(self, uid: str) -> bool:
            self.done.append(("asked", uid))
            await trio.testing.wait_all_tasks_blocked()
            assert [each[0] for each in self.done] == ["asked"] * 3
            return uid != "b"

    carried = await carry(Slow(), *(Park(uid=uid) for uid in "abc"))
    assert [outcome.trouble for outcome in carried.outcomes] == [
        "",
        "the peer b did not answer",
        "",
    ]
    assert carried.then is Then.GO_ON
