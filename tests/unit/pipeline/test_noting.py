"""Steps that are written behind: when they arrive, with whom, and what a kill can cost."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st
from trio.testing import MockClock

from pipeline.errors import ClaimLost, LedgerUnavailable
from pipeline.events import Record
from pipeline.noting import LINGER_S, NotingLedger
from pipeline.ports import ClaimLedger, Release
from tests.unit.pipeline.switched_ledger import A, B, Scene, claim_of

HAND_BACK = Release(failure=None, retry_in_s=0.0)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    """With an empty spool."""
    return Scene(tmp_path / "spool")


@pytest.fixture
def noting(scene: Scene) -> NotingLedger:
    """As a peer has it, but that nothing is written in time yet."""
    return NotingLedger(scene.spooling)


@asynccontextmanager
async def running(noting: NotingLedger, scene: Scene) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.spooling.run)
        nursery.start_soon(noting.run)
        yield
        nursery.cancel_scope.cancel()


async def eventually(condition: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not condition():  # noqa: ASYNC110 - what is waited for announces nothing
            await trio.sleep(0.001)


def test_it_is_a_claim_ledger(noting: NotingLedger) -> None:
    """The worker takes it for the ledger itself."""
    ledger: ClaimLedger = noting
    assert ledger is noting


async def finish(noting: NotingLedger, record: Record) -> None:
    await noting.finish(A, [], [], record)


async def release(noting: NotingLedger, record: Record) -> None:
    await noting.release(A, HAND_BACK, [record])


End = Callable[[NotingLedger, Record], Awaitable[None]]
both_ends = pytest.mark.parametrize("end", [finish, release])


@both_ends
async def test_steps_come_with_the_end(scene: Scene, noting: NotingLedger, end: End) -> None:
    """A claim that is over soon has cost one transaction after it was made, whose events are all
    there, in order; those of another claim have not come with it."""
    records = [scene.record.step(A) for _ in range(5)]
    for record in records[:-1]:
        await noting.advance(A, record)
    await noting.advance(B, scene.record.step(B))
    assert scene.ledger.arrived == []
    await end(noting, records[-1])

    assert scene.ledger.arrived == records
    assert scene.ledger.transactions == 1


async def test_steps_come_in_time(
    scene: Scene, noting: NotingLedger, autojump_clock: MockClock
) -> None:
    """Nobody has to decide anything: after a moment those of each claim are written, at once."""
    of_a = [scene.record.step(A), scene.record.step(A)]
    of_b = scene.record.step(B)
    await noting.advance(A, of_a[0])  # before it runs
    async with running(noting, scene):
        await noting.advance(B, of_b)
        await noting.advance(A, of_a[1])
        await trio.sleep(LINGER_S * 0.9)
        assert scene.ledger.arrived == []
        await trio.sleep(LINGER_S * 0.2)
        assert [each for each in scene.ledger.arrived if each in of_a] == of_a
        assert of_b in scene.ledger.arrived
        assert scene.ledger.transactions == 2
        later = scene.record.step(A)
        await noting.advance(A, later)
        await trio.sleep(LINGER_S * 1.1)
        assert scene.ledger.arrived[-1] == later
    assert autojump_clock.current_time() > 0


async def test_steps_are_on_disk_in_time(scene: Scene, noting: NotingLedger) -> None:
    """While the ledger is away, too; and the next life tells them."""
    records = [scene.record.step(A), scene.record.step(A)]
    scene.ledger.is_away = True
    async with running(noting, scene):
        for record in records:
            await noting.advance(A, record)
        await eventually(lambda: scene.spooling.spooled == 2)
    scene.restart()
    scene.ledger.is_away = False
    await scene.spooling.replay()
    assert scene.ledger.arrived == records


async def test_an_end_that_is_not_heard_takes_them_along_again(
    scene: Scene, noting: NotingLedger
) -> None:
    """Its answer was lost: repeated, it brings the same steps, and all have happened once."""
    records = [scene.record.step(A), scene.record.step(A)]
    await noting.advance(A, records[0])
    scene.ledger.is_away = scene.ledger.happens_anyway = True
    with pytest.raises(LedgerUnavailable):
        await noting.finish(A, [], [], records[1])
    scene.ledger.is_away = False
    await noting.finish(A, [], [], records[1])
    assert scene.ledger.arrived == records


async def test_a_step_waits_for_one_that_is_overdue(scene: Scene, noting: NotingLedger) -> None:
    """Nobody has written it, whyever; so the next one does before it is noted itself."""
    first, second = scene.record.step(A), scene.record.step(A)
    await noting.advance(A, first)
    await trio.sleep(LINGER_S * 1.1)
    await noting.advance(A, second)
    assert scene.ledger.arrived == [first]


async def test_where_nothing_can_be_written(tmp_path: Path, autojump_clock: MockClock) -> None:
    """Neither ledger nor disk: the next step waits, as it would without being noted; and nothing
    that was noted is forgotten."""
    scene = Scene(tmp_path / "spool", bytes_max=1)
    noting = NotingLedger(scene.spooling)
    scene.ledger.is_away = True
    records = [scene.record.step(A) for _ in range(3)]
    async with running(noting, scene):
        await noting.advance(A, records[0])
        await trio.sleep(LINGER_S * 2)
        for _ in range(2):
            with pytest.raises(LedgerUnavailable, match="takes nothing more"):
                await noting.advance(A, records[1])
        scene.ledger.is_away = False
        await eventually(lambda: scene.ledger.arrived == records[:1])
        await noting.advance(A, records[1])
        await noting.finish(A, [], [], records[2])
    assert scene.ledger.arrived == records
    assert autojump_clock.current_time() > 0


@both_ends
async def test_a_lost_claim_ends_with_the_end(scene: Scene, noting: NotingLedger, end: End) -> None:
    """Who ends it hears that it is lost, and nothing of it is told."""
    await noting.advance(A, scene.record.step(A))
    scene.ledger.lost = {A.token}
    with pytest.raises(ClaimLost):
        await end(noting, scene.record.step(A))
    async with running(noting, scene):
        await trio.sleep(LINGER_S * 1.5)
    assert scene.ledger.arrived == []


async def test_a_lost_claim_ends_with_the_step_after_the_write(
    scene: Scene, noting: NotingLedger, autojump_clock: MockClock
) -> None:
    """The attempt need not come to its end to hear of it; nor does the next step hear it again."""
    scene.ledger.lost = {A.token}
    async with running(noting, scene):
        await noting.advance(A, scene.record.step(A))
        await trio.sleep(LINGER_S * 1.5)
        with pytest.raises(ClaimLost):
            await noting.advance(A, scene.record.step(A))
        await noting.advance(B, scene.record.step(B))
        await trio.sleep(LINGER_S * 1.5)
    assert [each.event.task_id for each in scene.ledger.arrived] == [B.task_id]  # type: ignore[attr-defined]  # steps have one
    assert autojump_clock.current_time() > 0


async def test_a_renewal_overtakes_what_is_noted(scene: Scene, noting: NotingLedger) -> None:
    """It does not wait, and tells its holder; what was noted then is forgotten."""
    await noting.advance(A, scene.record.step(A))
    await noting.renew(A, None)
    assert scene.ledger.arrived == []
    scene.ledger.lost = {A.token}
    with pytest.raises(ClaimLost):
        await noting.renew(A, None)
    scene.ledger.lost = set()
    last = scene.record.step(A)
    await noting.finish(A, [], [], last)
    assert scene.ledger.arrived == [last]


async def test_a_step_that_the_ledger_refuses(
    scene: Scene, noting: NotingLedger, caplog: pytest.LogCaptureFixture
) -> None:
    """It fails the attempt, at its next step or its commit, and not the peer; the claim is given up
    without it."""
    refused, last = scene.record.step(A), scene.record.step(A)
    scene.ledger.refused = {refused.stamp.sequence}
    async with running(noting, scene):
        await noting.advance(A, refused)
        await eventually(lambda: bool(caplog.records))
        with pytest.raises(ValueError, match="out of range"):
            await noting.advance(A, scene.record.step(A))
        with pytest.raises(ValueError, match="out of range"):
            await noting.finish(A, [], [], last)
    await noting.release(A, HAND_BACK, [last])
    assert scene.ledger.arrived == [last]


async def test_a_step_that_is_refused_with_the_end(
    scene: Scene, noting: NotingLedger, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is committed without all of its steps; but given up it is."""
    refused, last = scene.record.step(A), scene.record.step(A)
    scene.ledger.refused = {refused.stamp.sequence}
    await noting.advance(A, refused)
    with pytest.raises(ValueError, match="out of range"):
        await noting.finish(A, [], [], last)
    assert scene.ledger.arrived == []
    await noting.release(A, HAND_BACK, [last])
    assert scene.ledger.arrived == [last]
    assert [vars(each)["events"] for each in caplog.records] == [[refused.event.kind]]


