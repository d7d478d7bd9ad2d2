"""What the commands of the control socket answer, on a desk that holds what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest
import trio

from peer.protocol import Adopted, Escalation, FailedTry, FetchedFile, ShownTask
from peer.requests import COMMANDS, Requests
from pipeline.errors import BadRequest, NoSuchTask, NotAllowed, PullFailed, QueueUnavailable
from pipeline.marking import MarkedStore
from pipeline.notices import Notice
from pipeline.ports import Depth, Due, Submission, Sweep, TaskDesk, TaskQueue
from pipeline.stores.directory import DirectoryStore
from pipeline.tasks import OutputReport, Priority, ProductKind, TaskReport, TaskState

AWAY = QueueUnavailable("the queue is away", definite=True)
VIDEO = "s3://camera/2026/holiday.mp4"


class Desk:
    """Shows one task after another of a list, and the last one for ever."""

    def __init__(
        self, *reports: TaskReport, due: Sequence[Due] = (), notices: Sequence[Notice] = ()
    ) -> None:
        self.reports = list(reports)
        self.due = due
        self.notices = notices
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

    async def retry(self, _task_id: UUID, _reason: str) -> Sequence[Due]:
        return self.due

    async def escalations(self, limit: int) -> Sequence[Notice]:
        return self.notices[:limit]


class Queue:
    """A queue and a sweep that note what they are told; the queue may be away."""

    def __init__(self, away: Exception | None = None) -> None:
        self.away = away
        self.published: list[tuple[bytes, Priority]] = []
        self.announced_parts: list[int] = []

    async def publish(self, body: bytes, *, priority: Priority) -> None:
        if self.away is not None:
            raise self.away
        self.published.append((body, priority))

    async def announced(self, _task_id: UUID, part: int, *, again: bool = False) -> None:
        self.announced_parts.append(part)

    async def depth(self) -> Depth:
        if self.away is not None:
            raise self.away
        return Depth(ready=3, unacknowledged=None, delayed=2, dead=1, dead_reason="not JSON")


class Store(DirectoryStore):
    """A store that may be the cluster's already."""

    adopted = False

    async def adopt(self) -> bool:
        changed, self.adopted = not self.adopted, True
        return changed


