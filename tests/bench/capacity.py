"""What one slot takes, for the table "How many machines" of deploy/README.md.

    python -m tests.bench.capacity

Not a promise but a price list, so it is no part of `make bench`: processor time for each second of
video, the encoder's memory, the disk that a task fills while it is worked on, and what comes out.
Processor time is that of the peer's children, which hardly depends on who else uses the machine.
The footage is that of `ladder_cost`: detail everywhere, motion and grain, 20 Mbit/s at 1080p.
Plain pictures are cheaper.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.bench.one_peer import BenchPeer, bench_directory, running_peer

SECONDS = 16
LADDERS = ("web", "hls", "1280x720@2500k", "640x360@800k")
CASES = [
    *(("1920x1080", "20M", ladder) for ladder in LADDERS),
    ("1280x720", "8M", "web"),
    ("3840x2160", "50M", "web"),
]
SAMPLE_S = 0.1
MEGABYTE = 1e6


@dataclass(slots=True)
class Peak:
    """The most that was seen, in bytes."""

    memory: int = 0
    disk: int = 0


def main() -> None:
    """Measure every case with one peer of one slot, and print a table."""
    table = Table(title=f"one slot, {os.cpu_count()} processors")
    for heading in (
        "source",
        "ladder",
        "CPU s per s",
        "memory MB",
        "disk / source",
        "out / source",
    ):
        table.add_column(heading, justify="left" if heading in ("source", "ladder") else "right")
    with bench_directory() as directory, running_peer(directory, slots=1) as peer:
        for size, rate, ladder in CASES:
            sys.stderr.write(f"measuring {size} {ladder} …\n")
            clip = _make_footage(directory / f"{size}.mp4", size, rate)
            before = _cpu_of_children_s(peer.pid)
            with _watched(peer, directory / "peers" / "bench" / "scratch") as peak:
                done = peer.wait_until_done(peer.submit(clip, ladder))
            cpu_s = _cpu_of_children_s(peer.pid) - before
            made = sum(output["size"] for output in (*done["outputs"], *done["segments"]))
            table.add_row(
                size,
                ladder,
                f"{cpu_s / SECONDS:.2f}",
                f"{peak.memory / MEGABYTE:.0f}",
                f"{peak.disk / clip.stat().st_size:.2f}",
                f"{made / clip.stat().st_size:.2f}",
            )
    Console().print(table)


def _make_footage(path: Path, size: str, rate: str) -> Path:
    if not path.exists():
        picture = f"mandelbrot=size={size}:rate=30:maxiter=200:inner=mincol"
        inputs = ["-f", "lavfi", "-i", picture, "-f", "lavfi", "-i", "sine=frequency=440"]
        video = ["-vf", "noise=alls=4:allf=t,format=yuv420p", "-c:v", "libx264", "-bf", "2"]
        outputs = [*video, "-preset", "veryfast", "-b:v", rate, "-c:a", "aac", str(path)]
        command = ["ffmpeg", "-v", "error", "-nostdin", "-y", *inputs, "-t", str(SECONDS)]
        subprocess.run([*command, *outputs], check=True)
    return path


@contextmanager
def _watched(peer: BenchPeer, scratch: Path) -> Iterator[Peak]:
    """Look ten times a second how much memory ffmpeg has, and what lies in the workspace."""
    peak, ended = Peak(), threading.Event()

    def look() -> None:
        while not ended.wait(SAMPLE_S):
            peak.memory = max(peak.memory, sum(map(_resident, _ffmpegs(peer.pid))))
            peak.disk = max(peak.disk, _size(scratch))

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        yield peak
    finally:
        ended.set()
        watcher.join()


def _ffmpegs(peer: int) -> list[int]:
    found = subprocess.run(
        ["pgrep", "--parent", str(peer), "ff"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split()]


def _resident(pid: int) -> int:
    try:
        pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    except (OSError, IndexError):  # it has ended
        return 0
    return int(pages) * os.sysconf("SC_PAGESIZE")


def _size(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except OSError:  # it has gone
            continue
    return total


def _cpu_of_children_s(pid: int) -> float:
    """Of those that have ended and were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
