"""Scaling on a real Swarm of three nodes: how fast it answers, and what it must never do.

The lab's nodes are one machine, so every number holds the peers' own work, the encodes, and all
three engines. Bursts are of short videos; a round ends when the cluster is as small as before, and
rounds go on until fifty containers were stopped. The heartbeat of the nodes' agents is a second, as
in our own stack. A quarter of an hour; needs root, and what `deploy/lab` needs.
"""

from __future__ import annotations

import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from deploy.lab.cluster import Lab
from pipeline.media.tools import find_tools
from tests.bench.rows import Row, print_rows
from tests.features.lab_stage import lab_stage
from tests.features.scaling_story import Story
from tests.features.swarm_stage import POOL, Cluster, Running, Services, Settings, running_cluster
from tests.servers.postgres import PostgresServer, public_directory
from tests.servers.rabbitmq import RabbitServer
from tests.servers.s3 import S3Server
from tests.swarm.lab_process import LabProcess, load_image

SCALE_DOWNS = 50
BURST = 16
CRASHES = 5
ROUND_S = 240.0

AT_MOST_S = {"write": 10.0, "working": 15.0, "respawned": 3.0, "replaced": 8.0}

# As a cluster is that nobody has tuned, but for its size and what would make a round last minutes.
BURSTS = Settings(
    containers=1,
    scaling={"containers_min": 1, "containers_max": 6, "nodes_max": 3, "interval_s": 5},
)
SPREAD = Settings(containers=2, nodes=2, scaling={"nodes_min": 2, "interval_s": 5})


@dataclass(slots=True)
class Measured:
    """Seconds, and what must be none.

    Args:
        writes: From the last of a burst's messages to Swarm's being told.
        working: From there to the new container's first claim, where a node had room for it.
        down: How many containers were stopped.
        restarted: Busy tasks that were not there any more after growth.
        redone: Parts that were begun twice, or not finished by who began.
    """

    writes: list[float] = field(default_factory=list)
    working: list[float] = field(default_factory=list)
    down: int = 0
    restarted: int = 0
    redone: int = 0


def measure() -> list[Row]:
    """Measure all of it, on a lab of its own."""
    with laboratory() as (lab, services, video, directory):
        with cluster_of(lab, services, video, directory / "bursts", BURSTS) as story:
            bursts = measure_bursts(story)
            crashes = [measure_crash(story.cluster) for _ in range(CRASHES)]
        with cluster_of(lab, services, video, directory / "spread", SPREAD) as story:
            replaced = measure_loss(lab, story.cluster)
    return [
        _seconds("burst → write to Swarm, p95", _p95(bursts.writes), "write"),
        _seconds(
            "burst → container works, where there is room, p95", _p95(bursts.working), "working"
        ),
        _seconds("crash → respawned, median", statistics.median(crashes), "respawned"),
        _seconds("node lost → replaced (heartbeat 1 s)", replaced, "replaced"),
        Row(metric="scale-downs on a real Swarm", measured=bursts.down, goal=SCALE_DOWNS),
        Row(
            metric="busy tasks killed or redone in them",
            measured=bursts.redone,
            goal=0,
            at_most=True,
        ),
        Row(
            metric="busy tasks restarted by scaling up",
            measured=bursts.restarted,
            goal=0,
            at_most=True,
        ),
    ]


def _seconds(metric: str, measured: float, name: str) -> Row:
    return Row(metric=f"{metric}, s", measured=measured, goal=AT_MOST_S[name], at_most=True)


def _p95(values: list[float]) -> float:
    return statistics.quantiles(values, n=20, method="inclusive")[-1]


@contextmanager
def laboratory() -> Iterator[tuple[Lab, Services, Path, Path]]:
    """Three nodes with our image, services, and a video of two seconds."""
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="grapevine-")))
        directory.chmod(0o755)  # containers read their configuration there, as somebody else
        rabbit, s3 = RabbitServer(directory / "rabbitmq"), S3Server(directory / "s3")
        postgres = PostgresServer(
            stack.enter_context(public_directory()) / "postgres",
            settings={"max_connections": "200"},
        )
        stack.callback(postgres.kill)
        postgres.start()
        stack.callback(rabbit.stop)
        stack.callback(rabbit.kill)
        rabbit.start()
        stack.callback(s3.kill)
        s3.start()
        process = LabProcess("b")
        stack.callback(process.stop)
        lab = process.start()
        load_image(lab)
        services = Services(rabbit=rabbit, postgres=postgres, s3=s3)
        yield lab, services, _video(directory / "clip.mp4"), directory


