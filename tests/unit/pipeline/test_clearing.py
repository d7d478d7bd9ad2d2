"""What abandoned attempts left in a real store is removed; what others need is not touched."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import pytest
import trio
from trio.testing import MockClock

from pipeline.clearing import ABANDONED_S, UNFINISHED_S, Clearer
from pipeline.errors import LedgerUnavailable, StoreUnavailable
from pipeline.ports import Abandoned
from pipeline.stores.directory import DirectoryStore

ATTEMPTS = [Abandoned(token=UUID(int=n), prefix=f"tasks/t/attempt-{n}") for n in (1, 2)]


class Ledger:
    """It knows of abandoned attempts, and gives out two at a time."""

    def __init__(self, *attempts: Abandoned) -> None:
        self.attempts = {attempt.token: attempt for attempt in attempts}
        self.asked: list[float] = []
        self.is_away = False

    async def abandoned(self, older_than_s: float) -> Sequence[Abandoned]:
        self.asked.append(older_than_s)
        if self.is_away:
            raise LedgerUnavailable("gone", definite=True)
        return list(self.attempts.values())[:2]

    async def cleared(self, tokens: Sequence[UUID]) -> None:
        for token in tokens:
            del self.attempts[token]


class Store(DirectoryStore):
    """A directory that can be away, and notes when it is swept."""

    is_away = False

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.swept: list[tuple[float, float]] = []

    async def remove(self, prefix: str) -> int:
        if self.is_away:
            raise StoreUnavailable("gone", definite=True)
        return await super().remove(prefix)

    async def sweep(self, older_than_s: float = 0.0) -> int:
        self.swept.append((trio.current_time(), older_than_s))
        if self.is_away:
            raise StoreUnavailable("gone", definite=True)
        return 0


@pytest.fixture
async def store(tmp_path: Path) -> Store:
    """With outputs of four attempts at one task, and a source."""
    store = Store(tmp_path / "store")
    for key in [
        *(f"tasks/t/attempt-{n}/{name}" for n in (1, 2, 3, 10) for name in ("a.mp4", "hls/b.m4s")),
        "sources/t/clip.mp4",
    ]:
        (tmp_path / "upload").write_bytes(b"x")
        await store.push(tmp_path / "upload", key)
    return store


def clearer(ledger: Ledger, store: Store) -> Clearer:
    return Clearer(clearing=ledger, store=store, rng=random.Random(0))


async def keys(store: Store) -> list[str]:
    return [found.key for found in await store.list("")]


async def test_what_abandoned_attempts_left_is_removed(store: Store) -> None:
    """Theirs alone, not that of attempt 10 with attempt 1; and it is noted as done."""
    ledger = Ledger(*ATTEMPTS)
    await clearer(ledger, store).clear()

    assert await keys(store) == [
        "sources/t/clip.mp4",
        *(f"tasks/t/attempt-{n}/{name}" for n in (10, 3) for name in ("a.mp4", "hls/b.m4s")),
    ]
    assert ledger.attempts == {}
    assert set(ledger.asked) == {ABANDONED_S}


async def test_more_than_one_look_finds(store: Store) -> None:
    """All of it, and an attempt that had uploaded nothing is noted too."""
    nothing = Abandoned(token=UUID(int=9), prefix="tasks/other/attempt-1")
    third = Abandoned(token=UUID(int=3), prefix="tasks/t/attempt-3")
    ledger = Ledger(*ATTEMPTS, nothing, third)
    await clearer(ledger, store).clear()

    assert ledger.attempts == {}
    assert "tasks/t/attempt-3/a.mp4" not in await keys(store)


async def test_what_was_not_removed_is_not_noted(store: Store) -> None:
    """A store that is away keeps it, and so does the ledger's list."""
    ledger = Ledger(*ATTEMPTS)
    store.is_away = True
    with pytest.raises(StoreUnavailable):
        await clearer(ledger, store).clear()
    assert len(ledger.attempts) == 2


async def test_it_looks_at_the_start_and_then_now_and_then(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    """Attempts about once a minute; unfinished uploads, which may cost a walk, once an hour."""
    ledger, store = Ledger(), Store(tmp_path / "store")
    began = trio.current_time()
    with trio.move_on_after(4 * 3600):
        await clearer(ledger, store).run()

    assert 200 <= len(ledger.asked) <= 280
    assert store.swept[0] == (began, UNFINISHED_S)
    assert 4 <= len(store.swept) <= 6


@pytest.mark.parametrize("away", ["ledger", "store"])
async def test_an_outage_only_puts_it_off(
    tmp_path: Path, away: str, autojump_clock: MockClock
) -> None:
    """It goes on a minute later, with the sweep of the start too."""
    ledger, store = Ledger(), Store(tmp_path / "store")
    ledger.is_away, store.is_away = away == "ledger", away == "store"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(clearer(ledger, store).run)
        await trio.sleep(300)
        assert len(ledger.asked) >= 4
        ledger.is_away = store.is_away = False
        before = len(store.swept)
        await trio.sleep(80)
        assert len(store.swept) == before + 1
        await trio.sleep(600)
        assert len(store.swept) == before + 1
        nursery.cancel_scope.cancel()
