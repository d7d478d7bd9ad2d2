"""The films of a run: small enough for two processors that are three nodes, and real.

They are made by ffmpeg when a run begins. In the tree they would be the only binary files, and
nobody could see what is wrong with the broken ones.
"""

from __future__ import annotations

import random
import subprocess
from collections.abc import Mapping
from pathlib import Path

from pipeline.media.tools import find_tools
from tests.chaos.cluster.orders import RATE, SECONDS, Clip

LADDER = "320x180@150k"
SIZES = {Clip.SHORT: "320x180", Clip.LONG: "640x360"}
NOISE_BYTES = 50_000
MAKE_S = 120.0


def make_clips(directory: Path) -> Mapping[Clip, bytes]:
    """Make one of each."""
    ffmpeg = str(find_tools().ffmpeg)
    made = {clip: _make(ffmpeg, directory, clip) for clip in SECONDS}
    whole = made[Clip.SHORT]
    return {
        **made,
        # The index is at the front: it promises pictures that are not there.
        Clip.CUT_SHORT: whole[: len(whole) // 2],
        Clip.NOISE: random.Random(1).randbytes(NOISE_BYTES),
    }


def count_pictures(film: Path) -> int:
    """Count what can be read of its first video stream; 0 for what is no film."""
    done = subprocess.run(
        [
            str(find_tools().ffprobe), "-v", "error", "-count_packets", "-select_streams", "v:0",
            "-show_entries", "stream=nb_read_packets", "-of", "csv=p=0", str(film),
        ],
        capture_output=True, text=True, timeout=MAKE_S, check=False,
    )  # fmt: skip
    told = done.stdout.strip().rstrip(",")
    return int(told) if done.returncode == 0 and told.isdecimal() else 0


def _make(ffmpeg: str, directory: Path, clip: Clip) -> bytes:
    film = directory / f"{clip}.mp4"
    subprocess.run(
        [
            ffmpeg, "-v", "error", "-y",
            "-f", "lavfi", "-i", f"testsrc2=size={SIZES[clip]}:rate={RATE}",
            "-f", "lavfi", "-i", "sine=frequency=330:sample_rate=44100",
            "-t", str(SECONDS[clip]), "-c:v", "libx264", "-preset", "ultrafast", "-crf", "32",
            "-pix_fmt", "yuv420p", "-c:a", "aac", "-b:a", "48k", "-movflags", "+faststart",
            str(film),
        ],
        check=True, capture_output=True, timeout=MAKE_S,
    )  # fmt: skip
    return film.read_bytes()
