"""A peer's conduct: when it doubts itself, when others convict it, and what clears it."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import (
    PullFailed,
    PushFailed,
    SourceRejected,
    StepError,
    TranscodeFailed,
)
from pipeline.ports import Evidence
from pipeline.quarantine import FAILED_MAX, Conduct, ConductRules, Memory, Standing, counts


def task(number: int) -> UUID:
    return UUID(int=number)


def suspect(now: float = 0.0) -> Conduct:
    """A peer that has just failed three tasks."""
    conduct = Conduct(ConductRules())
    for number in range(3):
        conduct.note_failure(now, task(number), "ffmpeg crashed", trial=False)
    return conduct


def convict(now: float = 10.0) -> Conduct:
    """A peer of whose tasks others have finished two."""
    conduct = suspect()
    assert conduct.note_evidence(now, Evidence(finished={task(0), task(2)}))
    return conduct


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (TranscodeFailed("it crashed", code="ffmpeg_failed"), True),
        (TranscodeFailed("the disk is full", code="disk_full"), True),
        (TranscodeFailed("unexpected KeyError", code="unexpected"), True),
        (SourceRejected("not a video", code="not_media"), False),
        (TranscodeFailed("never", code="output_limit", permanent=True), False),
        (PullFailed("no workspace", code="workspace"), True),
        (PullFailed("the disk is full", code="disk_full"), True),
        (PullFailed("the store is down", code="store_unavailable"), False),
        (PullFailed("no such object", code="no_such_object", permanent=True), True),
        (PullFailed("no such key", code="bad_key", permanent=True), False),
        (PullFailed("it changed", code="source_changed"), False),
        (PushFailed("the store is down", code="store_unavailable"), False),
        (PushFailed("the file is gone", code="no_such_file"), True),
    ],
)
def test_what_a_peer_may_be_to_blame_for(error: StepError, expected: bool) -> None:
    """Its own disk and its own ffmpeg; not the source, and not what all peers share. That a source
    is missing may be seen by it alone."""
    assert counts(error) is expected


def test_three_different_tasks_in_a_row() -> None:
    """One task that fails again and again is that task's fault, until others fail as well."""
    conduct = Conduct(ConductRules())
    for now in range(5):
        assert not conduct.note_failure(float(now), task(0), "it crashed", trial=False)
    assert not conduct.note_failure(5.0, task(1), "it crashed", trial=False)
    assert conduct.why() is None
    assert conduct.note_failure(6.0, task(2), "the disk is full", trial=False)

    assert conduct.standing is Standing.PROBATION
    assert not conduct.may_take(15.9)
    assert conduct.may_take(16.0)
    assert "the disk is full" in (conduct.why() or "")


def test_a_finished_task_between_them() -> None:
    """It shows that the peer can work."""
    conduct = Conduct(ConductRules())
    for number in (0, 1):
        conduct.note_failure(0.0, task(number), "it crashed", trial=False)
    assert not conduct.succeeded()
    assert not conduct.note_failure(0.0, task(2), "it crashed", trial=False)
    assert (conduct.standing, conduct.why()) == (Standing.TRUSTED, None)


def test_trials_one_at_a_time_and_ever_more_rarely() -> None:
    """10 s, doubling to half a minute; a trial that says nothing may be repeated at once."""
    conduct, now, pauses = suspect(), 0.0, []
    for number in range(3, 7):
        pause_s = next(s for s in range(1, 1000) if conduct.may_take(now + s))
        pauses.append(pause_s)
        now += pause_s
        assert conduct.begin()
        assert not conduct.may_take(now), "one at a time"
        conduct.end_trial()
        assert conduct.may_take(now), "it was cancelled, say"
        assert conduct.begin()
        conduct.note_failure(now, task(number), "it crashed", trial=True)
        conduct.end_trial()
    assert pauses == [10, 20, 30, 30]


def test_what_was_begun_before_does_not_count_twice() -> None:
    """The other slots' failures come in after probation began: no trial, no longer pause."""
    conduct = suspect()
    conduct.note_failure(1.0, task(7), "it crashed", trial=False)
    assert conduct.may_take(10.0)
    assert conduct.failed == (task(0), task(1), task(2), task(7))


@pytest.mark.parametrize("trusted_by", ["succeeded", "release"])
@pytest.mark.parametrize("build", [suspect, convict])
def test_what_clears_it(trusted_by: str, build: Callable[[], Conduct]) -> None:
    """A task that it finishes, or a person: all is forgotten, and that is news."""
    conduct = build()
    assert getattr(conduct, trusted_by)()
    assert (conduct.standing, conduct.failed, conduct.why()) == (Standing.TRUSTED, (), None)
    assert conduct.may_take(0.0)
    assert not conduct.begin()


