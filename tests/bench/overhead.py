"""What a task costs beside ffmpeg: from its claim to its commit, on the embedded default.

The clip is tiny, one task runs at a time, and the time during which any ffmpeg or ffprobe ran is
taken off. What is left is ours: the ledger's transactions, the copies, the starting of programs,
our own decisions, and waiting where something should have been awaited.
"""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from tests.bench.one_peer import (
    Recorder,
    Span,
    bench_directory,
    event_time,
    make_clip,
    running_peer,
)
from tests.bench.rows import Row, print_rows

TASKS = 21
GOAL_MS = 150.0


def measure() -> list[Row]:
    """Run the tasks one after the other and take the median of what was not ffmpeg."""
    with bench_directory() as directory:
        clip = make_clip(directory / "clip.mp4", size="128x96", seconds=1)
        recorder = Recorder(directory / "bin")
        with running_peer(directory, slots=1, settings=recorder.settings) as peer:
            tasks = [peer.wait_until_done(peer.submit(clip, "web")) for _ in range(TASKS)]
        spans = recorder.spans()
    overheads_ms = []
    for task in tasks:
        claimed = event_time(task, "TaskReceived")
        done = event_time(task, "WorkloadProcessingFinished")
        overheads_ms.append((done - claimed - busy_s(spans, claimed, done)) * 1000)
    return [
        Row(
            metric="overhead of a task outside ffmpeg, median (ms)",
            measured=statistics.median(overheads_ms),
            goal=GOAL_MS,
            at_most=True,
        )
    ]


def busy_s(spans: Sequence[Span], began: float, ended: float) -> float:
    """For how long, within a span, at least one of the programs was running."""
    total, covered = 0.0, began
    for span in sorted(spans, key=lambda span: span.began):
        start, end = max(span.began, covered), min(span.ended, ended)
        if end > start:
            total += end - start
            covered = end
    return total


if __name__ == "__main__":
    print_rows(measure())