class Rig:
    def __init__(
        self,
        directory: Path,
        desk: Desk,
        *,
        queue: Queue | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        """`sizes`: what lies in S3, for a store that speaks it."""
        self.items: list[Any] = []
        self.store = Store(directory / "store")
        self.queue = queue or Queue()

        async def size_of(source: str) -> int:
            assert sizes is not None
            if source not in sizes:
                raise PullFailed(f"there is no {source}", code="no_such_object", permanent=True)
            return sizes[source]

        self.commands = Requests(
            desk=cast("TaskDesk", desk),
            sweep=cast("Sweep", self.queue),
            queue=cast("TaskQueue", self.queue),
            store=cast("MarkedStore", self.store),
            size_of=None if sizes is None else size_of,
            attempts_max=4,
            scratch=directory,
        ).commands()

    async def ask(self, command: str, **arguments: Any) -> Any:
        """Run a command; its items are kept."""

        async def send_item(item: Any) -> None:
            self.items.append(item)

        return await self.commands[command](arguments, send_item)


def names_in(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


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


async def test_outputs_are_handed_out(tmp_path: Path, done: TaskReport) -> None:
    """Each file's name and size come before its content, in pieces; nothing is left lying here."""
    rig = Rig(tmp_path, Desk(done))
    content = {output.name: bytes(400_000) + output.name.encode() for output in done.outputs}
    for output in done.outputs:
        (tmp_path / "video").write_bytes(content[output.name])
        await rig.store.push(tmp_path / "video", output.key)
    (tmp_path / "video").unlink()
    assert await rig.ask("fetch", id="3f") == {"id": done.id, "files": 4}
    came: dict[str, bytes] = {}
    for item in rig.items:
        if isinstance(item, FetchedFile):
            name, size = item.name, item.size
            assert size == len(content[name])
            came[name] = b""
        else:
            came[name] += item.content
    assert came == content
    assert names_in(tmp_path) == {"store"}


async def test_a_file_that_is_gone_is_said(tmp_path: Path, done: TaskReport) -> None:
    """Whoever fetches learns it, also of what has made nothing yet; and nothing is left."""
    with pytest.raises(PullFailed):
        await Rig(tmp_path, Desk(done)).ask("fetch", id="3f")
    queued = replace(done, state=TaskState.QUEUED, outputs=())
    with pytest.raises(NotAllowed, match="queued: it has made nothing yet"):
        await Rig(tmp_path, Desk(queued)).ask("fetch", id="3f")
    assert names_in(tmp_path) <= {"store"}


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
    await rig.ask("submit", path=str(tmp_path / "a.mp4"), title="holiday.mkv")
    assert desk.submitted[-1].title == "holiday.mkv"
    assert desk.submitted[-1].source.endswith(".mkv")


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


async def test_a_priority_goes_with_the_task_and_its_message(tmp_path: Path) -> None:
    """Whoever hands a video in says how urgent it is; the ledger and the queue both know."""
    desk = Desk()
    rig = Rig(tmp_path, desk)
    (tmp_path / "a.mp4").write_bytes(b"video")
    await rig.ask("submit", path=str(tmp_path / "a.mp4"), priority="high")
    assert [submission.priority for submission in desk.submitted] == [Priority.HIGH]
    assert [priority for _, priority in rig.queue.published] == [Priority.HIGH]
    assert rig.queue.announced_parts == [0]


async def test_a_queue_that_is_away_does_not_lose_a_task(tmp_path: Path) -> None:
    """The task is recorded and said to be; a sweeper publishes what never got out."""
    desk = Desk()
    rig = Rig(tmp_path, desk, queue=Queue(AWAY))
    (tmp_path / "a.mp4").write_bytes(b"video")
    assert await rig.ask("submit", path=str(tmp_path / "a.mp4"))
    assert len(desk.submitted) == 1
    assert rig.queue.announced_parts == []


async def test_what_lies_in_s3_is_not_copied(tmp_path: Path) -> None:
    """The task names it where it lies; its title is the end of its key."""
    desk = Desk()
    rig = Rig(tmp_path, desk, sizes={VIDEO: 5})
    await rig.ask("submit", source=VIDEO)
    assert [(task.source, task.title) for task in desk.submitted] == [(VIDEO, "holiday.mp4")]
    assert (rig.items, await rig.store.list("")) == ([], [])


@pytest.mark.parametrize(
    ("sizes", "arguments", "failure", "words"),
    [
        (None, {"source": VIDEO}, BadRequest, r"store of this peer is a directory.*\[store\.s3\]"),
        ({}, {"source": VIDEO}, PullFailed, "there is no s3://camera"),
        ({}, {"source": "s3://camera"}, BadRequest, "write s3://bucket/key"),
        ({}, {"source": "/etc/passwd"}, BadRequest, "not of the form s3://bucket/key"),
        ({}, {"source": VIDEO, "path": "/a.mp4"}, BadRequest, "not both"),
        ({}, {}, BadRequest, "either a path"),
    ],
)
async def test_what_is_not_there_is_said_at_once(
    tmp_path: Path,
    sizes: Mapping[str, int] | None,
    arguments: dict[str, Any],
    failure: type[Exception],
    words: str,
) -> None:
    """To whoever made the slip, and nothing is recorded."""
    desk = Desk()
    with pytest.raises(failure, match=words):
        await Rig(tmp_path, desk, sizes=sizes).ask("submit", **arguments)
    assert desk.submitted == []


async def test_every_part_of_a_retry_is_woken(tmp_path: Path, done: TaskReport) -> None:
    """Each with the task's own priority."""
    due = [Due(task_id=done.id, part=part, priority=Priority.LOW) for part in (0, 2)]
    rig = Rig(tmp_path, Desk(done, due=due))
    await rig.ask("retry", id="3f", reason="space again")
    assert [priority for _, priority in rig.queue.published] == [Priority.LOW] * 2
    assert rig.queue.announced_parts == [0, 2]


async def test_the_queue_is_counted(tmp_path: Path) -> None:
    """As the queue says it; its being away is said, too."""
    depth = await Rig(tmp_path, Desk()).ask("queue")
    assert (depth.ready, depth.unacknowledged, depth.delayed, depth.dead) == (3, None, 2, 1)
    with pytest.raises(QueueUnavailable, match="away"):
        await Rig(tmp_path, Desk(), queue=Queue(AWAY)).ask("queue")


async def test_a_store_is_adopted(tmp_path: Path) -> None:
    """Which one that is, is said; and whether anything has changed."""
    rig = Rig(tmp_path, Desk())
    url = str(tmp_path / "store")
    assert await rig.ask("adopt_store") == Adopted(url=url, changed=True)
    assert await rig.ask("adopt_store") == Adopted(url=url, changed=False)


async def test_a_store_is_not_adopted_under_running_tasks(tmp_path: Path, done: TaskReport) -> None:
    """Unless a person insists."""
    rig = Rig(tmp_path, Desk(done))
    with pytest.raises(NotAllowed, match="Drain the peers"):
        await rig.ask("adopt_store")
    assert (await rig.ask("adopt_store", force=True)).changed


STORY: dict[str, Any] = {
    "attempt": 2,
    "peer": "two",
    "node": "here",
    "stage": "pull",
    "code": "disk_full",
    "message": "The disk is full.",
    "ended_at": "2026-01-02T03:04:35+00:00",
}


@pytest.mark.parametrize(
    ("data", "story", "failures"),
    [
        ({}, (), 0),
        ({"story": [{"attempt": 1}]}, (FailedTry(attempt=1),), 0),
        ({"failures": 4, "story": [STORY | {"later": 1}]}, (FailedTry(**STORY),), 4),
    ],
)
async def test_escalations_are_told_whoever_wrote_them(
    tmp_path: Path,
    samples: Mapping[str, Any],
    data: dict[str, Any],
    story: tuple[FailedTry, ...],
    failures: int,
) -> None:
    """What an older version did not write is empty; what a newer one adds is left out."""
    notice = Notice(
        id=7,
        task_id=UUID(samples["task_id"]),
        title="holiday.mp4",
        escalated_at=datetime(2026, 1, 2, tzinfo=UTC),
        data={"message": "It failed.", **data},
    )
    told: list[Escalation] = await Rig(tmp_path, Desk(notices=[notice])).ask("escalations")
    assert [(one.message, one.story, one.failures) for one in told] == [
        ("It failed.", story, failures)
    ]
