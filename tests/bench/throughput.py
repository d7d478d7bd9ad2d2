"""A batch of 12 clips by one peer with 2 slots, against the same command lines by `xargs -P2`.

What a peer adds to ffmpeg (claims, copies, a look at the source, counting what was made, commits)
must not be felt. The command lines are those that a peer runs ffmpeg with for a clip, recorded from
a run with as many slots (they decide the encoders' threads): the encode, and the decoding of the
outputs' ends. Only the thumbnail sheets, a twentieth of a second, are left out of the arm of xargs:
they are laid out from a file that the peer makes in between. Both arms run at the priority that a
peer gives to ffmpeg, and take turns, so that a busy machine is busy for both.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from tests.bench.one_peer import (
    BenchPeer,
    Call,
    Recorder,
    bench_directory,
    make_clip,
    running_peer,
)
from tests.bench.rows import Row, print_rows

CLIPS = 12
SLOTS = 2
ROUNDS = 2
SIZE, SECONDS = "1280x720", 8
GOAL = 0.95
MADE_IN_BETWEEN = "cells.mjpeg"
AS_PEERS_DO = ("nice", "-n", "19", "chrt", "--batch", "0")


def measure() -> list[Row]:
    """Run both arms in turns and compare the times of the whole batch."""
    with bench_directory() as directory:
        clip = make_clip(directory / "clip.mp4", size=SIZE, seconds=SECONDS)
        calls = _record_calls(directory / "recording", clip)
        data = directory / "data"
        data.mkdir()
        ratios = []
        with running_peer(data, slots=SLOTS) as peer:
            for number in range(ROUNDS):
                place = directory / f"replay-{number}"
                # A B, then B A: what drifts during the run is on both sides.
                if number % 2:
                    peer_s = _time_peer(peer, clip)
                    ratios.append(_time_replay(place, calls, clip) / peer_s)
                else:
                    replay_s = _time_replay(place, calls, clip)
                    ratios.append(replay_s / _time_peer(peer, clip))
    return [
        Row(
            metric=f"{CLIPS} clips: throughput, peer with {SLOTS} slots / xargs -P{SLOTS}",
            measured=statistics.mean(ratios),
            goal=GOAL,
        )
    ]


def _record_calls(directory: Path, clip: Path) -> Sequence[Call]:
    """Let a peer transcode the clip once, and return what it called ffmpeg for."""
    directory.mkdir()
    recorder = Recorder(directory / "bin", keep_calls=True)
    with running_peer(directory, slots=SLOTS, settings=recorder.settings) as peer:
        peer.wait_until_done(peer.submit(clip, "web"))
    return [call for call in recorder.calls() if MADE_IN_BETWEEN not in call.arguments]


def _time_peer(peer: BenchPeer, clip: Path) -> float:
    """From the first submission to the last commit, in seconds."""
    began = time.time()
    submitted = [peer.submit(clip, "web") for _ in range(CLIPS)]
    ended = [peer.wait_until_done(task_id)["finished_at"] for task_id in submitted]
    return max(datetime.fromisoformat(at).timestamp() for at in ended) - began


def _time_replay(directory: Path, calls: Sequence[Call], clip: Path) -> float:
    """Run the recorded command lines once for each clip, two clips at a time."""
    directory.mkdir()
    scripts = [_lay_out(directory / str(number), calls, clip) for number in range(CLIPS)]
    began = time.perf_counter()
    replayed = subprocess.run(
        [*AS_PEERS_DO, "xargs", f"-P{SLOTS}", "-n1", "sh"],
        input="\n".join(map(str, scripts)),
        text=True,
        check=False,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    seconds = time.perf_counter() - began
    if replayed.returncode != 0:
        raise SystemExit(f"the recorded command does not work here:\n{replayed.stderr[-2000:]}")
    shutil.rmtree(directory)
    return seconds


def _lay_out(workspace: Path, calls: Sequence[Call], clip: Path) -> Path:
    """Make a workspace like that of the recorded calls; return a script that repeats them."""
    cwd = calls[0].cwd
    recorded = next(path for path in (cwd, *cwd.parents) if path.parent.name == "scratch")
    for place in ("in", "out/thumbnails"):
        (workspace / place).mkdir(parents=True)
    shutil.copyfile(clip, workspace / "in" / "source")
    script = workspace / "run"
    lines = [f"cd {call.cwd} && ffmpeg {call.arguments} </dev/null" for call in calls]
    script.write_text("set -e\n" + "\n".join(lines).replace(str(recorded), str(workspace)) + "\n")
    return script


if __name__ == "__main__":
    print_rows(measure())
