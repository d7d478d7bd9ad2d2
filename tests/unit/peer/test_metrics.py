"""What is counted at the ports, and how numbers become what Prometheus reads."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from peer.metrics.attempts import OUTCOMES, STEPS, CountingLedger
from peer.metrics.counts import Histogram, coarsened
from peer.metrics.decisions import CountingJournal
from peer.metrics.families import counter, gauge, histogram, one_of
from peer.metrics.health import REASONS, SILENT_S_MAX, Life, why_not_ready
from peer.metrics.pipeline import dependency_families, queue_families
from pipeline.attempt import Job
from pipeline.errors import ClaimLost, LedgerUnavailable, Stage
from pipeline.events import (
    Record,
    Recordable,
    Stamp,
    TaskDetailsRetrieved,
    TaskReceived,
    TranscodedVideoUploaded,
    VideoFilePulled,
    VideoTranscoded,
    WorkloadProcessingFinished,
    WorkloadProcessingStarted,
)
from pipeline.ports import Depth, Release, Submission
from pipeline.standing import Suspended
from pipeline.tasks import (
    Busy,
    Claim,
    Failure,
    Held,
    Holder,
    Product,
    Progress,
    Settled,
    Unknown,
)
from scaling.config import ScalingConfig
from scaling.decision import Decision, Desired, Park, Reason, SetContainers
from scaling.memory import Memory
from scaling.ports import Entry, LedgerAway, Noted, Outcome
from scaling.record import Considered
from scaling.snapshot import Snapshot
from scaling.utilization import Levels

NOW = datetime(2026, 11, 22, tzinfo=UTC)
TASK = uuid4()
HOLDER = Holder(peer_uid="aa", peer_name="one", epoch=1, container="c", node="n")


def record(event: Recordable) -> Record:
    stamp = Stamp(peer_uid="aa", epoch=1, sequence=1, container="c", node="n", at=NOW)
    return Record(stamp=stamp, event=event)


class Ledger:
    """Answers as it is told, and fails with what it is told once."""

    def __init__(self) -> None:
        self.answer: Claim | Busy | Settled | Unknown | Suspended = Settled(why="done")
        self.failure: Exception | None = None

    async def claim(
        self,
        task_id: UUID,
        part: int,
        holder: Holder,
        token: UUID,
        record: Record,
        *,
        submission: Submission | None = None,
        unheard: Held | None = None,
    ) -> Claim | Busy | Settled | Unknown | Suspended:
        return self.answer

    async def advance(self, claim: Claim, *steps: Record) -> None:
        self._fail()

    async def renew(self, claim: Claim, progress: Progress | None) -> None:
        self._fail()

    async def finish(
        self,
        claim: Claim,
        products: Sequence[Product],
        warnings: Sequence[str],
        record: Record,
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        self._fail()

    async def release(
        self,
        claim: Claim,
        release: Release,
        records: Sequence[Record],
        *,
        steps: Sequence[Record] = (),
    ) -> None:
        self._fail()

    def _fail(self) -> None:
        failure, self.failure = self.failure, None
        if failure is not None:
            raise failure


class Bench:
    """A counting ledger on a clock that is set by hand, with one claim."""

    def __init__(self) -> None:
        self.now = 100.0
        self.ledger = Ledger()
        self.counting = CountingLedger(self.ledger, clock=lambda: self.now)
        self.claim = Claim(task_id=TASK, part=0, attempt=1, token=uuid4(), lease_s=15)

    async def begin(self) -> None:
        self.ledger.answer = self.claim
        received = record(TaskReceived(task_id=TASK, attempt=0))
        await self.counting.claim(TASK, 0, HOLDER, self.claim.token, received)

    async def step(self, after_s: float, event: Recordable) -> None:
        self.now += after_s
        await self.counting.advance(self.claim, record(event))

    async def finish(self) -> None:
        done = WorkloadProcessingFinished(task_id=TASK, outcome="done", seconds=1)
        await self.counting.finish(self.claim, (), (), record(done))

    async def release(self, failure: Failure | None, retry_in_s: float | None) -> None:
        release = Release(failure=failure, retry_in_s=retry_in_s)
        await self.counting.release(self.claim, release, ())


FAILED = Failure(stage=Stage.PULL, code="x", message="x")


async def test_an_attempt_that_goes_well_is_measured_step_by_step() -> None:
    """Each step lasts from the end of the one before; bytes and seconds are those of its events."""
    bench = Bench()
    await bench.begin()
    await bench.step(0.5, TaskDetailsRetrieved(task_id=TASK, source="s", ladder="web"))
    await bench.step(2, VideoFilePulled(task_id=TASK, size=1000, seconds=1.9))
    await bench.step(
        3, WorkloadProcessingStarted(task_id=TASK, video={"duration_s": 12.5}, renditions=("a",))
    )
    await bench.step(40, VideoTranscoded(task_id=TASK, renditions=(), seconds=39, cpu_seconds=77))
    await bench.step(5, TranscodedVideoUploaded(task_id=TASK, prefix="p", files=2, size=400))
    bench.now += 0.25
    await bench.finish()
    counted = bench.counting.attempts
    assert {step: counted.steps[step].total for step in STEPS} == {
        "pull": 2,
        "inspect": 3,
        "transcode": 40,
        "push": 5,
        "commit": 0.25,
    }
    assert counted.lasted.total == pytest.approx(50.75)
    assert (counted.pulled_bytes, counted.pushed_bytes) == (1000, 400)
    assert (counted.encode_s, counted.encode_cpu_s, counted.media_s) == (39, 77, 12.5)
    assert counted.answers == {"claimed": 1}
    assert counted.ended == {"done": 1}


@pytest.mark.parametrize(
    ("failure", "retry_in_s", "outcome", "failures"),
    [
        (FAILED, 5.0, "retry", {("pull", "retry"): 1}),
        (FAILED, None, "escalated", {("pull", "escalated"): 1}),
        (None, 0.0, "handed_back", {}),
    ],
)
async def test_how_an_attempt_without_outputs_ended(
    failure: Failure | None, retry_in_s: float | None, outcome: str, failures: dict[object, int]
) -> None:
    """It is counted under what follows, with its stage if it failed, and once if it is repeated."""
    bench = Bench()
    await bench.begin()
    bench.ledger.failure = LedgerUnavailable("away", definite=False)
    with pytest.raises(LedgerUnavailable):
        await bench.release(failure, retry_in_s)
    assert not bench.counting.attempts.ended
    await bench.release(failure, retry_in_s)
    await bench.release(failure, retry_in_s)
    assert bench.counting.attempts.ended == {outcome: 1}
    assert bench.counting.attempts.failures == failures
    assert outcome in OUTCOMES


@pytest.mark.parametrize("call", ["advance", "renew", "finish", "release"])
@pytest.mark.parametrize("committed", [False, True])
async def test_a_lost_claim_counts_once_and_a_lost_answer_is_a_commit(
    call: str, committed: bool
) -> None:
    """Whichever call finds out that the claim is gone, the attempt has one end."""
    bench = Bench()
    await bench.begin()
    calls: dict[str, Callable[[], Awaitable[None]]] = {
        "advance": lambda: bench.step(1, VideoFilePulled(task_id=TASK, size=1, seconds=1)),
        "renew": lambda: bench.counting.renew(bench.claim, None),
        "finish": bench.finish,
        "release": lambda: bench.release(FAILED, 1.0),
    }
    for _ in range(2):
        bench.ledger.failure = ClaimLost("somebody else", committed=committed)
        with pytest.raises(ClaimLost):
            await calls[call]()
    assert bench.counting.attempts.ended == {"done" if committed else "lost": 1}
    assert bench.counting.attempts.pulled_bytes == 0
    assert not bench.counting.attempts.failures


async def test_steps_of_a_claim_that_has_ended_are_not_counted() -> None:
    """A frozen attempt that wakes up late adds nothing to what its end has told."""
    bench = Bench()
    await bench.begin()
    await bench.finish()
    await bench.step(900, VideoFilePulled(task_id=TASK, size=1, seconds=1))
    assert bench.counting.attempts.steps["pull"].total == 0


class Journal:
    """Takes everything down, unless it is away."""

    def __init__(self) -> None:
        self.paused = False
        self.away = False

    async def begin(self, term: int) -> tuple[int, Levels]:
        return term, Levels()

    async def note(self, era: int, entry: Entry) -> Noted:
        if self.away:
            raise LedgerAway("away")
        return Noted(number=1, acting=not self.paused, paused=self.paused)

    async def finish(self, number: int, outcomes: Sequence[Outcome]) -> None:
        if self.away:
            raise LedgerAway("away")


def entry(*, held: bool = False, dry_run: bool = False, acts: bool = True) -> Entry:
    snapshot = Snapshot(
        now_s=1, leading_s=1, term=1, demand=None, containers=(), nodes=(), wanted=2
    )
    decision = Decision(
        Desired(containers=3, nodes=1), held, (Reason(code="need", text="more work"),)
    )
    return Entry(
        leader="one",
        term=1,
        considered=Considered(
            snapshot=snapshot, config=ScalingConfig(), memory=Memory(), decision=decision
        ),
        actions=(SetContainers(count=3),) if acts else (),
        dry_run=dry_run,
        levels=Levels(),
        sight=None,
    )


@pytest.mark.parametrize(
    ("written", "paused", "kind"),
    [
        (entry(), False, "acted"),
        (entry(acts=False), False, "kept"),
        (entry(held=True), False, "held"),
        (entry(), True, "paused"),
        (entry(dry_run=True), False, "dry_run"),
    ],
)
async def test_each_decision_is_counted_under_what_became_of_it(
    written: Entry, paused: bool, kind: str
) -> None:
    """A decision counts once it was put down, under one kind, with each of its reasons."""
    journal = Journal()
    journal.paused = paused
    counting = CountingJournal(journal, clock=lambda: 1234.5)
    await counting.note(1, written)
    assert counting.decided == {kind: 1}
    assert counting.reasons == {"need": 1}
    assert (counting.latest, counting.latest_at) == (written, 1234.5)


async def test_what_was_done_counts_although_it_could_not_be_put_down() -> None:
    """Decisions that were not put down are none; outcomes are there, whoever writes them down."""
    journal = Journal()
    journal.away = True
    counting = CountingJournal(journal)
    with pytest.raises(LedgerAway):
        await counting.note(1, entry())
    outcomes = [
        Outcome(action=SetContainers(count=3)),
        Outcome(action=Park(uid="aa"), trouble="deaf"),
    ]
    with pytest.raises(LedgerAway):
        await counting.finish(1, outcomes)
    assert not counting.decided
    assert counting.latest is None
    assert counting.done == {("SetContainers", "done"): 1, ("Park", "failed"): 1}


def test_a_histogram_counts_at_most() -> None:
    """A value counts in the first bar whose bound it does not exceed, and in all behind it."""
    bars = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 99):
        bars.add(value)
    assert bars.cumulative == [(1, 2), (2, 3), (math.inf, 4)]
    assert bars.total == 102


def test_fine_bars_become_coarse_ones() -> None:
    """None is counted below where it belongs."""
    coarse = coarsened({0.1: 3, 0.11: 2, 7.0: 1}, (0.1, 0.5))
    assert coarse.cumulative == [(0.1, 3), (0.5, 5), (math.inf, 6)]


class Collected(Collector):
    def __init__(self, *families: Metric) -> None:
        self._families = families

    def collect(self) -> Sequence[Metric]:
        return self._families


def scraped(*families: Metric) -> dict[str, dict[tuple[str, ...], float]]:
    """What Prometheus would read: samples by their names, and by the values of their labels."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collected(*families))
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(generate_latest(registry).decode()):
        for sample in family.samples:
            found.setdefault(sample.name, {})[tuple(sample.labels.values())] = sample.value
    return found


