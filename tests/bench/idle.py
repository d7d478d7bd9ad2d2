"""What a peer costs while it waits for work, after it has done some.

CPU time and memory are the kernel's numbers for the peer's process. The embedded server is not in
them: one serves all peers of a machine.
"""

from __future__ import annotations

import time

import psutil

from tests.bench.one_peer import bench_directory, make_clip, running_peer
from tests.bench.rows import Row, print_rows

WATCHED_S = 30.0
SETTLE_S = 3.0
GOAL_CPU_PERCENT = 1.0
GOAL_MEGABYTES = 90.0


def measure() -> list[Row]:
    """Do one task, let the peer settle, and watch it do nothing."""
    with bench_directory() as directory:
        clip = make_clip(directory / "clip.mp4", size="128x96", seconds=1)
        with running_peer(directory, slots=2) as peer:
            peer.wait_until_done(peer.submit(clip, "web"))
            time.sleep(SETTLE_S)
            process = psutil.Process(peer.pid)
            before, began = process.cpu_times(), time.monotonic()
            time.sleep(WATCHED_S)
            after, seconds = process.cpu_times(), time.monotonic() - began
            resident = process.memory_info().rss
    used_s = after.user - before.user + after.system - before.system
    return [
        Row(
            metric=f"idle peer, CPU over {WATCHED_S:.0f} s (% of a core)",
            measured=100 * used_s / seconds,
            goal=GOAL_CPU_PERCENT,
            at_most=True,
        ),
        Row(
            metric="idle peer, resident memory (MB)",
            measured=resident / 1e6,
            goal=GOAL_MEGABYTES,
            at_most=True,
        ),
    ]


if __name__ == "__main__":
    print_rows(measure())
