"""An upgrade of a cluster that is at work, as deploy/README.md has it typed, and the way back.

The next version is this one with a field more in what peers say, a migration more, and another
number (tests/swarm/next_version). So for a while peers of both gossip and share one ledger and one
queue, and at the end peers of this version work with tables that they have never heard of.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import minio
import pika
import psycopg
import pytest

from deploy.lab.images import peer
from deploy.lab.stack import NAME, Stack
from pipeline.ledger.migrate import known_migrations
from pipeline.media.tools import Tools
from tests.e2e.cluster_rig import make_clip
from tests.features.client import Asked, Client, Rung
from tests.missing import do_without
from tests.swarm import next_version
from tests.swarm.next_version.patch import VERSION as NEXT
from tests.swarm.rig import Swarm, wait_for

pytestmark = pytest.mark.slow

PEERS = 3
TASKS = 2 * PEERS
TODAY = version("grapevine")
LADDER = (Rung(320, 180, 200_000),)
PICTURE = "testsrc2=size=640x360:rate=25:duration=45"
"""Seconds of work for a peer on any machine: all of them are to be seen at work at one look."""

SERVICES = ("seed", "gate", "peer")
"""In this order: the seed works on nothing, and so whatever is wrong with an image harms nobody."""

Table = dict[str, tuple[str, str]]


class UnderLoad:
    """A stack, somebody who hands in videos, and who rolls versions through it.

    Satisfies what `Client` wants of a place.
    """

    prefix = NAME

    def __init__(self, stack: Stack, clip: Path) -> None:
        self.stack = stack
        store = stack.store
        self.bucket = store.bucket
        self.ledger_url, self.queue_url = stack.ledger_url, stack.queue_url
        self.store = minio.Minio(
            store.endpoint.removeprefix("http://"),
            store.access_key,
            store.secret_key,
            secure=False,
        )
        self.client = Client(self, clip)
        self.asked: list[Asked] = []

    def logs(self) -> str:
        """What Docker knows of the containers."""
        return self.docker("stack", "ps", "--no-trunc", NAME)

    def docker(self, *argv: str) -> str:
        """Run Docker's command."""
        done = subprocess.run(
            ["docker", *argv],
            env={**os.environ, "DOCKER_HOST": f"unix://{self.stack.lab.manager().path}"},
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def peerctl(self, *argv: str) -> str:
        """Ask some peer."""
        done = self.stack.peerctl(*argv)
        assert done.exit_code == 0, done
        return done.output

    def takes_tasks(self) -> bool:
        """Whether a peer has made the queues yet: it is well before that, and waits for them."""
        try:
            with self.client.channel() as channel:
                channel.exchange_declare(self.client.exchange, passive=True)
        except pika.exceptions.AMQPError:
            return False
        return True

    def hand_in(self, count: int) -> None:
        """Hand in so many videos, and wait until every peer works on one."""
        self.asked += [self.client.submit(self.client.ask(LADDER)) for _ in range(count)]
        wait_for(lambda: len(self.working()) == PEERS, 60, "every peer works")

    def working(self) -> set[str]:
        """Who works on something."""
        return {row[0] for row in self.select("SELECT peer_uid FROM claims WHERE ended_at IS NULL")}

    def select(self, statement: str) -> list[tuple[Any, ...]]:
        """Read the ledger."""
        with psycopg.connect(self.ledger_url) as ledger:
            return ledger.execute(statement.encode()).fetchall()

    def term(self) -> int:
        """Of the leader that has looked last; 0 when none has."""
        looks = self.select("SELECT term FROM scaling_looks")
        return int(looks[0][0]) if looks else 0

    def leads_after(self, term: int) -> bool:
        """Whether a later leader has looked."""
        return self.term() > term

    def tables(self) -> list[Table]:
        """Whom each peer believes to live: name and version, by uid."""
        everybody = [one for one in self.stack.containers() if one.service in ("seed", "peer")]
        return [
            {
                member["uid"]: (member["name"], member["version"])
                for member in self.stack.table(one)
                if member["state"] == "alive"
            }
            for one in everybody
        ]

    def wait_until_all_are(self, wanted: str) -> bool:
        """Wait until everybody is of one version and knows it; whether some told of two before."""
        mixed = False

        def all_are() -> bool:
            nonlocal mixed
            found = self.tables()
            versions = [{version for _, version in table.values()} for table in found]
            mixed = mixed or {TODAY, NEXT} in versions
            return (
                len(found) == PEERS + 1
                and all(table == found[0] for table in found)
                and len(found[0]) == PEERS + 1
                and versions[0] == {wanted}
            )

        wait_for(all_are, 240, f"all are {wanted}, and know each other")
        return mixed

    def wait_until_done(self) -> None:
        """Wait for the last of the tasks."""
        for asked in self.asked:
            self.client.wait_for_state(asked, "done")


@pytest.fixture
def cluster(swarm: Swarm, stack_images: None, tools: Tools, tmp_path: Path) -> Iterator[UnderLoad]:
    """The stack with three peers, well."""
    if shutil.which("docker") is None:
        do_without("Docker's command: apt-get install -y docker.io (or docker-cli)")
    next_version.put_on_nodes(swarm.lab, peer.TAG)
    stack = Stack(swarm.lab)
    stack.deploy(peers=PEERS)
    try:
        stack.wait_until_well()
        cluster = UnderLoad(stack, make_clip(tools, tmp_path / "clip.mp4", PICTURE))
        wait_for(cluster.takes_tasks, 60, "the peers have made the queues")
        yield cluster
        cluster.client.close()
    finally:
        stack.remove()


def assert_nothing_was_disturbed(cluster: UnderLoad) -> None:
    """Each task has one attempt, which made its outputs; nobody died, nothing was tried again."""
    assert len(cluster.asked) == len(cluster.select("SELECT FROM tasks"))
    for asked in cluster.asked:
        claims = cluster.client.claims(asked)
        assert [(claim["attempt"], claim["outcome"]) for claim in claims] == [(1, "done")]
        outputs = {output["key"]: output["size"] for output in cluster.client.outputs(asked)}
        assert outputs
        assert outputs.items() <= cluster.client.stored(asked).items()
    assert cluster.select("SELECT type, data FROM events WHERE type LIKE 'Container%'") == []
    assert cluster.client.dead_messages() == 0


def migrations(cluster: UnderLoad) -> Sequence[tuple[Any, ...]]:
    """Those of the database that this version does not know."""
    known = len(known_migrations())
    return cluster.select(f"SELECT name, oldest FROM migrations WHERE number > {known}")


def test_a_version_rolls_through_a_busy_cluster_and_back(cluster: UnderLoad) -> None:
    """Peers are replaced while each has a task and more wait: no task is lost, begun again or
    failed, for a while two versions are one cluster, all tables are equal in the end, another seed
    leads, and the number of peers is what it was. Rolled back, all of that again, with the newer
    version's tables."""
    cluster.peerctl("scale", "pause")
    for step, wanted in (("update", NEXT), ("rollback", TODAY)):
        cluster.hand_in(TASKS)
        term = cluster.term()
        for service in SERVICES:
            image = ("--no-resolve-image", "--image", next_version.TAG)
            order = image if step == "update" else ()
            cluster.docker("service", step, "--detach", "--quiet", *order, f"{NAME}_{service}")
        assert cluster.wait_until_all_are(wanted)
        cluster.wait_until_done()
        assert_nothing_was_disturbed(cluster)
        assert migrations(cluster) == [("later", len(known_migrations()))]

        wait_for(partial(cluster.leads_after, term), 60, "the seed that came last leads")

    cluster.peerctl("scale", "resume")
    replicas = cluster.stack.services()["peer"]["Spec"]["Mode"]["Replicated"]["Replicas"]
    assert replicas == PEERS
