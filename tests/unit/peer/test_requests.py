"""What the commands of the control socket answer, on a desk that holds what it is given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest
import trio

from peer.protocol import ShownTask
from peer.requests import COMMANDS, Requests
from pipeline.errors import BadRequest, NoSuchTask
from pipeline.ports import Submission, Sweep, TaskDesk, TaskQueue
from pipeline.stores.directory import DirectoryStore
from pipeline.tasks import OutputReport, ProductKind, TaskReport, TaskState


class Desk:
    """Shows one task after another of a list, and the last one for ever."""

    def __init__(self, *reports: TaskReport) -> None:
        self.reports = list(reports)
        self.submitted: list[Submission] = []
        self.looks: list[dict[str, Any]] = []
        self.until_looked = trio.CancelScope()

    async def submit(self, submission: Submission) -> None:
        self.submitted.append(submission)

    async def show_task(self, _prefix: str) -> TaskReport:
        if not self.reports:
            raise NoSuchTask("none")
        return self.reports.pop(0) if len(self.reports) > 1 else self.reports[0]

    async def list_tasks(self, _state: TaskState | None, _limit: int) -> list[TaskReport]:
        return self.reports

    async def list_events(self, **look: Any) -> list[Any]:
        self.looks.append(look)
        self.until_looked.cancel()
        return []


class Silent:
    """A queue and a sweep that do as they are told."""

    async def publish(self, _body: bytes) -> None: ...

    async def announced(self, _task_id: UUID, _part: int) -> None: ...


class Rig:
    def __init__(self, directory: Path, desk: Desk) -> None:
        self.items: list[Any] = []
        self.store = DirectoryStore(directory / "store")
        self.commands = Requests(
            desk=cast("TaskDesk", desk),
            sweep=cast("Sweep", Silent()),
            queue=cast("TaskQueue", Silent()),
            store=self.store,
            attempts_max=4,
        ).commands()

    async def ask(self, command: str, **arguments: Any) -> Any:
        """Run a command; its items are kept."""

        async def send_item(item: Any) -> None:
            self.items.append(item)

        return await self.commands[command](arguments, send_item)


@pytest.fixture
def done(samples: Mapping[str, Any]) -> TaskReport:
    """A task that has made a playlist and three segments."""
    outputs = tuple(
        OutputReport(kind=kind, name=name, rendition="720p", key=f"t/{name}", size=1, media={})
        for kind, name in (
            (ProductKind.PLAYLIST, "index.m3u8"),
            *((ProductKind.SEGMENT, f"{number}.m4s") for number in range(3)),
        )
    )
    return replace(msgspec.convert(samples["task"](), TaskReport), outputs=outputs)


def test_every_command_is_known_before_the_peer_works(tmp_path: Path) -> None:
    """What the agent offers on the socket is what is there, in the same order."""
    assert tuple(Rig(tmp_path, Desk()).commands) == COMMANDS


async def test_a_task_sums_its_segments(tmp_path: Path, done: TaskReport) -> None:
    """`task` tells them as one, `outputs` each by itself, with the place of everything."""
    rig = Rig(tmp_path, Desk(done))
    task: ShownTask = await rig.ask("task", id="3f")
    assert [output.name for output in task.outputs] == ["index.m3u8"]
    assert [(some.files, some.url) for some in task.segments] == [(3, f"{tmp_path}/store/t/")]

    assert await rig.ask("outputs", id="3f") == {"id": done.id, "files": 4}
    urls = [output.url for batch in rig.items for output in batch]
    assert urls == [f"{tmp_path}/store/{output.key}" for output in done.outputs]


async def test_outputs_are_watched_once(tmp_path: Path, done: TaskReport) -> None:
    """Each change is an item without outputs; the end is told once, with them."""
    running = replace(done, state=TaskState.RUNNING)
    rig = Rig(tmp_path, Desk(running, running, done))
    end: ShownTask = await rig.ask("watch", id="3f")
    assert [(item.state, item.made) for item in rig.items] == [(TaskState.RUNNING, ())]
    assert (end.state, len(end.made)) == (TaskState.DONE, 2)


async def test_lists_leave_out_the_logs(
    tmp_path: Path, done: TaskReport, samples: Mapping[str, Any]
) -> None:
    """Ten thousand failed tasks with their logs would not fit on a line; the cause is there."""
    failed = msgspec.convert(samples["task"](error=samples["failure"]), TaskReport)
    [listed, whole] = await Rig(tmp_path, Desk(failed, done)).ask("tasks")
    assert (listed.error.message, listed.error.log_tail) == ("The source is cut short.", "")
    assert whole.error is None


async def test_the_copy_is_told(tmp_path: Path, samples: Mapping[str, Any]) -> None:
    """Whoever hands a video in learns how much of it has been copied, and the task's id."""
    desk = Desk()
    rig = Rig(tmp_path, desk)
    (tmp_path / "a.mp4").write_bytes(b"video")
    answer = await rig.ask("submit", path=str(tmp_path / "a.mp4"), task_id=samples["task_id"])
    assert str(answer["task_id"]) == samples["task_id"]
    assert [(item.copied, item.size) for item in rig.items] == [(5, 5)]
    assert [submission.title for submission in desk.submitted] == ["a.mp4"]


async def test_a_known_task_is_not_copied_again(
    tmp_path: Path, done: TaskReport, samples: Mapping[str, Any]
) -> None:
    """A repeat is answered like the first time, even when the file has gone since."""
    desk = Desk(done)
    rig = Rig(tmp_path, desk)
    answer = await rig.ask("submit", path=str(tmp_path / "gone"), task_id=samples["task_id"])
    assert str(answer["task_id"]) == samples["task_id"]
    assert (rig.items, desk.submitted, await rig.store.list("")) == ([], [], [])


@pytest.mark.parametrize("path", ["relative.mp4", "/no/such/file", "/", "/nul\0"])
async def test_what_cannot_be_handed_in_is_said(tmp_path: Path, path: str) -> None:
    """The mistake is the person's, and nothing is recorded."""
    desk = Desk()
    with pytest.raises(BadRequest):
        await Rig(tmp_path, desk).ask("submit", path=path)
    assert desk.submitted == []


@pytest.mark.parametrize("follow", [False, True])
async def test_who_follows_says_so(tmp_path: Path, follow: bool) -> None:
    """The ledger must know at the first look, or an event may be missed for good."""
    desk = Desk()
    with trio.CancelScope() as desk.until_looked:
        await Rig(tmp_path, desk).ask("events", limit=7, follow=follow)
    assert [(look["limit"], look["follow"]) for look in desk.looks] == [(7, follow)]
