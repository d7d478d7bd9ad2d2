"""The undertaker's loop: it tells the ledger, again where it must, and wakes somebody."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
import trio
import trio.testing

from gossip.rows import State
from membership.changes import MemberDied, MemberJoined, MemberRestarted
from membership.events import ContainerFailureDetected
from membership.view import View
from peer.duties import Bury, former_life
from peer.ended import REPORTS_MAX, UNHEARD_S, Ended, Reports
from peer.undertaker import LOOK_S, Undertaker
from pipeline.errors import LedgerUnavailable, QueueUnavailable, Stage
from pipeline.events import Record, Recordable, Stamp
from pipeline.ports import Expired
from pipeline.standing import EXPLAINED, Death, Life, Suspended
from pipeline.tasks import Holder
from tests.unit.peer.views import DEAD, LEFT, SUSPECT, row, view

OWN = Holder(peer_uid="0" * 15 + "1", peer_name="one", epoch=1, container="pid:1", node="here")
TAKEN = Expired(
    task_id=UUID(int=1),
    part=0,
    attempt=1,
    peer_uid="0" * 15 + "2",
    peer_name="peer 2",
    stage=Stage.CRASH,
    failures=1,
    attempts_max=3,
)


class ScriptedLedger:
    """Remembers what it was told; away, or unbelieving, when told to be."""

    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []
        self.is_away = False
        self.refuses = False

    async def bury(
        self, by: Holder, death: Death, record: Record | None
    ) -> Sequence[Expired] | Suspended:
        self._hear("bury", death.life.epoch if record is None else record.event)
        held_nothing = death.life.peer_uid.startswith("container:")
        return self._answer(by) or ([] if held_nothing else [TAKEN])

    async def suspend(self, by: Holder, lives: Sequence[Life]) -> Suspended | None:
        self._hear("suspend", [life.peer_uid[-1] for life in lives])
        return self._answer(by)

    async def reinstate(self, life: Life) -> None:
        self._hear("reinstate", life.incarnation)

    @property
    def calls(self) -> list[str]:
        return [call for call, _ in self.told]

    def _hear(self, call: str, what: object) -> None:
        if self.is_away:
            raise LedgerUnavailable("the ledger is away", definite=True)
        self.told.append((call, what))

    def _answer(self, by: Holder) -> Suspended | None:
        assert by is OWN
        return Suspended(left_s=1.0, why="the cluster doubts it") if self.refuses else None


class Rig:
    """An undertaker whose view a test writes down."""

    def __init__(self, own_burial: Bury | None = None) -> None:
        self.ledger = ScriptedLedger()
        self.believed: View | None = view()
        self.woken: list[Expired] = []
        self.queue_is_away = False
        self.asked: list[Life] = []
        self.answers = False
        numbers = itertools.count(1)

        def record(event: Recordable) -> Record:
            at = datetime.now(UTC)
            own: dict[str, Any] = {"peer_uid": OWN.peer_uid, "epoch": 1, "node": "here"}
            return Record(
                stamp=Stamp(**own, sequence=next(numbers), container="pid:1", at=at), event=event
            )

        async def hears(life: Life) -> bool:
            self.asked.append(life)
            return self.answers

        async def wake(taken: Sequence[Expired]) -> None:
            if self.queue_is_away:
                raise QueueUnavailable("the queue is away", definite=True)
            self.woken.extend(taken)

        self.undertaker = Undertaker(
            ledger=self.ledger,
            wake=wake,
            view=lambda: self.believed,
            own=lambda: OWN,
            recorder=record,
            hears=hears,
            own_burial=own_burial,
        )


@pytest.fixture
def rig() -> Rig:
    """One that has nothing to do yet."""
    return Rig()


@pytest.fixture
async def running(rig: Rig, nursery: trio.Nursery) -> AsyncIterator[Rig]:
    """One whose loop runs. The test asks for the clock too: its time passes by itself."""
    nursery.start_soon(rig.undertaker.run)
    await trio.testing.wait_all_tasks_blocked()
    yield rig
    nursery.cancel_scope.cancel()


def the_leader_sees(*, state: State = DEAD, incarnation: int = 1) -> View:
    return view(row(2, state, incarnation=incarnation), leader=1)


async def test_a_death_is_told_at_once(
    running: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    """The change makes it look; the parts are taken, the failure is said, somebody is woken."""
    running.believed = the_leader_sees()
    began = trio.current_time()
    running.undertaker.notice(MemberJoined(row=row(3)))
    running.undertaker.notice(
        MemberDied(row=row(2, DEAD), silent_s=6.0, witnesses=4, quorum=3),
    )
    await trio.testing.wait_all_tasks_blocked()

    assert trio.current_time() == began
    assert running.ledger.calls == ["bury", "suspend"]
    assert "witnesses=4" in str(running.ledger.told[0])
    assert running.woken == [TAKEN]


async def test_a_change_that_was_missed(
    running: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    """What the view shows is done within a second, whether or not anything was told."""
    running.believed = the_leader_sees()

    await trio.sleep(LOOK_S * 1.01)

    assert running.ledger.calls == ["bury", "suspend"]


async def test_a_ledger_that_is_away(
    running: Rig, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """It is told when it is there again, once, and the log says once that it was not."""
    running.ledger.is_away = True
    running.believed = the_leader_sees()
    await trio.sleep(30)
    running.ledger.is_away = False
    await trio.sleep(LOOK_S * 2)

    assert running.ledger.calls.count("bury") == 1
    assert running.woken == [TAKEN]
    assert [record.message for record in caplog.records] == ["the ledger cannot be told"]


async def test_who_recovers_meanwhile_is_not_buried(
    running: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    """What was due before an outage and is not true after it is not done."""
    running.ledger.is_away = True
    running.believed = the_leader_sees()
    await trio.sleep(10)
    running.believed = the_leader_sees(state=State.ALIVE, incarnation=2)
    running.ledger.is_away = False
    await trio.sleep(10)

    assert running.ledger.told == [("reinstate", 2)]


async def test_a_ledger_that_does_not_believe(
    running: Rig, autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    """A peer that is suspended itself does nothing else, wakes nobody, and tries again later."""
    running.ledger.refuses = True
    running.believed = the_leader_sees()
    await trio.sleep(LOOK_S * 3.5)
    assert set(running.ledger.calls) == {"bury"}
    assert running.woken == []
    running.ledger.refuses = False
    await trio.sleep(LOOK_S * 2)

    assert running.ledger.calls[-2:] == ["bury", "suspend"]
    assert running.woken == [TAKEN]
    assert [record.message for record in caplog.records] == [
        "the ledger does not believe this peer"
    ]


async def test_a_queue_that_is_away(running: Rig, autojump_clock: trio.testing.MockClock) -> None:
    """The burial stands; whom nobody woke, the sweeper will."""
    running.queue_is_away = True
    running.believed = the_leader_sees()
    await trio.sleep(LOOK_S * 3)

    assert running.ledger.calls == ["bury", "suspend"]


@pytest.mark.parametrize("leader", [None, 1, 3])
async def test_nothing_depends_on_the_leader(
    running: Rig, autojump_clock: trio.testing.MockClock, leader: int | None
) -> None:
    """Whether this peer leads, nobody does, or another one that does nothing: it gets done."""
    running.believed = view(row(2, DEAD), row(3), leader=leader)

    await trio.sleep(10)

    assert running.ledger.calls.count("bury") == 1


async def test_of_two_peers_the_one_that_is_left(
    running: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    """There is no leader yet and no majority but half: the other one's parts are put back."""
    running.believed = view(row(2, DEAD))
    running.undertaker.notice(MemberDied(row=row(2, DEAD), silent_s=6.0, witnesses=1, quorum=1))
    await trio.testing.wait_all_tasks_blocked()

    assert running.ledger.calls == ["bury", "suspend"]


