"""What administrators read: pure, so the whole text can be looked at."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from pipeline.notices import Notice
from pipeline.notify.message import LISTED_MAX, compose, trial

DATA: dict[str, Any] = {
    "attempt": 2,
    "stage": "pull",
    "code": "store_unavailable",
    "message": "The store does not answer.",
    "failures": 2,
    "attempts_max": 2,
    "reason": "failed 2 times, and 2 is the threshold",
    "log_tail": "",
    "story": [
        {
            "attempt": 1,
            "peer": "ada",
            "node": "node-1",
            "stage": "crash",
            "code": "lease_expired",
            "message": "peer ada was not heard of for longer than its lease",
            "ended_at": "2024-11-22T03:01:12.123456+00:00",
        },
        {
            "attempt": 2,
            "peer": "bob",
            "node": "node-2",
            "stage": "pull",
            "code": "store_unavailable",
            "message": "The store does not answer.",
            "ended_at": "2024-11-22T03:05:00+00:00",
        },
    ],
}


def notice(number: int = 1, **changes: Any) -> Notice:
    fields: dict[str, Any] = {
        "id": number,
        "task_id": UUID(int=number),
        "title": f"clip-{number}.mp4",
        "source": "s3://uploads/clip.mp4",
        "escalated_at": datetime(2024, 11, 22, 4, 5, 0, tzinfo=timezone(timedelta(hours=1))),
        "data": DATA,
    }
    return Notice(**{**fields, **changes})


def test_one_escalation_with_its_whole_story() -> None:
    """Which task, why, where, what was tried by whom, and the commands that come next."""
    message = compose([notice()])
    assert message.title == "Grapevine: clip-1.mp4 was given up"
    assert message.body == (
        """\
clip-1.mp4 was given up and waits for a person.

Why      The store does not answer.
Where    pull (store_unavailable), 2 of 2 times
Verdict  failed 2 times, and 2 is the threshold
When     2024-11-22 03:05:00 UTC
Source   s3://uploads/clip.mp4
Task     00000000-0000-0000-0000-000000000001

What was tried:
  1. 2024-11-22 03:01:12  ada on node-1  crash: peer ada was not heard of for longer than its lease
  2. 2024-11-22 03:05:00  bob on node-2  pull: The store does not answer.

Look at it:                        peerctl task 00000000-0000-0000-0000-000000000001
Once the cause is mended, again:   """
        """peerctl retry 00000000-0000-0000-0000-000000000001 --reason "what it was"
Or give it up for good:            """
        """peerctl cancel 00000000-0000-0000-0000-000000000001 --reason "why"
All that wait:                     peerctl escalations
"""
    )


def test_the_end_of_what_the_tool_said() -> None:
    """Only its last lines, where the cause is."""
    log_tail = "\n".join(f"line {number}" for number in range(100))
    body = compose([notice(data={**DATA, "log_tail": log_tail})]).body
    assert "The last that the tool said:\n  line 92\n" in body
    assert "  line 99\n\nLook at it" in body


def test_several_are_listed_briefly() -> None:
    """Each with its cause; no story."""
    message = compose([notice(1), notice(2)])
    assert message.title == "Grapevine: 2 tasks were given up"
    assert message.body.startswith(
        """\
2 tasks were given up and wait for a person.

clip-1.mp4
  The store does not answer.
  pull (store_unavailable), 2 of 2 times, 2024-11-22 03:05:00 UTC
  00000000-0000-0000-0000-000000000001

clip-2.mp4
"""
    )
    assert "more" not in message.body
    assert "peerctl retry ID" in message.body


def test_very_many_are_counted() -> None:
    """A broken disk is one message of a page, not a book."""
    message = compose([notice(number) for number in range(1, 1235)])
    assert message.title == "Grapevine: 1,234 tasks were given up"
    assert message.body.count("The store does not answer.") == LISTED_MAX
    assert f"And {1234 - LISTED_MAX:,} more: peerctl escalations" in message.body
    assert len(message.body) < 10_000


def test_what_an_older_version_wrote() -> None:
    """Nothing but the task is certain to be known."""
    body = compose([notice(data={}, source="", title="")]).body
    assert body.startswith("task 00000000-0000-0000-0000-000000000001 was given up")
    assert "Why      nothing is known\nWhere    unknown stage\n" in body


def test_a_test_says_that_it_is_one() -> None:
    """So that nobody looks for the task."""
    message = trial("ada")
    assert "test" in message.title
    assert "ada" in message.body


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=600),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
story = st.lists(st.dictionaries(st.sampled_from(list(DATA["story"][0])), anything) | anything)


@given(
    st.text(max_size=400),
    st.text(max_size=400),
    st.fixed_dictionaries({}, optional={**dict.fromkeys(DATA, anything), "story": story}),
    st.integers(1, 3),
)
def test_strangers_words_stay_in_their_lines(
    title: str, source: str, data: dict[str, Any], count: int
) -> None:
    """Whatever a file is called and a tool says: no mail header, no terminal code, no flood."""
    message = compose([notice(title=title, source=source, data=data)] * count)
    assert message.title.startswith("Grapevine: ")
    assert message.title.isprintable()
    assert len(message.title) < 150
    lines = message.body.splitlines()
    assert "\n".join(lines) + "\n" == message.body
    assert all(line.isprintable() and len(line) < 500 for line in lines)


def test_times_are_utc() -> None:
    """The reader may be anywhere."""
    at = datetime(2024, 11, 22, 3, 5, 0, tzinfo=UTC)
    assert "2024-11-22 03:05:00 UTC" in compose([notice(escalated_at=at)]).body
