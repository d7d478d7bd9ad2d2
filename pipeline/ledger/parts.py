"""A part's life, as values: what each action makes of it, and what its task then is.

Pure: the ledger reads a part, asks here what follows, and writes the answer in the same
transaction. Every change goes through `TRANSITIONS`; UPDATE statements that each know a little of
the rules were the alternative, and the rules would be nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from uuid import UUID

from pipeline.errors import Stage
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

STEPS = tuple(Step)


class Outcome(StrEnum):
    """How a claim ended."""

    DONE = "done"
    RETRY = "retry"
    ESCALATED = "escalated"
    HANDED_BACK = "handed_back"
    EXPIRED = "expired"
    """The lease ran out, and somebody noticed."""
    CANCELLED = "cancelled"
    """A person stopped the task."""


def outcome_of(release: Release) -> Outcome:
    """Name how a claim ends that its holder gives up."""
    if release.failure is None:
        return Outcome.HANDED_BACK
    return Outcome.ESCALATED if release.retry_in_s is None else Outcome.RETRY


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part as the ledger holds it.

    Args:
        failures: Counted failures by stage.
        due_in_s: Seconds until it may be claimed, by the database's clock; not above 0 when due.
        token: The claim that holds it.
        announced: A wake-up for it is in the queue, or was delivered.
        error: Why the last attempt ended without outputs.
    """

    part: int
    state: PartState
    attempt: int
    failures: Mapping[Stage, int]
    due_in_s: float
    token: UUID | None
    announced: bool
    error: Failure | None

    def claimed(self, token: UUID) -> Part:
        """A peer takes it."""
        state = _after(self.state, Action.CLAIM)
        return replace(self, state=state, token=token, attempt=self.attempt + 1)

    def finished(self) -> Part:
        """Its holder commits the outputs."""
        return replace(self, state=_after(self.state, Action.FINISH), token=None, error=None)

    def released(self, release: Release) -> Part:
        """Its holder gives it up."""
        if release.failure is None:
            state = _after(self.state, Action.HAND_BACK)
            return replace(self, state=state, token=None, due_in_s=release.retry_in_s or 0.0)
        return self._failed(Action.RETRY, release, release.failure)

    def expired(self, release: Release, *, woken: bool = False) -> Part:
        """Its holder went silent, and `release` says how it goes on.

        Args:
            woken: Who takes it from its holder has a wake-up for it. Otherwise nobody may be left
                who would wake a peer, so it must be announced again.
        """
        assert release.failure is not None, "an expired lease is a failure and must be counted"
        failed = self._failed(Action.EXPIRE, release, release.failure)
        return replace(failed, announced=woken)

    def cancelled(self) -> Part:
        """A person stops it."""
        return replace(self, state=_after(self.state, Action.CANCEL), token=None)

    def resumed(self) -> Part:
        """A person lets it start again, as if nothing had failed yet.

        A part that only waits (beside one that stopped the task) needs to be announced again too:
        its wake-up may have been taken off the queue meanwhile.
        """
        if self.state is PartState.QUEUED:
            return replace(self, announced=False)
        state = _after(self.state, Action.RESUME)
        return replace(self, state=state, failures={}, error=None, due_in_s=0.0, announced=False)

    def counting(self, stage: Stage) -> int:
        """How often the stage has failed when one more failure is counted."""
        return self.failures.get(stage, 0) + 1

    def _failed(self, action: Action, release: Release, failure: Failure) -> Part:
        failures = {**self.failures, failure.stage: self.counting(failure.stage)}
        if release.retry_in_s is None:
            action, due_in_s = Action.ESCALATE, self.due_in_s
        else:
            due_in_s = release.retry_in_s
        return replace(
            self,
            state=_after(self.state, action),
            token=None,
            failures=failures,
            due_in_s=due_in_s,
            error=failure,
        )


def refusal(part: Part, task: TaskState) -> Busy | Settled | None:
    """Why a part that nobody holds cannot be claimed; None when it can.

    A queued part beside one that stopped the whole task needs no work either, until a person lets
    the task start again.
    """
    if part.state is not PartState.QUEUED:
        return Settled(why=f"it is {part.state}")
    if task not in (TaskState.QUEUED, TaskState.RUNNING):
        return Settled(why=f"its task is {task}")
    if part.due_in_s > 0:
        return Busy(look_again_s=part.due_in_s, why=f"it is due in {part.due_in_s:.1f} s")
    return None


def follows(step: Step, previous: Step) -> bool:
    """Whether a claim at `previous` goes to `step` next; false when it has been there already.

    A claim cannot jump: that would be our own mistake, and the timeline would have a hole.
    """
    at, to = STEPS.index(previous), STEPS.index(step)
    assert to <= at + 1, f"a claim cannot go from {previous} to {step}"
    return to == at + 1


def _after(state: PartState, action: Action) -> PartState:
    following = TRANSITIONS.get((state, action))
    assert following is not None, f"a part that is {state} does not {action}"
    return following
