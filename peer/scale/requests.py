"""What the control socket answers about scaling.

Any peer answers, for all of it is in the ledger: what the leader saw last, what it decided and why,
and whether a person has paused it. A pause is obeyed by whoever leads, from its next round on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Annotated, Any, Protocol

import msgspec
from msgspec import Meta

from membership.view import View
from peer.control import Command, SendItem
from peer.errors import CommandFailed
from peer.scale.protocol import (
    Mode,
    ShownDecision,
    ShownDemand,
    ShownLook,
    ShownNode,
    ShownPause,
    ShownReason,
    ShownScaling,
)
from scaling.ledger.journal import Decided, LedgerJournal, Look
from scaling.ports import LedgerAway
from scaling.record import Considered
from scaling.snapshot import Snapshot

COMMANDS = ("scale", "scale_explain", "scale_pause", "scale_resume")

DECISIONS_MAX = 200
"""Of a thousand containers each has a quarter of a megabyte."""

NOT_SET_UP = (
    "nothing scales here: scaling.orchestrator is none; set it to local or swarm on every peer "
    "that may lead"
)


class _Nothing(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    pass


class _Explain(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    limit: Annotated[int, Meta(ge=1, le=DECISIONS_MAX)] = 5


class _Pause(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    why: Annotated[str, Meta(max_length=500)] = ""
    by: Annotated[str, Meta(max_length=200)] = ""


class Reaching(Protocol):
    """**Protocol**: whether this peer reaches the orchestrator; see `peer.scale.reach`."""

    @property
    def trouble(self) -> str:
        """Why it does not; empty when it does."""
        ...


class ScaleRequests:
    """The commands of one peer that are about scaling.

    Args:
        journal: None where nothing scales.
        orchestrator: What starts and stops containers, in a few words.
        view: What this peer believes of the cluster.
        reach: None where the orchestrator is always reached.
    """

    def __init__(
        self,
        journal: LedgerJournal | None,
        *,
        orchestrator: str,
        view: Callable[[], View],
        reach: Reaching | None = None,
    ) -> None:
        self._journal = journal
        self._orchestrator = orchestrator
        self._view = view
        self._reach = reach

    def commands(self) -> Mapping[str, Command]:
        """Every command by its name."""
        return {
            "scale": self._answering(self._status),
            "scale_explain": self._answering(self._explain),
            "scale_pause": self._answering(self._pause),
            "scale_resume": self._answering(self._resume),
        }

    def _answering(self, answer: Callable[..., Any]) -> Command:
        async def command(arguments: Mapping[str, Any], send_item: SendItem) -> Any:
            if self._journal is None:
                raise CommandFailed(NOT_SET_UP)
            try:
                return await answer(self._journal, dict(arguments), send_item)
            except LedgerAway as error:
                raise CommandFailed(str(error)) from error

        return command

    async def _status(
        self, journal: LedgerJournal, arguments: dict[str, Any], _: SendItem
    ) -> ShownScaling:
        msgspec.convert(arguments, _Nothing)
        paused, look = await journal.paused(), await journal.latest()
        view = self._view()
        leader = next((each for each in view.members if each.row.uid == view.leader), None)
        return ShownScaling(
            orchestrator=self._orchestrator,
            leader=None if leader is None else leader.row.body.name,
            own=view.leads,
            reach="" if self._reach is None else self._reach.trouble,
            paused=None if paused is None else ShownPause(**asdict(paused)),
            look=None if look is None else shown_look(look),
        )

    async def _explain(
        self, journal: LedgerJournal, arguments: dict[str, Any], send_item: SendItem
    ) -> Any:
        asked = msgspec.convert(arguments, _Explain)
        for decided in await journal.newest(asked.limit):
            await send_item(shown_decision(decided))
        return {}

    async def _pause(self, journal: LedgerJournal, arguments: dict[str, Any], _: SendItem) -> Any:
        asked = msgspec.convert(arguments, _Pause)
        await journal.pause(asked.by or "somebody", asked.why)
        paused = await journal.paused()
        return None if paused is None else ShownPause(**asdict(paused))

    async def _resume(self, journal: LedgerJournal, arguments: dict[str, Any], _: SendItem) -> Any:
        msgspec.convert(arguments, _Nothing)
        return {"was_paused": await journal.resume()}


def shown_decision(decided: Decided) -> ShownDecision:
    """Put down for people what was put down for leaders."""
    fields = asdict(decided)
    reasons = tuple(ShownReason(**reason) for reason in fields.pop("reasons"))
    actions, outcomes = tuple(fields.pop("actions")), tuple(fields.pop("outcomes"))
    return ShownDecision(**fields, reasons=reasons, actions=actions, outcomes=outcomes)


def shown_look(look: Look) -> ShownLook:
    """Sum a snapshot up."""
    try:
        considered = msgspec.convert(look.considered, Considered)
    except msgspec.ValidationError as error:
        raise CommandFailed(
            f"the leader {look.leader} is of another version, and what it has put down cannot be "
            f"read here ({error}); ask a peer of its version"
        ) from error
    snapshot, decision = considered.snapshot, considered.decision
    demand, desired = snapshot.demand, decision.desired
    return ShownLook(
        at=look.at,
        age_s=look.age_s,
        term=look.term,
        leader=look.leader,
        mode=msgspec.convert(look.mode, Mode),
        demand=None
        if demand is None
        else ShownDemand(
            ready=demand.ready,
            delayed=demand.delayed,
            running=demand.running,
            arrivals_per_s=demand.arrivals_per_s,
            service_s=demand.service_s,
        ),
        wanted=snapshot.wanted,
        containers=dict(Counter(each.state.value for each in snapshot.containers)),
        nodes=_nodes(snapshot),
        desired_containers=desired.containers,
        desired_nodes=desired.nodes,
        leaving=desired.leaving,
        starting=desired.starting,
        held=decision.held,
        reasons=tuple(
            ShownReason(code=reason.code, text=reason.text) for reason in decision.reasons
        ),
        machines=snapshot.machines,
    )


def _nodes(snapshot: Snapshot) -> tuple[ShownNode, ...]:
    on = Counter(container.node for container in snapshot.containers)
    return tuple(
        ShownNode(
            name=node.name,
            state=node.state.value,
            since_s=node.since_s,
            containers=on[node.name],
            capacity=node.capacity,
            cpu=node.cpu,
            memory=node.memory,
            fixed=node.fixed,
        )
        for node in snapshot.nodes
    )
