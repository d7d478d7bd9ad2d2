"""Claims, as transactions: taking a part, holding it, and ending the claim in exactly one way.

Each function is the body of one transaction on one connection and nothing else, so that a test can
put two of them side by side in any order. `PostgresLedger` runs them.

The token is the fence. A claim is alive until somebody ends its row, and everything its holder
writes first finds that row alive, in the same transaction. The lease only says when others *may*
end it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn
from uuid import UUID

from pipeline.errors import ClaimLost, Stage
from pipeline.events import Record, Recorder, TaskReceived
from pipeline.ledger import desk, standings
from pipeline.ledger.connections import Connection
from pipeline.ledger.escalations import write_ending
from pipeline.ledger.locked_task import LockedTask, lock_claim, write_events
from pipeline.ledger.parts import Outcome, Part, follows, outcome_of, refusal
from pipeline.ledger.queries import QUERIES
from pipeline.ledger.rows import Row, text, to_json
from pipeline.ports import Expired, Expiry, Release, Submission
from pipeline.shortage import LOOK_AGAIN_S as LEFT_TO_OTHERS_S
from pipeline.shortage import OUT_OF_MEMORY, Shortage, leaves_to_others
from pipeline.standing import PEER_DIED, Death, Suspended
from pipeline.tasks import (
    STEP_EVENTS,
    Busy,
    Claim,
    Held,
    Holder,
    PartState,
    Product,
    Progress,
    Settled,
    Step,
    Unknown,
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
    """Who wants which part; the record is a TaskReceived whose attempt is filled in here.

    Args:
        submission: The task itself, to be recorded before.
        unheard: The claim that may be ended although its lease holds, unless it was renewed since.
    """

    task_id: UUID
    part: int
    holder: Holder
    token: UUID
    record: Record
    submission: Submission | None = None
    unheard: Held | None = None


def claim(
    connection: Connection, rules: Rules, request: Request
) -> Claim | Busy | Settled | Unknown | Suspended:
    """Take a part that is due, or say why not."""
    suspended = standings.hold(connection, request.holder)
    if request.submission is not None:
        desk.submit(connection, request.submission)
    task = LockedTask.lock(connection, request.task_id)
    if task is None:
        return Unknown(why=f"there is no task {request.task_id}")
    part = task.parts.get(request.part)
    if part is None:
        return Unknown(why=f"task {task.id} has no part {request.part}")
    if part.token == request.token:  # a repeat of a call whose answer got lost
        return _granted(connection, task, part, request.token, rules.lease_s)
    if suspended is not None:
        return suspended
    if part.state is PartState.CLAIMED:
        if (busy := _busy(connection, rules, request, task, part)) is not None:
            return busy
        part = task.parts[request.part]
    return (
        refusal(part, task.state)
        or _leave(connection, request, task, part)
        or _take(connection, rules, request, task, part)
    )


def _busy(
    connection: Connection, rules: Rules, request: Request, task: LockedTask, part: Part
) -> Busy | None:
    """Why a claimed part cannot be taken over; None when it was just taken from its holder."""
    held = _holding(connection, part)
    unheard = request.unheard is not None and _is_still(held, request.unheard)
    if not unheard and held["lease_left_s"] > 0:
        return _held(held, held["lease_left_s"], f"peer {held['peer_name']} holds it")
    if not unheard and (left_s := time_to_renew_s(connection, rules)) > 0:
        why = f"the ledger was away, and peer {held['peer_name']} may renew its lease now"
        return _held(held, left_s, why)
    # Whoever claims has the part's wake-up in its hands, and puts it back if need be.
    expire(connection, rules, task, part, held, unheard=unheard, woken=True)
    return None


def _is_still(held: Row, unheard: Held) -> bool:
    """Compare, before the set: the question was put to this claim's holder, and tells nothing of
    another's that has come since; and a holder that has renewed since is there, whoever cannot hear
    it."""
    return (held["token"], held["renewed_at"]) == (unheard.token, unheard.renewed_at)


def _held(held: Row, left_s: float, why: str) -> Busy:
    return Busy(
        look_again_s=max(LOOK_AGAIN_MIN_S, min(LOOK_AGAIN_S, left_s)),
        why=why,
        held=Held(
            token=held["token"],
            peer_uid=held["peer_uid"],
            peer_name=held["peer_name"],
            epoch=held["epoch"],
            renewed_at=held["renewed_at"],
            silent_s=max(0.0, held["silent_s"]),
        ),
    )


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
    unheard: bool = False,
    woken: bool = False,
) -> Expired:
    """Take a part from a holder that let the lease run out, is known to be dead, or is not heard.

    Args:
        woken: Somebody has a wake-up for the part.
    """
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
        priority=task.priority,
        death=death,
        unheard=unheard,
    )
    release, events = rules.expiry(expired)
    task.end_claim(part.token, Outcome.EXPIRED, release.failure)
    task.save(part.expired(release, woken=woken))
    write_ending(connection, [rules.recorder(event) for event in events])
    return expired


def advance(connection: Connection, claim: Claim, steps: Sequence[Record]) -> None:
    """Move the claim to the steps that the events name; one taken already is not taken again."""
    _take_steps(connection, _alive(connection, claim), steps)


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
    *,
    steps: Sequence[Record] = (),
) -> None:
    """Commit the outputs: the compare-and-set on the token that decides which attempt counts."""
    task, part = _ending(connection, claim, Outcome.DONE)
    if part is None:
        return
    if steps:
        advance(connection, claim, steps)
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
    connection: Connection,
    claim: Claim,
    release: Release,
    records: Sequence[Record],
    *,
    steps: Sequence[Record] = (),
) -> None:
    """Give the part up: for a retry, to a person, or free of charge."""
    outcome = outcome_of(release)
    task, part = _ending(connection, claim, outcome)
    if part is None:
        return
    if steps:
        advance(connection, claim, steps)
    task.end_claim(claim.token, outcome, release.failure)
    task.save(part.released(release))
    write_ending(connection, records)


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
    return _granted(connection, task, taken, request.token, rules.lease_s)


def _leave(connection: Connection, request: Request, task: LockedTask, part: Part) -> Busy | None:
    """Leave a part that failed for lack of memory to a peer that has more of it than this one."""
    shortage = _shortage(connection, task, part)
    due_for_s = max(0.0, -part.due_in_s)
    if leaves_to_others(shortage, request.holder.memory_bytes, due_for_s=due_for_s):
        why = f"it failed for lack of memory where there were {shortage.memory_bytes} bytes of it"
        return Busy(look_again_s=LEFT_TO_OTHERS_S, why=why)
    return None


def _shortage(connection: Connection, task: LockedTask, part: Part) -> Shortage:
    """Look back at a part's attempts; one that has not failed costs no query."""
    if not part.failures:
        return Shortage(times=0, memory_bytes=None)
    values = {"task_id": task.id, "part": part.part, "code": OUT_OF_MEMORY}
    row = connection.execute(QUERIES["read_shortage"], values).fetchone()
    assert row is not None, "a count is always there"
    return Shortage(times=row["times"], memory_bytes=row["memory_bytes"])