async def test_a_restart(running: Rig, autojump_clock: trio.testing.MockClock) -> None:
    """What the life before held is put back, though the view shows a peer that is well."""
    running.believed = view(row(2, epoch=2), leader=1)
    running.undertaker.notice(MemberRestarted(row=row(2, epoch=2), before=row(2)))
    await trio.testing.wait_all_tasks_blocked()

    assert running.ledger.calls == ["bury"]
    assert "failed_epoch=1" in str(running.ledger.told)


async def test_a_suspicion_and_its_end(
    running: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    """Nobody is buried for it; it is kept up while it lasts, and taken back when it ends."""
    running.believed = the_leader_sees(state=SUSPECT)
    await trio.sleep(12)
    running.believed = the_leader_sees(state=State.ALIVE, incarnation=2)
    await trio.sleep(12)

    assert set(running.ledger.calls[:-1]) == {"suspend"}
    assert len(running.ledger.calls) >= 4
    assert running.ledger.told[-1] == ("reinstate", 2)


async def test_before_there_is_a_view(running: Rig, autojump_clock: trio.testing.MockClock) -> None:
    """A peer that has not heard anybody yet does nothing, and goes on when it has."""
    running.believed = None
    await trio.sleep(3)
    running.believed = the_leader_sees()
    await trio.sleep(3)

    assert running.ledger.calls == ["bury", "suspend"]


async def test_its_own_former_life(autojump_clock: trio.testing.MockClock) -> None:
    """A peer that is alone tells of its own crash, when there is a ledger to tell, and once."""
    rig = Rig(former_life(OWN.peer_uid, 7, name="one", node="here"))
    rig.believed = view(quorate=False)
    rig.ledger.is_away = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.undertaker.run)
        await trio.sleep(LOOK_S * 3)
        assert rig.undertaker.own_burial is not None
        rig.ledger.is_away = False
        await trio.sleep(LOOK_S * 3)
        nursery.cancel_scope.cancel()

    assert rig.ledger.calls == ["bury"]
    assert "failed_epoch=7" in str(rig.ledger.told)
    assert rig.woken == [TAKEN]
    assert rig.undertaker.own_burial is None


