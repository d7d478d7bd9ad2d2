"""How long a person waits for `peerctl tasks`, from Enter to the prompt."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from tests.bench.one_peer import bench_directory, make_clip, running_peer
from tests.bench.rows import Row, print_rows

TASKS = 20
RUNS = 15
GOAL_S = 0.3


def measure() -> list[Row]:
    """Fill the list, then ask for it again and again."""
    with bench_directory() as directory:
        clip = make_clip(directory / "clip.mp4", size="128x96", seconds=1)
        with running_peer(directory, slots=2) as peer:
            for task_id in [peer.submit(clip, "web") for _ in range(TASKS)]:
                peer.wait_until_done(task_id)
            seconds = [_time_command(directory) for _ in range(RUNS)]
    return [
        Row(
            metric="peerctl tasks, median (s)",
            measured=statistics.median(seconds),
            goal=GOAL_S,
            at_most=True,
        )
    ]


def _time_command(directory: Path) -> float:
    peerctl = Path(sys.executable).with_name("peerctl")
    began = time.perf_counter()
    subprocess.run(
        [peerctl, "tasks", "--data-dir", str(directory)], check=True, capture_output=True
    )
    return time.perf_counter() - began


if __name__ == "__main__":
    print_rows(measure())