class Lives:
    """A peer that is killed now and then, and what it has told."""

    def __init__(self, directory: Path) -> None:
        self.scene = Scene(directory)
        self.noting = NotingLedger(self.scene.spooling)
        self.claims = {"A": claim_of(1), "B": claim_of(2)}
        self.told: dict[UUID, list[tuple[float, Record]]] = {}
        self._numbers = iter(range(3, 1000))

    async def live(self, actions: Sequence[str]) -> Sequence[str]:
        """Act until the kill, and return what is left to be done."""
        left = list(actions)
        async with running(self.noting, self.scene):
            while left:
                if (action := left.pop(0)) == "kill":
                    break
                await self._act(action)
        return left

    async def be_born_again(self) -> None:
        """The claims of the former life are over; others come in their place."""
        for name in self.claims:
            self._renew(name)
        self.scene.restart()
        is_away, self.scene.ledger.is_away = self.scene.ledger.is_away, False
        await self.scene.spooling.replay()
        self.scene.ledger.is_away = is_away
        self.noting = NotingLedger(self.scene.spooling)

    def arrived(self, token: UUID) -> Sequence[Record]:
        told = [record for _, record in self.told.get(token, ())]
        return [each for each in self.scene.ledger.arrived if each in told]

    def missing(self, token: UUID) -> Sequence[float]:
        """When the steps were taken that never arrived; those that did are the ones before."""
        told = self.told.get(token, [])
        arrived = self.arrived(token)
        assert arrived == [record for _, record in told[: len(arrived)]]
        return [at for at, _ in told[len(arrived) :]]

    def _renew(self, name: str) -> None:
        self.claims[name] = claim_of(next(self._numbers))

    async def _act(self, action: str) -> None:
        ledger = self.scene.ledger
        match action.split():
            case ["step", name]:
                await self._step(name)
            case ["end", name]:
                await self._end(name)
            case ["wait", share]:
                await trio.sleep(LINGER_S * float(share))
            case ["lose", name]:
                ledger.lost.add(self.claims[name].token)
            case ["back"]:
                ledger.is_away = ledger.happens_anyway = False
            case ["away", *more]:
                ledger.is_away, ledger.happens_anyway = True, bool(more)

    async def _step(self, name: str) -> None:
        claim = self.claims[name]
        record = self.scene.record.step(claim)
        try:
            await self.noting.advance(claim, record)
        except ClaimLost:
            assert claim.token in self.scene.ledger.lost
            self._renew(name)
        else:
            self.told.setdefault(claim.token, []).append((trio.current_time(), record))

    async def _end(self, name: str) -> None:
        claim, ledger = self.claims[name], self.scene.ledger
        try:
            await self.noting.finish(claim, [], [], self.scene.record.loose())
        except LedgerUnavailable:
            assert ledger.is_away
        except ClaimLost:
            assert claim.token in ledger.lost
            self._renew(name)
        else:
            assert self.missing(claim.token) == []
            self._renew(name)