@pytest.mark.parametrize(
    ("finished", "failed", "expected"),
    [
        ((), (), Standing.PROBATION),
        ((0,), (), Standing.PROBATION),
        ((0, 99), (), Standing.PROBATION),
        ((0, 2), (), Standing.QUARANTINED),
        ((0, 2), (0, 1, 2), Standing.QUARANTINED),
        ((), (0,), Standing.PROBATION),
        ((), (0, 99), Standing.PROBATION),
        ((), (0, 2), Standing.TRUSTED),
        ((1,), (0, 2), Standing.PROBATION),
    ],
)
def test_evidence(finished: tuple[int, ...], failed: tuple[int, ...], expected: Standing) -> None:
    """Two of the tasks that it failed were finished by others: it is convicted. Or two of them were
    failed by others and none finished: the tasks are to blame."""
    conduct = suspect()
    evidence = Evidence(finished=set(map(task, finished)), failed=set(map(task, failed)))
    assert conduct.evidence_wanted(10.0)
    assert conduct.note_evidence(10.0, evidence) == (expected is not Standing.PROBATION)
    assert conduct.standing is expected
    assert not conduct.evidence_wanted(10.0)


def test_what_others_failed_too_is_forgotten() -> None:
    """And nothing else: it counts when more follows."""
    conduct = suspect()
    assert conduct.note_evidence(0.0, Evidence(failed={task(0), task(2)}))
    assert (conduct.failed, conduct.why(), conduct.may_take(0.0)) == ((task(1),), None, True)
    assert not conduct.begin(), "it is no trial"
    assert not conduct.note_failure(1.0, task(3), "it crashed", trial=False)
    assert conduct.note_failure(1.0, task(4), "it crashed", trial=False)
    assert conduct.standing is Standing.PROBATION


def test_when_others_are_asked() -> None:
    """At once, as they may have seen the tasks before, and again before the next trial: they may
    need a while for what failed here."""
    conduct = suspect(now=5.0)
    assert conduct.evidence_wanted(5.0)
    conduct.note_evidence(5.5, Evidence())
    assert not conduct.evidence_wanted(14.9)
    assert conduct.evidence_wanted(15.0)
    conduct.note_evidence(15.0, Evidence())
    assert not conduct.evidence_wanted(1000.0)
    assert conduct.begin()
    conduct.note_failure(20.0, task(3), "it crashed", trial=True)
    assert conduct.evidence_wanted(20.0)


def test_quarantine() -> None:
    """One trial after 10 minutes, doubling to an hour."""
    conduct, now, pauses = convict(), 10.0, []
    for number in range(3, 8):
        pause_s = next(s for s in range(0, 7200, 60) if conduct.may_take(now + s))
        pauses.append(pause_s)
        now += pause_s
        assert conduct.begin()
        conduct.note_failure(now, task(number), "it crashed", trial=True)
        conduct.end_trial()
        assert not conduct.evidence_wanted(1e9)
    assert pauses == [600, 1200, 2400, 3600, 3600]
    assert conduct.standing is Standing.QUARANTINED
    assert "peerctl resume" in (conduct.why() or "")


def test_evidence_that_comes_too_late() -> None:
    """A task was finished here while the ledger was asked: nothing is held against the peer."""
    conduct = suspect()
    conduct.succeeded()
    assert not conduct.note_evidence(10.0, Evidence(finished={task(0), task(1), task(2)}))
    assert conduct.standing is Standing.TRUSTED


@given(st.lists(st.integers(0, 200), max_size=100))
def test_memory_is_bounded(numbers: list[int]) -> None:
    """However many tasks fail, the newest are remembered, each once."""
    conduct = Conduct(ConductRules())
    for number in numbers:
        conduct.note_failure(0.0, task(number), "it crashed", trial=False)
    expected: list[int] = []
    for number in numbers:
        expected = [each for each in expected if each != number] + [number]
    assert list(conduct.failed) == [task(number) for number in expected[-FAILED_MAX:]]


