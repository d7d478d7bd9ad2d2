from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from peer.protocol import (
    Check,
    Escalation,
    PeerStatus,
    ShownOutput,
    ShownSegments,
    ShownTask,
)
from peer.screen.console import make_console
from peer.screen.live import Lines, progress_line, watcher
from peer.screen.page import escalations_list, output_lines, task_page, what_to_type
from peer.screen.tables import (
    PeerRow,
    checks_table,
    depth_table,
    event_line,
    peers_table,
    tasks_table,
)
from pipeline.ports import Depth, EventRow
from tests.unit.peer.drawing import draw

NOW = datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC)
Make = Callable[..., ShownTask]


@pytest.fixture
def many(make: Make, samples: Mapping[str, Any]) -> list[ShownTask]:
    """A task in each state, one of them with a very long name."""
    failure = samples["failure"]
    return [
        make(
            id="10000000-0000-4000-8000-000000000000", state="running", progress=samples["progress"]
        ),
        make(id="20000000-0000-4000-8000-000000000000", state="queued", title="very-long-" * 12),
        make(
            id="30000000-0000-4000-8000-000000000000",
            state="queued",
            attempt=2,
            failures={"pull": 1},
            error=failure | {"message": "the store is away"},
            retry_at="2026-01-02T03:05:19+00:00",
        ),
        make(id="40000000-0000-4000-8000-000000000000", state="escalated", error=failure),
        make(id="50000000-0000-4000-8000-000000000000", state="done"),
        make(id="60000000-0000-4000-8000-000000000000", state="cancelled"),
    ]


@pytest.mark.parametrize("width", [80, 120, 200])
def test_tasks_fit_the_terminal(many: list[ShownTask], width: int) -> None:
    """Every task is one row that is not wider than the terminal, and errors are one line each."""
    lines = draw(tasks_table(many, NOW, width, fill=True), width=width).splitlines()
    assert len(lines) == 1 + len(many) + 1 + 2
    assert max(map(len, lines)) <= width
    assert all(str(report.id)[:8] in line for report, line in zip(many, lines[1:], strict=False))
    assert lines[-2].startswith("30000000 the store is away")
    assert lines[-1].startswith("40000000 The source is cut short.")


def test_task_rows_say_where_each_stands(many: list[ShownTask]) -> None:
    """Progress and time left while it runs, the wait before another attempt, full when done."""
    rows = draw(tasks_table(many, NOW, 120, fill=True), width=120).splitlines()[1:]
    expected = [
        ["running", "45 %", "2.1x", "0:12", "1/4"],
        ["queued"],
        ["retrying", "failed 1x", "0:14", "2/4"],
        ["escalated"],
        ["done", "100 %"],
        ["cancelled"],
    ]
    for row, words in zip(rows, expected, strict=False):
        assert all(word in row for word in words), row