KILLED = Ended(
    container="pid:2", node="n2", reason="non-zero exit (137)", exit_code=137, out_of_memory=True
)


async def test_a_container_that_ended(running: Rig, autojump_clock: trio.testing.MockClock) -> None:
    """Once for all, by the peer that was in it; whoever noticed first."""
    running.believed = view(row(2), leader=1)
    running.undertaker.note_ended(KILLED)
    await trio.sleep(0.1)
    (call, event), (_, container) = running.ledger.told
    assert call == "bury"
    assert container == 0, "the container's own life is over, too, without another event"
    assert event == ContainerFailureDetected(
        failed_uid="0" * 15 + "2",
        failed_name="peer 2",
        failed_epoch=1,
        failed_container="pid:2",
        failed_node="here",
        silent_s=0.0,
        witnesses=0,
        reason="out_of_memory",
        detail="non-zero exit (137)",
    )
    assert running.asked == [Life(peer_uid="0" * 15 + "2", epoch=1, incarnation=EXPLAINED)]
    assert running.woken == [TAKEN]
    await trio.sleep(10 * LOOK_S)
    assert running.ledger.calls == ["bury", "bury"]


async def test_a_container_whose_peer_answers(
    running: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    """The orchestrator may be wrong, and an end is for good: so the peer is asked before."""
    running.believed, running.answers = view(row(2), leader=1), True
    running.undertaker.note_ended(KILLED)
    await trio.sleep(10 * LOOK_S)
    assert len(running.asked) == 1
    assert running.ledger.told == []


async def test_a_container_that_nobody_heard_of(
    running: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    """It is waited for a row, and then the container alone is told of, under its own name."""
    running.undertaker.note_ended(KILLED)
    await trio.sleep(UNHEARD_S - 0.1)
    assert running.ledger.told == []
    await trio.sleep(2 * LOOK_S)
    ((_, event),) = running.ledger.told
    assert isinstance(event, ContainerFailureDetected)
    assert (event.failed_uid, event.failed_container, event.failed_node) == ("", "pid:2", "n2")
    assert running.asked == []


@pytest.mark.parametrize(
    ("believed", "ended"),
    [
        pytest.param(view(row(2, LEFT)), KILLED, id="it left in good order"),
        pytest.param(view(), replace(KILLED, container="pid:1"), id="it is this very one"),
        pytest.param(view(row(2)), replace(KILLED, exit_code=143), id="it was told to end"),
        pytest.param(view(row(2)), replace(KILLED, exit_code=0), id="it ended well"),
        pytest.param(view(row(2)), replace(KILLED, lost=True), id="its node was lost"),
    ],
)
async def test_an_end_that_is_no_failure(
    running: Rig, autojump_clock: trio.testing.MockClock, believed: View, ended: Ended
) -> None:
    """Nothing is told of who handed back what it had, and of whom only gossip can tell."""
    running.believed = believed
    running.undertaker.note_ended(ended)
    await trio.sleep(2 * UNHEARD_S)
    assert "bury" not in [call for call, event in running.ledger.told if not isinstance(event, int)]


async def test_an_end_is_told_when_the_ledger_is_back(
    running: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    """And while this peer cannot hear the others, it does not judge by their silence."""
    running.believed = view(row(2), leader=1, deaf=True)
    running.undertaker.note_ended(KILLED)
    await trio.sleep(5 * LOOK_S)
    assert running.asked == []
    running.believed, running.ledger.is_away = view(row(2), leader=1), True
    await trio.sleep(5 * LOOK_S)
    assert running.ledger.told == []
    running.ledger.is_away = False
    await trio.sleep(2 * LOOK_S)
    assert running.ledger.calls == ["bury", "bury"]


def test_no_more_is_remembered_than_can_be_told() -> None:
    """A Swarm that fails for days while the ledger is away fills no memory."""
    reports = Reports()
    for number in range(REPORTS_MAX + 5):
        reports.note(0.0, replace(KILLED, container=f"task-{number}"))
    assert len(list(reports.due(UNHEARD_S, view()))) == REPORTS_MAX
