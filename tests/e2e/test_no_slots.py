"""A peer without slots: it takes part in everything but the work."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from pipeline.media.tools import Tools
from tests.e2e.cluster_rig import Machine

pytestmark = pytest.mark.slow


def test_a_peer_without_slots_hands_in_and_leads_but_does_no_work(
    machine: Machine, tools: Tools, tmp_path: Path
) -> None:
    """As a seed peer on a Swarm's manager: what is submitted to it waits until somebody with slots
    is there, and it is the leader of both."""
    clip = tmp_path / "clip.mp4"
    order = ["-v", "error", "-nostdin", "-f", "lavfi", "-i", "testsrc2=s=320x180:d=1"]
    subprocess.run([str(tools.ffmpeg), *order, str(clip)], check=True)
    machine.launch("seed", "--slots", "0")
    machine.wait(lambda: machine.ask("seed", "status", {}).get("state") == "working")
    assert machine.ask("seed", "status", {})["slots"] == 0
    task_id = machine.submit(clip)
    machine.wait(lambda: machine.row("seed", "seed").get("load", {}).get("queue") == 1)
    assert machine.task(task_id)["state"] == "queued"
    machine.start("worker")
    task = machine.wait_for_task(task_id, "done")
    assert [attempt["peer_name"] for attempt in task["attempts"]] == ["worker"]
    machine.wait(lambda: machine.row("worker", "seed").get("leader"))
