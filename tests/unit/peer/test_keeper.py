"""One writer keeps what is in use, whatever came in which order, and however slow the disk is."""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
import trio.testing

from gossip import keys as rings
from gossip.messages import Keys
from peer import identity
from peer.config import GossipSettings
from peer.identity import Identity
from peer.keeper import LOOK_S, Keeper
from peer.keyring import KeyStore, KeysUnusable
from peer.paths import Places

FIRST = rings.first(bytes(32))
SECOND = rings.install(FIRST, bytes([7]) * 32, origin=1)
THIRD = rings.install(SECOND, bytes([8]) * 32, origin=1)
OWN = Identity(uid="00000000000000aa", epoch=7)
OTHER = Identity(uid="00000000000000bb", epoch=7)


class SlowStore(KeyStore):
    """Takes as long as a test says, and remembers what it wrote."""

    def __init__(self, places: Places) -> None:
        super().__init__(GossipSettings(key="00" * 32), places, "one")
        self.wrote: list[Keys] = []
        self.writing = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()

    def save(self, keys: Keys) -> None:
        self.writing.set()
        assert self.go_on.wait(10)
        super().save(keys)
        self.wrote.append(keys)


class Rig:
    """A keeper, and what is in use."""

    def __init__(self, data_dir: Path) -> None:
        self.places = Places(data_dir)
        self.own_places = self.places.peer("one")
        self.own_places.directory.mkdir(parents=True)
        identity.save(self.own_places.identity, OWN)
        self.store = SlowStore(self.places)
        self.keys: Keys | None = FIRST
        self.own = OWN
        self.keeper = Keeper(
            keys=lambda: self.keys,
            own=lambda: self.own,
            saved_keys=FIRST,
            saved_own=OWN,
            store=self.store,
            file=self.own_places.identity,
        )

    def saved(self) -> Keys | None:
        file = self.own_places.gossip_keys
        return rings.from_text(file.read_text()) if file.exists() else None


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    """Nothing has changed yet."""
    return Rig(tmp_path)


@pytest.fixture
async def running(rig: Rig, nursery: trio.Nursery) -> AsyncIterator[Rig]:
    """One that looks by itself. The test asks for the clock: its time passes by itself."""
    nursery.start_soon(rig.keeper.run)
    await trio.testing.wait_all_tasks_blocked()
    yield rig
    nursery.cancel_scope.cancel()


async def test_nothing_is_written_that_was_there(rig: Rig) -> None:
    """The ring of the start needs no file; nor is there one for plaintext."""
    await rig.keeper.save()
    rig.keys = None
    await rig.keeper.save()
    assert rig.saved() is None
    assert rig.store.wrote == []


async def test_what_changes_while_the_disk_is_slow_is_what_stays(rig: Rig) -> None:
    """Two who ask for the same at once write one after the other, and the ring in use last."""
    rig.store.go_on.clear()
    rig.keys = SECOND
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.keeper.save)
        await trio.to_thread.run_sync(rig.store.writing.wait)
        rig.keys = THIRD
        nursery.start_soon(rig.keeper.save)
        rig.store.go_on.set()
    assert rig.store.wrote == [SECOND, THIRD]
    assert rig.saved() == THIRD


async def test_a_change_that_nobody_told_is_saved(
    running: Rig, autojump_clock: trio.testing.MockClock
) -> None:
    """It looks by itself now and then, at the ring and at the identity."""
    running.keys, running.own = SECOND, OTHER
    await trio.sleep(LOOK_S * 1.5)
    while running.saved() != SECOND:  # noqa: ASYNC110 - a thread of the real clock writes it
        await trio.sleep(LOOK_S)
    assert running.own_places.identity.read_text() == f"{OTHER.uid} {OTHER.epoch}\n"


async def test_a_disk_that_refuses_is_tried_again(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """Whoever waits for it is told; the loop says it once, and saves it when it can."""
    directory = rig.own_places.directory
    rig.own_places.identity.unlink()
    directory.rmdir()
    rig.keys = SECOND
    with pytest.raises(KeysUnusable, match="cannot save the key ring"):
        await rig.keeper.save()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rig.keeper.run)
        for _ in range(3):
            rig.keeper.notice()
            await trio.testing.wait_all_tasks_blocked(0.05)
        directory.mkdir()
        rig.keeper.notice()
        with trio.fail_after(10):
            while rig.saved() != SECOND:  # noqa: ASYNC110 - a thread writes it
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