def _video(path: Path) -> Path:
    picture = ("-f", "lavfi", "-i", "testsrc2=s=320x180:r=25:d=2")
    tone = ("-f", "lavfi", "-i", "sine=440:r=48000:d=2")
    coders = ("-c:v", "libx264", "-preset", "ultrafast", "-c:a", "aac")
    command = [str(find_tools().ffmpeg), "-nostdin", "-v", "error", *picture, *tone, *coders]
    subprocess.run([*command, str(path)], check=True, timeout=60, stdin=subprocess.DEVNULL)
    return path


@contextmanager
def cluster_of(
    lab: Lab, services: Services, video: Path, files: Path, settings: Settings
) -> Iterator[Story]:
    """A cluster of peers in containers, as the scenarios have it."""
    files.mkdir(mode=0o755)
    with (
        lab_stage(lab, services) as stage,
        running_cluster(stage, services, files, settings) as cluster,
    ):
        story = Story(cluster, {"short": video})
        try:
            yield story
        finally:
            story.close()


def measure_bursts(story: Story) -> Measured:
    """Bursts, one after the other, until so many containers were stopped."""
    measured, cluster = Measured(), story.cluster
    while measured.down < SCALE_DOWNS:
        _measure_burst(story, measured)
        cluster.wait_until_done(story.asked, ROUND_S)
        cluster.wait(
            lambda: cluster.wanted() == 1 and cluster.in_service() == {cluster.stage.nodes[0]},
            "as small as before",
            ROUND_S,
        )
        cluster.wait(cluster.is_ready, "the leader rules", ROUND_S)
        measured.down = len(cluster.events("ContainerScaledDown"))
    claims = cluster.select("SELECT * FROM claims")
    measured.redone = sum(claim["attempt"] > 1 or claim["outcome"] != "done" for claim in claims)
    return measured


def _measure_burst(story: Story, measured: Measured) -> None:
    cluster = story.cluster
    before = {task.id for task in cluster.running()}
    (old,) = before
    story.submit(BURST, "short")
    began = time.monotonic()
    cluster.wait(lambda: cluster.wanted() > 1, "Swarm is told")
    measured.writes.append(time.monotonic() - began)
    room = cluster.stage.nodes[0]

    def works() -> bool:
        statement = "SELECT 1 FROM claims WHERE node = %s AND container <> %s AND claimed_at > %s"
        return bool(cluster.select(statement, room, old, burst_at))

    burst_at = cluster.select("SELECT max(submitted_at) AS at FROM tasks")[0]["at"]
    cluster.wait(works, "a new container works")
    measured.working.append(time.monotonic() - began)
    measured.restarted += len(before - {task.id for task in cluster.running()})


def measure_crash(cluster: Cluster) -> float:
    """From kill -9 until its successor runs, in seconds."""
    failed = cluster.running()[0]
    began = time.monotonic()
    cluster.stage.kill(failed)
    cluster.wait(lambda: _successor(cluster, failed), "a successor")
    return time.monotonic() - began


def _successor(cluster: Cluster, failed: Running) -> bool:
    return any(task.slot == failed.slot and task.id != failed.id for task in cluster.running())


def measure_loss(lab: Lab, cluster: Cluster) -> float:
    """From a node's loss of power until as many containers run elsewhere, in seconds."""
    lost = cluster.stage.nodes[1]
    assert lost in {task.node for task in cluster.running()}, f"nothing runs on {lost} of {POOL}"
    began = time.monotonic()
    lab.kill(lost)
    cluster.wait(
        lambda: sum(task.node != lost for task in cluster.running()) >= cluster.wanted(),
        "all run elsewhere",
    )
    return time.monotonic() - began


if __name__ == "__main__":
    print_rows(measure())
