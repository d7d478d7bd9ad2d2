"""Claims, as transactions: taking a part, holding it, and ending the claim in exactly one way.

Each function is the body of one transaction on one connection and nothing else, so that a test can
put two of them side by side in any order. `PostgresLedger` runs them.

The token is the fence. A claim is alive until somebody ends its row, and everything its holder
writes first finds that row alive, in the same transaction. The lease only says when others *may*
end it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn
from uuid import UUID

from pipeline.errors import ClaimLost, Stage
from pipeline.events import Record, Recorder, TaskReceived
from pipeline.ledger import standings
from pipeline.ledger.connections import Connection
from pipeline.ledger.locked_task import LockedTask, lock_claim, write_events
from pipeline.ledger.parts import Outcome, Part, follows, outcome_of, refusal
from pipeline.ledger.queries import QUERIES
from pipeline.ledger.rows import Row, task_of, text, to_json
from pipeline.ports import Expired, Expiry, Release
from pipeline.standing import PEER_DIED, Death, Suspended
from pipeline.tasks import (
    STEP_EVENTS,
    Busy,
    Claim,
    Holder,
    PartState,
    Product,
    Progress,
    Settled,
    Step,
    Task,
)

LOOK_AGAIN_S = 2.0
"""How soon to look again at a part that somebody holds: when a killed holder's is taken over."""

LOOK_AGAIN_MIN_S = 0.05
"""Not sooner: the lease that is about to run out may be renewed just now."""

SILENCE = 0.5
"""The part of a lease without any sweep that counts as an outage of the ledger. A shorter one ends
no lease: its holder renews every fifth of it."""

