"""A clip of our own, for those who have no video at hand: a test card with a sound."""

from __future__ import annotations

import subprocess
from pathlib import Path

from peer.errors import DemoFailed

DURATION_S = 12
LONG_DURATION_S = 20
"""Long enough for a peer to be killed in the middle of its encode, also on a fast machine."""

WITHIN_S = 120.0

_PICTURE = "testsrc2=size=1920x1080:rate=25"
_SOUND = "sine=frequency=330:beep_factor=4:sample_rate=48000"


def make_clip(ffmpeg: Path, target: Path, duration_s: int = DURATION_S) -> Path:
    """Make the clip, unless an earlier demo has made it; it appears whole or not at all.

    Raises:
        DemoFailed: ffmpeg could not make it.
    """
    if target.is_file():
        return target
    unfinished = target.with_suffix(".part")
    command = [
        str(ffmpeg), "-nostdin", "-hide_banner", "-loglevel", "error", "-y",
        "-f", "lavfi", "-i", f"{_PICTURE}:duration={duration_s}",
        "-f", "lavfi", "-i", f"{_SOUND}:duration={duration_s}",
        "-c:v", "libx264", "-preset", "ultrafast", "-crf", "20", "-pix_fmt", "yuv420p",
        "-c:a", "aac", "-b:a", "128k", "-movflags", "+faststart", "-f", "mp4", str(unfinished),
    ]  # fmt: skip
    try:
        made = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=WITHIN_S,
            check=False,
        )
        if made.returncode != 0:
            last = (made.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise DemoFailed(f"ffmpeg could not make the demo's clip: {last}")
        unfinished.replace(target)
    except subprocess.TimeoutExpired as error:
        raise DemoFailed(f"ffmpeg did not make the demo's clip within {WITHIN_S:g} s") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return target
