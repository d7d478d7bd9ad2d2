"""A part's life: every action from every state, and what each leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

import pytest

from pipeline.errors import Stage
from pipeline.ledger.parts import Outcome, Part, follows, outcome_of, refusal
from pipeline.ports import Release
from pipeline.tasks import (
    TRANSITIONS,
    Action,
    Busy,
    Failure,
    PartState,
    Settled,
    Step,
    TaskState,
)

TOKEN, OTHER = UUID(int=1), UUID(int=2)
FAILURE = Failure(stage=Stage.PULL, code="test", message="It did not work.")
AGAIN = Release(failure=FAILURE, retry_in_s=7.0)
NEVER = Release(failure=FAILURE, retry_in_s=None)
FREE = Release(failure=None, retry_in_s=0.0)

ACTIONS: dict[Action, Callable[[Part], Part]] = {
    Action.CLAIM: lambda part: part.claimed(OTHER),
    Action.FINISH: lambda part: part.finished(),
    Action.RETRY: lambda part: part.released(AGAIN),
    Action.HAND_BACK: lambda part: part.released(FREE),
    Action.EXPIRE: lambda part: part.expired(AGAIN),
    Action.ESCALATE: lambda part: part.released(NEVER),
    Action.CANCEL: lambda part: part.cancelled(),
    Action.RESUME: lambda part: part.resumed(),
}


def in_state(state: PartState, *, due_in_s: float = -1.0) -> Part:
    return Part(
        part=0,
        state=state,
        attempt=3,
        failures={Stage.PULL: 1, Stage.PUSH: 2},
        due_in_s=due_in_s,
        token=TOKEN if state is PartState.CLAIMED else None,
        announced=True,
        error=FAILURE if state is PartState.ESCALATED else None,
    )


@pytest.mark.parametrize("action", Action)
@pytest.mark.parametrize("state", PartState)
def test_every_action_from_every_state(state: PartState, action: Action) -> None:
    """An action leads where the table says, holds a token only while claimed, or is refused."""
    part = in_state(state)
    following = TRANSITIONS.get((state, action))
    if (state, action) == (PartState.QUEUED, Action.RESUME):
        # The one that is no transition: it waits on, and only its wake-up is missing.
        assert ACTIONS[action](part).state is PartState.QUEUED
    elif following is None:
        with pytest.raises(AssertionError, match=f"a part that is {state} does not"):
            ACTIONS[action](part)
    else:
        after = ACTIONS[action](part)
        assert after.state is following
        assert (after.token is not None) == (following is PartState.CLAIMED)


@pytest.mark.parametrize(
    ("action", "changes"),
    [
        (Action.CLAIM, {"attempt": 4, "token": OTHER}),
        (Action.FINISH, {"token": None, "error": None}),
        (
            Action.RETRY,
            {"failures": {Stage.PULL: 2, Stage.PUSH: 2}, "due_in_s": 7.0, "error": FAILURE},
        ),
        (Action.HAND_BACK, {"failures": {Stage.PULL: 1, Stage.PUSH: 2}, "due_in_s": 0.0}),
        (Action.EXPIRE, {"due_in_s": 7.0, "announced": False, "error": FAILURE}),
        (Action.ESCALATE, {"failures": {Stage.PULL: 2, Stage.PUSH: 2}, "error": FAILURE}),
        (Action.CANCEL, {"failures": {Stage.PULL: 1, Stage.PUSH: 2}, "attempt": 3}),
        (
            Action.RESUME,
            {"failures": {}, "error": None, "due_in_s": 0.0, "announced": False, "attempt": 3},
        ),
    ],
)
def test_what_an_action_leaves(action: Action, changes: dict[str, object]) -> None:
    """Beside the state: what is counted, when it is due, and what is forgotten."""
    state = {Action.CLAIM: PartState.QUEUED, Action.RESUME: PartState.ESCALATED}.get(
        action, PartState.CLAIMED
    )
    after = ACTIONS[action](in_state(state))
    assert {name: getattr(after, name) for name in changes} == changes


def test_an_expiry_may_escalate() -> None:
    """At the threshold, a silent holder's part goes to a person like any other failure."""
    after = in_state(PartState.CLAIMED).expired(NEVER)
    assert (after.state, after.error) == (PartState.ESCALATED, FAILURE)


def test_who_takes_over_has_the_wake_up() -> None:
    """An expired part must be announced again, unless whoever expired it was woken for it."""
    held = in_state(PartState.CLAIMED)
    assert not held.expired(AGAIN).announced
    assert held.expired(AGAIN, woken=True).announced
    assert replace(held, announced=False).expired(AGAIN, woken=True).announced


def test_an_expiry_is_counted() -> None:
    """It cannot be free of charge: a task that kills its peers would go round for ever."""
    with pytest.raises(AssertionError, match="must be counted"):
        in_state(PartState.CLAIMED).expired(FREE)


@pytest.mark.parametrize(
    ("release", "outcome"),
    [(AGAIN, Outcome.RETRY), (NEVER, Outcome.ESCALATED), (FREE, Outcome.HANDED_BACK)],
)
def test_outcomes(release: Release, outcome: Outcome) -> None:
    """How a claim ended is named after what its holder asked for."""
    assert outcome_of(release) is outcome


@pytest.mark.parametrize(
    ("part", "task", "expected"),
    [
        (in_state(PartState.QUEUED), TaskState.QUEUED, None),
        (in_state(PartState.QUEUED), TaskState.RUNNING, None),
        (in_state(PartState.QUEUED, due_in_s=0.0), TaskState.QUEUED, None),
        (
            in_state(PartState.QUEUED, due_in_s=3.0),
            TaskState.QUEUED,
            Busy(look_again_s=3.0, why="it is due in 3.0 s"),
        ),
        (
            in_state(PartState.QUEUED),
            TaskState.ESCALATED,
            Settled(why="its task is escalated"),
        ),
        (
            in_state(PartState.QUEUED, due_in_s=3.0),
            TaskState.CANCELLED,
            Settled(why="its task is cancelled"),
        ),
        (in_state(PartState.DONE), TaskState.RUNNING, Settled(why="it is done")),
        (in_state(PartState.ESCALATED), TaskState.ESCALATED, Settled(why="it is escalated")),
        (in_state(PartState.CANCELLED), TaskState.CANCELLED, Settled(why="it is cancelled")),
    ],
)
def test_refusals(part: Part, task: TaskState, expected: Busy | Settled | None) -> None:
    """A part that nobody holds is claimed when it and its task wait for work, and it is due."""
    assert refusal(part, task) == expected


def test_steps_are_taken_one_by_one() -> None:
    """The next step follows; one that was taken does not; one further on is a mistake of ours."""
    assert follows(Step.PULLED, Step.DETAILS_RETRIEVED)
    assert not follows(Step.PULLED, Step.PULLED)
    assert not follows(Step.PULLED, Step.UPLOADED)
    with pytest.raises(AssertionError, match="cannot go from received to pulled"):
        follows(Step.PULLED, Step.RECEIVED)
