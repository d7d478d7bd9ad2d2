"""What must hold of one part's history, whatever was done to the machines: pure rules.

A *trail* is what the ledger says of a part: its claims in the order of their attempts, what people
did, and its events in the order of their commits. It is read back here as a walk through the
product's own table (`TRANSITIONS`): from claim to claim, and within a claim from step to step. A
list of good walks was the alternative, and would be right about what somebody thought of.

At most one claim of a part is alive at any time, and all that its holder says is written while it
is; so between two TaskReceived everything belongs to the attempt that the first one names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from pipeline.ledger.parts import Outcome
from pipeline.tasks import STEP_EVENTS, TRANSITIONS, Action, PartState, Step

STEPS = tuple(Step)
RECEIVED = STEP_EVENTS[Step.RECEIVED]
FINISHED = STEP_EVENTS[Step.FINISHED]
RETRY, ESCALATION = "ContainerErrorRetry", "ContainerErrorEscalation"

Life = tuple[str, int]
"""A peer's uid and which start of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """One claim as the ledger keeps it; `outcome` and `ended_at` are None while it is alive."""

    token: UUID
    attempt: int
    holder: Life
    step: Step
    claimed_at: datetime
    ended_at: datetime | None
    outcome: Outcome | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """One event of the part."""

    type: str
    by: Life
    data: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervened:
    """What a person did: `retry` or `cancel`."""

    action: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Trail:
    """All that the ledger says of a part; claims, interventions and events in their order.

    Args:
        output_tokens: The claims that its committed outputs are of.
    """

    task_id: UUID
    part: int
    state: PartState
    claims: Sequence[Claimed]
    events: Sequence[Said]
    interventions: Sequence[Intervened] = ()
    output_tokens: frozenset[UUID] = frozenset()

    @property
    def name(self) -> str:
        """How a report calls it."""
        return f"task {self.task_id}" + (f" part {self.part}" if self.part else "")


def objections(trail: Trail) -> list[str]:
    """Everything that is wrong with a part's history, each in one sentence; empty if nothing is."""
    return [
        f"{trail.name}: {objection}"
        for rule in (_has_one_end, _walks_through_the_table, _says_what_happened)
        for objection in rule(trail)
    ]


def _has_one_end(trail: Trail) -> Iterator[str]:
    """Exactly one committed result, or one escalation, or a person's cancellation."""
    done = [claim for claim in trail.claims if claim.outcome is Outcome.DONE]
    said_done = [
        said
        for said in trail.events
        if said.type == FINISHED and said.data.get("outcome") == Outcome.DONE
    ]
    if trail.state is PartState.DONE:
        if len(done) != 1:
            yield f"it is done by {len(done)} claims"
        if trail.output_tokens != {claim.token for claim in done}:
            yield "its outputs are not those of the one claim that did it"
        if len(said_done) != 1:
            yield f"its end was told {len(said_done)} times"
        return
    if done or said_done or trail.output_tokens:
        yield f"it is {trail.state}, and yet there are results of it"
    if trail.state is PartState.ESCALATED:
        escalated = sum(said.type == ESCALATION for said in trail.events)
        resumed = sum(each.action == "retry" for each in trail.interventions)
        if not 1 <= escalated <= resumed + 1:
            yield f"it was escalated {escalated} times and resumed {resumed} times"
    elif trail.state is not PartState.CANCELLED:
        yield f"it came to no end: it is {trail.state} after {len(trail.claims)} attempts"


def _walks_through_the_table(trail: Trail) -> Iterator[str]:
    """Claims, their ends and what people did are a walk that `TRANSITIONS` allows, one attempt
    after the other and none beside another."""
    state = PartState.QUEUED
    freed_at: datetime | None = None
    for number, claim in enumerate(trail.claims, 1):
        if claim.attempt != number:
            yield f"attempt {claim.attempt} is its {number}. claim"
        if freed_at is not None and claim.claimed_at < freed_at:
            yield f"attempt {claim.attempt} began before the one before it had ended"
    for action, at in _actions(trail):
        following = TRANSITIONS.get((state, action))
        if following is None:
            yield f"at {at:%H:%M:%S.%f} it was {state}, and the table knows no {action} there"
            return
        state = following
    if state is not trail.state:
        yield f"its history leads to {state}, and it is {trail.state}"


