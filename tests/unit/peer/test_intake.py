"""Taking a video in, on a real store, with a desk that does as a script says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
import trio

from peer import intake
from peer.intake import Intake, new_place
from pipeline.errors import LedgerUnavailable, NoSuchTask
from pipeline.media.ladder import parse_ladder
from pipeline.ports import Submission, TaskDesk
from pipeline.stores.directory import DirectoryStore

VIDEO = b"a video"

AWAY = LedgerUnavailable("the ledger is away", definite=True)
UNSURE = LedgerUnavailable("the answer got lost", definite=False)


class Desk:
    """Records tasks. Each submission first meets the next of its troubles."""

    def __init__(self, *troubles: Exception, answer_lost: bool = False) -> None:
        self.troubles = list(troubles)
        self.answer_lost = answer_lost
        self.sources: dict[UUID, str] = {}

    async def submit(self, submission: Submission) -> None:
        await trio.lowlevel.checkpoint()
        trouble = self.troubles.pop(0) if self.troubles else None
        if trouble is None or self.answer_lost:
            self.sources.setdefault(submission.task_id, submission.source)
        if trouble is not None:
            raise trouble

    async def show_task(self, prefix: str) -> Any:
        await trio.lowlevel.checkpoint()
        if UUID(prefix) not in self.sources:
            raise NoSuchTask("none")
        return type("Report", (), {"source": self.sources[UUID(prefix)]})


class Rig:
    def __init__(self, directory: Path, desk: Desk) -> None:
        self.desk = desk
        self.store = DirectoryStore(directory / "store")
        self.intake = Intake(cast("TaskDesk", desk), self.store)
        self.video = directory / "holiday.MP4"
        self.video.write_bytes(VIDEO)

    async def take(
        self, task_id: UUID, report: Callable[[int], Awaitable[None]] | None = None
    ) -> None:
        """Hand the video in."""

        async def ignore(_: int) -> None: ...

        source = new_place(task_id, self.video)
        submission = Submission(
            task_id=task_id, source=source, title="holiday", ladder=parse_ladder("web")
        )
        await self.intake.take(self.video, submission, report or ignore)

    async def kept(self) -> list[str]:
        """The sources in the store."""
        return [stored.key for stored in await self.store.list("sources")]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A repeat comes at once."""
    monkeypatch.setattr(intake, "REPEAT_AFTER_S", (0.0, 0.0))


async def test_a_video_is_stored_and_recorded(tmp_path: Path) -> None:
    """The task names the copy, which is whole, and whose name tells the video's kind."""
    rig, task_id = Rig(tmp_path, Desk()), uuid4()
    assert not await rig.intake.knows(task_id)
    await rig.take(task_id)

    assert await rig.intake.knows(task_id)
    assert await rig.kept() == [rig.desk.sources[task_id]]
    assert (tmp_path / "store" / rig.desk.sources[task_id]).read_bytes() == VIDEO
    assert rig.desk.sources[task_id].endswith("/source.mp4")


async def test_a_repeat_leaves_the_first_source_alone(tmp_path: Path) -> None:
    """Handed in again with another file, the task keeps its own, and no second copy stays."""
    rig, task_id = Rig(tmp_path, Desk()), uuid4()
    await rig.take(task_id)
    rig.video.write_bytes(b"something else")
    await rig.take(task_id)

    assert await rig.kept() == [rig.desk.sources[task_id]]
    assert (tmp_path / "store" / rig.desk.sources[task_id]).read_bytes() == VIDEO


@pytest.mark.parametrize(
    ("troubles", "answer_lost", "recorded", "sources", "definite"),
    [
        ([AWAY], False, False, 0, True),
        ([UNSURE], False, True, 1, None),
        ([UNSURE], True, True, 1, None),
        ([UNSURE, AWAY], True, True, 1, None),
        ([UNSURE, AWAY, AWAY], False, False, 1, False),
        ([UNSURE, UNSURE, UNSURE], True, True, 1, False),
    ],
)
async def test_a_ledger_that_fails(
    tmp_path: Path,
    troubles: list[Exception],
    answer_lost: bool,
    recorded: bool,
    sources: int,
    definite: bool | None,
) -> None:
    """A copy is removed when certainly no task names it; where nobody knows, it is tried again."""
    rig, task_id = Rig(tmp_path, Desk(*troubles, answer_lost=answer_lost)), uuid4()
    if definite is None:
        await rig.take(task_id)
    else:
        says = "the ledger is away$" if definite else f"task {task_id} may be recorded"
        with pytest.raises(LedgerUnavailable, match=says) as caught:
            await rig.take(task_id)
        assert caught.value.definite is definite

    assert (task_id in rig.desk.sources) is recorded
    assert len(await rig.kept()) == sources


async def test_hanging_up_before_the_task_is_recorded(tmp_path: Path) -> None:
    """Ctrl-C during the copy leaves no task and no file."""
    rig = Rig(tmp_path, Desk())

    async def hang_up(_: int) -> None:
        scope.cancel()

    with trio.CancelScope() as scope:
        await rig.take(uuid4(), hang_up)

    assert scope.cancelled_caught
    assert (rig.desk.sources, await rig.kept()) == ({}, [])


async def test_hanging_up_while_the_task_is_recorded(tmp_path: Path) -> None:
    """From then on it is handed in, with its source."""
    desk, task_id = Desk(), uuid4()
    rig = Rig(tmp_path, desk)
    record = desk.submit

    async def submit(submission: Submission) -> None:
        scope.cancel()
        await record(submission)

    desk.submit = submit  # type: ignore[method-assign]  # the moment is what matters
    with trio.CancelScope() as scope:
        await rig.take(task_id)

    assert await rig.kept() == [desk.sources[task_id]]


@pytest.mark.parametrize(
    ("name", "ending"),
    [("a.mp4", ".mp4"), ("a.M4V", ".m4v"), ("a", ""), ("a.mp4;rm -rf", ""), ("a.ü", "")],
)
def test_a_place_is_safe_and_new(name: str, ending: str) -> None:
    """Only a plain ending of the file's name gets into the key."""
    task_id = uuid4()
    places = {new_place(task_id, Path(name)) for _ in range(5)}
    assert len(places) == 5
    assert all(
        place.startswith(f"sources/{task_id}/") and place.endswith(f"/source{ending}")
        for place in places
    )
