"""What a demo does to tasks: it cancels its own, and nobody else's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import pytest
from rich.console import Console

from peer.client import Peer
from peer.demo.begun import Begun
from peer.demo.run import Plan, run
from peer.errors import DemoFailed


class FakePeer(Protocol):
    socket_path: Path
    requests: list[dict[str, Any]]

    def close(self) -> None: ...


class StartPeer(Protocol):
    def __call__(self, script: Mapping[str, Any], name: str = "one") -> FakePeer: ...


def test_only_its_own_tasks_are_cancelled(
    start_peer: StartPeer, samples: Mapping[str, Any], tmp_path: Path
) -> None:
    """Of all tasks of the directory's ledger those that a demo began and that are not over."""
    states = {"aa": "running", "bb": "done", "cc": "queued", "other": "running"}

    def task(arguments: dict[str, Any]) -> Any:
        if arguments["id"] not in states:
            return [{"ok": False, "error": "no such task", "kind": "not_found"}]
        return [{"ok": True, "data": samples["task"](state=states[arguments["id"]])}]

    peer = start_peer({"task": task, "cancel": [{"ok": True, "data": {}}]})
    for task_id in ("aa", "bb", "never-recorded", "cc", "seen"):
        Begun(tmp_path).add(task_id)
    Begun(tmp_path).forget("seen")
    Begun(tmp_path).cancel(Peer(peer.socket_path), "why")

    asked = [request["arguments"] for request in peer.requests if request["command"] == "cancel"]
    assert asked == [{"id": "aa", "reason": "why"}, {"id": "cc", "reason": "why"}]
    peer.requests.clear()
    Begun(tmp_path).cancel(Peer(peer.socket_path), "again")
    assert peer.requests == []


@pytest.mark.parametrize("kind", ["failed", None])
def test_what_cannot_be_cancelled_is_left_to_the_next(
    start_peer: StartPeer, samples: Mapping[str, Any], tmp_path: Path, kind: str | None
) -> None:
    """A ledger or a peer that is away now is asked again by the next demo."""
    no = [{"ok": False, "error": "the ledger is away", "kind": kind}] if kind else []
    peer = start_peer({"task": no})
    Begun(tmp_path).add("aa")
    Begun(tmp_path).cancel(Peer(peer.socket_path), "why")
    assert (tmp_path / "demo.tasks").read_text() == "aa\n"


def test_where_others_work_no_demo_begins(tmp_path: Path) -> None:
    """A data directory of other peers is refused before anything is written to it."""
    (tmp_path / "peers" / "studio").mkdir(parents=True)
    plan = Plan(video=None, ladder="web", data_dir=tmp_path, ffmpeg=Path("/no/such/program"))
    with pytest.raises(DemoFailed, match="is the data directory of the peer studio, not of a demo"):
        run(plan, Console(quiet=True))
    assert [path.name for path in tmp_path.iterdir()] == ["peers"]
