"""What the demo says of a recovery: only what was seen, and what was not."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from peer.demo.recovery import STAGES, Recovery
from peer.protocol import LocalEvent, ShownTask

KILLED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
VICTIM = "00000000000000aa"


@pytest.fixture
def recovery() -> Recovery:
    """Just after the kill."""
    return Recovery(
        name="demo-2", uid=VICTIM, pid=42, killed_at=KILLED_AT, attempt=1, fraction=0.31
    )


def after(seconds: float) -> str:
    return (KILLED_AT + timedelta(seconds=seconds)).isoformat()


def event(type: str, at_s: float, uid: str = VICTIM, silent_s: float = 3.5) -> LocalEvent:
    data = {"row": {"uid": uid}, "silent_s": silent_s}
    at = KILLED_AT + timedelta(seconds=at_s)
    return LocalEvent(number=1, at=at, type=type, data=data)


def attempt(number: int, **changes: Any) -> dict[str, Any]:
    first = {"peer_uid": VICTIM, "peer_name": "demo-2"}
    other = {"peer_uid": "00000000000000bb", "peer_name": "demo-3"}
    return {
        "part": 0,
        "attempt": number,
        **(first if number == 1 else other),
        "epoch": 1,
        "container": "pid:42",
        "node": "here",
        "step": "transcode",
        "claimed_at": after(-10 if number == 1 else 6.5),
        "ended_at": None,
        "outcome": None,
        "error": None,
    } | changes


def died(code: str = "peer_died") -> dict[str, Any]:
    error = {"stage": "crash", "code": code, "message": "peer demo-2 died (silent for 6.1 s)"}
    return attempt(1, ended_at=after(6.2), outcome="retry", error=error)


@pytest.fixture
def make(samples: Mapping[str, Any]) -> Any:
    """A task with these attempts."""

    def make(state: str, *attempts: dict[str, Any]) -> ShownTask:
        return msgspec.convert(samples["task"](state=state, attempts=attempts), ShownTask)

    return make


def test_a_recovery_is_told_in_its_order(recovery: Recovery, make: Any) -> None:
    """Each stage with its time after the kill, however late and often it was looked at."""
    done = make("done", died(), attempt(2, ended_at=after(30), outcome="done"))
    for _ in range(2):
        recovery.notice_task(done)
        recovery.notice_events("demo-1", [event("MemberDied", 6.1, silent_s=6.1)])
        recovery.notice_events("demo-3", [event("MemberSuspected", 3.6)])
    assert recovery.missing == []
    assert [(one.stage, one.at_s) for one in recovery.milestones] == [
        ("killed", 0.0),
        ("suspect", 3.6),
        ("dead", 6.1),
        ("put back", 6.2),
        ("taken over", 6.5),
        ("finished", 30.0),
    ]
    assert [one.text for one in recovery.milestones] == [
        "demo-2 is killed (SIGKILL, process 42) at 31 % of the encode",
        "suspect: demo-3 and others have heard nothing for 3.5 s",
        "dead: silent for 6.1 s, demo-1 says",
        "put back: peer demo-2 died (silent for 6.1 s)",
        "demo-3 takes it over, attempt 2",
        "demo-3 has finished it",
    ]


def test_the_queue_is_usually_first(recovery: Recovery, make: Any) -> None:
    """The work goes on before anybody is sure of the death; all of it is told in its order."""
    unheard = died("peer_unheard") | {"ended_at": after(1.8)}
    taken = attempt(2, claimed_at=after(1.9), ended_at=after(30), outcome="done")
    recovery.notice_task(make("done", unheard, taken))
    recovery.notice_events("demo-1", [event("MemberDied", 6.1), event("MemberSuspected", 3.6)])
    assert recovery.missing == []
    assert [one.stage for one in recovery.milestones] == [
        *("killed", "put back", "taken over", "suspect", "dead", "finished"),
    ]


def test_what_was_not_seen_is_missing(recovery: Recovery) -> None:
    """At first that is everything but the kill."""
    assert recovery.missing == list(STAGES[1:])


def test_a_lease_that_ran_out_is_no_proof(recovery: Recovery, make: Any) -> None:
    """The work came back, and yet not by what this shows."""
    recovery.notice_task(make("running", died("lease_expired"), attempt(2)))
    assert "put back" in recovery.missing
    assert "taken over" not in recovery.missing


@pytest.mark.parametrize(
    "event",
    [
        event("MemberSuspected", 3.6, uid="00000000000000bb"),
        event("MemberDied", -100.0),
        event("MemberJoined", 3.6),
    ],
)
def test_what_concerns_others_or_was_before_is_no_proof(
    recovery: Recovery, event: LocalEvent
) -> None:
    """Another peer's suspicion, or an earlier demo's, says nothing of this kill."""
    recovery.notice_events("demo-1", [event])
    assert recovery.missing == list(STAGES[1:])


def test_who_failed_did_not_finish(recovery: Recovery, make: Any) -> None:
    """A later attempt that ended otherwise is not the end, nor is one of the killed peer."""
    own = attempt(2, peer_uid=VICTIM)
    failed = attempt(3, ended_at=after(20), outcome="retry")
    recovery.notice_task(make("running", died(), own, failed))
    assert recovery.missing == ["suspect", "dead", "finished"]
    assert recovery.milestones[-1].text == "demo-3 takes it over, attempt 3"
