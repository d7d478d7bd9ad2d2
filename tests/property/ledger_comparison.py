"""The ledger beside its model: after every call the whole database must be what the model says.

The rules, what may be called when, are in test_ledger_model.py.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import trio
from hypothesis.stateful import RuleBasedStateMachine, invariant

from pipeline import events
from pipeline.errors import PipelineError, Stage
from pipeline.events import Record, Recordable, Stamp
from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Expired, Release
from pipeline.standing import Suspended
from pipeline.tasks import (
    STEP_EVENTS,
    Busy,
    Failure,
    Held,
    Holder,
    PartState,
    Product,
    ProductKind,
    Settled,
)
from tests.property.ledger_model import ModelClaim, ModelNotice, ModelPart, ModelTask, escalation

ATTEMPTS_MAX = 3
LATER_S = 3600.0
PEERS = ("ada", "bob", "cyd")
STEPS = tuple(STEP_EVENTS.values())
ESCALATED = events.ContainerErrorEscalation.kind
PRODUCTS = [
    Product(kind=ProductKind.RENDITION, name="720p.mp4", rendition="720p", size=7),
    Product(kind=ProductKind.POSTER, name="poster.jpg", size=1),
]


def crash_delay_s(crashes: int, attempt: int) -> float | None:
    """Once: again at once. Twice: later, or a person: a run comes to both. Then a person."""
    if crashes == 1:
        return 0.0
    return LATER_S if crashes == 2 and attempt % 2 else None


def decide(expired: Expired) -> tuple[Release, Sequence[Recordable]]:
    """What follows from a crash, as `crash_delay_s` has it."""
    failure = Failure(stage=expired.stage, code="lease_expired", message="silent")
    retry_in_s = crash_delay_s(expired.failures, expired.attempt)
    if retry_in_s is None:
        told = escalation(expired.task_id, expired.part, expired.attempt, expired.stage)
        return Release(failure=failure, retry_in_s=None), [told]
    event = events.ContainerErrorRetry(
        task_id=expired.task_id,
        part=expired.part,
        attempt=expired.attempt,
        stage=expired.stage,
        code=failure.code,
        message=failure.message,
        failures=expired.failures,
        attempts_max=expired.attempts_max,
        retry_in_s=retry_in_s,
    )
    return Release(failure=failure, retry_in_s=retry_in_s), [event]


def holder_of(peer: str) -> Holder:
    return Holder(peer_uid=peer, peer_name=peer, epoch=1, container="pid:1", node="here")


class Comparison(RuleBasedStateMachine):
    """Holds the ledger and the model, and compares them after every call."""

    def __init__(self, database: Database, look: psycopg.Connection[dict[str, Any]]) -> None:
        super().__init__()
        self.look = look
        self.look.execute("DELETE FROM tasks")
        self.look.execute("DELETE FROM events")
        self.look.execute("DELETE FROM standings")
        self.ledger = PostgresLedger(
            database, lease_s=600.0, expiry=decide, recorder=self.sweeper_record
        )
        self.tasks: list[ModelTask] = []
        self.claims: list[ModelClaim] = []
        self.expected_events: list[tuple[str, int, str]] = []
        self.notices: list[ModelNotice] = []
        self.uuids = (UUID(int=number << 64) for number in itertools.count(1))
        self.sequences = itertools.count(1)
        # What the ledger was told of a peer: its incarnation, and how it is.
        self.said = dict.fromkeys(PEERS, (0, 0))
        self.suspended: set[str] = set()

    @property
    def stopped_tasks(self) -> list[ModelTask]:
        return [task for task in self.tasks if task.is_stopped]

    @property
    def parts(self) -> list[ModelPart]:
        return [part for task in self.tasks for part in task.parts]

    @property
    def queued_parts(self) -> list[ModelPart]:
        queued = [part for part in self.parts if part.state is PartState.QUEUED]
        return [part for part in queued if part.task.is_stopped] or queued

    @property
    def living_claims(self) -> list[ModelClaim]:
        return [held for held in self.claims if held.outcome is None]

    @property
    def succeeded_claims(self) -> list[ModelClaim]:
        """Those that have ended, and whose parts others hold now."""
        return [held for held in self.claims if held.outcome and held.part.holder is not None]

    def record(self, peer: str, event: Recordable) -> Record:
        stamp = Stamp(
            peer_uid=peer,
            epoch=1,
            sequence=next(self.sequences),
            container=f"pid:{peer}",
            node="here",
            at=datetime.now(UTC),
        )
        return Record(stamp=stamp, event=event)

    def sweeper_record(self, event: Recordable) -> Record:
        record = self.record("sweeper", event)
        self.expect(record)
        return record

    def expect(self, *records: Record) -> None:
        for record in records:
            stamp = record.stamp
            self.expected_events.append((stamp.peer_uid, stamp.sequence, record.event.kind))

    def call(self, twice: bool, method: Callable[..., Any], *arguments: Any) -> Any:
        """Call the ledger; a repeat at once must be answered like the first call."""
        answer = self.try_to(method, *arguments)
        if twice:
            assert self.try_to(method, *arguments) == answer
        return answer

    def try_to(self, method: Callable[..., Any], *arguments: Any) -> Any:
        """The answer, or the kind of the error."""
        try:
            return trio.run(method, *arguments)
        except PipelineError as error:
            return type(error)

    def model_expire(self, part: ModelPart) -> None:
        crashes = part.failures.get(Stage.CRASH, 0) + 1
        part.fail(Stage.CRASH, "expired", crash_delay_s(crashes, part.attempt))

    def model_expire_all(self, holding: Sequence[ModelClaim]) -> None:
        """Several claims end, in this order; their events were written in the same."""
        escalated = []
        for held in holding:
            self.model_expire(held.part)
            if held.part.state is PartState.ESCALATED:
                escalated.append(held.part)
        written = [each for each in self.expected_events if each[2] == ESCALATED]
        for part, (peer_uid, sequence, _) in zip(
            escalated, written[len(written) - len(escalated) :], strict=True
        ):
            self.notices.append(ModelNotice(part.task.id, (peer_uid, sequence), list(part.story)))

    def expect_notice_of(self, part: ModelPart, taken_from: ModelClaim | None) -> None:
        """Whoever claims may have ended another claim, and that may have been its last attempt."""
        ended = taken_from is not None and taken_from.outcome == "expired"
        if ended and part.state is PartState.ESCALATED:
            peer_uid, sequence, kind = self.expected_events[-1]
            assert kind == ESCALATED
            self.notices.append(ModelNotice(part.task.id, (peer_uid, sequence), list(part.story)))

    def expect_notice(self, record: Record, part: ModelPart) -> None:
        stamp = record.stamp
        self.notices.append(
            ModelNotice(part.task.id, (stamp.peer_uid, stamp.sequence), list(part.story))
        )

    def model_intervention(self, task: ModelTask) -> None:
        """Who retries or cancels a task need not be told any more that it waits."""
        self.notices = [
            notice for notice in self.notices if notice.is_told or notice.task_id != task.id
        ]

    def model_claim(
        self, part: ModelPart, peer: str, unheard: Held | None = None
    ) -> type[Busy | Settled | Suspended] | None:
        """What a claim finds, and does to a holder that let the lease run out, or is not heard."""
        if peer in self.suspended:
            return Suspended
        held = part.holder
        if held is not None:
            is_still = unheard is not None and held.seen is unheard
            if held.has_run_out or is_still:
                self.model_expire(part)
        return Busy if part.holder is not None else part.refusal()

    # What must hold after every call.

    @invariant()
    def parts_are_the_models(self) -> None:
        """No part is lost, none appears, and each is where the model has it."""
        rows = self.look.execute(
            "SELECT task_id, part, state, attempt, failures, token,"
            " not_before <= clock_timestamp() AS is_due FROM parts"
        ).fetchall()
        actual = {(row.pop("task_id"), row.pop("part")): row for row in rows}
        expected = {
            (part.task.id, part.number): {
                "state": part.state,
                "attempt": part.attempt,
                "failures": part.failures,
                "token": part.holder.claim.token if part.holder else None,
                "is_due": part.is_due,
            }
            for part in self.parts
        }
        assert actual == expected

    @invariant()
    def tasks_are_derived(self) -> None:
        """A task's state is what its parts make of it, and every commit warned once."""
        rows = self.look.execute(
            "SELECT id, state, jsonb_array_length(warnings) AS said FROM tasks"
        )
        assert {row["id"]: (row["state"], row["said"]) for row in rows} == {
            task.id: (task.state, sum(part.committed is not None for part in task.parts))
            for task in self.tasks
        }

    @invariant()
    def claims_are_history(self) -> None:
        """Every claim ended as the model says; a loser's late calls did not change how."""
        rows = self.look.execute("SELECT token, outcome FROM claims")
        expected = {held.claim.token: held.outcome for held in self.claims}
        assert {row["token"]: row["outcome"] for row in rows} == expected

    @invariant()
    def outputs_are_one_attempts(self) -> None:
        """A done part has all outputs of exactly one claim, and any other part has none."""
        rows = self.look.execute("SELECT task_id, part, name, key, attempt, token FROM outputs")
        actual = sorted(tuple(row.values()) for row in rows)
        committed = [part.committed.claim for part in self.parts if part.committed is not None]
        assert actual == sorted(
            (
                claim.task_id,
                claim.part,
                product.name,
                f"{claim.prefix}/{product.name}",
                claim.attempt,
                claim.token,
            )
            for claim in committed
            for product in PRODUCTS
        )

    @invariant()
    def events_are_those_that_happened(self) -> None:
        """Each once, in their order; an attempt's are a path through the steps."""
        rows = self.look.execute("SELECT peer_uid, sequence, type FROM events ORDER BY id")
        assert [tuple(row.values()) for row in rows] == self.expected_events
        for held in self.claims:
            kinds = [record.event.kind for record in held.said]
            if held.outcome == "done":
                assert kinds.pop() == STEPS[-1]
            assert kinds == list(STEPS[: len(kinds)])

    @invariant()
    def escalations_are_told(self) -> None:
        """Each has one notice, in their order, with its story, until a person has seen to its task;
        what was told stays told."""
        rows = self.look.execute(
            "SELECT peer_uid, sequence, told_at IS NOT NULL AS is_told,"
            "       jsonb_path_query_array(data, '$.story[*].attempt') AS story"
            " FROM notices JOIN events ON events.id = event_id ORDER BY event_id"
        )
        assert [tuple(row.values()) for row in rows] == [
            (*notice.event, notice.is_told, notice.story) for notice in self.notices
        ]
