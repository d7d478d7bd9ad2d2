"""How long a task stands still whose peer was killed, or cut off, in the middle of its encode.

Three real peers with a slot each, on RabbitMQ and PostgreSQL, encode one video after the other.
Whoever encodes is killed with SIGKILL, or all its packets are dropped, both ways, and nobody is
told. What counts is the time until another peer has claimed the task, has pulled and inspected the
source, and begins to encode: the moment of its WorkloadProcessingStarted.

All of it runs in namespaces of its own, so the packet filter touches nobody else. There each peer
reaches the services under an address of its own (127.0.9.N, translated to 127.0.0.1), by which the
filter knows its connections, in both directions, and gossips on another (127.0.8.N).
"""

from __future__ import annotations

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psycopg

from tests.bench.gossip.goals import percentile
from tests.bench.gossip.namespace import NEEDED, require
from tests.bench.one_peer import bench_directory, make_clip
from tests.bench.rows import Row, print_rows
from tests.e2e.cluster_rig import LADDER, Machine
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitServer

MODULE = "tests.bench.takeover"

KILLS = 20
KILL_GOAL_S = 3.0
HOLES = 5
HOLE_GOAL_S = 15.0
NAMES = ("one", "two", "three")
KILL, HOLE = "a kill", "a black hole"
TO_LOOPBACK = ("-j", "DNAT", "--to-destination", "127.0.0.1")
WITHIN_S = 60.0
GOSSIP_PORT = 7946
LEASE_S = 15
"""The product's default."""

STEPS = {
    "claimed": "TaskReceived",
    "pulled": "VideoFilePulled",
    "encoding": "WorkloadProcessingStarted",
}
SECOND = """
SELECT type, extract(epoch FROM at)::float8 FROM events
WHERE task_id = %(task_id)s AND peer_uid <> (
    SELECT peer_uid FROM claims WHERE task_id = %(task_id)s ORDER BY attempt LIMIT 1
)
"""

Moments = Mapping[str, float]
"""Seconds from the fault to each of `STEPS` of the peer that takes over."""


