"""What administrators are told of tasks that wait for them: pure, notices in, one message out.

What a person needs at the other end of a mail, and nothing that can only be had here: which task,
why, what was tried, and the commands that come next. Names of files, and what ffmpeg said about
them, come from anybody; so each stands on a line of its own, without control characters, and has a
bounded length.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC
from typing import Any

from pipeline.notices import Notice

LISTED_MAX = 20
"""How many tasks one message tells of; the others are counted."""

LINE_LENGTH_MAX = 300
NAME_LENGTH_MAX = 80
LOG_LINES_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A title of one line, and a body of plain text."""

    title: str
    body: str


def compose(notices: Sequence[Notice]) -> Message:
    """Tell of one or more escalations, oldest first; at least one."""
    if len(notices) == 1:
        return _compose_one(notices[0])
    return _compose_several(notices)


def trial(peer_name: str) -> Message:
    """What is sent to see whether anything arrives."""
    return Message(
        title="Grapevine: this is a test",
        body=f"Peer {_line(peer_name)} can reach you. No task waits for you because of this.\n",
    )


def _compose_one(notice: Notice) -> Message:
    data = notice.data
    lines = [
        f"{_name(notice)} was given up and waits for a person.",
        "",
        f"Why      {_line(data.get('message')) or 'nothing is known'}",
        f"Where    {_where(data)}",
        f"Verdict  {_line(data.get('reason')) or 'no retry was made'}",
        f"When     {_when(notice)}",
        f"Source   {_line(notice.source) or 'unknown'}",
        f"Task     {notice.task_id}",
    ]
    if story := [_attempt(attempt) for attempt in _list(data.get("story"))]:
        lines += ["", "What was tried:", *(f"  {line}" for line in story)]
    log_tail = str(data.get("log_tail") or "").strip().splitlines()[-LOG_LINES_MAX:]
    if log_tail:
        lines += ["", "The last that the tool said:", *(f"  {_line(line)}" for line in log_tail)]
    lines += ["", *_next(str(notice.task_id))]
    return Message(title=f"Grapevine: {_name(notice)} was given up", body=_joined(lines))


def _compose_several(notices: Sequence[Notice]) -> Message:
    lines = [f"{len(notices):,} tasks were given up and wait for a person."]
    for notice in notices[:LISTED_MAX]:
        why = _line(notice.data.get("message")) or "nothing is known"
        lines += [
            "",
            _name(notice),
            f"  {why}",
            f"  {_where(notice.data)}, {_when(notice)}",
            f"  {notice.task_id}",
        ]
    if left := len(notices) - LISTED_MAX:
        lines += ["", f"And {left:,} more: peerctl escalations"] if left > 0 else []
    lines += ["", *_next("ID")]
    return Message(title=f"Grapevine: {len(notices):,} tasks were given up", body=_joined(lines))


def _next(task: str) -> Iterator[str]:
    """What to do, as commands."""
    yield "Look at it:                        peerctl task " + task
    yield "Once the cause is mended, again:   peerctl retry " + task + ' --reason "what it was"'
    yield "Or give it up for good:            peerctl cancel " + task + ' --reason "why"'
    yield "All that wait:                     peerctl escalations"


def _where(data: Mapping[str, Any]) -> str:
    """In which stage, with its code for whoever looks that up, and how often."""
    stage, code = _line(data.get("stage")) or "unknown stage", _line(data.get("code"))
    failures, attempts_max = data.get("failures"), data.get("attempts_max")
    often = f", {failures} of {attempts_max} times" if failures and attempts_max else ""
    return f"{stage}{f' ({code})' if code else ''}{often}"


def _attempt(attempt: Mapping[str, Any]) -> str:
    """One line of the story."""
    ended_at = _line(attempt.get("ended_at"))[:19].replace("T", " ")
    who = _line(attempt.get("peer")) or "a peer"
    on = f" on {_line(attempt['node'])}" if attempt.get("node") else ""
    message = _line(attempt.get("message"))
    stage = _line(attempt.get("stage"))
    number = _line(attempt.get("attempt"))
    return _cut(f"{number}. {ended_at}  {who}{on}  {stage}: {message}", LINE_LENGTH_MAX)


def _name(notice: Notice) -> str:
    return _cut(_line(notice.title), NAME_LENGTH_MAX) or f"task {notice.task_id}"


def _when(notice: Notice) -> str:
    return f"{notice.escalated_at.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def _list(value: Any) -> list[Mapping[str, Any]]:
    """An older version may have written something else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _line(value: object) -> str:
    """A stranger's text as one line."""
    text = "" if value is None else str(value)[: 2 * LINE_LENGTH_MAX]
    plain = "".join(" " if unicodedata.category(each)[0] in "CZ" else each for each in text)
    return _cut(" ".join(plain.split()), LINE_LENGTH_MAX)


def _cut(text: str, length_max: int) -> str:
    return text if len(text) <= length_max else f"{text[: length_max - 1]}…"


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(lines) + "\n"
