"""Handing a video in with `peerctl`, and watching it to its end."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.unit.peer.answers import Run, StartPeer, ok, refused


def test_submit_hands_over_an_absolute_path(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any], video: Path
) -> None:
    """The peer has another working directory; everything a person chose arrives."""
    peer = start_peer({"submit": ok({"task_id": "any"}, {"copied": 5, "size": 5})})
    result = run("submit", video)
    first = result.stdout.strip()
    assert UUID(first)
    assert peer.requests[-1]["arguments"] == {
        "task_id": first,
        "path": str(video),
        "ladder": "web",
        "strictness": "strict",
        "priority": "normal",
    }
    chosen = ["--ladder", "hls", "--lenient", "--attempts-max", "2", "--priority", "high"]
    result = run("submit", video, *chosen, "--json")
    second = json.loads(result.stdout)["task_id"]
    assert second != first
    assert peer.requests[-1]["arguments"] == {
        "task_id": second,
        "path": str(video),
        "ladder": "hls",
        "strictness": "lenient",
        "priority": "high",
        "attempts_max": 2,
    }


def test_submit_names_what_lies_in_s3(run: Run, start_peer: StartPeer) -> None:
    """It is no file of this machine: the peer is told its address, as it was typed."""
    peer = start_peer({"submit": ok({"task_id": "any"})})
    assert run("submit", "s3://camera/2026/holiday.mp4").exit_code == 0
    arguments = peer.requests[-1]["arguments"]
    assert arguments["source"] == "s3://camera/2026/holiday.mp4"
    assert "path" not in arguments


def test_submit_outlives_the_peer(run: Run, start_peer: StartPeer, video: Path) -> None:
    """When the peer dies in the middle of the copy, the same task is handed in once more."""
    asked: list[str] = []

    def submit(arguments: dict[str, Any]) -> Any:
        asked.append(arguments["task_id"])
        whole = ok({"task_id": asked[0]}, {"copied": 5, "size": 5})
        return whole[:1] if len(asked) == 1 else whole

    start_peer({"submit": submit})
    result = run("submit", video)
    assert (result.exit_code, result.stdout) == (0, f"{asked[0]}\n")
    assert asked == [asked[0]] * 2


def test_a_refused_submit_is_not_repeated(run: Run, start_peer: StartPeer, video: Path) -> None:
    """A no is an answer."""
    peer = start_peer({"submit": refused("failed")})
    assert run("submit", video).exit_code == 1
    assert len(peer.requests) == 1


def watched(samples: Mapping[str, Any], **end: Any) -> dict[str, Any]:
    """A script in which a task is handed in, makes progress, and ends."""
    task = samples["task"]
    running = task(state="running", progress=samples["progress"], finished_at=None)
    last = task(**end)
    return {
        "submit": ok({"task_id": samples["task_id"]}),
        "watch": ok(last, task(state="queued", holder=None), running, last),
        "task": ok(last | {"events": []}),
    }


def test_wait_until_done(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any], video: Path
) -> None:
    """`--wait` tells of the progress in lines, lists the outputs with their places, and ends 0."""
    peer = start_peer(
        watched(samples, outputs=[samples["output"]], warnings=["3 frames are damaged"])
    )
    result = run("submit", video, "--wait")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "holiday.mp4: queued",
        "holiday.mp4: 45 % transcode, 450/1000 frames, 2.1x, 0:12 left "
        "(720p 45 %, 480p 45 %) on demo-1",
        "holiday.mp4: done",
        f"done {peer.requests[0]['arguments']['task_id']}",
        "warning: 3 frames are damaged",
        f"  720p.mp4  1280x720 h264  3.4 MB  {samples['output']['url']}",
    ]


@pytest.mark.parametrize("state", ["escalated", "cancelled"])
def test_wait_for_what_is_not_done(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any], video: Path, state: str
) -> None:
    """A task that ends otherwise ends the command with 1, the cause, and what to type."""
    start_peer(watched(samples, state=state, error=samples["failure"]))
    result = run("submit", video, "--wait")
    assert result.exit_code == 1
    assert "The source is cut short." in result.stderr
    assert "moov atom not found" in result.stderr
    advice = "cancel 3f2a1b2c    and hand in another" if state == "escalated" else "retry 3f2a1b2c"
    assert f"peerctl {advice}" in result.stderr


def test_wait_with_json(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any], video: Path
) -> None:
    """With `--json`, standard output holds the one document, and the progress goes elsewhere."""
    start_peer(watched(samples, outputs=[samples["output"]]))
    result = run("submit", video, "--wait", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["outputs"] == [samples["output"]]
    assert "holiday.mp4: queued" in result.stderr


def test_wait_outlives_the_peer(
    run: Run, start_peer: StartPeer, samples: Mapping[str, Any], video: Path
) -> None:
    """When the peer that tells of the task dies, the next connection goes on with the watching."""
    script = watched(samples)
    whole, asked = script["watch"], []

    def watch(arguments: dict[str, Any]) -> Any:
        asked.append(arguments)
        return whole[:2] if len(asked) == 1 else whole

    start_peer(script | {"watch": watch})
    assert run("submit", video, "--wait").exit_code == 0
    assert asked == [asked[0]] * 2


def test_ctrl_c_leaves_the_task_alone(
    start_peer: StartPeer, samples: Mapping[str, Any], video: Path, tmp_path: Path
) -> None:
    """Ctrl-C ends the waiting with 130, and says that only the waiting has ended."""
    task = samples["task"](state="queued")
    asked, over = threading.Event(), threading.Event()

    def watch(_: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield {"item": task}
        asked.set()
        over.wait()

    start_peer({"submit": ok({"task_id": samples["task_id"]}), "watch": watch})
    command = [sys.executable, "-m", "peer.cli", "submit", str(video), "--wait"]
    waiting = subprocess.Popen(
        [*command, "--data-dir", str(tmp_path / "data")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert asked.wait(timeout=20)
        assert waiting.stdout
        assert waiting.stdout.readline() == "holiday.mp4: queued\n"
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=20)
    finally:
        over.set()
        waiting.kill()
        waiting.communicate()
    assert waiting.returncode == 130
    assert re.fullmatch("The task goes on. Look at it: peerctl task [0-9a-f]{8}\n", errors)
