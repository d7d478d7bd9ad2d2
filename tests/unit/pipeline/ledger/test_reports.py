"""A task as people see it, from the rows of its parts."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from pipeline.errors import BadRequest, NoSuchTask, Stage
from pipeline.ledger.line import Line, Pace
from pipeline.ledger.reports import id_range, report
from pipeline.media.ladder import ladder_to_json, parse_ladder
from pipeline.tasks import Priority, Progress, RenditionProgress

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = datetime(2026, 1, 2, tzinfo=UTC)
TASK = {
    "id": UUID(int=1),
    "title": "clip.mp4",
    "source": "sources/1",
    "ladder": ladder_to_json(parse_ladder("web")),
    "state": "running",
    "strictness": "strict",
    "priority": "low",
    "attempts_max": 4,
    "submitted_at": NOW,
    "finished_at": None,
    "warnings": ["as is"],
}
FAILURE = {"stage": "pull", "code": "x", "message": "y", "log_tail": ""}


def part(number: int, state: str, **more: Any) -> dict[str, Any]:
    row = {
        "part": number,
        "state": state,
        "attempt": 1,
        "failures": {},
        "error": None,
        "retry_at": None,
        "due_since": None,
        "peer_name": None,
        "node": None,
        "progress": None,
    }
    return row | more


def held(number: int, peer: str, fraction: float) -> dict[str, Any]:
    progress = {
        "step": "transcode",
        "fraction": fraction,
        "renditions": [{"name": "720p", "fraction": fraction, "step": "encode"}],
    }
    return part(number, "claimed", peer_name=peer, node="n", progress=progress)


def running(number: int, eta_s: float | None) -> dict[str, Any]:
    progress = {"step": "transcode", "fraction": 0.5, "eta_s": eta_s}
    return part(number, "claimed", peer_name="ada", node="n", progress=progress)


def test_one_part_is_the_task() -> None:
    """With one part, the task's progress is the part's, with its renditions."""
    seen = report(TASK, [held(0, "ada", 0.5)], None)
    rendition = RenditionProgress(name="720p", fraction=0.5, step="encode")
    assert seen.progress == Progress(step="transcode", fraction=0.5, renditions=(rendition,))
    assert (seen.holder, seen.node, seen.ladder, seen.warnings) == ("ada", "n", "web", ("as is",))


def test_several_parts_are_added_up() -> None:
    """Failures are summed, progress is the mean, and whoever works on it is named once."""
    seen = report(
        TASK,
        [
            part(0, "done", attempt=2, failures={"pull": 1}),
            held(1, "ada", 0.5),
            held(2, "bob", 0.5),
            held(3, "ada", 0.0),
            part(4, "queued", failures={"pull": 2, "crash": 1}, retry_at=LATER, error=FAILURE),
        ],
        None,
    )
    assert seen.progress == Progress(step="transcode", fraction=2.0 / 5)
    assert (seen.holder, seen.node) == ("ada, bob", "n")
    assert (seen.attempt, seen.failures) == (2, {Stage.PULL: 3, Stage.CRASH: 1})
    assert seen.retry_at == LATER
    assert seen.error is not None
    assert seen.error.message == "y"


def test_nothing_has_begun() -> None:
    """A task that waits has no holder, no progress and no error."""
    for parts in ([part(0, "queued")], [part(0, "queued"), part(1, "queued")]):
        seen = report(TASK, parts, None)
        assert (seen.holder, seen.progress, seen.error, seen.retry_at) == (None, None, None, None)


@pytest.mark.parametrize(
    ("state", "parts", "expected"),
    [
        pytest.param("queued", [part(0, "queued", due_since=NOW)], (2, 30.0), id="waits"),
        pytest.param("queued", [part(0, "queued", retry_at=LATER)], (None, None), id="not due"),
        pytest.param(
            "queued",
            [part(0, "queued", due_since=LATER), part(1, "queued", due_since=NOW)],
            (2, 40.0),
            id="the first part's place and the last one's end",
        ),
        pytest.param("running", [running(0, 7.0)], (None, 7.0), id="runs"),
        pytest.param("running", [running(0, None)], (None, None), id="its holder cannot say"),
        pytest.param("running", [part(0, "claimed")], (None, None), id="just claimed"),
        pytest.param(
            "running", [running(0, 7.0), running(1, 9.0)], (None, 9.0), id="the longest of several"
        ),
        pytest.param("running", [running(0, 7.0), part(1, "done")], (None, 7.0), id="one is done"),
        pytest.param(
            "running",
            [running(0, 7.0), part(1, "queued", due_since=NOW)],
            (None, None),
            id="one still waits",
        ),
        pytest.param("running", [part(0, "done")], (None, None), id="committed between two reads"),
        pytest.param("done", [part(0, "done")], (None, None), id="done"),
        pytest.param(
            "escalated",
            [part(0, "escalated"), part(1, "queued", due_since=NOW)],
            (None, None),
            id="stopped",
        ),
    ],
)
def test_what_is_expected(
    state: str, parts: list[dict[str, Any]], expected: tuple[int | None, float | None]
) -> None:
    """A place while it waits and is due; an end while something is known of all that is left."""
    line = Line(
        [NOW, LATER],
        {(Priority.LOW, 0): 1, (Priority.LOW, 1): 1},
        Pace(running=1, mean_s=10.0),
    )
    seen = report(TASK | {"state": state}, parts, line)
    assert (seen.place, seen.eta_s) == expected
    assert seen.priority is Priority.LOW


@pytest.mark.parametrize(
    ("prefix", "first", "last"),
    [
        ("ABCD-", "abcd0000-0000-0000-0000-000000000000", "abcdffff-ffff-ffff-ffff-ffffffffffff"),
        (
            "12345678-9abc-def0-1234-56789abcdef0",
            "12345678-9abc-def0-1234-56789abcdef0",
            "12345678-9abc-def0-1234-56789abcdef0",
        ),
    ],
)
def test_an_abbreviated_id_is_a_range(prefix: str, first: str, last: str) -> None:
    """From the first to the last id that begins like that."""
    assert id_range(prefix) == (UUID(first), UUID(last))


@pytest.mark.parametrize("prefix", ["clip", "ggggg", "a" * 33, "a_bc", "%%%%", "ääää"])
def test_what_is_no_id(prefix: str) -> None:
    """What cannot begin an id names no task."""
    with pytest.raises(NoSuchTask, match="ids look like"):
        id_range(prefix)


@pytest.mark.parametrize("prefix", ["", " ", "a", "abc", "a-b-c-", "g"])
def test_what_is_too_short_to_mean_one_task(prefix: str) -> None:
    """`cancel "$ID"` with ID unset must not find the only task there is."""
    with pytest.raises(BadRequest, match="at least 4 characters is needed; `peerctl tasks` lists"):
        id_range(prefix)