ACTIONS = [f"{what} {name}" for what in ("step", "step", "end") for name in "AB"]
ACTIONS += ["wait 0.4", "wait 1.5", "away", "away, answers lost", "back", "kill", "lose A"]


@given(st.lists(st.sampled_from(ACTIONS), max_size=30))
def test_whatever_happens(actions: Sequence[str]) -> None:
    """Of each claim a beginning of its steps arrives, in order, each once. What is missing of a
    claim whose holder was killed was taken within one linger; of others, nothing is, unless the
    claim was lost."""
    with tempfile.TemporaryDirectory() as top:
        trio.run(_play, Lives(Path(top) / "spool"), actions, clock=MockClock(autojump_threshold=0))


async def _play(lives: Lives, actions: Sequence[str]) -> None:
    left, killed = list(actions), set[UUID]()
    while left:
        left = list(await lives.live(left))
        if left:
            killed |= {claim.token for claim in lives.claims.values()}
            await lives.be_born_again()
    await lives.live(["back", "wait 1.5", *(f"end {name}" for name in lives.claims)])
    numbers = [each.stamp.sequence for each in lives.scene.ledger.arrived]
    assert len(numbers) == len(set(numbers))
    for token in lives.told:
        if (missing := lives.missing(token)) and token not in lives.scene.ledger.lost:
            assert token in killed
            assert missing[-1] - missing[0] <= LINGER_S