def test_a_pipe_gets_whole_rows(many: list[ShownTask], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no terminal ends the row, nothing is cut, nothing is padded, nothing is coloured."""
    stream = io.StringIO()
    console = make_console(stream)
    console.print(tasks_table(many, NOW, console.width, fill=console.is_terminal))
    assert "very-long-" * 10 in stream.getvalue()
    assert "\x1b" not in stream.getvalue()


def test_the_page_of_a_task(samples: Mapping[str, Any]) -> None:
    """Everything is there: outputs with places, error with log tail, warnings, history, advice."""
    document = samples["task"](
        state="escalated",
        failures={"transcode": 2},
        error=samples["failure"],
        warnings=["3 frames are damaged"],
        outputs=[samples["output"]],
        events=[samples["event"]],
    )
    page = draw(*task_page(msgspec.convert(document, ShownTask), NOW, 80), soft=True)
    for text in (
        "holiday.mp4  escalated",
        samples["task_id"],
        "web, strict",
        "transcode failed 2x of 4",
        "after 30 s",
        "The source is cut short.  (transcode: truncated)",
        "moov atom not found",
        "• 3 frames are damaged",
        samples["output"]["url"].rpartition("/")[0],
        "1280x720 h264",
        "TaskReceived",
        "attempt=1",
        "holiday.mp4  escalated (needs a person)",
        "peerctl cancel 3f2a1b2c    and hand in another file",
    ):
        assert text in page


def test_the_page_tells_who_had_it_and_what_people_did(samples: Mapping[str, Any]) -> None:
    """A task that failed, was looked at by a person, and then went well."""
    attempt = {
        "part": 0,
        "attempt": 1,
        "peer_uid": "00000000000000aa",
        "peer_name": "one",
        "epoch": 1,
        "container": "pid:42",
        "node": "here",
        "step": "pulled",
        "claimed_at": "2026-01-02T03:04:05+00:00",
        "ended_at": "2026-01-02T03:04:09+00:00",
        "outcome": "escalated",
        "error": samples["failure"],
    }
    running = {"attempt": 2, "peer_name": "two", "ended_at": None, "outcome": None, "error": None}
    intervention = {
        "at": "2026-01-02T03:04:30+00:00",
        "action": "retry",
        "reason": "uploaded again",
        "error": samples["failure"],
    }
    task = samples["task"](attempts=[attempt, attempt | running], interventions=[intervention])

    drawn = draw(*task_page(msgspec.convert(task, ShownTask), NOW, 100), width=100)

    assert "1  one  pid:42 on here  escalated after 4.0 s  The source is cut short." in drawn
    assert "2  two  pid:42 on here  running" in drawn
    assert "retry  uploaded again" in drawn


def test_a_running_task_shows_its_renditions(samples: Mapping[str, Any]) -> None:
    """A bar for the task and one for each rendition, within 80 columns."""
    document = samples["task"](state="running", progress=samples["progress"], finished_at=None)
    page = draw(*task_page(msgspec.convert(document, ShownTask), NOW, 80))
    assert "transcode, 450/1000 frames, 2.1x, 0:12 left" in page
    assert page.count("45 %") == 3


def shown(output: Mapping[str, Any], **changes: Any) -> ShownOutput:
    return msgspec.convert(dict(output) | changes, ShownOutput)


def test_places_can_be_copied(samples: Mapping[str, Any]) -> None:
    """A place stands whole on its line; where it does not fit, its directory is said once."""
    directory = samples["output"]["url"].rpartition("/")[0]
    outputs = [
        shown(samples["output"], name=name, url=f"{directory}/{name}", media={"height": height})
        for name, height in (("360p.mp4", 360), ("720p.mp4", 720), ("1080p.mp4", 1080))
    ]
    wide = [str(line) for line in output_lines(outputs, [], 160)]
    assert [line.split()[-1] for line in wide] == [output.url for output in reversed(outputs)]
    narrow = [str(line) for line in output_lines(outputs, [], 80)]
    assert narrow[0] == f"{directory}/"
    assert [line.split()[0] for line in narrow[1:]] == ["1080p.mp4", "720p.mp4", "360p.mp4"]
    assert output_lines([], [], 80) == []


def test_segments_are_one_row(samples: Mapping[str, Any]) -> None:
    """Ten thousand segments are a rendition's one row, with their number and their size."""
    segments = ShownSegments(
        rendition="720p", files=30, size=102_000_000, media={}, url="/s/hls/720p/"
    )
    master = shown(
        samples["output"],
        kind="playlist",
        name="hls/master.m3u8",
        rendition="",
        url="/s/hls/master.m3u8",
    )
    lines = [str(line) for line in output_lines([master], [segments], 200)]
    assert len(lines) == 2
    assert "  hls/720p/  " in lines[1]
    assert "in 30 files" in lines[1]
    assert "102 MB" in lines[1]
    assert lines[1].endswith("/s/hls/720p/")


def test_hls_is_listed_in_one_order(samples: Mapping[str, Any]) -> None:
    """The master first, then playlists and segments alike: the largest first, sound last."""
    heights: dict[str, dict[str, int]] = {
        "1080p": {"height": 1080}, "360p": {"height": 360}, "audio-1": {}, "720p": {"height": 720}
    }  # fmt: skip
    playlists = [
        shown(
            samples["output"],
            kind="playlist",
            name=f"hls/{name}/playlist.m3u8",
            rendition=name,
            media=media,
            url=f"/s/hls/{name}/playlist.m3u8",
        )
        for name, media in heights.items()
    ]
    master = shown(
        samples["output"],
        kind="playlist",
        name="hls/master.m3u8",
        rendition="",
        media={},
        url="/s/hls/master.m3u8",
    )
    segments = [
        ShownSegments(rendition=name, files=2, size=1, media={}, url=f"/s/hls/{name}/")
        for name in sorted(heights)
    ]
    lines = [str(line).split()[0] for line in output_lines([*playlists, master], segments, 200)]
    order = ["1080p", "720p", "360p", "audio-1"]
    assert lines == [
        "hls/master.m3u8",
        *(f"hls/{name}/playlist.m3u8" for name in order),
        *(f"hls/{name}/" for name in order),
    ]


def test_escalations_tell_the_story_and_what_to_type(samples: Mapping[str, Any]) -> None:
    """Since when it waits, the cause in full, why it is not tried again, who has tried, what else
    went wrong on the way, and the commands one may need."""
    escalation = msgspec.convert(samples["escalation"], Escalation)
    assert draw(escalations_list([escalation], NOW), width=100).splitlines() == [
        "3f2a1b2c  holiday.mp4  escalated 30 s ago",
        "  ffmpeg made no progress for 60 s.  (transcode: stalled)",
        "  failed 2 times, and 2 is the threshold; tried by one on here, two on here (2x)",
        "  before: The disk is full. (pull: disk_full, attempt 1)",
        "  → peerctl task 3f2a1b2c  |  peerctl retry 3f2a1b2c  |  peerctl cancel 3f2a1b2c",
    ]


def test_an_escalation_without_a_story(samples: Mapping[str, Any]) -> None:
    """One that an older version wrote has less to tell; no retry helps a broken source."""
    bare = samples["escalation"] | {"story": [], "code": "truncated", "reason": ""}
    text = draw(escalations_list([msgspec.convert(bare, Escalation)], NOW))
    assert "(transcode: truncated)" in text
    assert "tried by" not in text
    assert "peerctl task 3f2a1b2c  |  peerctl cancel 3f2a1b2c, and hand in another file" in text


@pytest.mark.parametrize(("width", "marks"), [(80, [" ↑", " ↓"]), (120, ["high", "low"])])
def test_a_task_in_line_says_when(make: Make, width: int, marks: list[str]) -> None:
    """Its place, about how long, and its priority where it is not the usual one."""
    waiting = [
        make(id="1" * 8 + "-0000-4000-8000-000000000000", state="queued", place=1, eta_s=42.0),
        make(
            id="2" * 8 + "-0000-4000-8000-000000000000",
            state="queued",
            place=12_345,
            eta_s=40_000,
            priority="low",
            title="a-long-name-" * 9,
        ),
        make(id="3" * 8 + "-0000-4000-8000-000000000000", state="running", priority="high"),
    ]
    text = draw(tasks_table(waiting, NOW, width, fill=True), width=width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) == 1 + len(waiting)
    assert "next in line" in lines[1]
    assert "~42 s" in lines[1]
    assert "no. 12,345 in line" in lines[2]
    assert "~11 h" in lines[2]
    for mark in marks:
        assert mark in text
    assert ("PRIO" in lines[0]) == (width >= 110)
    usual = draw(tasks_table(waiting[:1], NOW, 120, fill=True), width=120)
    assert "PRIO" not in usual


def test_the_page_of_a_task_in_line(make: Make) -> None:
    """Where it stands, when it is likely to be done, and how urgent it is."""
    task = make(state="queued", finished_at=None, place=3, eta_s=600.0, priority="high")
    text = draw(*task_page(task, NOW, 80))
    assert "no. 3 in line; done in ~10 min" in text
    assert "priority   high" in text


def test_the_depth_says_what_each_number_means() -> None:
    """Four numbers; what the queue does not say is no nought."""
    known = draw(depth_table(Depth(ready=12, unacknowledged=3, delayed=2, dead=0)))
    assert [line.split()[:2] for line in known.splitlines()] == [
        ["ready", "12"],
        ["unacknowledged", "3"],
        ["delayed", "2"],
        ["dead", "0"],
    ]
    dead = Depth(ready=0, unacknowledged=None, delayed=0, dead=1, dead_reason="it is not JSON")
    text = draw(depth_table(dead))
    assert "?  not known: no answer at queue.management_url" in text
    assert "the newest: it is not JSON" in text


@pytest.mark.parametrize(
    ("code", "retry"),
    [("not_media", False), ("empty", False), ("truncated", False), ("no_video", False),
     ("disk_full", True)],
)  # fmt: skip
def test_what_no_retry_helps(
    make: Make, samples: Mapping[str, Any], code: str, retry: bool
) -> None:
    """A source that is broken for good needs another file, not another attempt."""
    advice = what_to_type(make(state="escalated", error=samples["failure"] | {"code": code}))
    assert ("retry" in advice) is retry
    assert ("hand in another file" in advice) is not retry
    assert "peerctl cancel 3f2a1b2c" in advice


def test_peers(samples: Mapping[str, Any]) -> None:
    """State, load and work of each peer, and below them what keeps one waiting."""
    status = msgspec.convert(samples["status"], PeerStatus)
    sick = msgspec.convert(
        samples["status"] | {"state": "waiting", "dependencies": {"ledger": "does not answer"}},
        PeerStatus,
    )
    text = draw(
        peers_table(
            [
                PeerRow("one", 42, "working", status),
                PeerRow("two", 43, "waiting", sick),
                PeerRow("three", 44, "starting"),
            ],
            NOW,
            fill=True,
        )
    )
    assert max(map(len, text.splitlines())) <= 80
    for words in ("1/2", "180 %", "73.0 MB", "5 min", "holiday.mp4 45 %", "starting"):
        assert words in text
    assert "two: ledger does not answer" in text


def test_a_peer_says_what_holds_it_back(samples: Mapping[str, Any]) -> None:
    """Its breakers with the sentence, its quarantine with what to type, and what waits on disk; a
    start says nothing but what the ledger is waited for with."""
    sick = samples["status"] | {
        "state": "quarantined",
        "dependencies": {"ledger": "ok", "queue": "refused", "store": "denied"},
        "breakers": {"ledger": "closed", "queue": "open", "store": "half-open"},
        "quarantined": "two of its tasks were finished by others",
        "spooled": 1,
    }
    begun = samples["status"] | {
        "state": "starting",
        "dependencies": {"ledger": "no route", "queue": "starting", "store": "starting"},
    }
    rows = [
        PeerRow(name, 42, status["state"], msgspec.convert(status, PeerStatus))
        for name, status in (("one", sick), ("two", begun))
    ]
    lines = draw(peers_table(rows, NOW, fill=True), width=100).splitlines()
    assert lines[3:] == [
        "one: queue (breaker open) refused",
        "one: store (breaker half-open) denied",
        "one: quarantined two of its tasks were finished by others",
        "→ when it is well again: peerctl resume one",
        "one: 1 event on its disk until the ledger answers",
        "two: ledger no route",
    ]


def test_a_peer_without_work_is_ready(samples: Mapping[str, Any]) -> None:
    """`working` at 0 of 2 slots would be a contradiction; what the peer reports stays as it is."""
    idle = msgspec.convert(samples["status"] | {"running": []}, PeerStatus)
    text = draw(peers_table([PeerRow("one", 42, idle.state, idle)], NOW, fill=True))
    assert "ready" in text
    assert "working" not in text


def test_checks_carry_their_advice() -> None:
    """Advice stands under a problem, and nowhere else."""
    text = draw(
        checks_table(
            [
                Check(check="disk", ok=True, detail="80 GB free", advice="unused"),
                Check(check="ledger", ok=False, detail="silent", advice="look at its log"),
            ]
        )
    )
    assert "unused" not in text
    assert "→ look at its log" in text


def test_an_event_is_one_line(samples: Mapping[str, Any]) -> None:
    """However much an event holds, it is one line; a pipe gets it whole."""
    event = msgspec.convert(
        samples["event"]
        | {
            "data": {
                "video": {
                    "width": 1,
                    "audio": [{"codec": "aac", "channels": 2, "title": None}, {"codec": "mp3"}],
                    "subtitles": [],
                },
                "list": [1, 2],
                "none": None,
                "f": 1 / 3,
            }
        },
        EventRow,
    )
    facts = "width=1 audio=(codec:aac channels:2),(codec:mp3) list=1,2 f=0.333"
    assert str(event_line(event, 200)).endswith(f"pid:42  {facts}")
    assert len(str(event_line(event, 60))) == 60


def test_a_pipe_gets_whole_events(samples: Mapping[str, Any]) -> None:
    """grep must find what stands at the end of a long line; no line ends with blanks."""
    long = samples["event"] | {"data": {"error": "very long " * 40 + "end"}}
    bare = samples["event"] | {"data": {}}
    assert str(event_line(msgspec.convert(long, EventRow), None)).endswith("end")
    assert str(event_line(msgspec.convert(bare, EventRow), None)).endswith("pid:42")
    task = msgspec.convert(samples["task"](events=[long, bare]), ShownTask)
    page = draw(*task_page(task, NOW, 80, whole=True), soft=True).splitlines()
    assert page[-2].endswith("very long end")
    assert page[-1].endswith("pid:42")


def test_markup_in_names_is_text(make: Make, samples: Mapping[str, Any]) -> None:
    """A file may be named `[red]`; it is shown, and obeyed nowhere."""
    report = make(title="[red]x[/]", state="running", progress=samples["progress"])
    assert "[red]x[/]" in draw(tasks_table([report], NOW, 120, fill=True), width=120)
    stream = io.StringIO()
    Lines(make_console(stream)).show(report)
    assert stream.getvalue().startswith("[red]x[/]: 45 %")


def test_lines_tell_only_news(make: Make, samples: Mapping[str, Any]) -> None:
    """A line for each state, step and tenth of the work; repeats are silent."""
    stream = io.StringIO()
    progress = samples["progress"]
    with watcher(make_console(stream)) as show:
        for fraction in (0.41, 0.42, 0.45, 0.51):
            show(make(state="running", progress=progress | {"fraction": fraction}))
        show(make(state="running", progress=progress | {"step": "verify", "fraction": 0.52}))
        show(make())
    assert [
        line.split(":")[1].split(",")[0].strip() for line in stream.getvalue().splitlines()
    ] == [
        "41 % transcode",
        "51 % transcode",
        "52 % verify",
        "done",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"state": "queued"}, "holiday.mp4: queued"),
        ({"state": "running"}, "holiday.mp4: taken by demo-1"),
        ({"state": "running", "holder": None}, "holiday.mp4: taken"),
        ({"state": "cancelled"}, "holiday.mp4: cancelled"),
    ],
)
def test_a_task_without_progress(make: Make, changes: dict[str, Any], line: str) -> None:
    """Where nothing moves, the line says why."""
    assert progress_line(make(**changes)) == line
