"""The rules that the fault tests end with can fail: each is broken once, and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from pipeline.ledger.parts import Outcome
from pipeline.tasks import STEP_EVENTS, PartState, Step
from tests.chaos.story import BEGAN, TWO, Story
from tests.chaos.trail import Trail, objections


def straight() -> Trail:
    story = Story()
    story.attempt(Step.FINISHED, Outcome.DONE)
    return story.trail(PartState.DONE)


def winding() -> Trail:
    """Every kind of end, a person's retry after an escalation and after a cancellation."""
    story = Story()
    story.attempt(Step.RECEIVED, Outcome.RETRY)
    story.attempt(Step.TRANSCODED, Outcome.RETRY)
    story.attempt(Step.PULLED, Outcome.HANDED_BACK)
    story.attempt(Step.UPLOADED, Outcome.HANDED_BACK, by=TWO)
    story.attempt(Step.UPLOADED, Outcome.EXPIRED)
    story.attempt(Step.PROCESSING, Outcome.EXPIRED, final=True)
    story.intervene("retry")
    story.attempt(Step.PROCESSING, Outcome.ESCALATED)
    story.intervene("retry")
    story.attempt(Step.TRANSCODED, Outcome.CANCELLED)
    story.intervene("cancel")
    # A cancelled claim ends with the intervention, in one transaction.
    story.claims[-1] = replace(story.claims[-1], ended_at=story.people[-1].at)
    story.intervene("retry")
    story.attempt(Step.FINISHED, Outcome.DONE, by=TWO)
    return story.trail(PartState.DONE)


def escalated() -> Trail:
    story = Story()
    story.attempt(Step.PULLED, Outcome.ESCALATED)
    return story.trail(PartState.ESCALATED)


def cancelled_while_it_waited() -> Trail:
    story = Story()
    story.attempt(Step.PULLED, Outcome.RETRY)
    story.intervene("cancel")
    return story.trail(PartState.CANCELLED)


@pytest.mark.parametrize("make", [straight, winding, escalated, cancelled_while_it_waited])
def test_a_history_that_may_happen_is_not_objected_to(make: Callable[[], Trail]) -> None:
    """Whatever the product may do passes, so that an objection means something."""
    assert objections(make()) == []


def _lost() -> Trail:
    story = Story()
    story.attempt(Step.PULLED, Outcome.HANDED_BACK)
    return story.trail(PartState.QUEUED)


def _done_twice() -> Trail:
    story = Story()
    story.attempt(Step.FINISHED, Outcome.DONE)
    story.attempt(Step.FINISHED, Outcome.DONE, by=TWO)
    return story.trail(PartState.DONE)


def _done_and_escalated() -> Trail:
    story = Story()
    story.attempt(Step.FINISHED, Outcome.DONE)
    return story.trail(PartState.ESCALATED)


def _foreign_outputs() -> Trail:
    return replace(straight(), output_tokens=frozenset({uuid4()}))


def _end_told_twice() -> Trail:
    trail = straight()
    return replace(trail, events=[*trail.events, trail.events[-1]])


def _skipped_step() -> Trail:
    trail = straight()
    return replace(trail, events=[*trail.events[:2], *trail.events[3:]])


def _reordered_steps() -> Trail:
    first, second, third, *others = straight().events
    return replace(straight(), events=[first, third, second, *others])


def _step_of_somebody_else() -> Trail:
    trail = straight()
    told = [*trail.events]
    told[4] = replace(told[4], by=TWO)
    return replace(trail, events=told)


def _late_step_of_a_lost_claim() -> Trail:
    story = Story()
    story.attempt(Step.PULLED, Outcome.EXPIRED)
    story.say(STEP_EVENTS[Step.PROCESSING])
    story.attempt(Step.FINISHED, Outcome.DONE, by=TWO)
    return story.trail(PartState.DONE)


def _two_at_once() -> Trail:
    story = Story()
    story.attempt(Step.PULLED, Outcome.EXPIRED)
    story.attempt(Step.FINISHED, Outcome.DONE, by=TWO)
    story.claims[1] = replace(story.claims[1], claimed_at=BEGAN)
    return story.trail(PartState.DONE)


def _claimed_after_its_escalation() -> Trail:
    story = Story()
    story.attempt(Step.PULLED, Outcome.ESCALATED)
    story.attempt(Step.FINISHED, Outcome.DONE, by=TWO)
    return story.trail(PartState.DONE)


def _unsaid_failure() -> Trail:
    story = Story()
    story.attempt(Step.PULLED, Outcome.RETRY)
    del story.events[-1]
    story.attempt(Step.FINISHED, Outcome.DONE)
    return story.trail(PartState.DONE)


def _unsaid_attempt() -> Trail:
    story = Story()
    story.attempt(Step.RECEIVED, Outcome.HANDED_BACK)
    del story.events[0]
    story.attempt(Step.FINISHED, Outcome.DONE)
    return story.trail(PartState.DONE)


def _failure_of_another_attempt() -> Trail:
    story = Story()
    story.attempt(Step.PULLED, Outcome.RETRY)
    story.events[-1] = replace(story.events[-1], data={"attempt": 9})
    story.attempt(Step.FINISHED, Outcome.DONE)
    return story.trail(PartState.DONE)


def _escalated_in_silence() -> Trail:
    story = Story()
    story.attempt(Step.PULLED, Outcome.ESCALATED)
    del story.events[-1]
    return story.trail(PartState.ESCALATED)


BROKEN = [
    (_lost, "it came to no end: it is queued after 1 attempts"),
    (_done_twice, "it is done by 2 claims"),
    (_done_and_escalated, "it is escalated, and yet there are results of it"),
    (_foreign_outputs, "its outputs are not those of the one claim that did it"),
    (_end_told_twice, "its end was told 2 times"),
    (_skipped_step, "was told as"),
    (_reordered_steps, "was told as"),
    (_step_of_somebody_else, "steps of it were told by"),
    (_late_step_of_a_lost_claim, "has its end told as"),
    (_two_at_once, "the table knows no claim there"),
    (_claimed_after_its_escalation, "it was escalated, and the table knows no claim there"),
    (_unsaid_failure, "has its end told as []"),
    (_unsaid_attempt, "the attempts [1, 2] were told as [2]"),
    (_failure_of_another_attempt, "is blamed on the attempts {9}"),
    (_escalated_in_silence, "it was escalated 0 times"),
]


@pytest.mark.parametrize(("make", "said"), BROKEN, ids=lambda case: getattr(case, "__name__", ""))
def test_what_must_never_happen_is_said(make: Callable[[], Trail], said: str) -> None:
    """Each rule is broken in one way, and the report names the task and what is wrong with it."""
    found = objections(make())
    assert any(said in objection for objection in found), found
    assert all(objection.startswith(f"task {UUID(int=7)}: ") for objection in found)