class Cluster:
    """Sound peers of one slot that share a queue, some of whose tasks fail on every peer."""

    FAILS_S, WORKS_S, ATTEMPTS = 2.0, 30.0, 4

    def __init__(self, peers: int, *, poison: int, good: int) -> None:
        self.queue = [(number < poison, task(number)) for number in range(poison + good)]
        random.Random(1).shuffle(self.queue)
        self.fair_share_s = (poison * self.ATTEMPTS * self.FAILS_S + good * self.WORKS_S) / peers
        self.clocks = [0.0] * peers
        self._conducts = [Conduct(ConductRules()) for _ in range(peers)]
        self._failed: dict[UUID, list[int]] = defaultdict(list)  # at which peers
        self._sound: set[int] = set()
        self.last_good_s = 0.0

    def run(self) -> None:
        while self.queue:
            peer = min(range(len(self.clocks)), key=self.clocks.__getitem__)
            self._step(peer, self._conducts[peer], self.clocks[peer])

    def _step(self, peer: int, conduct: Conduct, now: float) -> None:
        if conduct.evidence_wanted(now):
            others = self._sound - {peer}
            failed = {one for one in conduct.failed if others.intersection(self._failed[one])}
            conduct.note_evidence(now, Evidence(failed=failed))
        elif not conduct.may_take(now):
            self.clocks[peer] = now + 0.25
        else:
            self._work(peer, conduct, now)

    def _work(self, peer: int, conduct: Conduct, now: float) -> None:
        is_trial = conduct.begin()
        is_poison, one = self.queue.pop(0)
        self.clocks[peer] = now + (self.FAILS_S if is_poison else self.WORKS_S)
        if is_poison:
            conduct.note_failure(self.clocks[peer], one, "it crashed", trial=is_trial)
            self._failed[one].append(peer)
            if len(self._failed[one]) < self.ATTEMPTS:
                self.queue.append((is_poison, one))
        else:
            conduct.succeeded()
            self._sound.add(peer)
            self.last_good_s = max(self.last_good_s, self.clocks[peer])
        if is_trial:
            conduct.end_trial()


@pytest.mark.parametrize(
    ("peers", "poison", "good"), [(3, 0, 30), (3, 50, 30), (3, 200, 30), (10, 200, 30)]
)
def test_a_folder_of_broken_videos_does_not_stop_sound_peers(
    peers: int, poison: int, good: int
) -> None:
    """The good tasks among them are done in little more than twice the time that all would take
    without anybody's doubts, and the whole folder has been tried in five times that."""
    cluster = Cluster(peers, poison=poison, good=good)
    cluster.run()
    assert cluster.last_good_s <= 2.5 * cluster.fair_share_s
    assert max(cluster.clocks) <= 5 * cluster.fair_share_s


@pytest.mark.parametrize(
    ("former", "standing"), [(suspect, "on probation"), (convict, "quarantined")]
)
def test_a_restart_changes_nothing(former: Callable[..., Conduct], standing: str) -> None:
    """The next life, on a clock of its own, goes on in the middle of the same pause, and doubles
    it when its trial fails."""
    before, after = former(now := 10.0), Conduct(ConductRules())
    memory = before.memory(now + 4.0)
    assert memory is not None
    after.recall(1000.0, memory)

    assert (after.standing, after.why()) == (Standing(standing), before.why())
    assert after.failed == before.failed
    assert memory.left_s == memory.pause_s - 4.0
    assert not after.may_take(1000.0 + memory.left_s - 0.1)
    assert after.may_take(1000.0 + memory.left_s)
    assert after.begin()
    after.note_failure(2000.0, task(9), "ffmpeg crashed", trial=True)
    after.end_trial()
    again = after.memory(2000.0)
    assert again is not None
    assert again.pause_s == 2 * memory.pause_s


def test_a_former_life_on_probation_is_judged() -> None:
    """What others have made of its tasks meanwhile is asked at once."""
    now, memory = 1000.0, suspect().memory(0.0)
    assert memory is not None
    conduct = Conduct(ConductRules())
    conduct.recall(now, memory)
    assert conduct.evidence_wanted(now)
    assert conduct.note_evidence(now, Evidence(finished={task(0), task(2)}))
    assert conduct.standing is Standing.QUARANTINED


def test_there_is_nothing_to_remember_of_a_peer_that_is_trusted() -> None:
    """Not even two failures in a row: with the third it would have been told."""
    conduct = Conduct(ConductRules())
    conduct.note_failure(0.0, task(1), "ffmpeg crashed", trial=False)
    assert conduct.memory(0.0) is None
    convicted = convict()
    convicted.release()
    assert convicted.memory(0.0) is None


def test_a_pause_is_never_longer_than_it_was() -> None:
    """Whatever the clock says that was asked in between."""
    conduct = Conduct(ConductRules())
    conduct.recall(
        0.0,
        Memory(
            standing=Standing.QUARANTINED,
            failed={task(1): "ffmpeg crashed"},
            pause_s=600.0,
            left_s=1e9,
        ),
    )
    assert not conduct.may_take(599.0)
    assert conduct.may_take(600.0)
