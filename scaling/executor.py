"""Carries out what was planned, through the ports: thin, and careful about when it may.

Before each action it asks whether this leader may still act, so nothing is begun later than the
lease's end. The first change that the orchestrator refuses ends the round: what was planned rests
on a look that is not true any more. Nothing is tried twice here; the next look shows what has come
of it, and the same will be planned again if it is still right.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from enum import Enum

import trio

from scaling.creating import Creator
from scaling.decision import (
    Action,
    EmptyNode,
    Park,
    RetireNode,
    SetContainers,
    StartNode,
    Unpark,
)
from scaling.ports import (
    Conflict,
    Orchestrator,
    Outcome,
    Peers,
    ScalingError,
    Sight,
    Superseded,
)
from scaling.snapshot import Node, NodeState, Snapshot

log = logging.getLogger(__name__)

THERE = (NodeState.STANDBY, NodeState.EMPTY, NodeState.EMPTYING, NodeState.READY)


class Then(Enum):
    """What the controller does next."""

    GO_ON = "go on"
    LOOK_AGAIN = "look again"  # somebody has changed it since
    HOLD = "hold"  # it cannot be changed now
    STEP_DOWN = "step down"  # a later leader has acted


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What became of a round's actions, in their order; those that were not begun are not here."""

    outcomes: tuple[Outcome, ...]
    then: Then


class Executor:
    """One leader's hands, for one term.

    Args:
        creator: Makes and destroys machines; None where none can be made.
        may_act: Whether an action may be begun now.
    """

    def __init__(
        self,
        orchestrator: Orchestrator,
        peers: Peers,
        creator: Creator | None,
        *,
        term: int,
        may_act: Callable[[], bool],
    ) -> None:
        self._orchestrator, self._peers, self._creator = orchestrator, peers, creator
        self._term, self._may_act = term, may_act
        self._removed: set[str] = set()

    async def carry_out(
        self, actions: Sequence[Action], *, seen: Sight, snapshot: Snapshot, reasons: Sequence[str]
    ) -> Carried:
        """Do them in their order, until one is refused or this leader's time is over.

        Args:
            seen: What the plan was made of.
            snapshot: The same with everything that others said.
            reasons: The decision's, for whoever looks at the orchestrator itself.
        """
        self._removed &= {node.name for node in snapshot.nodes}
        parking = [action for action in actions if isinstance(action, Park | Unpark)]
        outcomes: list[Outcome] = list(await self._order(parking))
        for action in actions:
            if isinstance(action, Park | Unpark):
                continue
            if not self._may_act():
                outcomes.append(Outcome(action=action, trouble="the lease had ended by then"))
                return Carried(outcomes=tuple(outcomes), then=Then.GO_ON)
            try:
                trouble = await self._do(action, seen, snapshot, reasons)
            except ScalingError as error:
                outcomes.append(Outcome(action=action, trouble=str(error)))
                return Carried(outcomes=tuple(outcomes), then=_after(error))
            outcomes.append(Outcome(action=action, trouble=trouble))
            why = {"trouble": trouble} if trouble else {}
            log.info("scaling", extra={"action": "scale", "what": _text(action), **why})
        return Carried(outcomes=tuple(outcomes), then=Then.GO_ON)

    async def _order(self, parking: Sequence[Park | Unpark]) -> Sequence[Outcome]:
        """Tell all of them at the same time: each may be silent for a second or two."""
        heard: dict[int, str] = {}

        async def tell(number: int, order: Park | Unpark) -> None:
            if not self._may_act():
                heard[number] = "the lease had ended by then"
                return
            asked = self._peers.park if isinstance(order, Park) else self._peers.unpark
            did = await asked(order.uid)
            heard[number] = "" if did else f"the peer {order.uid} did not answer"

        async with trio.open_nursery() as nursery:
            for number, order in enumerate(parking):
                nursery.start_soon(tell, number, order)
        return [
            Outcome(action=order, trouble=heard[number]) for number, order in enumerate(parking)
        ]

    async def _do(
        self, action: Action, seen: Sight, snapshot: Snapshot, reasons: Sequence[str]
    ) -> str:
        """Do one; return why it was not done, if nobody is to blame for that."""
        match action:
            case SetContainers(count=count):
                await self._orchestrator.set_containers(
                    count, seen=seen, term=self._term, reasons=reasons
                )
            case StartNode(name=name):
                return await self._start(name, seen, _node(snapshot, name))
            case EmptyNode(name=name):
                await self._orchestrator.empty(name, seen=seen, term=self._term)
            case RetireNode(name=name):
                await self._retire(name, seen, _node(snapshot, name))
            case Park() | Unpark():
                raise AssertionError("told by `_order`")
        return ""

    async def _start(self, name: str, seen: Sight, node: Node | None) -> str:
        if name in self._removed:
            return f"the machine {name} is still being removed"
        if node is not None and node.state in THERE:
            await self._orchestrator.take_in(name, seen=seen, term=self._term)
            return ""
        if self._creator is None:
            return f"there is no node {name}, and no provider that could make one"
        why = self._creator.order(name)
        return "" if why is None else why.text

    async def _retire(self, name: str, seen: Sight, node: Node | None) -> None:
        if node is not None and node.state in (NodeState.STANDBY, NodeState.DOWN):
            # It never served, or serves no more. Marked as leaving, it is empty at the next look,
            # and retired then.
            await self._orchestrator.empty(name, seen=seen, term=self._term)
            return
        await self._orchestrator.retire(name, seen=seen, term=self._term)
        if self._creator is not None and node is not None and node.provided:
            self._creator.remove(name)
            self._removed.add(name)


def _node(snapshot: Snapshot, name: str) -> Node | None:
    return next((node for node in snapshot.nodes if node.name == name), None)


def _text(action: Action) -> str:
    """`SetContainers 8`, `StartNode worker-2`: as `peerctl scale explain` has it."""
    return " ".join([type(action).__name__, *map(str, astuple(action))])


def _after(error: ScalingError) -> Then:
    match error:
        case Conflict():
            return Then.LOOK_AGAIN
        case Superseded():
            return Then.STEP_DOWN
    return Then.HOLD
