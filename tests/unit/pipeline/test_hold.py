"""Why a worker takes no new work, and for how long."""

from __future__ import annotations

import random
from collections.abc import Sequence
from uuid import UUID

import pytest
import trio
import trio.testing

from pipeline.errors import LedgerUnavailable, TranscodeFailed
from pipeline.hold import LOOK_AGAIN_S, LOOK_S, Hold
from pipeline.patience import LEDGER, Patience
from pipeline.ports import Evidence
from pipeline.quarantine import ConductRules
from pipeline.scrutiny import Scrutiny
from pipeline.standing import Suspended

CRASHED = TranscodeFailed("ffmpeg crashed", code="ffmpeg_failed")


class Others:
    """Witnesses: a ledger that knows what other peers made of tasks, and may be away."""

    def __init__(self, *finished: UUID, failed: Sequence[UUID] = (), away: int = 0) -> None:
        self.evidence = Evidence(finished=finished, failed=failed)
        self.away = away
        self.asked: list[tuple[str, Sequence[UUID]]] = []

    async def testify(self, peer_uid: str, task_ids: Sequence[UUID]) -> Evidence:
        self.asked.append((peer_uid, tuple(task_ids)))
        if self.away:
            self.away -= 1
            raise LedgerUnavailable("it is away", definite=True)
        return self.evidence


def scrutiny_of(others: Others | None = None) -> Scrutiny:
    async def probe() -> None:
        """Answer."""

    patience = Patience({LEDGER: probe}, random.Random(1), pause_max_s=1.0)
    return Scrutiny(ConductRules(), others, patience, uid=lambda: "ada")


def fail_three(scrutiny: Scrutiny) -> list[UUID]:
    tasks = [UUID(int=number) for number in range(3)]
    for task_id in tasks:
        scrutiny.note_failure(task_id, CRASHED, trial=False)
    return tasks


async def test_nothing_in_the_way(autojump_clock: trio.testing.MockClock) -> None:
    """It does not wait."""
    hold = Hold(lambda: None, scrutiny_of())
    await hold.wait()
    assert (hold.reason, trio.current_time()) == (None, autojump_clock.current_time())
    assert hold.trouble == {}


async def test_a_reason_of_its_own(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """It waits for as long as there is one, and hardly longer."""
    assert autojump_clock.rate == 0
    reasons: list[str | None] = ["deaf"]
    hold = Hold(lambda: reasons[-1], scrutiny_of())
    began = trio.current_time()

    async def heal() -> None:
        await trio.sleep(30)
        reasons.append(None)

    nursery.start_soon(heal)
    assert hold.reason == "deaf"
    assert hold.trouble == {"cluster": "deaf"}
    await hold.wait()

    assert 30 <= trio.current_time() - began <= 30 + LOOK_S


@pytest.mark.parametrize(("left_s", "wait_s"), [(10.0, LOOK_AGAIN_S), (0.3, 0.3)])
async def test_a_suspension(
    autojump_clock: trio.testing.MockClock, left_s: float, wait_s: float
) -> None:
    """It waits a while and then tries again, since nobody tells it of a reinstatement."""
    assert autojump_clock.rate == 0
    hold, began = Hold(lambda: None, scrutiny_of()), trio.current_time()

    assert hold.suspend(Suspended(left_s=left_s, why="suspect"))
    assert hold.reason == "suspect"
    await hold.wait()

    assert wait_s <= trio.current_time() - began <= wait_s + LOOK_S
    assert hold.reason is None
    assert not hold.suspend(Suspended(left_s=left_s, why="suspect")), "it is no news"
    await trio.sleep(60)
    assert hold.suspend(Suspended(left_s=left_s, why="suspect"))


async def test_probation(autojump_clock: trio.testing.MockClock) -> None:
    """After three failures it asks what others made of them, pauses, asks again, and tries one."""
    assert autojump_clock.rate == 0
    others = Others()
    hold = Hold(lambda: None, scrutiny := scrutiny_of(others))
    tasks, began = fail_three(scrutiny), trio.current_time()
    await hold.wait()

    assert 10 <= trio.current_time() - began <= 10 + LOOK_S
    assert others.asked == [("ada", tuple(tasks))] * 2
    assert "quarantine" in hold.trouble, "people are told although a trial may begin"
    assert scrutiny.quarantined is None
    assert scrutiny.begin()
    assert hold.reason is not None
    scrutiny.end_trial()
    assert hold.reason is None


async def test_an_acquittal(autojump_clock: trio.testing.MockClock) -> None:
    """Others have failed two of the tasks, too: it goes on at once."""
    assert autojump_clock.rate == 0
    others = Others(failed=(UUID(int=0), UUID(int=1)))
    hold = Hold(lambda: None, scrutiny := scrutiny_of(others))
    fail_three(scrutiny)
    began = trio.current_time()
    await hold.wait()

    assert trio.current_time() == began
    assert (hold.trouble, scrutiny.begin()) == ({}, False)


async def test_quarantine(autojump_clock: trio.testing.MockClock) -> None:
    """Others have finished two of the tasks: ten minutes until the next trial."""
    assert autojump_clock.rate == 0
    others = Others(UUID(int=0), UUID(int=1))
    hold = Hold(lambda: None, scrutiny := scrutiny_of(others))
    fail_three(scrutiny)
    began = trio.current_time()
    await hold.wait()

    assert 600 <= trio.current_time() - began <= 600 + LOOK_S
    assert len(others.asked) == 1
    assert scrutiny.quarantined == hold.trouble["quarantine"]


async def test_a_person_ends_it(
    autojump_clock: trio.testing.MockClock, nursery: trio.Nursery
) -> None:
    """Also in the middle of the pause."""
    assert autojump_clock.rate == 0
    hold = Hold(lambda: None, scrutiny := scrutiny_of(Others(UUID(int=0), UUID(int=1))))
    fail_three(scrutiny)
    began = trio.current_time()

    async def repair() -> None:
        await trio.sleep(60)
        scrutiny.release()

    nursery.start_soon(repair)
    await hold.wait()
    assert 60 <= trio.current_time() - began <= 60 + LOOK_S
    assert (hold.trouble, scrutiny.quarantined) == ({}, None)


async def test_nobody_can_be_asked(autojump_clock: trio.testing.MockClock) -> None:
    """Without a ledger that answers there is no evidence yet; it is asked for until there is."""
    assert autojump_clock.rate == 0
    others = Others(UUID(int=0), UUID(int=1), away=3)
    hold = Hold(lambda: None, scrutiny := scrutiny_of(others))
    fail_three(scrutiny)
    with trio.move_on_after(30):
        await hold.wait()

    assert len(others.asked) == 4
    assert scrutiny.quarantined is not None


async def test_without_witnesses(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that knows nobody to ask tries one task at a time, and convicts itself of nothing."""
    assert autojump_clock.rate == 0
    hold = Hold(lambda: None, scrutiny := scrutiny_of())
    fail_three(scrutiny)
    await hold.wait()
    assert scrutiny.begin()
    scrutiny.note_success()
    assert (hold.trouble, hold.reason) == ({}, None)
