"""One of two peers sees a store that is not the cluster's: it takes nothing, nothing is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trio

from pipeline import marking
from pipeline import worker as worker_module
from pipeline.marking import MarkedStore
from pipeline.stores.directory import DirectoryStore
from pipeline.tasks import TaskState
from tests.e2e.worker_rig import Rig, ScriptedTranscoder, until


@pytest.fixture
async def marked(rig: Rig) -> MarkedStore:
    """The cluster's store."""
    store = MarkedStore(rig.store, rig.ledger)
    await store.check()
    return store


def empty_store(rig: Rig, directory: Path) -> MarkedStore:
    """A mount point without its disk."""
    directory.mkdir()
    return MarkedStore(DirectoryStore(directory, create=False), rig.ledger)


async def test_a_store_that_was_never_mounted(
    rig: Rig, make_peer: Any, marked: MarkedStore, tmp_path: Path
) -> None:
    """Not one attempt is spent on it, although it is alone with the queue at first; its breaker is
    open, which the table shows, and says what is wrong."""
    transcoder = ScriptedTranscoder()
    wrong = empty_store(rig, tmp_path / "mount point")
    tasks = [await rig.submit() for _ in range(12)]
    async with rig.working(transcoder, make_peer("wrong"), store=wrong) as worker:
        await until(lambda: worker.breakers["store"] != "closed")
        async with rig.working(ScriptedTranscoder(), make_peer("right"), store=marked):
            reports = [await rig.settled(task) for task in tasks]
        assert worker.breakers["store"] != "closed"
        assert "is it mounted?" in worker.trouble["store"]
        assert worker.quarantined is None

    assert {report.state for report in reports} == {TaskState.DONE}
    assert [dict(report.failures) for report in reports] == [{}] * 12
    assert {attempt.peer_name for report in reports for attempt in report.attempts} == {"right"}
    assert transcoder.orders == []


async def test_a_store_that_is_unmounted(
    rig: Rig, make_peer: Any, marked: MarkedStore, tmp_path: Path
) -> None:
    """The disk goes while the peer works: what it has then waits for the store and goes elsewhere,
    and is not taken for a video that is missing."""
    disk, gone = tmp_path / "disk", tmp_path / "gone"
    disk.symlink_to(rig.directory / "store")
    mounted = MarkedStore(DirectoryStore(disk, create=False), rig.ledger)
    async with rig.working(
        ScriptedTranscoder(), make_peer("wrong"), store=mounted, store_patience_s=0.5
    ) as worker:
        assert (await rig.settled(await rig.submit())).state is TaskState.DONE
        gone.mkdir()
        disk.unlink()
        disk.symlink_to(gone)
        tasks = [await rig.submit() for _ in range(6)]
        await rig.first_failure(tasks)
        assert worker.breakers["store"] != "closed"
        async with rig.working(ScriptedTranscoder(), make_peer("right"), store=marked):
            reports = [await rig.settled(task) for task in tasks]
        assert list(gone.iterdir()) == [], "nothing is written to the mount point"

        disk.unlink()
        disk.symlink_to(rig.directory / "store")
        await until(lambda: not worker.trouble)
        assert (await rig.settled(await rig.submit())).state is TaskState.DONE

    assert {report.state for report in reports} == {TaskState.DONE}
    failed = [one for report in reports for one in report.attempts if one.error is not None]
    assert {one.error.code for one in failed if one.error} == {"store_unavailable"}
    assert len(failed) <= 2, "one for each slot"


async def test_an_idle_peer_notices(
    rig: Rig, make_peer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cluster moves while it has nothing to do: it is told before it takes the next task."""
    monkeypatch.setattr(marking, "TRUST_S", 0.01)
    monkeypatch.setattr(worker_module, "LOOK_S", 0.05)
    old, new = MarkedStore(rig.store, rig.ledger), empty_store(rig, tmp_path / "new")
    await old.check()
    transcoder = ScriptedTranscoder()
    async with (
        rig.working(transcoder, make_peer("left behind"), store=old) as worker,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(worker.watch)
        await new.adopt()
        await until(lambda: worker.breakers["store"] != "closed")
        task = await rig.submit()
        assert transcoder.orders == []
        await old.adopt()
        assert (await rig.settled(task)).state is TaskState.DONE
        nursery.cancel_scope.cancel()
