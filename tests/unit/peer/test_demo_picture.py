"""What one sees of a demo, and that it moves on a terminal and is told in lines elsewhere."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import pytest
from rich.console import Console

from peer.demo.view import Report, Scene, picture, view_for
from peer.protocol import PeerStatus, ShownTask
from peer.screen.console import THEME, make_console
from peer.screen.live import watcher
from peer.screen.tables import PeerRow
from tests.unit.peer.drawing import draw

Make = Callable[..., ShownTask]


def test_bars_are_for_terminals(make: Make, samples: Mapping[str, Any]) -> None:
    """On a terminal the bars are redrawn in place and gone at the end."""
    stream = io.StringIO()
    console = Console(file=stream, theme=THEME, force_terminal=True, width=80, _environ={})
    with watcher(console) as show:
        show(make(state="running", progress=samples["progress"]))
        show(make())
    assert "\x1b[2K" in stream.getvalue()


def test_a_dumb_terminal_gets_lines(make: Make, scene: Scene) -> None:
    """`TERM=dumb` names a terminal on which nothing can be redrawn."""
    stream = io.StringIO()
    dumb = Console(file=stream, theme=THEME, force_terminal=True, _environ={"TERM": "dumb"})
    with watcher(dumb) as show_task, view_for(dumb) as show:
        show_task(make())
        show(scene)
    assert stream.getvalue().startswith("holiday.mp4: done\ntranscoding")
    assert "\x1b[2K" not in stream.getvalue()


@pytest.fixture
def scene(make: Make, samples: Mapping[str, Any]) -> Scene:
    """A demo in the middle of its work."""
    status = msgspec.convert(samples["status"], PeerStatus)
    return Scene(
        video="holiday.mp4",
        ladder="web",
        doing="transcoding",
        peers=[PeerRow("demo-1", 42, "working", status), PeerRow("demo-2", 43, "starting")],
        report=make(state="running", progress=samples["progress"]),
    )


def test_the_picture_fits_a_small_terminal(scene: Scene) -> None:
    """The demo's two panels fit 80 by 24, and show peers, task and renditions."""
    lines = draw(picture(scene, 80, 24)).splitlines()
    assert len(lines) <= 23
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    for words in (
        "peers",
        "demo-1",
        "starting",
        "holiday.mp4 → web",
        "720p",
        "480p",
        "transcoding",
    ):
        assert words in text


def test_nothing_is_said_twice(scene: Scene, samples: Mapping[str, Any]) -> None:
    """While the peers start there is one row for each, and what goes on is said once."""
    waiting = {"ledger": "starting", "queue": "starting", "store": "starting"}
    status = samples["status"] | {"state": "starting", "running": [], "dependencies": waiting}
    begun = msgspec.convert(status, PeerStatus)
    scene.peers = [PeerRow("demo-1", 42, "starting", begun)]
    scene.doing, scene.report = "starting three peers", None
    text = draw(picture(scene, 80, 24))
    assert text.count("starting three peers") == 1
    assert text.replace("starting three peers", "").count("starting") == 1


def test_a_stopped_demo_promises_nothing(scene: Scene, make: Make) -> None:
    """Above `all peers have stopped` no frames are counted and no time is left."""
    assert scene.report is not None
    scene.report = make(state="cancelled", progress=msgspec.to_builtins(scene.report.progress))
    scene.doing = "all peers have stopped"
    text = draw(picture(scene, 80, 24))
    assert "holiday.mp4  cancelled" in text
    assert "left" not in text


def test_the_picture_moves(scene: Scene) -> None:
    """On a terminal the picture is redrawn, and the last one stays."""
    stream = io.StringIO()
    console = Console(file=stream, theme=THEME, force_terminal=True, width=80, _environ={})
    with view_for(console) as show:
        show(scene)
        scene.doing = "done"
        show(scene)
    assert stream.getvalue().rstrip().endswith("\x1b[?25h")
    assert "transcoding" in stream.getvalue()


def test_the_report_tells_only_news(scene: Scene) -> None:
    """In a log, each thing stands once."""
    stream = io.StringIO()
    report = Report(make_console(stream))
    report.show(scene)
    report.show(scene)
    assert [line.split(" ", 1)[0] for line in stream.getvalue().splitlines()] == [
        "transcoding",
        "demo-1:",
        "demo-2:",
        "holiday.mp4:",
    ]
