"""How much there is to do, counted in a few milliseconds however much that is."""

from __future__ import annotations

import random
import time
from math import inf
from uuid import uuid4

import psycopg
import pytest
import trio

from peer.scale.ledger import LedgerDemand, counted_max
from pipeline.errors import QueueUnavailable, Stage
from pipeline.ledger.database import Database
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ports import Depth, Release
from pipeline.retry import RetryPolicy
from pipeline.sweeper import expiry
from pipeline.tasks import Failure, Progress
from scaling.config import ScalingConfig
from tests.ledger_rig import MakePeer, MakeSubmission

BUDGET_S = 0.005
QUEUED = 100_000
AT_MOST = 1000
FAILURE = Failure(stage=Stage.PULL, code="test", message="It did not work.", log_tail="")


async def test_an_empty_ledger_has_nothing_to_do(ledger: PostgresLedger) -> None:
    """And nobody knows how long anything takes."""
    found = await ledger.backlog(AT_MOST)
    assert (found.ready, found.delayed, found.running) == (0, 0, 0)
    assert (found.arrivals_per_s, found.service_s, found.remaining_s) == (0.0, None, {})


async def test_parts_are_counted_by_what_they_wait_for(
    ledger: PostgresLedger, make_submission: MakeSubmission, make_peer: MakePeer
) -> None:
    """To be taken, for another attempt, or for the end of the work; what arrived lately is a rate,
    the larger of two."""
    submissions = [make_submission() for _ in range(6)]
    for submission in submissions:
        await ledger.submit(submission)
    peer = make_peer("ada")
    claims = [await peer.take(ledger, each.task_id) for each in submissions[:3]]
    await ledger.release(claims[0], Release(failure=FAILURE, retry_in_s=60.0), [])
    found = await ledger.backlog(AT_MOST)
    assert (found.ready, found.delayed, found.running) == (3, 1, 2)
    assert found.arrivals_per_s == pytest.approx(6 / 120)


async def test_a_rate_over_a_longer_time_bridges_a_gap(
    ledger: PostgresLedger, ledger_url: str, make_submission: MakeSubmission
) -> None:
    """What came four minutes ago counts over five."""
    for _ in range(3):
        await ledger.submit(make_submission())
    with psycopg.connect(ledger_url) as connection:
        connection.execute("UPDATE tasks SET submitted_at = submitted_at - interval '4 minutes'")
    assert (await ledger.backlog(AT_MOST)).arrivals_per_s == pytest.approx(3 / 300)


async def test_what_holders_expect_is_told(
    ledger: PostgresLedger, make_submission: MakeSubmission, make_peer: MakePeer
) -> None:
    """The longest of each peer's parts; unknown as soon as one of them says nothing; and the mean
    of all, as long as none was done."""
    peers = make_peer("ada"), make_peer("bob")
    claims = []
    for peer in (peers[0], peers[0], peers[1]):
        submission = make_submission()
        await ledger.submit(submission)
        claims.append(await peer.take(ledger, submission.task_id))
    for claim, eta_s in zip(claims, (40.0, 90.0, None), strict=True):
        await ledger.renew(claim, Progress(step="transcode", fraction=0.5, eta_s=eta_s))
    found = await ledger.backlog(AT_MOST)
    assert found.remaining_s[peers[0].holder.peer_uid] == pytest.approx(90.0, abs=5.0)
    assert found.remaining_s[peers[1].holder.peer_uid] is None
    assert found.service_s == pytest.approx((40.0 + 90.0) / 2, abs=5.0)


async def test_what_was_done_lately_tells_how_long_one_takes(
    ledger: PostgresLedger,
    ledger_url: str,
    make_submission: MakeSubmission,
    make_peer: MakePeer,
) -> None:
    """The mean of the newest, of an hour; what failed says nothing."""
    peer = make_peer("ada")
    for took_s in (10, 30):
        submission = make_submission()
        await ledger.submit(submission)
        claim = await peer.take(ledger, submission.task_id)
        await ledger.finish(claim, [], [], peer.finished(submission.task_id))
        with psycopg.connect(ledger_url) as connection:
            connection.execute(
                "UPDATE claims SET claimed_at = ended_at - make_interval(secs => %s)"
                " WHERE token = %s",
                [took_s, claim.token],
            )
    assert (await ledger.backlog(AT_MOST)).service_s == pytest.approx(20.0)


