"""The disk of a peer's workspaces is full: at the pull, and in the middle of the encode.

A small file system of its own is filled until a source does not fit, or its renditions do not; then
somebody makes room. ffmpeg is the real one where it is the one that cannot write.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import trio

from pipeline.errors import Stage
from pipeline.media.config import TranscodeConfig
from pipeline.media.tools import Tools
from pipeline.media.transcoder import FfmpegTranscoder
from pipeline.tasks import PartState
from tests.chaos.services.peer import Settings, working
from tests.chaos.services.rig import Rig
from tests.chaos.services.small import DigestTranscoder
from tests.missing import do_without

pytestmark = pytest.mark.slow

KIB = 1024
DISK_BYTES = 8 * 1024 * KIB
SEEN_WITHIN_S = 30.0
SETTLED_WITHIN_S = 60.0
ATTEMPTS_MAX = 100
"""It is the peer's fault, and here there is no other: they shall be there when there is room."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, check=False, capture_output=True).returncode:
        do_without("only root may mount a small disk")
    yield disk
    subprocess.run(["umount", disk], check=True)


@pytest.fixture
def video(tools: Tools, tmp_path: Path) -> bytes:
    """One whose renditions need far more room than itself."""
    clip = tmp_path / "clip.mkv"
    picture = "testsrc2=size=640x360:rate=25:duration=4,noise=alls=40:allf=t"
    make = ["-f", "lavfi", "-i", picture, "-c:v", "libx264", "-preset", "ultrafast", "-crf", "40"]
    subprocess.run([str(tools.ffmpeg), "-v", "error", "-nostdin", *make, str(clip)], check=True)
    return clip.read_bytes()


def fill(disk: Path, *, leave: int) -> Path:
    """Leave so many bytes of a disk, and return what is to be removed to have the rest back."""
    ballast = disk / "ballast"
    free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
    ballast.write_bytes(b"x" * (free - leave))
    return ballast


def on(disk: Path, rig: Rig) -> Settings:
    """A peer that works on that disk."""
    return replace(rig.peer("one", 1), directory=disk / "one")


async def wait_until_full(rig: Rig, task_id: UUID, stage: Stage) -> None:
    """Wait until a task has failed there for want of room."""
    with trio.fail_after(SEEN_WITHIN_S):
        while True:
            report = await rig.ledger.show_task(str(task_id))
            if report.error is not None and report.failures.get(stage, 0) >= 1:
                assert report.error.code == "disk_full", report.error
                return
            await trio.sleep(0.05)


async def test_the_disk_is_full_at_the_pull(rig: Rig, disk: Path) -> None:
    """The pull says so and leaves nothing; with room again all tasks are done."""
    ballast = fill(disk, leave=512 * KIB)
    tasks = [await rig.record(size=1024 * KIB, attempts_max=ATTEMPTS_MAX) for _ in range(2)]
    async with working(on(disk, rig), DigestTranscoder()):
        for task_id in tasks:
            await rig.wake(task_id)
        for task_id in tasks:
            await wait_until_full(rig, task_id, Stage.PULL)
        ballast.unlink()
        await rig.wait_until_settled(SETTLED_WITHIN_S)
        await rig.wait_until_quiet()
    trails = await rig.conclude()
    assert {trail.state for trail in trails.values()} == {PartState.DONE}
    assert list((disk / "one" / "scratch").iterdir()) == []


async def test_the_disk_is_full_in_the_encode(
    rig: Rig, disk: Path, video: bytes, tools: Tools
) -> None:
    """ffmpeg cannot write: the attempt fails for want of room, not for a bad source, and leaves
    nothing; with room again the task is done, and its renditions are whole."""
    ballast = fill(disk, leave=len(video) + 256 * KIB)
    task_id = await rig.record(
        source=video, ladder="640x360@4000k,320x180@2000k", attempts_max=ATTEMPTS_MAX
    )
    async with working(on(disk, rig), FfmpegTranscoder(tools, TranscodeConfig())):
        await rig.wake(task_id)
        await wait_until_full(rig, task_id, Stage.TRANSCODE)
        ballast.unlink()
        await rig.wait_until_settled(SETTLED_WITHIN_S)
        await rig.wait_until_quiet()
    trails = await rig.conclude()
    assert {trail.state for trail in trails.values()} == {PartState.DONE}
    assert list((disk / "one" / "scratch").iterdir()) == []
