"""Real peers whose containers have too little memory: the kernel ends an encoder, or the peer.

The limits are those of real control groups, as Docker sets them; whom the kernel ends, it decides.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.media.tools import Tools
from tests.e2e.cluster_rig import Machine, make_clip
from tests.missing import do_without
from tests.servers.memory_group import MemoryGroup, why_missing

pytestmark = pytest.mark.slow

MEBIBYTE = 1 << 20
LADDER = "1920x1080@4M,1280x720@2M,640x360@800k"

ROOMY = 400 * MEBIBYTE
TIGHT = 580 * MEBIBYTE
"""Where a peer takes some 100 MB, and the encoder 660 with 8 threads, but 320 with one."""


@pytest.fixture
def group(machine: Machine) -> Iterator[MemoryGroup]:
    """A control group, removed when the machine's peers have ended."""
    if (why := why_missing()) is not None:
        do_without(why)
    group = MemoryGroup(TIGHT)
    try:
        yield group
    finally:
        machine.stop_all()
        machine.wait(lambda: not group.processes(), 30)
        group.close()


@pytest.fixture(scope="module")
def clip(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of full HD: short, and large in memory."""
    video = "testsrc2=size=1920x1080:rate=30:duration=1"
    return make_clip(tools, tmp_path_factory.mktemp("clips") / "clip.mp4", video)


def test_an_encoder_that_the_kernel_ends_gets_fewer_threads(
    machine: Machine, group: MemoryGroup, clip: Path
) -> None:
    """Its attempt fails for lack of memory, and for nothing else; each next one has half as many
    threads, until it fits. The peer lives."""
    machine.start("one")
    machine.peerctl("drain", "one")
    machine.launch("two", "--set", "transcode.encoder_threads=8", within=group.within())
    machine.wait(lambda: machine.row("one", "two").get("state") == "alive")
    task_id = machine.peerctl("submit", str(clip), "--ladder", LADDER, "--peer", "one").split()[0]
    task = machine.wait_for_task(task_id, "done", 240)

    *failed, done = task["attempts"]
    assert failed, "it fitted at once: the limit of this test is too high"
    assert {attempt["error"]["code"] for attempt in failed} == {"out_of_memory"}
    assert {attempt["error"]["memory_bytes"] for attempt in failed} == {TIGHT}
    assert done["outcome"] == "done"
    assert task["failures"] == {"transcode": len(failed)}
    retries = machine.events("ContainerErrorRetry")
    assert [retry["data"]["code"] for retry in retries] == ["out_of_memory"] * len(failed)
    assert machine.events("ContainerFailureDetected") == []
    assert machine.processes["two"].poll() is None


def test_a_peer_that_the_kernel_ends_says_so_when_it_is_back(
    machine: Machine, group: MemoryGroup
) -> None:
    """Its group has outlived it, and counted; so the failure is one for lack of memory."""
    machine.start("one")
    group.limit(ROOMY)
    machine.launch("two", within=group.within(oom_score=1000))
    machine.wait(lambda: machine.row("one", "two").get("state") == "alive")
    machine.end("one")  # alone, it tells of itself; what it took of the database lies outside
    machine.wait(lambda: machine.living("two") == {"two"})
    hog = f"import time; held = b'x' * {ROOMY - 30 * MEBIBYTE}; time.sleep(60)"
    command = group.within(sys.executable, "-I", "-S", "-c", hog)
    with subprocess.Popen(command) as process:
        try:
            assert machine.processes["two"].wait(60) == -signal.SIGKILL
        finally:
            process.kill()
    group.limit(4 * ROOMY)
    machine.launch("two", within=group.within())
    machine.wait(lambda: machine.ask("two", "status", {}).get("state") == "working")
    machine.wait(lambda: machine.events("ContainerFailureDetected"))
    (failure,) = machine.events("ContainerFailureDetected")
    assert failure["data"]["failed_name"] == "two"
    assert failure["data"]["reason"] == "out_of_memory"