def test_families_are_written_as_they_are_named() -> None:
    """Names, labels with anything in them, and histograms arrive as they were meant."""
    odd = 'a "b"\\c\nd'
    bars = Histogram((1,))
    bars.add(0.5)
    found = scraped(
        gauge("g", "One.", 2.5),
        counter("c_total", "Two.", {("x", odd): 3}, ["one", "two"]),
        histogram("h", "Three.", {"pull": bars}, "step"),
    )
    assert found["g"] == {(): 2.5}
    assert found["c_total"] == {("x", odd): 3}
    assert found["h_bucket"] == {("pull", "1"): 1, ("pull", "+Inf"): 1} or found["h_bucket"] == {
        ("1", "pull"): 1,
        ("+Inf", "pull"): 1,
    }
    assert found["h_sum"] == {("pull",): 0.5}


def test_of_several_states_one_is_the_case() -> None:
    """A state is a gauge for each that there may be, so that each can be asked for."""
    assert one_of("b", ["a", "b"]) == {("a",): 0.0, ("b",): 1.0}
    found = scraped(*dependency_families({"ledger": "open", "queue": "closed"}, spooled=3))
    states = found["grapevine_breaker_state"]
    assert states["ledger", "open"] == 1
    assert sum(value for (name, _), value in states.items() if name == "ledger") == 1
    assert sum(value for (name, _), value in states.items() if name == "store") == 0
    assert found["grapevine_spooled_events"] == {(): 3}