def _granted(
    connection: Connection, task: LockedTask, part: Part, token: UUID, lease_s: float
) -> Claim:
    return Claim(
        task_id=task.id,
        part=part.part,
        attempt=part.attempt,
        token=token,
        lease_s=lease_s,
        attempts_max=task.attempts_max,
        failures=part.failures,
        shortages=_shortage(connection, task, part).times,
        task=task.details,
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


def _take_steps(connection: Connection, held: Row, steps: Sequence[Record]) -> None:
    """Take those that were not taken already, of a claim that is locked and alive."""
    at, taken = Step(held["step"]), []
    for record in steps:
        step = _STEPS[record.event.kind]
        assert step is not Step.FINISHED, "a claim is finished by `finish` alone"
        if follows(step, at):
            at = step
            taken.append(record)
    if taken:
        connection.execute(QUERIES["advance_claim"], {"token": held["token"], "step": at})
        write_events(connection, taken)


def _raise_lost(connection: Connection, claim: Claim) -> NoReturn:
    row = connection.execute(QUERIES["why_lost"], {"token": claim.token}).fetchone()
    if row is None:
        raise ClaimLost("the ledger does not know it")
    match Outcome(row["outcome"]):
        case Outcome.CANCELLED:
            raise ClaimLost(f"the task was cancelled: {row['reason']}")
        case Outcome.EXPIRED:
            if row["code"] in (PEER_DIED, OUT_OF_MEMORY):
                why = "the cluster took this peer for dead"
            elif row["in_its_lease"]:
                why = "this peer lost its line to the queue and was not heard by another one"
            else:
                why = "the lease ran out"
            if row["holder"] is not None:
                why += f" and peer {row['holder']} took the part over"
            raise ClaimLost(why)
        case ended:
            raise ClaimLost(f"it has already ended as {ended}", committed=ended is Outcome.DONE)