def fill(url: str, parts: int) -> None:
    """Let so many tasks come, all within five minutes."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO tasks (id, title, source, ladder, strictness, attempts_max, submitted_at)"
            " SELECT gen_random_uuid(), 'clip', %s, '[]', 'strict', 4,"
            "        clock_timestamp() - make_interval(secs => number * 300.0 / %s)"
            " FROM generate_series(0, %s - 1) AS number",
            [f"sources/{uuid4()}", parts, parts],
        )
        connection.execute(
            "INSERT INTO parts (task_id, part, kind) SELECT id, 0, 'whole' FROM tasks"
        )
        connection.execute("ANALYZE tasks, parts")


async def test_a_long_queue_is_counted_as_far_as_it_matters(
    ledger: PostgresLedger, ledger_url: str
) -> None:
    """More than that would want no more containers; the rate is that of the newest, not less."""
    fill(ledger_url, 3000)
    found = await ledger.backlog(AT_MOST)
    assert found.ready == AT_MOST
    assert found.arrivals_per_s == pytest.approx(10.0, rel=0.2)


@pytest.mark.slow
async def test_a_hundred_thousand_cost_five_milliseconds(
    ledger: PostgresLedger, ledger_url: str
) -> None:
    """With the default settings; the quickest of many, for the machine may have other things to
    do. The leader counts once a second."""
    fill(ledger_url, QUEUED)
    at_most = counted_max(ScalingConfig())
    times_s: list[float] = []
    give_up_at = time.monotonic() + 20
    while min(times_s, default=inf) > BUDGET_S and time.monotonic() < give_up_at:
        began = time.perf_counter()
        found = await ledger.backlog(at_most)
        times_s.append(time.perf_counter() - began)
    assert found.ready == at_most
    assert min(times_s) <= BUDGET_S, sorted(times_s)[:30]


class Broker:
    """A queue that says how much it holds, or fails, or does not answer."""

    def __init__(
        self,
        ready: int,
        error: Exception | None = None,
        *,
        delayed: int = 0,
        silent: bool = False,
    ) -> None:
        self._ready, self._delayed = ready, delayed
        self._error, self._silent = error, silent

    async def depth(self) -> Depth:
        if self._error is not None:
            raise self._error
        if self._silent:
            await trio.sleep_forever()
        return Depth(ready=self._ready, unacknowledged=0, delayed=self._delayed, dead=0)


@pytest.mark.parametrize(
    ("broker", "ready"),
    [
        (None, 2),
        (Broker(7), 7),
        (Broker(2), 2),
        (Broker(1), 2),
        (Broker(7, QueueUnavailable("away", definite=True)), 2),
    ],
    ids=["embedded", "holds whole tasks", "holds as many", "holds less", "is away"],
)
async def test_a_broker_may_know_of_more(
    ledger: PostgresLedger, make_submission: MakeSubmission, broker: Broker | None, ready: int
) -> None:
    """A task that a client has sent as a message is in no table before somebody takes it."""
    for _ in range(2):
        await ledger.submit(make_submission())
    demand = LedgerDemand(ledger, broker, ScalingConfig())  # type: ignore[arg-type]  # as far as it is asked
    found = await demand.workload()
    assert found is not None
    assert found.demand.ready == ready


async def ready(ledger: PostgresLedger, broker: Broker, at_most: int | None = None) -> int:
    """How many parts wait, as scaling is told."""
    config = ScalingConfig() if at_most is None else ScalingConfig(containers_max=1, wait_s=at_most)
    demand = LedgerDemand(ledger, broker, config)  # type: ignore[arg-type]  # as far as it is asked
    found = await demand.workload()
    assert found is not None
    return found.demand.ready


async def test_a_part_that_was_announced_twice_waits_once(
    ledger: PostgresLedger, make_submission: MakeSubmission, make_peer: MakePeer
) -> None:
    """Its wake-up seemed lost, or its holder died and another one was sent: whether it waits, waits
    for its next attempt, or is worked on. What the broker holds beyond all of that is new."""
    waits, fails, works, _ = submissions = [make_submission() for _ in range(4)]
    peer = make_peer("ada")
    for each in submissions:
        await ledger.submit(each)
        await ledger.announced(each.task_id, 0)
    for each in (waits, fails, works):
        await ledger.announced(each.task_id, 0, again=True)
    claim = await peer.take(ledger, fails.task_id)
    await ledger.release(claim, Release(failure=FAILURE, retry_in_s=60.0), [])
    await peer.take(ledger, works.task_id)
    # Two of `waits`, one of the last, the second one of `fails`, and that of `works`; the first one
    # of `fails` is delayed, and that of `works` in its holder's hands.
    assert await ready(ledger, Broker(5, delayed=1)) == 2
    assert await ready(ledger, Broker(6, delayed=1)) == 3
    assert await ready(ledger, Broker(4, delayed=2)) == 2
    # Its message comes a moment before the part is due: it is no other one for that.
    assert await ready(ledger, Broker(6, delayed=0)) == 2


async def test_a_broker_explains_nothing_beyond_what_was_counted(
    ledger: PostgresLedger, ledger_url: str
) -> None:
    """The ledger has stopped to count, so a difference is no news; there is enough to do."""
    fill(ledger_url, 300)
    assert await ready(ledger, Broker(300), at_most=120) == 120


async def test_without_a_ledger_there_is_no_demand(database: Database, make_peer: MakePeer) -> None:
    """Nobody knows, and that is what is said."""
    database.stop_within(0.0)
    peer = make_peer("ada")
    ledger = PostgresLedger(
        database,
        lease_s=15.0,
        expiry=expiry(RetryPolicy(), random.Random(1)),
        recorder=peer.record,
    )
    assert await LedgerDemand(ledger, None, ScalingConfig()).workload() is None
