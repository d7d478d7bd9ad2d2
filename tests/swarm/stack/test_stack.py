"""stack.yml as it is, deployed by Docker's own command on a real Swarm, and at work.

Everything in it is real: PostgreSQL, RabbitMQ, the store, the gate with Docker's socket behind it.
"""

from __future__ import annotations

import json
import subprocess
from functools import partial
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, LiteralString
from uuid import uuid4

import psycopg
import pytest
import trio
from psycopg.rows import dict_row

from deploy.lab import loss, machine
from deploy.lab.containers import Container
from deploy.lab.plan import Node
from deploy.lab.stack import NAME, Stack
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.media.ladder import parse_ladder
from pipeline.media.tools import Tools
from pipeline.ports import Submission
from pipeline.stores.s3.config import S3Config
from pipeline.stores.s3.store import S3Store
from tests.ledger_rig import MakeLedger
from tests.swarm.rig import wait_for
from tests.swarm.stack.conftest import PEERS

pytestmark = pytest.mark.slow

SEEN_S = 60.0
BURST = 10
SETTLED_S = 3.0
"""A new leader only looks for two intervals, and takes nothing away before its window is over."""
LADDER = "160x90@100k"

Row = dict[str, Any]


class Ledger:
    """The stack's own database, read from outside."""

    def __init__(self, url: str) -> None:
        self._url = url

    def select(self, query: LiteralString, *values: object) -> list[Row]:
        """Rows."""
        with psycopg.connect(self._url, row_factory=dict_row) as connection:
            return connection.execute(query, values).fetchall()

    def outputs(self, task: str) -> list[str]:
        """Where a task's outputs lie, once it is done."""
        (found,) = self.select("SELECT state FROM tasks WHERE id = %s", task)
        if found["state"] != "done":
            return []
        return [
            row["key"] for row in self.select("SELECT key FROM outputs WHERE task_id = %s", task)
        ]

    def is_idle(self) -> bool:
        """Whether nothing is left to be done."""
        (found,) = self.select(
            "SELECT count(*) AS n FROM parts WHERE state IN ('queued', 'claimed')"
        )
        return bool(found["n"] == 0)

    def is_ruled(self) -> bool:
        """Whether a leader has looked for so long that it would act."""
        looks = self.select(
            "SELECT considered -> 'snapshot' ->> 'leading_s' AS s FROM scaling_looks"
        )
        return any(float(look["s"]) > SETTLED_S for look in looks)


@pytest.fixture
def ledger(stack: Stack) -> Ledger:
    """The stack's."""
    return Ledger(stack.ledger_url)