def test_what_is_not_known_of_the_queue_is_not_told() -> None:
    """A queue that is away is not an empty one; nor is a number that it does not tell a zero."""
    assert not scraped(*queue_families(None))
    found = scraped(*queue_families(Depth(ready=4, unacknowledged=None, delayed=2, dead=1)))
    assert found["grapevine_queue_messages"] == {("ready",): 4, ("delayed",): 2, ("dead",): 1}


class Working:
    """A worker's own words."""

    def __init__(self, quarantined: str | None = None, **trouble: str) -> None:
        self.jobs: Sequence[Job] = ()
        self.trouble = trouble
        self.breakers: dict[str, str] = {}
        self.quarantined = quarantined


@pytest.mark.parametrize(
    ("worker", "awaited", "told", "codes"),
    [
        (Working(), None, {}, []),
        (Working(), None, {"draining": True}, ["drained"]),
        (Working(), None, {"parked": True}, ["parked"]),
        (None, None, {}, ["starting"]),
        (None, "no route to host", {}, ["ledger"]),
        (None, "no route to host", {"draining": True}, ["drained", "ledger"]),
        (Working(store="it is not mounted"), None, {}, ["store"]),
        (Working(cluster="cut off"), None, {}, ["cluster"]),
        (Working(quarantine="on probation"), None, {}, []),
        (Working("fails all", quarantine="fails all"), None, {}, ["quarantined"]),
    ],
)
def test_why_a_peer_is_not_ready(
    worker: Working | None, awaited: str | None, told: dict[str, bool], codes: list[str]
) -> None:
    """Each reason has its code and a sentence; a peer on probation does take work."""
    why = why_not_ready(
        worker,
        awaited,
        draining=told.get("draining", False),
        parked=told.get("parked", False),
    )
    assert list(why) == codes
    assert all(why.values())
    assert set(why) <= set(REASONS)


@pytest.mark.parametrize(
    ("silent_s", "control", "alive"),
    [
        (0.2, "", True),
        (SILENT_S_MAX + 1, "", False),
        (None, "", False),
        (0.2, "it hangs up", False),
    ],
)
def test_only_what_a_restart_mends_is_no_life(
    silent_s: float | None, control: str, alive: bool
) -> None:
    """A loop that does not turn and a control socket that does not answer, and nothing else."""
    assert Life(silent_s=silent_s, control=control).alive == alive


def test_the_empty_counter_is_a_zero() -> None:
    """A series is there before the first time, or the first increase would not be seen as one."""
    counts: Counter[str] = Counter()
    found = scraped(counter("c_total", "One.", {("a",): counts["a"]}, ["x"]))
    assert found["c_total"] == {("a",): 0}
