"""Who waits for a person is told, once in a while, by somebody, until it has arrived."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from pipeline.errors import LedgerUnavailable, NotSent
from pipeline.notices import Notice
from pipeline.notifier import HOLD_S, LOOK_S, TAKE_MAX, TICK_OFF_S, Notifier
from pipeline.notify.config import NotifyConfig

INTERVAL_S = 300.0
LATE_S = 1.2 * LOOK_S
"""How late a message can be only because nobody looks all the time."""


class Outbox:
    """The ledger's outbox, as its port says, in trio's time."""

    def __init__(self) -> None:
        self._ids = itertools.count(1)
        self.waiting: dict[int, Notice] = {}
        self.taken_until = {0: -1.0}
        self.told_at: dict[int, float] = {}
        self.is_away = False

    def escalate(self, count: int = 1) -> None:
        for _ in range(count):
            number = next(self._ids)
            self.waiting[number] = Notice(
                id=number,
                task_id=UUID(int=number),
                title=f"clip-{number}.mp4",
                source="",
                escalated_at=datetime(2024, 1, 1, tzinfo=UTC),
                data={},
            )

    def _hear(self) -> None:
        if self.is_away:
            raise LedgerUnavailable("gone", definite=True)

    async def take_notices(
        self, limit: int, for_s: float, *, pause_s: float = 0.0
    ) -> Sequence[Notice]:
        await trio.lowlevel.checkpoint()
        self._hear()
        now = trio.current_time()
        if any(at > now - pause_s for at in self.told_at.values()):
            return []
        if any(until > now for until in self.taken_until.values()):
            return []
        taken = list(self.waiting.values())[:limit]
        self.taken_until |= {notice.id: now + for_s for notice in taken}
        return taken

    async def notices_told(self, ids: Sequence[int]) -> None:
        await trio.lowlevel.checkpoint()
        self._hear()
        for number in ids:
            self.taken_until.pop(number, None)
            if self.waiting.pop(number, None):
                self.told_at[number] = trio.current_time()


class Inbox:
    """What administrators get, and when; `takes_s` is how long sending takes."""

    def __init__(self) -> None:
        self.messages: list[tuple[float, str]] = []
        self.tried_at: list[float] = []
        self.is_away = False
        self.takes_s = 0.0

    async def send(self, title: str, body: str) -> None:
        assert body
        self.tried_at.append(trio.current_time())
        await trio.sleep(self.takes_s)
        if self.is_away:
            raise NotSent("nobody there")
        self.messages.append((trio.current_time(), title))

    @property
    def titles(self) -> list[str]:
        return [title.removeprefix("Grapevine: ") for _, title in self.messages]


class Scene:
    """An outbox, an inbox, and peers that look into one for the other."""

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.inbox = Inbox()

    def notifier(self, seed: int = 0) -> Notifier:
        return Notifier(
            notices=self.outbox,
            channel=self.inbox,
            config=NotifyConfig(urls=("json://x",), interval_s=INTERVAL_S),
            rng=random.Random(seed),
        )


@pytest.fixture
def scene() -> Scene:
    """Nobody was told anything yet."""
    return Scene()


async def test_nothing_to_tell(scene: Scene, autojump_clock: MockClock) -> None:
    """Nobody is told nothing."""
    with trio.move_on_after(3600):
        await scene.notifier().run()
    assert scene.inbox.messages == []


async def test_the_first_at_once_and_then_what_came_meanwhile(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """In a flood of escalations one message in each interval, which tells of all of them."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.notifier().run)
        scene.outbox.escalate()
        began = trio.current_time()
        for _ in range(100):
            await trio.sleep(10)
            scene.outbox.escalate()
        await trio.sleep(INTERVAL_S + LATE_S)
        nursery.cancel_scope.cancel()

    times = [at - began for at, _ in scene.inbox.messages]
    assert times[0] <= LATE_S
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert all(INTERVAL_S <= gap <= INTERVAL_S + LATE_S for gap in gaps)
    assert scene.inbox.titles[0] == "clip-1.mp4 was given up"
    counts = [int(title.split()[0]) for title in scene.inbox.titles[1:]]
    assert sum(counts) == 100, "each is told once"
    assert scene.outbox.waiting == {}