def measure(kills: int = KILLS, holes: int = HOLES) -> list[Row]:
    """Do both, in namespaces of our own."""
    if os.geteuid() != 0:
        sys.stderr.write("takeover: not measured, since only root may make a network namespace\n")
        return []
    for program, package in NEEDED.items():
        require(program, package)
    with tempfile.NamedTemporaryFile(prefix="grapevine-takeover-") as answer:
        isolated = ["unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
        inside = [sys.executable, "-m", MODULE, "inside", answer.name, str(kills), str(holes)]
        if subprocess.run([*isolated, *inside], check=False).returncode != 0:
            raise SystemExit("the takeover bench failed; what it said is above")
        measured: dict[str, list[Moments]] = json.loads(Path(answer.name).read_text())
    for name, each in measured.items():
        for step in STEPS:
            values = [moments[step] for moments in each]
            sys.stderr.write(
                f"takeover after {name}, {step}: median {statistics.median(values):.2f} s, p95"
                f" {percentile(values, 0.95):.2f} s, worst {max(values):.2f} s of {len(values)}\n"
            )
    return [
        Row(
            metric="kill -9 of a peer in mid-encode to another peer encoding, p95 (s)",
            measured=percentile([moments["encoding"] for moments in measured[KILL]], 0.95),
            goal=KILL_GOAL_S,
            at_most=True,
        ),
        Row(
            metric="black hole around a peer in mid-encode to another encoding, worst (s)",
            measured=max(moments["encoding"] for moments in measured[HOLE]),
            goal=HOLE_GOAL_S,
            at_most=True,
        ),
    ]


class Cluster:
    """Peers at work, and who hurts them."""

    def __init__(
        self, directory: Path, broker: RabbitServer, database: PostgresServer, clip: Path
    ) -> None:
        self._machine = Machine(directory)
        self._machine.lease_s = LEASE_S
        self._broker = broker
        self._database = database
        self._clip = clip
        self._chance = random.Random(4)

    def start(self) -> None:
        """Start all peers, and let each of them be reached under its own addresses."""
        for number, name in enumerate(NAMES, 1):
            _iptables("-t", "nat", "-A", "OUTPUT", "-d", _services(number), *TO_LOOPBACK)
            self._launch(name)

    def stop(self) -> None:
        """Stop them."""
        self._machine.stop_all()

    def kill(self) -> Moments:
        """Kill whoever encodes; start it again when another one does."""

        def kill(name: str) -> None:
            self._machine.end(name, signal.SIGKILL)

        return self._hurt(kill, self._launch)

    def black_hole(self) -> Moments:
        """Drop what whoever encodes sends and is sent, until another one encodes."""
        return self._hurt(partial(_drop, "-I"), partial(_drop, "-D"))

    def _hurt(self, begin: Callable[[str], None], end: Callable[[str], None]) -> Moments:
        machine = self._machine
        machine.wait(self._are_well)
        task_id = str(self._ask("submit", path=str(self._clip), ladder=LADDER)["task_id"])
        victim = machine.encoding(task_id)
        time.sleep(self._chance.uniform(0.0, 1.0))  # at no fixed point of anybody's rounds
        at = time.time()
        begin(victim)
        try:
            reached = machine.wait(partial(self._reached, task_id), WITHIN_S)
        finally:
            end(victim)
        machine.wait(lambda: self._ask("cancel", id=task_id, reason="seen enough"))
        moments = {name: round(reached[kind] - at, 3) for name, kind in STEPS.items()}
        sys.stderr.write(f"{victim}: {moments}\n")
        return moments

    def _launch(self, name: str) -> None:
        number = NAMES.index(name) + 1
        services, here = _services(number), "127.0.0.1"
        urls = {"ledger.url": self._database.url, "queue.url": self._broker.url}
        chosen = {name: url.replace(here, services) for name, url in urls.items()}
        chosen["gossip.listen"] = f"{_gossip(number)}:{GOSSIP_PORT}"
        self._machine.launch(name, *(f"--set={key}={value}" for key, value in chosen.items()))

    def _are_well(self) -> bool:
        """Whether everybody works and sees everybody, and nothing is being worked on."""
        for name in NAMES:
            status = self._machine.ask(name, "status", {})
            if status.get("state") != "working" or status["running"]:
                return False
            if self._machine.living(name) != set(NAMES):
                return False
        return True

    def _ask(self, command: str, **arguments: Any) -> Any:
        """Ask whoever answers; None while nobody does."""
        answers = (self._machine.ask(name, command, None, **arguments) for name in NAMES)
        return next((answer for answer in answers if answer is not None), None)

    def _reached(self, task_id: str) -> Mapping[str, float]:
        """When the second peer came to each step; empty until it has come to the last."""
        with psycopg.connect(self._database.conninfo) as connection:
            rows = connection.execute(SECOND, {"task_id": task_id})
            reached = {str(kind): float(at) for kind, at in rows}
        return reached if STEPS["encoding"] in reached else {}


def inside(answer: Path, kills: int, holes: int) -> None:
    """Measure in the namespaces that we are in, and write the answer."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with ExitStack() as stack:
        directory = stack.enter_context(bench_directory())
        broker = RabbitServer(directory / "broker")
        stack.callback(broker.kill)
        broker.start()
        database = PostgresServer(directory / "database")
        stack.callback(database.stop)
        database.start()
        clip = make_clip(directory / "clip.mp4", size="1280x720", seconds=30)
        (directory / "peers").mkdir()
        cluster = Cluster(directory / "peers", broker, database, clip)
        stack.callback(cluster.stop)
        cluster.start()
        measured = {
            KILL: [cluster.kill() for _ in range(kills)],
            HOLE: [cluster.black_hole() for _ in range(holes)],
        }
    answer.write_text(json.dumps(measured))


def _drop(how: str, name: str) -> None:
    """Begin (`-I`) or stop (`-D`) to drop all that a peer sends and is sent."""
    number = NAMES.index(name) + 1
    of_connections = ["-m", "conntrack", "--ctorigdst", _services(number)]
    for packets in (of_connections, ["-s", _gossip(number)], ["-d", _gossip(number)]):
        _iptables(how, "OUTPUT", *packets, "-j", "DROP")


def _services(number: int) -> str:
    return f"127.0.9.{number}"


def _gossip(number: int) -> str:
    return f"127.0.8.{number}"


def _iptables(*arguments: str) -> None:
    require("iptables", "iptables")
    subprocess.run(["iptables", "-w", "10", *arguments], check=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["inside", answer, kills, holes]:
            inside(Path(answer), int(kills), int(holes))
        case _:
            print_rows(measure())