_STEPS = {event: step for step, event in STEP_EVENTS.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the transactions need beside the database.

    Args:
        lease_s: How long a claim holds without a renewal.
        expiry: Decides how a part goes on whose lease ran out. Called inside the transaction, in a
            thread; so it must be quick and safe to call from any thread, as must `recorder`.
        recorder: Stamps the events of that decision.
    """

    lease_s: float
    expiry: Expiry
    recorder: Recorder


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Who wants which part; the record is a TaskReceived whose attempt is filled in here."""

    task_id: UUID
    part: int
    holder: Holder
    token: UUID
    record: Record


def claim(
    connection: Connection, rules: Rules, request: Request
) -> Claim | Busy | Settled | Suspended:
    """Take a part that is due, or say why not."""
    suspended = standings.hold(connection, request.holder)
    task = LockedTask.lock(connection, request.task_id)
    if task is None:
        return Settled(why=f"there is no task {request.task_id}")
    part = task.parts.get(request.part)
    if part is None:
        return Settled(why=f"task {task.id} has no part {request.part}")
    if part.token == request.token:  # a repeat of a call whose answer got lost
        return _granted(task, part, request.token, rules.lease_s)
    if suspended is not None:
        return suspended
    if part.state is PartState.CLAIMED:
        if (busy := _busy(connection, rules, task, part)) is not None:
            return busy
        part = task.parts[request.part]
    return refusal(part, task.state) or _take(connection, rules, request, task, part)


def _busy(connection: Connection, rules: Rules, task: LockedTask, part: Part) -> Busy | None:
    """Why a claimed part cannot be taken over; None when it was just taken from its holder."""
    held = _holding(connection, part)
    if held["lease_left_s"] > 0:
        look_again_s = max(LOOK_AGAIN_MIN_S, min(LOOK_AGAIN_S, held["lease_left_s"]))
        return Busy(look_again_s=look_again_s, why=f"peer {held['peer_name']} holds it")
    if (left_s := time_to_renew_s(connection, rules)) > 0:
        return Busy(
            look_again_s=max(LOOK_AGAIN_MIN_S, min(LOOK_AGAIN_S, left_s)),
            why=f"the ledger was away, and peer {held['peer_name']} may renew its lease now",
        )
    expire(connection, rules, task, part, held)
    return None


def time_to_renew_s(connection: Connection, rules: Rules) -> float:
    """For how long holders must still be let renew, because the ledger itself was away; often 0.

    While it was stopped, frozen or cut off from everybody, leases ran out of whose holders nobody
    can say that they are gone. Each peer might remember the outages that it saw; but one that did
    not happen to ask, or was just started, saw none, and would be the first to take over.

    Ask after the lease was found to have run out, in the same transaction: an outage between two
    statements then shows too.
    """
    values = {"silence_s": rules.lease_s * SILENCE}
    row = connection.execute(QUERIES["beat"], values).fetchone()
    assert row is not None
    return max(0.0, rules.lease_s - float(row["steady_s"]))


def expire(
    connection: Connection,
    rules: Rules,
    task: LockedTask,
    part: Part,
    held: Row,
    *,
    death: Death | None = None,
) -> Expired:
    """Take a part from a holder that let the lease run out, or that is known to be dead."""
    assert part.token is not None
    expired = Expired(
        task_id=task.id,
        part=part.part,
        attempt=part.attempt,
        peer_uid=held["peer_uid"],
        peer_name=held["peer_name"],
        stage=Stage.CRASH,
        failures=part.counting(Stage.CRASH),
        attempts_max=task.attempts_max,
        death=death,
    )
    release, events = rules.expiry(expired)
    task.end_claim(part.token, Outcome.EXPIRED, release.failure)
    task.save(part.expired(release))
    write_events(connection, [rules.recorder(event) for event in events])
    return expired


def retrieve_details(
    connection: Connection, claim: Claim, record: Callable[[Task], Record]
) -> Task:
    """Read the task; `record` is called, in this thread, only when its event is to be written."""
    held = _alive(connection, claim)
    row = connection.execute(QUERIES["read_task"], {"task_id": claim.task_id}).fetchone()
    assert row is not None, "a claim refers to its task"
    task = task_of(row)
    if follows(Step.DETAILS_RETRIEVED, Step(held["step"])):
        _go_to(connection, claim, Step.DETAILS_RETRIEVED, record(task))
    return task


def advance(connection: Connection, claim: Claim, record: Record) -> None:
    """Move the claim to the step that the event names; a step taken already is not taken again."""
    held = _alive(connection, claim)
    step = _STEPS[record.event.kind]
    assert step is not Step.FINISHED, "a claim is finished by `finish` alone"
    if follows(step, Step(held["step"])):
        _go_to(connection, claim, step, record)


def renew(connection: Connection, rules: Rules, claim: Claim, progress: Progress | None) -> None:
    """Prolong the lease, and keep the progress; without one, the last stays."""
    values = {
        "token": claim.token,
        "lease_s": rules.lease_s,
        "progress": None if progress is None else to_json(progress),
    }
    if connection.execute(QUERIES["renew_claim"], values).fetchone() is None:
        _raise_lost(connection, claim)


def finish(
    connection: Connection,
    claim: Claim,
    products: Sequence[Product],
    warnings: Sequence[str],
    record: Record,
) -> None:
    """Commit the outputs: the compare-and-set on the token that decides which attempt counts."""
    task, part = _ending(connection, claim, Outcome.DONE)
    if part is None:
        return
    outputs = [
        {
            "task_id": claim.task_id,
            "part": claim.part,
            "name": text(product.name),
            "kind": product.kind,
            "rendition": text(product.rendition),
            "key": text(f"{claim.prefix}/{product.name}"),
            "size": product.size,
            "media": to_json(product.media),
            "attempt": claim.attempt,
            "token": claim.token,
        }
        for product in products
    ]
    with connection.cursor() as cursor:
        cursor.executemany(QUERIES["insert_output"], outputs)
    if warnings:
        values = {"task_id": claim.task_id, "warnings": to_json(list(warnings))}
        connection.execute(QUERIES["add_warnings"], values)
    task.end_claim(claim.token, Outcome.DONE)
    task.save(part.finished())
    write_events(connection, [record])


def release(
    connection: Connection, claim: Claim, release: Release, records: Sequence[Record]
) -> None:
    """Give the part up: for a retry, to a person, or free of charge."""
    outcome = outcome_of(release)
    task, part = _ending(connection, claim, outcome)
    if part is None:
        return
    task.end_claim(claim.token, outcome, release.failure)
    task.save(part.released(release))
    write_events(connection, records)


def _take(
    connection: Connection, rules: Rules, request: Request, task: LockedTask, part: Part
) -> Claim | Busy:
    assert isinstance(request.record.event, TaskReceived)
    holder, taken = request.holder, part.claimed(request.token)
    values = {
        "token": request.token,
        "task_id": task.id,
        "part": taken.part,
        "attempt": taken.attempt,
        "peer_uid": holder.peer_uid,
        "peer_name": text(holder.peer_name),
        "epoch": holder.epoch,
        "container": text(holder.container),
        "node": text(holder.node),
        "lease_s": rules.lease_s,
    }
    if connection.execute(QUERIES["insert_claim"], values).fetchone() is None:
        return Busy(look_again_s=LOOK_AGAIN_MIN_S, why="the claim of this token has ended")
    task.save(taken)
    received = replace(request.record.event, attempt=taken.attempt)
    write_events(connection, [replace(request.record, event=received)])
    return _granted(task, taken, request.token, rules.lease_s)


def _granted(task: LockedTask, part: Part, token: UUID, lease_s: float) -> Claim:
    return Claim(
        task_id=task.id,
        part=part.part,
        attempt=part.attempt,
        token=token,
        lease_s=lease_s,
        attempts_max=task.attempts_max,
        failures=part.failures,
    )


def _holding(connection: Connection, part: Part) -> dict[str, Any]:
    """The claim that a claimed part refers to."""
    assert part.token is not None
    held = lock_claim(connection, part.token)
    assert held is not None, "a claimed part refers to its claim"
    return held


def _alive(connection: Connection, claim: Claim) -> dict[str, Any]:
    """Lock the holder's claim while it is alive."""
    held = lock_claim(connection, claim.token)
    if held is None or held["outcome"] is not None:
        _raise_lost(connection, claim)
    return held


def _ending(
    connection: Connection, claim: Claim, outcome: Outcome
) -> tuple[LockedTask, Part | None]:
    """Lock what a claim's holder wants to end; no part when it has already ended it in this way."""
    task = LockedTask.lock(connection, claim.task_id)
    if task is None:
        _raise_lost(connection, claim)
    part = task.parts[claim.part]
    if part.token == claim.token:
        return task, part
    ended = lock_claim(connection, claim.token)
    if ended is None or ended["outcome"] != outcome:
        _raise_lost(connection, claim)
    return task, None


def _go_to(connection: Connection, claim: Claim, step: Step, record: Record) -> None:
    connection.execute(QUERIES["advance_claim"], {"token": claim.token, "step": step})
    write_events(connection, [record])


def _raise_lost(connection: Connection, claim: Claim) -> NoReturn:
    row = connection.execute(QUERIES["why_lost"], {"token": claim.token}).fetchone()
    if row is None:
        raise ClaimLost("the ledger does not know it")
    match Outcome(row["outcome"]):
        case Outcome.CANCELLED:
            raise ClaimLost(f"the task was cancelled: {row['reason']}")
        case Outcome.EXPIRED:
            buried = row["code"] == PEER_DIED
            why = "the cluster took this peer for dead" if buried else "the lease ran out"
            if row["holder"] is not None:
                why += f" and peer {row['holder']} took the part over"
            raise ClaimLost(why)
        case ended:
            raise ClaimLost(f"it has already ended as {ended}", committed=ended is Outcome.DONE)
