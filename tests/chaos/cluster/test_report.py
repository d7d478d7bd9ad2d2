"""A run can be read afterwards: the timeline, the text, the picture, and the night's report."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.chaos.cluster import report
from tests.chaos.cluster.night import REPORT, Night
from tests.chaos.cluster.picture import draw_picture
from tests.chaos.cluster.run import Setting, Verdict
from tests.chaos.cluster.schedule import Kind, Lane
from tests.chaos.cluster.timeline import FILE, Timeline, read_timeline

SAMPLE = {
    "containers": {"peer": 2, "seed": 1, "postgres": 1},
    "members": {"alive": 3, "dead": 1},
    "tasks": {"done": 4, "queued": 2, "running": 1},
    "messages": 3,
}
NOBODY_ANSWERED = {"containers": None, "members": None, "tasks": None, "messages": None}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A run's, with a timeline of two faults, of which one never ended, and two samples."""
    timeline = Timeline(tmp_path / FILE)
    timeline.note("sample", **SAMPLE)
    timeline.note("begins", lane=Lane.NODES, kind=Kind.CUT, target="node-2")
    timeline.note("sample", **NOBODY_ANSWERED)
    timeline.note("ends", lane=Lane.NODES, kind=Kind.CUT, target="node-2")
    timeline.note("missed", lane=Lane.NODES, kind=Kind.CUT, why="it was <gone> & away")
    timeline.note("missed", lane=Lane.PEERS, kind=Kind.KILL_LEADER, why="nobody leads")
    timeline.note("begins", lane=Lane.PEERS, kind=Kind.FREEZE_LONG, target="peer.1 on node-1")
    return tmp_path


def setting(folder: Path) -> Setting:
    return Setting(seed=7, minutes=10, nodes=3, managers=3, folder=folder)


def test_a_timeline_that_was_cut_off_is_read_to_there(folder: Path) -> None:
    """Whoever is killed while he writes has told all that came before."""
    with (folder / FILE).open("a") as file:
        file.write('{"at_s": 3, "wha')
    told = [entry["what"] for entry in read_timeline(folder / FILE)]
    assert told == ["sample", "begins", "sample", "ends", "missed", "missed", "begins"]


def test_the_picture_shows_every_fault(folder: Path) -> None:
    """It is XML, with a box for each fault: also for one whose end nobody has told."""
    svg = draw_picture(list(read_timeline(folder / FILE)))
    titles = [each.text for each in ElementTree.fromstring(svg).findall(".//{*}title")]
    assert titles == ["cut node-2", f"{Kind.FREEZE_LONG} peer.1 on node-1"]


def test_a_run_without_a_sample_has_a_picture() -> None:
    """Also one that was broken off before anything happened."""
    ElementTree.fromstring(draw_picture([]))


def test_the_report_says_what_was_broken_and_how_to_repeat_it(folder: Path) -> None:
    """Objections and the one command are in the text, and the picture is a PNG."""
    text = report.write(folder, ["task 7 is lost"], None, again=setting(folder).again)
    assert "task 7 is lost" in text
    assert "1 cut (1 missed)" in text
    assert "0 leader killed (1 missed)" in text
    assert "python -m tests.chaos.cluster --seed 7 --minutes 10 --nodes 3 --managers 3" in text
    assert (folder / report.TEXT).read_text() == text
    assert (folder / report.PICTURE).read_bytes().startswith(b"\x89PNG")


def test_a_night_tells_of_each_run(folder: Path) -> None:
    """Who kept all promises and who did not, and where to look."""
    night = Night(folder)
    night.add(setting(folder / "one"), Verdict(objections=[], text=""))
    night.add(setting(folder / "two"), Verdict(objections=["task 7 is lost"], text=""))
    told = (folder / REPORT).read_text()
    assert night.broken == 1
    assert "2 runs, 1 with broken promises" in told
    assert "one/timeline.png" in told
    assert "- task 7 is lost" in told
