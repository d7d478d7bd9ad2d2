"""Histories of a part to show the rules, told as the ledger would have them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from pipeline.ledger.parts import Outcome
from pipeline.tasks import STEP_EVENTS, PartState, Step
from tests.chaos.trail import ESCALATION, FINISHED, RETRY, Claimed, Intervened, Life, Said, Trail

ONE: Life = ("0000000000000001", 1)
TWO: Life = ("0000000000000002", 1)
BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
STEPS = tuple(Step)


class Story:
    """A part's history, told attempt by attempt; a second passes between any two things."""

    def __init__(self) -> None:
        self._seconds = 0
        self.claims: list[Claimed] = []
        self.events: list[Said] = []
        self.people: list[Intervened] = []

    def now(self) -> datetime:
        self._seconds += 1
        return BEGAN + timedelta(seconds=self._seconds)

    def attempt(self, step: Step, outcome: Outcome, *, by: Life = ONE, final: bool = False) -> None:
        """An attempt that comes to a step and ends, told as it should be."""
        number = len(self.claims) + 1
        claimed_at = self.now()
        for each in STEPS[: STEPS.index(step) + 1]:
            data = {"attempt": number} if each is Step.RECEIVED else {}
            if each is not Step.FINISHED:
                self.say(STEP_EVENTS[each], by=by, **data)
        if STEPS.index(step) >= STEPS.index(Step.PROCESSING) and outcome not in (
            Outcome.EXPIRED,
            Outcome.CANCELLED,
        ):
            self.say(FINISHED, by=by, outcome=outcome.value)
        teller = TWO if outcome is Outcome.EXPIRED else by
        if outcome is Outcome.ESCALATED or final:
            self.say(ESCALATION, by=teller, attempt=number)
        elif outcome in (Outcome.RETRY, Outcome.EXPIRED):
            self.say(RETRY, by=teller, attempt=number)
        self.claims.append(
            Claimed(
                token=uuid4(),
                attempt=number,
                holder=by,
                step=step,
                claimed_at=claimed_at,
                ended_at=self.now(),
                outcome=outcome,
            )
        )

    def say(self, type: str, *, by: Life = ONE, **data: Any) -> None:
        self.events.append(Said(type=type, by=by, data=data))

    def intervene(self, action: str) -> None:
        self.people.append(Intervened(action=action, at=self.now()))

    def trail(self, state: PartState, **changes: Any) -> Trail:
        """What the ledger would say now."""
        done = [claim.token for claim in self.claims if claim.outcome is Outcome.DONE]
        trail = Trail(
            task_id=UUID(int=7),
            part=0,
            state=state,
            claims=self.claims,
            events=self.events,
            interventions=self.people,
            output_tokens=frozenset(done),
        )
        return replace(trail, **changes)
