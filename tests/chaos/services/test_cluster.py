"""The whole thing: real peers with gossip and ffmpeg on real services, and all of them fail once.

The matrices hold tasks at steps with a small transcoder; here nothing is in the place of anything.
"""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from pipeline.media.tools import Tools
from pipeline.tasks import PartState
from tests.chaos.checker import check, wait_until_nothing_is_left
from tests.chaos.services.services import Site
from tests.e2e.cluster_rig import Machine
from tests.servers.postgres import public_directory

pytestmark = pytest.mark.slow

NAMES = ("one", "two", "three")
TASKS = 6
SETTLED_WITHIN_S = 180.0
QUIET_WITHIN_S = 60.0


@pytest.fixture
def machine(site: Site) -> Iterator[Machine]:
    """Peers that are configured for the site; none runs yet."""
    with public_directory() as data_dir:
        store = site.services.store
        (data_dir / "s3-credentials").write_text(
            f"[default]\naws_access_key_id = {store.access_key}\n"
            f"aws_secret_access_key = {store.secret_key}\n"
        )
        config = data_dir / "grapevine.toml"
        config.write_text(
            f"""
            [ledger]
            url = "{site.ledger_url()}"
            [queue]
            url = "{site.queue_url()}"
            [store.s3]
            endpoint = "{store.endpoint}"
            bucket = "{site.name}"
            region = "{store.region}"
            credentials_file = "s3-credentials"
            [retry]
            base_s = 0.2
            """
        )
        machine = Machine(data_dir, config)
        machine.lease_s = 15
        try:
            yield machine
        finally:
            machine.stop_all()


@pytest.fixture
def clip(tools: Tools, tmp_path: Path) -> Path:
    """One that takes some seconds to encode, so that there is a middle."""
    clip = tmp_path / "clip.mp4"
    video = "testsrc2=size=640x360:rate=30:duration=12,noise=alls=20:allf=t"
    encoding = ["-c:v", "libx264", "-preset", "ultrafast", "-pix_fmt", "yuv420p"]
    command = [str(tools.ffmpeg), "-v", "error", "-nostdin", "-f", "lavfi", "-i", video, *encoding]
    subprocess.run([*command, str(clip)], check=True)
    return clip


def test_everything_fails_once(machine: Machine, site: Site, clip: Path) -> None:
    """Three peers encode six videos; a peer is killed in the middle of the first, then
    PostgreSQL, RabbitMQ and the store are killed and come back. All six are done; what the killed
    peer had was begun twice, and everything else once."""
    machine.start(*NAMES)
    tasks = [machine.submit(clip)]
    victim = machine.encoding(tasks[0])
    assert machine.end(victim, signal.SIGKILL) == -signal.SIGKILL
    machine.wait(lambda: machine.task(tasks[0]).get("attempt") == 2)
    tasks += [machine.submit(clip) for _ in range(TASKS - 1)]
    for server in site.services.each.values():
        server.kill()
        time.sleep(1.0)  # as long as somebody takes to notice
        server.start()

    def settled() -> bool:
        return all(machine.task(task_id).get("state") == "done" for task_id in tasks)

    machine.wait(settled, SETTLED_WITHIN_S)
    wait_until_nothing_is_left(site.scene, QUIET_WITHIN_S)
    machine.stop_all()
    trails = {trail.task_id: trail for trail in check(site.scene, [UUID(task) for task in tasks])}
    attempts = [len(trails[UUID(task_id)].claims) for task_id in tasks]
    assert {trail.state for trail in trails.values()} == {PartState.DONE}
    assert attempts == [2] + [1] * (TASKS - 1), machine.logs()
