"""The ledger against a model: any order of claims, expiries, retries, duplicates and late calls.

The model is what the ledger would be without a database: objects changed by one thread. After every
call the whole database is compared with it, so a call that must change nothing is seen to change
nothing. No time passes by itself: leases run out and delays are over when a rule says so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, TypeVar

import psycopg
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg.rows import dict_row

from pipeline import events
from pipeline.errors import ClaimLost, NotAllowed, Stage
from pipeline.events import Record, Recordable
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.media.ladder import parse_ladder
from pipeline.ports import Due, Expired, Release, Submission
from pipeline.standing import Death, Life, Suspended
from pipeline.tasks import (
    Busy,
    Claim,
    Failure,
    Held,
    PartState,
    Priority,
    Task,
    TaskState,
)
from tests.property.ledger_comparison import (
    ATTEMPTS_MAX,
    LATER_S,
    PEERS,
    PRODUCTS,
    STEPS,
    Comparison,
    holder_of,
)
from tests.property.ledger_model import (
    FAILURE,
    STEP_EVENTS_MADE,
    ModelClaim,
    ModelPart,
    ModelTask,
    escalation,
)

T = TypeVar("T")
TASKS_MAX = 3
LADDER = parse_ladder("web")
WELL, SUSPECT, DEAD = range(3)


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
a_holder_or_its_predecessor = drawn(lambda on: on.succeeded_claims, lambda on: on.claims)
some_claims = precondition(lambda on: bool(on.claims))


class LedgerMachine(Comparison):
    """Calls the ledger and the model in the same order."""

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
            ladder=LADDER,
            attempts_max=ATTEMPTS_MAX,
            priority=Priority.LOW,
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
    def claim(
        self,
        part: ModelPart,
        peer: str,
        steps: int,
        twice: bool,
        unheard: Held | None = None,
    ) -> None:
        """A claim and, where it is granted, the first steps of its holder."""
        holder = holder_of(peer)
        token, which = next(self.uuids), (part.task.id, part.number)
        event = events.TaskReceived(task_id=part.task.id, part=part.number, attempt=0)
        received = self.record(peer, event)
        taken_from = part.holder
        call = partial(self.ledger.claim, unheard=unheard)
        answer = self.try_to(call, *which, holder, token, received)
        refused = self.model_claim(part, peer, unheard)
        self.expect_notice_of(part, taken_from)
        if refused is not None:
            assert isinstance(answer, refused)
            if isinstance(answer, Busy):
                in_the_way = part.holder.claim.token if part.holder else None
                assert (answer.held.token if answer.held else None) == in_the_way
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
            task=Task(
                id=part.task.id,
                source="clip",
                title="clip",
                ladder=LADDER,
                attempts_max=ATTEMPTS_MAX,
                priority=Priority.LOW,
            ),
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
        is_alive, taken_from = held.outcome is None, held.part.holder
        answer = self.try_to(
            self.ledger.claim, claim.task_id, claim.part, holder, claim.token, held.received
        )
        if not is_alive:
            expected = self.model_claim(held.part, held.peer) or Busy
            self.expect_notice_of(held.part, taken_from)
        if is_alive:
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
        taken = [record for record in held.said if record.event.kind in STEPS[1:6]]
        if not taken:
            return
        record = data.draw(st.sampled_from(taken))
        if data.draw(st.booleans()):
            record = self.record(held.peer, record.event)
        answer = self.try_to(self.ledger.advance, held.claim, record)
        assert answer is (None if held.outcome is None else ClaimLost)

    def noted_steps(self, held: ModelClaim, count: int) -> Sequence[Record]:
        """The last step that was written, and up to so many that come behind it."""
        claim = held.claim
        noted = [each for each in held.said[-1:] if each.event.kind in STEP_EVENTS_MADE]
        for kind in STEPS[len(held.said) : -1][:count]:
            event = STEP_EVENTS_MADE[kind](task_id=claim.task_id, part=claim.part)
            noted.append(self.record(held.peer, event))
        return noted

    @some_claims
    @rule(held=a_claim, twice=st.booleans())
    def renew(self, held: ModelClaim, twice: bool) -> None:
        """A renewal in time, or late but not too late, or too late."""
        answer = self.call(twice, self.ledger.renew, held.claim, None)
        assert answer is (None if held.outcome is None else ClaimLost)
        if held.outcome is None:
            held.has_run_out, held.seen = False, None

    @some_claims
    @rule(
        held=a_claim,
        outcome=st.sampled_from(["done", "retry", "escalated", "handed_back"]),
        stage=st.sampled_from([Stage.PULL, Stage.TRANSCODE]),
        retry_in_s=st.sampled_from([0.0, LATER_S]),
        twice=st.booleans(),
        noted=st.integers(0, 2),
    )
    def end(
        self,
        held: ModelClaim,
        outcome: str,
        stage: Stage,
        retry_in_s: float,
        twice: bool,
        noted: int = 0,
    ) -> None:
        """A finish or a release, in time or late, that takes steps along: the last one that was
        written already, and some that were not."""
        claim, part = held.claim, held.part
        steps = self.noted_steps(held, noted)
        failure = Failure(stage=stage, code="test", message="It did not work.")
        release = {
            "handed_back": Release(failure=None, retry_in_s=0.0),
            "retry": Release(failure=failure, retry_in_s=retry_in_s),
        }.get(outcome, Release(failure=failure, retry_in_s=None))
        event: Recordable = events.WorkloadProcessingFinished(
            task_id=claim.task_id, part=claim.part, outcome=outcome, seconds=1.0
        )
        if outcome == "escalated":
            event = escalation(claim.task_id, claim.part, claim.attempt, stage)
        record = self.record(held.peer, event)

        def ending() -> Any:
            if outcome == "done":
                finish = partial(self.ledger.finish, steps=steps)
                return self.try_to(finish, claim, PRODUCTS, ["as is"], record)
            return self.try_to(partial(self.ledger.release, steps=steps), claim, release, [record])

        answer = ending()
        if held.outcome is not None:
            assert answer is (None if held.outcome == outcome else ClaimLost)
            return
        assert answer is None
        for step in steps:
            if step not in held.said:
                self.expect(step)
                held.said.append(step)
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
        if outcome == "escalated":
            self.expect_notice(record, part)
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

    @some_claims
    @rule(held=a_holder_or_its_predecessor, peer=st.sampled_from(PEERS), renews=st.booleans())
    def take_over_unheard(self, held: ModelClaim, peer: str, renews: bool) -> None:
        """The queue gave its message to another peer, which gets no answer from its holder; the
        ledger may be given one meanwhile."""
        held.seen = unheard = self.look_at(held)
        if renews:
            self.renew(held, False)
        self.claim(held.part, peer, 0, False, unheard)

    def look_at(self, held: ModelClaim) -> Held:
        """A claim, as whoever it is in the way of is told of it."""
        query = "SELECT renewed_at FROM claims WHERE token = %s"
        row = self.look.execute(query, (held.claim.token,)).fetchone()
        assert row is not None
        return Held(
            token=held.claim.token,
            peer_uid=held.peer,
            peer_name=held.peer,
            epoch=1,
            renewed_at=row["renewed_at"],
            silent_s=0.0,
        )

    @rule(some=st.integers(0, 2), forgotten=st.booleans())
    def tell(self, some: int, forgotten: bool) -> None:
        """A peer takes notices and tells some of them, or dies and its time passes."""
        free = [each for each in self.notices if not (each.is_taken or each.is_told)][:2]
        taken = trio.run(self.ledger.take_notices, 2, LATER_S)
        assert [[attempt["attempt"] for attempt in each.data["story"]] for each in taken] == [
            each.story for each in free
        ]
        for each in free:
            each.is_taken = True
        trio.run(self.ledger.notices_told, [each.id for each in taken[:some]])
        for each in free[:some]:
            each.is_told = True
        if forgotten:
            self.look.execute("UPDATE notices SET taken_until = clock_timestamp()")
            for each in self.notices:
                each.is_taken = False

    @rule(some=st.integers(0, 3))
    def clear(self, some: int) -> None:
        """A peer clears up after some attempts that ended without outputs."""
        found = trio.run(self.ledger.abandoned, 0.0)
        left = {held.claim.token: held for held in self.claims if held.is_abandoned}
        assert {(each.token, each.prefix) for each in found} == {
            (token, held.claim.prefix) for token, held in left.items()
        }
        tokens = [each.token for each in found[:some]]
        trio.run(self.ledger.cleared, tokens)
        for token in tokens:
            left[token].is_cleared = True

    @rule(peer=st.sampled_from(PEERS))
    def doubt(self, peer: str) -> None:
        """A peer asks what others have finished, and what failed there as it did here."""
        done = [part.committed for part in self.parts if part.committed is not None]
        theirs = {held.claim.task_id for held in done if held.peer != peer}
        ids = [task.id for task in self.tasks]
        testimony = trio.run(self.ledger.testify, peer, ids)
        assert testimony.finished == theirs
        sound = {held.peer for held in done}
        failed = [held for held in self.claims if held.outcome in ("retry", "escalated")]
        own = {
            (held.part.task.id, held.part.number, held.failed_in)
            for held in failed
            if held.peer == peer
        }
        assert testimony.failed == {
            held.part.task.id
            for held in failed
            if held.peer in sound - {peer}
            and (held.part.task.id, held.part.number, held.failed_in) in own
        }

    @rule()
    def delays_are_over(self) -> None:
        self.look.execute("UPDATE parts SET not_before = clock_timestamp()")
        for part in self.parts:
            part.is_due = True

    @rule()
    def sweep(self) -> None:
        found = trio.run(self.ledger.expire_leases)
        run_out = {
            (held.claim.task_id, held.claim.part, held.claim.attempt): held
            for held in self.living_claims
            if held.has_run_out
        }
        expired = [(each.task_id, each.part, each.attempt) for each in found]
        assert set(expired) == run_out.keys()
        self.model_expire_all([run_out[each] for each in expired])

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
        self.model_expire_all(holding)

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
        self.model_intervention(task)
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
        self.model_intervention(task)
        for part in task.parts:
            part.story.clear()
            if part.state in (PartState.ESCALATED, PartState.CANCELLED):
                part.state, part.is_due, part.failures = PartState.QUEUED, True, {}
        assert answer == [
            Due(task_id=task.id, part=part.number, priority=Priority.LOW)
            for part in task.parts
            if part.state is PartState.QUEUED
        ]

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
