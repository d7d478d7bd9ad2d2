"""The outbox gives out notices so that the cluster, and not each peer, speaks once in a while."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import psycopg
import pytest
import trio

from pipeline.errors import Stage
from pipeline.events import ContainerErrorEscalation
from pipeline.ledger.postgres import PostgresLedger
from pipeline.notices import Notice
from pipeline.ports import Release, Submission
from pipeline.tasks import Failure

PAUSE_S = 300.0
FAILURE = Failure(stage=Stage.PULL, code="c", message="m")

Escalate = Callable[[], Any]


@pytest.fixture
def escalate(
    ledger: PostgresLedger, make_peer: Any, make_submission: Callable[[], Submission]
) -> Escalate:
    """Submit a task and give it up."""
    peer = make_peer("ada")

    async def do() -> UUID:
        task = make_submission()
        await ledger.submit(task)
        claim = await peer.take(ledger, task.task_id)
        event = ContainerErrorEscalation(
            task_id=task.task_id,
            attempt=1,
            stage="pull",
            code="c",
            message="m",
            failures=1,
            attempts_max=1,
            reason="no retry can help",
        )
        release = Release(failure=FAILURE, retry_in_s=None)
        await ledger.release(claim, release, [peer.record(event)])
        return task.task_id

    return do


async def take(ledger: PostgresLedger) -> Sequence[Notice]:
    return await ledger.take_notices(100, 60.0, pause_s=PAUSE_S)


async def test_while_one_speaks_the_others_wait(
    ledger: PostgresLedger, another_ledger: PostgresLedger, escalate: Escalate
) -> None:
    """What escalates meanwhile is for the next message, whoever sends that."""
    await escalate()
    (first,) = await take(ledger)
    await escalate()
    assert await take(another_ledger) == []
    assert await take(ledger) == []

    assert first.source.startswith("sources/")
    [second] = await another_ledger.take_notices(100, 60.0)
    assert second.id > first.id


async def test_what_somebody_has_seen_to_is_not_told(
    ledger: PostgresLedger, escalate: Escalate
) -> None:
    """Who retries or cancels a task knows of it; only what still waits is told."""
    retried, cancelled, waiting = [await escalate() for _ in range(3)]
    await ledger.retry(retried, "space again")
    await ledger.cancel(cancelled, "not needed")
    assert [notice.task_id for notice in await take(ledger)] == [waiting]


async def test_after_one_has_spoken_there_is_a_pause(
    ledger: PostgresLedger, another_ledger: PostgresLedger, escalate: Escalate, ledger_url: str
) -> None:
    """Counted from when it was told; then all that came meanwhile comes at once."""
    await escalate()
    await ledger.notices_told([notice.id for notice in await take(ledger)])
    await escalate()
    await escalate()
    assert await take(another_ledger) == []

    with psycopg.connect(ledger_url) as connection:
        connection.execute("UPDATE notices SET told_at = told_at - interval '240 s'")
        connection.commit()
        assert await take(another_ledger) == []
        connection.execute("UPDATE notices SET told_at = told_at - interval '60 s'")
        connection.commit()
    assert len(await take(another_ledger)) == 2


async def test_a_hold_that_is_over_keeps_nobody_waiting(
    ledger: PostgresLedger, another_ledger: PostgresLedger, escalate: Escalate, ledger_url: str
) -> None:
    """Who took them is dead, or could not send them."""
    await escalate()
    taken = await take(ledger)
    with psycopg.connect(ledger_url) as connection:
        connection.execute("UPDATE notices SET taken_until = clock_timestamp()")
    assert await take(another_ledger) == taken


async def test_of_many_who_ask_at_once_one_gets_all(
    ledger: PostgresLedger, another_ledger: PostgresLedger, escalate: Escalate
) -> None:
    """Also while more escalate: no two peers begin to speak at the same time."""
    for _ in range(3):
        await escalate()
    answers: list[Sequence[Notice]] = []

    async def ask(on: PostgresLedger) -> None:
        answers.append(await take(on))

    async with trio.open_nursery() as nursery:
        for on in (ledger, another_ledger) * 4:
            nursery.start_soon(ask, on)
            nursery.start_soon(escalate)
    assert len([answer for answer in answers if answer]) == 1
    assert len(answers) == 8
