from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import structlog
import trio

from peer import logs
from peer.config import LogFormat, LogLevel
from pipeline.context import working_on
from pipeline.tasks import Claim


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Give the process its own logging back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def written(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_json_lines_hold_the_facts() -> None:
    """A line is one JSON document with who speaks, when, and every field of `extra`."""
    stream = io.StringIO()
    logs.configure("json", "info", peer="one", stream=stream, node="here")
    log = logging.getLogger("pipeline.worker")
    log.info("the task is %s", "done", extra={"action": "task_done", "path": Path("/x"), "s": 3.5})
    (line,) = written(stream)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "message": "the task is done",
        "peer": "one",
        "node": "here",
        "level": "info",
        "logger": "pipeline.worker",
        "action": "task_done",
        "path": "/x",
        "s": 3.5,
    }


def test_structlogs_own_lines_look_the_same() -> None:
    """A library that logs through structlog is rendered like one that uses the standard one."""
    stream = io.StringIO()
    logs.configure("json", "info", peer="one", stream=stream)
    logging.getLogger("anywhere").info("standard")
    structlog.get_logger("ours").info("structured", more=1)
    first, second = written(stream)
    assert first.keys() == second.keys() - {"more"}
    assert second["more"] == 1


def test_tracebacks_are_whole_and_without_values() -> None:
    """An exception's line holds the traceback as text, groups included, and no local variable."""
    stream = io.StringIO()
    logs.configure("json", "info", peer="one", stream=stream)

    def fail(password: str) -> None:
        raise ExceptionGroup("several", [ValueError("inner"), OSError(password[:0])])

    try:
        fail("pass" + "word-of-somebody")
    except ExceptionGroup:
        logging.getLogger("x").exception("broken")
    (line,) = written(stream)
    assert "ValueError: inner" in line["exception"]
    assert "password-of-somebody" not in stream.getvalue()


@pytest.mark.parametrize("format", ["console", "json"])
def test_level_and_repetition(format: LogFormat) -> None:
    """Lines below the level are not written, and configuring again replaces, not doubles."""
    stream = io.StringIO()
    for _ in range(2):
        logs.configure(format, "warning", peer="one", stream=stream)
    logging.getLogger("x").info("unimportant")
    logging.getLogger("x").warning("important")
    assert "unimportant" not in stream.getvalue()
    assert stream.getvalue().count("important") == 1


def test_console_is_readable() -> None:
    """The console's line: time, level, message, who, fields; without colour where none is seen."""
    stream = io.StringIO()
    logs.configure("console", "info", peer="demo-1", stream=stream)
    logging.getLogger("x").info("working", extra={"action": "started", "slots": 2})
    line = stream.getvalue()
    assert "\x1b" not in line
    for part in ("info", "working", "demo-1", "action=started", "slots=2"):
        assert part in line


@pytest.mark.parametrize(("level", "count"), [("info", 0), ("debug", 1)])
def test_libraries_are_quiet(level: LogLevel, count: int) -> None:
    """What a library finds worth an INFO is one of our details."""
    stream = io.StringIO()
    logs.configure("json", level, peer="one", stream=stream)
    logging.getLogger("psycopg.pool").info("chatter")
    assert len(written(stream)) == count


def test_every_line_says_who_speaks_as_soon_as_that_is_known() -> None:
    """Name at once, the identity when there is one, and its successor after it was lost; a line of
    before keeps what it said."""
    stream = io.StringIO()
    logs.configure("json", "info", peer="one", stream=stream)
    log = logging.getLogger("x")
    log.info("starting")
    logs.identify(peer_uid="aa", peer_epoch=7)
    log.info("working")
    logs.identify(peer_uid="bb")
    structlog.get_logger("ours").info("renamed")
    lines = written(stream)
    assert [line["peer"] for line in lines] == ["one"] * 3
    assert [line.get("peer_uid") for line in lines] == [None, "aa", "bb"]
    assert [line.get("peer_epoch") for line in lines] == [None, 7, 7]


def test_who_speaks_is_told_from_who_is_spoken_of() -> None:
    """A line about another peer is not taken for that one's own."""
    stream = io.StringIO()
    logs.configure("json", "info", peer="one", stream=stream, node="n1")
    extra = {"peer": "two", "node": "n2", "action": "take_over"}
    logging.getLogger("x").warning("gone", extra=extra)
    (line,) = written(stream)
    assert (line["peer"], line["node"]) == ("one", "n1")
    assert (line["about_peer"], line["about_node"], line["action"]) == ("two", "n2", "take_over")


CLAIM = Claim(task_id=UUID(int=7), part=2, attempt=3, token=UUID(int=9), lease_s=15)


@pytest.mark.parametrize("form", ["json", "console"])
async def test_what_is_said_while_a_task_is_worked_on_names_it(form: LogFormat) -> None:
    """Also by what the attempt has started, in tasks and in threads, which know of no task; and
    nothing that goes on beside it."""
    stream = io.StringIO()
    logs.configure(form, "info", peer="one", stream=stream)
    log = logging.getLogger("pipeline.stores")

    async def child() -> None:
        log.info("child")
        await trio.to_thread.run_sync(log.info, "thread")

    with working_on(CLAIM):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(child)
        log.info("other", extra={"task": "another"})
    log.info("beside")
    lines = stream.getvalue().splitlines()
    task = str(CLAIM.task_id)
    assert [task in line for line in lines] == [True, True, False, False]
    if form == "json":
        child_line, thread_line, other, beside = written(stream)
        for line in (child_line, thread_line):
            assert (line["task"], line["part"], line["attempt"]) == (task, 2, 3)
        assert (other["task"], "part" in other) == ("another", False)
        assert "task" not in beside
