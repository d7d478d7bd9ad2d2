"""What the demo says of a burst: only what the ledger tells, and what it does not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import msgspec
import pytest
from rich.console import Console

from peer.demo.burst_view import BurstScene, Report, picture, told
from peer.demo.growth import WANTED, Growth, at_rest
from peer.demo.recovery import Milestone
from peer.protocol import ShownTask
from peer.scale.protocol import ShownLook, ShownNode, ShownReason, ShownScaling
from peer.screen.console import THEME
from pipeline.ports import EventRow

BEGAN_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def event(number: int, type: str, at_s: float, *reasons: str, **data: Any) -> EventRow:
    return EventRow(
        id=number,
        at=BEGAN_AT + timedelta(seconds=at_s),
        type=type,
        task_id=None,
        peer_uid="00000000000000aa",
        epoch=1,
        sequence=number,
        container="pid:1",
        node="worker-1",
        data={"reasons": list(reasons), **data},
    )


def task(**changes: Any) -> ShownTask:
    attempt = {
        "part": 0,
        "attempt": 1,
        "peer_uid": "00000000000000aa",
        "peer_name": "demo-1",
        "epoch": 1,
        "container": "pid:1",
        "node": "worker-1",
        "step": "push",
        "claimed_at": BEGAN_AT.isoformat(),
        "ended_at": BEGAN_AT.isoformat(),
        "outcome": "done",
        "error": None,
    }
    tries = changes.pop("tries", 1)
    report: dict[str, Any] = {
        "id": "3f2a0000-0000-4000-8000-000000000000",
        "title": "clip-1.mp4",
        "state": "done",
        "ladder": "mp4:640x360@500k",
        "source": "s",
        "priority": "normal",
        "attempt": 1,
        "attempts_max": 4,
        "strictness": "strict",
        "failures": {},
        "submitted_at": BEGAN_AT.isoformat(),
        **dict.fromkeys(("finished_at", "retry_at", "holder", "node", "progress", "error")),
        "warnings": [],
        "attempts": [attempt | {"attempt": number} for number in range(1, tries + 1)],
    }
    return msgspec.convert(report | changes, ShownTask, strict=False)


LOOK = ShownLook(
    at=BEGAN_AT,
    age_s=0.5,
    term=1,
    leader="demo-1",
    mode="acting",
    demand=None,
    wanted=1,
    containers={"running": 1},
    nodes=(
        ShownNode(
            name="worker-1", state="ready", since_s=9.0, containers=1, capacity=2, cpu=0.1,
            memory=0.1, fixed=True,
        ),
        ShownNode(
            name="worker-2", state="standby", since_s=0.0, containers=0, capacity=2, cpu=None,
            memory=None, fixed=False,
        ),
    ),
    desired_containers=1,
    desired_nodes=1,
    leaving=(),
    starting=(),
    held=False,
    reasons=(ShownReason(code="queue_low", text="0 parts wait, fewer than 1"),),
)  # fmt: skip


def shown(look: ShownLook | None) -> ShownScaling:
    return ShownScaling(
        orchestrator="processes of this machine",
        leader="demo-1",
        own=True,
        reach="",
        paused=None,
        look=look,
    )


def test_the_story_is_in_the_ledgers_order() -> None:
    """Each event once, with its reasons; of an earlier burst none; and the same reasons once."""
    growth = Growth(began_at=BEGAN_AT)
    up = event(7, "ContainerScaledUp", 2.0, "9 wait", worker_node="worker-2", containers=3)
    node = event(5, "WorkerNodeScaledUp", 2.0, "9 wait", worker_node="worker-2", nodes=2)
    before = event(1, "ContainerScaledDown", -5.0, "an earlier one")
    other = event(9, "TaskReceived", 3.0)
    for _ in range(2):
        growth.notice_events([up, node, before, other])
    assert [(one.at_s, one.text) for one in growth.milestones] == [
        (2.0, "WorkerNodeScaledUp worker-2, 2 in service: 9 wait"),
        (2.0, "ContainerScaledUp on worker-2, 3 wanted: for the same reasons"),
    ]
    assert growth.missing == ["ContainerScaledDown", "WorkerNodeScaledDown"]
    growth.notice_events(event(20 + at, kind, 9.0) for at, kind in enumerate(WANTED))
    assert growth.missing == []


def test_no_task_may_have_paid_for_it() -> None:
    """One that failed, and one that was done twice, are named."""
    growth = Growth(began_at=BEGAN_AT)
    growth.notice_tasks([task(), task(tries=2), task(state="escalated")])
    assert growth.faults == ["clip-1.mp4 took 2 attempts", "clip-1.mp4 is escalated"]


@pytest.mark.parametrize(
    ("look", "expected"),
    [
        (LOOK, True),
        (None, False),
        (replace(LOOK, at=BEGAN_AT - timedelta(seconds=1)), False),
        (replace(LOOK, mode="paused"), False),
        (replace(LOOK, wanted=2), False),
        (replace(LOOK, desired_containers=2), False),
        (replace(LOOK, containers={"running": 1, "stopping": 1}), False),
        (replace(LOOK, nodes=tuple(replace(node, state="ready") for node in LOOK.nodes)), False),
    ],
)
def test_at_rest(look: ShownLook | None, expected: bool) -> None:
    """One container on one node, seen by today's leader, and nothing on its way."""
    assert at_rest(shown(look), BEGAN_AT) is expected
    assert not at_rest(None, BEGAN_AT)


def scene(**changes: Any) -> BurstScene:
    growth = Growth(began_at=BEGAN_AT)
    growth.notice_events(
        [event(5, "WorkerNodeScaledUp", 2.0, "9 wait", worker_node="worker-2", nodes=2)]
    )
    made = BurstScene(
        title="12 times clip.mp4", doing="working", began_at=BEGAN_AT, scaling=shown(LOOK),
        growth=growth, task_ids=["a", "b"],
    )  # fmt: skip
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_the_picture() -> None:
    """The queue, the containers by node and the story, in eighty columns."""
    console = Console(width=80, file=StringIO(), theme=THEME, record=True)
    console.print(picture(scene()))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    for words in (
        "12 times clip.mp4",
        "0 of 2 done",
        "worker-2",
        "standby",
        "should be 1 on 1 node",
    ):
        assert words in text
    assert "WorkerNodeScaledUp worker-2" in text


def test_the_story_in_full_breaks_between_words() -> None:
    """What is longer than the terminal is wide goes on under its text, and no word is cut."""
    console = Console(width=40, file=StringIO(), theme=THEME, record=True)
    console.print(told(Milestone("7", 2.0, "9 parts wait, more than 3; 4 containers are too few")))
    assert [line.rstrip() for line in console.export_text().splitlines()] == [
        "  2.0 s  9 parts wait, more than 3; 4",
        "         containers are too few",
    ]


def test_the_log_says_each_thing_once() -> None:
    """A line for what is new: what is done, what was decided, what has happened."""
    written = StringIO()
    report = Report(Console(width=200, file=written, theme=THEME))
    for _ in range(3):
        report.show(scene())
    report.show(scene(doing="over"))
    assert written.getvalue().splitlines() == [
        "working",
        "decided: 1 container, should be 1 on 1 node: 0 parts wait, fewer than 1",
        "  2.0 s  WorkerNodeScaledUp worker-2, 2 in service: 9 wait",
        "over",
    ]