def _actions(trail: Trail) -> list[tuple[Action, datetime]]:
    """What happened to the part, by the ledger's clock."""
    actions: list[tuple[datetime, int, Action]] = []
    for claim in trail.claims:
        actions.append((claim.claimed_at, 2, Action.CLAIM))
        if claim.ended_at is not None and claim.outcome is not Outcome.CANCELLED:
            actions.append((claim.ended_at, 1, _ending(trail, claim)))
    for each in trail.interventions:
        action = Action.CANCEL if each.action == "cancel" else Action.RESUME
        actions.append((each.at, 0, action))
    return [(action, at) for at, _, action in sorted(actions, key=lambda known: known[:2])]


def _ending(trail: Trail, claim: Claimed) -> Action:
    match claim.outcome:
        case Outcome.DONE:
            return Action.FINISH
        case Outcome.RETRY:
            return Action.RETRY
        case Outcome.HANDED_BACK:
            return Action.HAND_BACK
        case Outcome.EXPIRED:
            said = [said.type for said in _attempts(trail).get(claim.attempt, ())]
            return Action.ESCALATE if ESCALATION in said else Action.EXPIRE
        case _:
            return Action.ESCALATE


def _attempts(trail: Trail) -> dict[int, list[Said]]:
    """The events by the attempt they belong to; 0 for what came before any."""
    attempts: dict[int, list[Said]] = {}
    attempt = 0
    for said in trail.events:
        if said.type == RECEIVED:
            attempt = int(said.data["attempt"])
        attempts.setdefault(attempt, []).append(said)
    return attempts


def _says_what_happened(trail: Trail) -> Iterator[str]:
    """The events of each attempt are its holder's steps, in order and without a gap, up to the step
    that the ledger knows; and then the end that the ledger knows."""
    attempts = _attempts(trail)
    order = [int(said.data["attempt"]) for said in trail.events if said.type == RECEIVED]
    if order != [claim.attempt for claim in trail.claims]:
        yield f"the attempts {[claim.attempt for claim in trail.claims]} were told as {order}"
        return
    if attempts.get(0):
        yield f"before its first attempt there is {[said.type for said in attempts[0]]}"
    for claim in trail.claims:
        said = attempts[claim.attempt]
        reached = STEPS[: STEPS.index(claim.step) + 1]
        steps = [STEP_EVENTS[step] for step in reached if step is not Step.FINISHED]
        story = [each.type for each in said]
        where = f"attempt {claim.attempt}, which came to {claim.step} and ended {claim.outcome},"
        if story[: len(steps)] != steps:
            yield f"{where} was told as {story}"
            continue
        if strangers := {each.by for each in said[: len(steps)]} - {claim.holder}:
            yield f"{where} is {claim.holder}'s, and steps of it were told by {strangers}"
        if (objection := _objection_to_end(claim, said[len(steps) :])) is not None:
            yield f"{where} {objection}"


def _objection_to_end(claim: Claimed, said: Sequence[Said]) -> str | None:
    """What is wrong with how an attempt's end was told, by events after its steps."""
    told = [
        f"{each.type} {each.data['outcome']}" if each.type == FINISHED else each.type
        for each in said
    ]
    began = STEPS.index(claim.step) >= STEPS.index(Step.PROCESSING)
    finished = [f"{FINISHED} {claim.outcome}"] if began else []
    expected: list[list[str]]
    match claim.outcome:
        case None | Outcome.CANCELLED:
            expected = [[]]
        case Outcome.DONE:
            expected = [finished]
        case Outcome.HANDED_BACK:
            expected = [finished]
        case Outcome.RETRY:
            expected = [[*finished, RETRY]]
        case Outcome.ESCALATED:
            expected = [[*finished, ESCALATION]]
        case Outcome.EXPIRED:  # told by whoever noticed, who does not know of the start
            expected = [[RETRY], [ESCALATION]]
    if told not in expected:
        return f"has its end told as {told}, where {expected} was to be expected"
    own = claim.outcome is not Outcome.EXPIRED
    if own and any(each.by != claim.holder for each in said):
        return "has its end told by somebody else"
    blamed = {each.data["attempt"] for each in said if each.type in (RETRY, ESCALATION)}
    if blamed - {claim.attempt}:
        return f"is blamed on the attempts {blamed}"
    return None
