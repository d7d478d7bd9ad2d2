"""The ledger against a model: any order of claims, expiries, retries, duplicates and late calls.

The model is what the ledger would be without a database: objects changed by one thread. After every
call the whole database is compared with it, so a call that must change nothing is seen to change
nothing. No time passes by itself: leases run out and delays are over when a rule says so.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

import psycopg
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row

from pipeline import events
from pipeline.errors import ClaimLost, NotAllowed, PipelineError, Stage
from pipeline.events import Record, Recordable, Stamp
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.postgres import PostgresLedger
from pipeline.media.ladder import parse_ladder
from pipeline.ports import Expired, Release, Submission
from pipeline.standing import Death, Life, Suspended
from pipeline.tasks import (
    STEP_EVENTS,
    Busy,
    Claim,
    Failure,
    Holder,
    PartState,
    Product,
    ProductKind,
    Settled,
    TaskState,
)
from tests.property.ledger_model import FAILURE, STEP_EVENTS_MADE, ModelClaim, ModelPart, ModelTask

T = TypeVar("T")
ATTEMPTS_MAX = 3
TASKS_MAX = 3
LATER_S = 3600.0
PEERS = ("ada", "bob", "cyd")
STEPS = tuple(STEP_EVENTS.values())
WELL, SUSPECT, DEAD = range(3)
PRODUCTS = [
    Product(kind=ProductKind.RENDITION, name="720p.mp4", rendition="720p", size=7),
    Product(kind=ProductKind.POSTER, name="poster.jpg", size=1),
]


def decide(expired: Expired) -> tuple[Release, Sequence[Recordable]]:
    """Crash once: again at once. Twice: later. Three times: a person."""
    failure = Failure(stage=expired.stage, code="lease_expired", message="silent")
    retry_in_s = {1: 0.0, 2: LATER_S}.get(expired.failures)
    event = events.ContainerErrorRetry(
        task_id=expired.task_id,
        part=expired.part,
        attempt=expired.attempt,
        stage=expired.stage,
        code=failure.code,
        message=failure.message,
        failures=expired.failures,
        attempts_max=expired.attempts_max,
        retry_in_s=retry_in_s or 0.0,
    )
    return Release(failure=failure, retry_in_s=retry_in_s), [event]


def holder_of(peer: str) -> Holder:
    return Holder(peer_uid=peer, peer_name=peer, epoch=1, container="pid:1", node="here")


def drawn(
    rather: Callable[[LedgerMachine], Sequence[T]],
    otherwise: Callable[[LedgerMachine], Sequence[T]],
) -> st.SearchStrategy[T]:
    """Half of the time one of the few with which most can happen, else any of all there are."""

    def choose(machine: LedgerMachine) -> st.SearchStrategy[T]:
        everything = otherwise(machine)
        return st.sampled_from(rather(machine) or everything) | st.sampled_from(everything)

    return st.runner().flatmap(choose)


a_task = drawn(lambda on: on.stopped_tasks, lambda on: on.tasks)
a_part = drawn(lambda on: on.queued_parts, lambda on: on.parts)
a_claim = drawn(lambda on: on.living_claims, lambda on: on.claims)
some_claims = precondition(lambda on: bool(on.claims))


class LedgerMachine(RuleBasedStateMachine):
    """Calls the ledger and the model in the same order, and compares them after every call."""

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
        part.fail(Stage.CRASH, "expired", {1: 0.0, 2: LATER_S}.get(crashes))

    def model_claim(self, part: ModelPart, peer: str) -> type[Busy | Settled | Suspended] | None:
        """What a claim finds, and does to a holder that let the lease run out."""
        if peer in self.suspended:
            return Suspended
        if part.holder is not None and part.holder.has_run_out:
            self.model_expire(part)
        return Busy if part.holder is not None else part.refusal()

    @initialize(parts=st.integers(1, 2))
    def begin(self, parts: int) -> None:
        """Every rule finds something to do, whichever of them a run is left with."""
        self.submit(parts, False)
        self.claim(self.parts[0], "ada", 0, False)

    @precondition(lambda on: len(on.tasks) < TASKS_MAX)
    @rule(parts=st.integers(1, 2), twice=st.booleans())
    def submit(self, parts: int, twice: bool) -> None:
        task = ModelTask(id=next(self.uuids))
        submission = Submission(
            task_id=task.id,
            source="clip",
            title="clip",
            ladder=parse_ladder("web"),
            attempts_max=ATTEMPTS_MAX,
        )
        assert self.call(twice, self.ledger.submit, submission) is None
        for number in range(1, parts):  # as a plan of several parts will write them
            self.look.execute("INSERT INTO parts VALUES (%s, %s, 'whole')", (task.id, number))
        task.parts = [ModelPart(task, number) for number in range(parts)]
        self.tasks.append(task)

    @rule(
        part=a_part,
        peer=st.sampled_from(PEERS),
        steps=st.integers(0, len(STEPS) - 2),
        twice=st.booleans(),
    )
    def claim(self, part: ModelPart, peer: str, steps: int, twice: bool) -> None:
        """A claim and, where it is granted, the first steps of its holder."""
        holder = holder_of(peer)
        token, which = next(self.uuids), (part.task.id, part.number)
        event = events.TaskReceived(task_id=part.task.id, part=part.number, attempt=0)
        received = self.record(peer, event)
        refused = self.model_claim(part, peer)
        answer = self.try_to(self.ledger.claim, *which, holder, token, received)
        if refused is not None:
            assert isinstance(answer, refused)
            return
        part.attempt += 1
        part.state = PartState.CLAIMED
        assert answer == Claim(
            task_id=part.task.id,
            part=part.number,
            attempt=part.attempt,
            token=token,
            lease_s=600.0,
            attempts_max=ATTEMPTS_MAX,
            failures=part.failures,
        )
        self.expect(received)
        part.holder = ModelClaim(answer, peer, part, received, said=[received])
        self.claims.append(part.holder)
        if twice:
            self.claim_again(part.holder)
        for _ in range(steps):
            self.step(part.holder, twice)

    @some_claims
    @rule(held=a_claim)
    def claim_again(self, held: ModelClaim) -> None:
        """The repeat of a claim: the same answer while it is alive, and never a second claim."""
        claim, holder = held.claim, holder_of(held.peer)
        if held.outcome is not None:
            expected = self.model_claim(held.part, held.peer) or Busy
        answer = self.try_to(
            self.ledger.claim, claim.task_id, claim.part, holder, claim.token, held.received
        )
        if held.outcome is None:
            assert answer == claim
        else:
            assert isinstance(answer, expected)

    @some_claims
    @rule(held=a_claim, twice=st.booleans())
    def step(self, held: ModelClaim, twice: bool) -> None:
        """The next step of a claim, in time or late."""
        if len(held.said) >= len(STEPS) - 1:
            return  # the last step is `end`
        claim, kind = held.claim, STEPS[len(held.said)]
        if kind == "TaskDetailsRetrieved":
            details = events.TaskDetailsRetrieved(
                task_id=claim.task_id, part=claim.part, source="clip", ladder="web"
            )
            record = self.record(held.peer, details)
            answer = self.call(twice, self.ledger.retrieve_details, claim, lambda _: record)
        else:
            event = STEP_EVENTS_MADE[kind](task_id=claim.task_id, part=claim.part)
            record = self.record(held.peer, event)
            answer = self.call(twice, self.ledger.advance, claim, record)
        if held.outcome is not None:
            assert answer is ClaimLost
            return
        assert answer is not ClaimLost
        self.expect(record)
        held.said.append(record)

    @some_claims
    @rule(held=a_claim, data=st.data())
    def step_again(self, held: ModelClaim, data: st.DataObject) -> None:
        """A step that was taken already: nothing changes, with the same stamp or a new one."""
        taken = [record for record in held.said if record.event.kind in STEPS[2:6]]
        if not taken:
            return
        record = data.draw(st.sampled_from(taken))
        if data.draw(st.booleans()):
            record = self.record(held.peer, record.event)
        answer = self.try_to(self.ledger.advance, held.claim, record)
        assert answer is (None if held.outcome is None else ClaimLost)

    @some_claims
    @rule(held=a_claim, twice=st.booleans())
    def renew(self, held: ModelClaim, twice: bool) -> None:
        """A renewal in time, or late but not too late, or too late."""
        answer = self.call(twice, self.ledger.renew, held.claim, None)
        assert answer is (None if held.outcome is None else ClaimLost)
        if held.outcome is None:
            held.has_run_out = False

    @some_claims
    @rule(
        held=a_claim,
        outcome=st.sampled_from(["done", "retry", "escalated", "handed_back"]),
        stage=st.sampled_from([Stage.PULL, Stage.TRANSCODE]),
        retry_in_s=st.sampled_from([0.0, LATER_S]),
        twice=st.booleans(),
    )
    def end(
        self, held: ModelClaim, outcome: str, stage: Stage, retry_in_s: float, twice: bool
    ) -> None:
        """A finish or a release, in time or late."""
        claim, part = held.claim, held.part
        failure = Failure(stage=stage, code="test", message="It did not work.")
        release = {
            "handed_back": Release(failure=None, retry_in_s=0.0),
            "retry": Release(failure=failure, retry_in_s=retry_in_s),
        }.get(outcome, Release(failure=failure, retry_in_s=None))
        event = events.WorkloadProcessingFinished(
            task_id=claim.task_id, part=claim.part, outcome=outcome, seconds=1.0
        )
        record = self.record(held.peer, event)

        def ending() -> Any:
            if outcome == "done":
                return self.try_to(self.ledger.finish, claim, PRODUCTS, ["as is"], record)
            return self.try_to(self.ledger.release, claim, release, [record])

        answer = ending()
        if held.outcome is not None:
            assert answer is (None if held.outcome == outcome else ClaimLost)
            return
        assert answer is None
        self.expect(record)
        held.ending = ending
        match outcome:
            case "done":
                held.said.append(record)
                part.committed = held
                part.end(PartState.DONE, outcome)
            case "handed_back":
                part.end(PartState.QUEUED, outcome)
            case _:
                part.fail(stage, outcome, release.retry_in_s)
        if twice:
            self.end_again(held)

    @some_claims
    @rule(held=a_claim)
    def end_again(self, held: ModelClaim) -> None:
        """The repeat of a finish or a release, however much later: all is well, nothing changes."""
        if held.ending is not None:
            assert held.ending() is None

    @some_claims
    @rule(held=a_claim)
    def lease_runs_out(self, held: ModelClaim) -> None:
        self.look.execute(
            "UPDATE claims SET lease_expires_at = clock_timestamp() - interval '1 second'"
            " WHERE token = %s",
            (held.claim.token,),
        )
        held.has_run_out = True

    @some_claims
    @rule(held=a_claim, peer=st.sampled_from(PEERS))
    def take_over(self, held: ModelClaim, peer: str) -> None:
        """Its holder falls silent, and another peer finds the part."""
        self.lease_runs_out(held)
        self.claim(held.part, peer, 0, False)

    @rule()
    def delays_are_over(self) -> None:
        self.look.execute("UPDATE parts SET not_before = clock_timestamp()")
        for part in self.parts:
            part.is_due = True

    @rule()
    def sweep(self) -> None:
        found = trio.run(self.ledger.expire_leases)
        run_out = [held for held in self.living_claims if held.has_run_out]
        assert {(each.task_id, each.part, each.attempt) for each in found} == {
            (held.claim.task_id, held.claim.part, held.claim.attempt) for held in run_out
        }
        for held in run_out:
            self.model_expire(held.part)

    @rule(
        peer=st.sampled_from(PEERS),
        verdict=st.sampled_from([WELL, SUSPECT, DEAD, DEAD]),
        incarnation=st.integers(1, 4),
        by=st.sampled_from(["sweeper", *PEERS]),
        twice=st.booleans(),
    )
    def judge(self, peer: str, verdict: int, incarnation: int, by: str, twice: bool) -> None:
        """Somebody tells how a peer is, in time or late; the same that is judged, or another."""
        life, author = Life(peer_uid=peer, epoch=1, incarnation=incarnation), holder_of(by)
        if verdict == WELL:
            assert self.call(twice, self.ledger.reinstate, life) is None
            if (incarnation, WELL) > self.said[peer]:
                self.said[peer] = (incarnation, WELL)
                self.suspended.discard(peer)
            return
        if verdict == SUSPECT:
            answer = self.try_to(self.ledger.suspend, author, [life])
        else:
            death = Death(life=life, how="died", silent_s=6.0)
            record = self.record(by, FAILURE)
            is_news = by not in self.suspended and (incarnation, DEAD) > self.said[peer]
            if is_news:
                self.expect(record)
            answer = self.try_to(self.ledger.bury, author, death, record)
            if is_news:
                self.model_bury(peer, answer)
            if twice:
                again = self.try_to(self.ledger.bury, author, death, record)
                assert again == [] or isinstance(again, Suspended)
        if by in self.suspended:
            assert isinstance(answer, Suspended)
        elif incarnation >= self.said[peer][0]:
            self.said[peer] = max(self.said[peer], (incarnation, verdict))
            self.suspended.add(peer)

    def model_bury(self, peer: str, taken: Sequence[Expired]) -> None:
        """All that the peer holds is taken from it, by task and part."""
        holding = [held for held in self.living_claims if held.peer == peer]
        holding.sort(key=lambda held: (held.claim.task_id, held.claim.part))
        assert [(each.task_id, each.part) for each in taken] == [
            (held.claim.task_id, held.claim.part) for held in holding
        ]
        for held in holding:
            self.model_expire(held.part)

    @rule()
    def suspensions_are_over(self) -> None:
        self.look.execute(
            "UPDATE standings SET suspended_until = clock_timestamp() - interval '1 second'"
            " WHERE suspended_until IS NOT NULL"
        )
        self.suspended.clear()

    @rule(task=a_task, twice=st.booleans())
    def cancel(self, task: ModelTask, twice: bool) -> None:
        answer = self.call(twice, self.ledger.cancel, task.id, "enough")
        if task.state is TaskState.DONE:
            assert answer is NotAllowed
            return
        assert answer is None
        if task.state is TaskState.CANCELLED:
            return
        for part in task.parts:
            if part.holder is not None:
                part.end(PartState.CANCELLED, "cancelled", is_due=part.is_due)
            elif part.state is not PartState.DONE:
                part.state = PartState.CANCELLED

    @rule(task=a_task)
    def retry(self, task: ModelTask) -> None:
        answer = self.try_to(self.ledger.retry, task.id, "again")
        if task.state not in (TaskState.ESCALATED, TaskState.CANCELLED):
            assert answer is NotAllowed
            return
        for part in task.parts:
            if part.state in (PartState.ESCALATED, PartState.CANCELLED):
                part.state, part.is_due, part.failures = PartState.QUEUED, True, {}
        assert answer == [part.number for part in task.parts if part.state is PartState.QUEUED]

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

    def teardown(self) -> None:
        """Whatever happened, a willing peer and a willing person bring every task to its end."""
        for task in self.tasks:
            if task.state in (TaskState.ESCALATED, TaskState.CANCELLED):
                self.retry(task)
        for held in self.living_claims:
            self.end(held, "handed_back", Stage.PULL, 0.0, False)
        self.delays_are_over()
        self.suspensions_are_over()
        for part in self.parts:
            if part.state is not PartState.DONE:
                self.claim(part, "ada", 0, False)
                self.end(self.claims[-1], "done", Stage.PULL, 0.0, False)
        assert {task.state for task in self.tasks} <= {TaskState.DONE}
        self.parts_are_the_models()
        self.tasks_are_derived()
        self.outputs_are_one_attempts()


def test_the_ledger_is_its_model(ledger_url: str, let_leases_run_out: Callable[[], None]) -> None:
    """In any order of calls no task is lost, none is committed twice, and losers change nothing."""
    let_leases_run_out()  # there is none yet; but from now on the ledger was never away
    database = Database(DatabaseConfig(conninfo=ledger_url))
    with psycopg.connect(ledger_url, autocommit=True, row_factory=dict_row) as look:

        class Machine(LedgerMachine):
            def __init__(self) -> None:
                super().__init__(database, look)

        run_state_machine_as_test(
            Machine,
            settings=settings(
                max_examples=120,
                stateful_step_count=40,
                deadline=None,
                derandomize=True,
                print_blob=True,
                database=None,
                suppress_health_check=[HealthCheck.too_slow],
            ),
        )
    trio.run(database.aclose)