@pytest.fixture(scope="module")
def clip(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six seconds of video: some seconds of work for a peer that shares this machine."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    picture = ("-f", "lavfi", "-i", "testsrc2=s=640x360:r=25:d=6")
    coder = ("-c:v", "libx264", "-preset", "ultrafast")
    subprocess.run([str(tools.ffmpeg), "-v", "error", *picture, *coder, str(path)], check=True)
    return path


def config_of(stack: Stack) -> S3Config:
    """The stack's store, as this machine reaches it."""
    where = stack.store
    return S3Config(
        endpoint=where.endpoint,
        bucket=where.bucket,
        access_key=where.access_key,
        secret_key=where.secret_key,
    )


def everybody(stack: Stack) -> list[Container]:
    """The peers and the seed."""
    return [one for one in stack.containers() if one.service in {"peer", "seed"}]


def who_is_known(stack: Stack) -> dict[str, str] | None:
    """The addresses of all by the tasks that they are, if everybody knows just these and agrees."""
    running = everybody(stack)
    tables = [
        {member["container"]: member["address"] for member in stack.table(one)
         if member["state"] == "alive"}
        for one in running
    ]  # fmt: skip
    agreed = tables[0].keys() == {one.task for one in running}
    return tables[0] if agreed and all(table == tables[0] for table in tables) else None


def said(stack: Stack, container: Container, *argv: str) -> str:
    """What a program says in a container, also when it fails."""
    done = stack.execute(container, *argv)
    return done.output + done.errors


def submit(stack: Stack, ledger: Ledger, video: Path) -> str:
    """Hand in a video of this machine, and return the task's id."""
    done = stack.submit(video, "--ladder", LADDER, "--json")
    assert done.exit_code == 0, done.errors
    task: str = json.loads(done.output)["task_id"]
    return task


def test_all_know_all_by_addresses_of_the_inner_network(stack: Stack) -> None:
    """Seed and peers find each other by the names that Docker gives, and give away no address by
    which the others would not reach them."""
    known = wait_for(lambda: who_is_known(stack), SEEN_S, "all know all")
    networks = stack.lab.manager().get("/networks", filters={"name": [f"{NAME}_inside"]})
    subnet = ip_network(networks[0]["IPAM"]["Config"][0]["Subnet"])
    for address in known.values():
        assert ip_address(address.rsplit(":", 1)[0]) in subnet


def test_containers_can_do_what_they_must_and_no_more(stack: Stack) -> None:
    """Only the seed has a way to Docker, which is the gate's; nobody can write to the image, is
    root, or has a capability; what Prometheus asks is answered where it looks."""
    seed = stack.find("seed")
    assert said(stack, seed, "docker-gate", "--check") == ""
    assert "No such file" in said(stack, stack.find("peer.1"), "docker-gate", "--check")
    for one in everybody(stack):
        assert "No such file" in said(stack, one, "ls", "/var/run/docker.sock")
        assert "Read-only" in said(stack, one, "touch", "/opt/grapevine/x")
        assert "uid=10001" in said(stack, one, "id")
        status = said(stack, one, "grep", "-E", "^Cap(Prm|Eff|Bnd)", "/proc/1/status")
        assert set(status.split()[1::2]) == {"0000000000000000"}
    scrape = (
        "import urllib.request as u; print(u.urlopen('http://tasks.peer:9464/metrics').read()"
        ".decode())"
    )
    assert "grapevine_ready" in said(stack, seed, "python3", "-c", scrape)


def test_a_peer_that_is_drained_is_well(stack: Stack) -> None:
    """Its health check asks whether it lives: one that takes no work is not ready, and is left to
    live."""
    peer = stack.find("peer.2")
    ask = "import urllib.request as u; u.urlopen('http://127.0.0.1:9464/{}', timeout=8)"
    assert stack.execute(peer, "peerctl", "drain").exit_code == 0
    try:
        assert stack.execute(peer, "python3", "-c", ask.format("healthz")).exit_code == 0
        assert "503" in said(stack, peer, "python3", "-c", ask.format("readyz"))
    finally:
        assert stack.execute(peer, "peerctl", "resume").exit_code == 0


def test_a_video_becomes_its_outputs_in_the_store(
    stack: Stack, ledger: Ledger, clip: Path, tmp_path: Path
) -> None:
    """Handed in by `peerctl` in the cluster, worked on by a peer, there for who asks the store."""
    task = submit(stack, ledger, clip)

    outputs = wait_for(lambda: ledger.outputs(task), SEEN_S, "the task is done")

    store = S3Store(config_of(stack), environment={})
    (rendition,) = (key for key in outputs if key.endswith(".mp4"))
    size = trio.run(store.pull, rendition, tmp_path / "out.mp4")
    assert size == (tmp_path / "out.mp4").stat().st_size > 1000


def test_a_burst_is_met_with_peers_through_the_gate(
    stack: Stack, ledger: Ledger, clip: Path, make_ledger: MakeLedger
) -> None:
    """The seed leads: its decisions are in the ledger, its changes go through the gate, and peers
    come with the work and go with it; no part is worked on twice for that."""
    source = "bursts/clip.mp4"

    async def submit_all() -> None:
        await S3Store(config_of(stack), environment={}).push(clip, source)
        database = Database(DatabaseConfig(conninfo=stack.ledger_url))
        for number in range(BURST):
            await make_ledger(database).submit(
                Submission(
                    task_id=uuid4(),
                    source=source,
                    title=f"burst {number}",
                    ladder=parse_ladder(LADDER),
                    attempts_max=3,
                )
            )
        await database.aclose()

    wait_for(ledger.is_ruled, SEEN_S, "a leader has looked for long enough to act")
    (before,) = ledger.select("SELECT coalesce(max(id), 0) AS id FROM scaling_decisions")
    # Like a program that ends before it has sent a wake-up: a sweeper sends them.
    trio.run(submit_all)

    def peers() -> list[Container]:
        return [one for one in stack.containers() if one.service == "peer"]

    # They may be gone again before they were found healthy.
    wait_for(lambda: len(peers()) > PEERS, SEEN_S, "more peers run")
    wait_for(ledger.is_idle, SEEN_S, "the work is done")
    alone = [True] * PEERS
    wait_for(lambda: [one.healthy for one in peers()] == alone, SEEN_S, "those that came are gone")

    decided = ledger.select(
        "SELECT leader, mode, actions, outcomes FROM scaling_decisions"
        " WHERE id > %s AND actions <> '[]' ORDER BY id",
        before["id"],
    )
    assert {(row["leader"], row["mode"]) for row in decided} == {("seed-node-1", "acting")}
    assert not any(outcome["trouble"] for row in decided for outcome in row["outcomes"])
    claims = ledger.select("SELECT count(*) AS n FROM claims GROUP BY task_id, part")
    assert {row["n"] for row in claims} == {1}
    stack.wait_until_well()


def test_a_peer_is_found_at_its_new_address(stack: Stack) -> None:
    """A container that is killed comes again at another address; the others find it there, and
    nobody goes on asking the old one."""
    before = wait_for(lambda: who_is_known(stack), SEEN_S, "all know all")
    victim = stack.find("peer.1")
    stack.kill(victim)

    def replaced() -> dict[str, str] | None:
        known = who_is_known(stack)
        return known if known and victim.task not in known and len(known) == len(before) else None

    after = wait_for(replaced, SEEN_S, "all know all again")

    (task,) = after.keys() - before.keys()
    assert after[task] not in before.values()
    stack.wait_until_well()


def test_lost_datagrams_cost_no_member(stack: Stack) -> None:
    """A third of all UDP is dropped on every node, and of nothing else; all still know all."""
    lab = stack.lab

    def drops(node: Node) -> bool:
        rules = machine.execute(node, "iptables", "--list", loss.CHAIN, "--exact", "--verbose")
        return all(int(line.split()[0]) > 0 for line in rules.splitlines()[2:])

    lab.set_loss(30)
    try:
        assert lab.find_loss() == 30
        for node in lab.plan.members:
            wait_for(partial(drops, node), SEEN_S, "both kinds are dropped")
        assert wait_for(lambda: who_is_known(stack), SEEN_S, "all know all")
    finally:
        lab.set_loss(0)

    assert lab.find_loss() == 0