async def test_after_a_quiet_time_at_once_again(scene: Scene, autojump_clock: MockClock) -> None:
    """The pause is counted from the last message, not from a beat."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.notifier().run)
        for number in range(3):
            scene.outbox.escalate()
            await trio.sleep(LATE_S + 0.1)
            assert len(scene.inbox.messages) == number + 1
            await trio.sleep(2 * INTERVAL_S)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("takes_s", [0.0, 20.0])
async def test_a_cluster_speaks_with_one_voice(
    scene: Scene, takes_s: float, autojump_clock: MockClock
) -> None:
    """Ten peers look into the outbox; administrators hear as much as of one."""
    scene.inbox.takes_s = takes_s
    async with trio.open_nursery() as nursery:
        for seed in range(10):
            nursery.start_soon(scene.notifier(seed).run)
        for _ in range(60):
            scene.outbox.escalate()
            await trio.sleep(10)
        await trio.sleep(2 * INTERVAL_S)
        nursery.cancel_scope.cancel()
    assert len(scene.inbox.messages) in (3, 4)
    assert scene.outbox.waiting == {}


async def test_a_message_that_goes_nowhere_is_sent_again(
    scene: Scene, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    """With growing pauses, and nothing is ticked off before it has arrived."""
    scene.inbox.is_away = True
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.notifier().run)
        scene.outbox.escalate()
        await trio.sleep(3600)
        tried_at = list(scene.inbox.tried_at)
        assert len(scene.outbox.waiting) == 1
        scene.inbox.is_away = False
        scene.outbox.escalate()
        await trio.sleep(800)
        nursery.cancel_scope.cancel()

    gaps = [later - earlier for earlier, later in itertools.pairwise(tried_at)]
    assert HOLD_S <= gaps[0] <= 1.3 * HOLD_S
    assert 5 <= len(gaps) <= 10
    assert gaps[-1] > 3 * gaps[0]
    assert scene.inbox.titles == ["2 tasks were given up"]
    said = [vars(record) for record in caplog.records if record.levelname == "ERROR"]
    assert [fields["why"] for fields in said] == ["nobody there"] * len(tried_at)


async def test_another_peer_takes_over(scene: Scene, autojump_clock: MockClock) -> None:
    """Of one that dies between taking and telling: when its hold is over."""
    scene.outbox.escalate()
    await scene.outbox.take_notices(1, HOLD_S)
    began = trio.current_time()
    with trio.move_on_after(HOLD_S + 10):
        await scene.notifier().run()
    [(at, _)] = scene.inbox.messages
    assert HOLD_S <= at - began <= HOLD_S + LATE_S


async def test_told_while_the_ledger_goes_away(scene: Scene, autojump_clock: MockClock) -> None:
    """It is ticked off when the ledger is back, and so not told again."""
    scene.inbox.takes_s = 1.0
    scene.outbox.escalate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.notifier().run)
        await trio.sleep(0.5)
        scene.outbox.is_away = True
        await trio.sleep(HOLD_S / 2)
        assert len(scene.inbox.messages) == 1
        scene.outbox.is_away = False
        await trio.sleep(TICK_OFF_S)
        assert scene.outbox.waiting == {}
        await trio.sleep(2 * INTERVAL_S)
        nursery.cancel_scope.cancel()
    assert len(scene.inbox.messages) == 1


async def test_a_ledger_that_is_away_is_looked_at_again(
    scene: Scene, autojump_clock: MockClock
) -> None:
    """And what happened before is told then."""
    scene.outbox.is_away = True
    scene.outbox.escalate()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.notifier().run)
        await trio.sleep(3600)
        scene.outbox.is_away = False
        await trio.sleep(LATE_S + 0.1)
        nursery.cancel_scope.cancel()
    assert scene.inbox.titles == ["clip-1.mp4 was given up"]


async def test_very_many_come_in_several_messages(scene: Scene, autojump_clock: MockClock) -> None:
    """Each of them bounded, none of them lost."""
    scene.outbox.escalate(TAKE_MAX + 1)
    with trio.move_on_after(2 * INTERVAL_S):
        await scene.notifier().run()
    assert scene.inbox.titles == [
        f"{TAKE_MAX} tasks were given up",
        f"clip-{TAKE_MAX + 1}.mp4 was given up",
    ]
