"""What a scenario of scaling plays on: a Swarm of three nodes, fake or real, and a cluster on it.

Both are asked by Docker's API, so a scenario's steps are the same for both. Whoever plays says how
a container runs our peer, and how it is killed; the rest is here. The peers are the product's own
processes either way, with RabbitMQ, PostgreSQL and an S3 server; what is fake is Docker.

The peers' ffmpeg reads its input no faster than it would be played. So an encode lasts as long as
its video, whatever the machine has to do besides: a part of eight seconds is in work for eight.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import minio
import psycopg
from psycopg.rows import dict_row

from deploy.lab.engine import Engine
from tests.features.client import Asked, Client, Row
from tests.paced import paced
from tests.servers.postgres import PostgresServer
from tests.servers.rabbitmq import RabbitServer
from tests.servers.s3 import S3Server

T = TypeVar("T")

SERVICE = "grapevine_peer"
POOL = "worker"
LABEL = "grapevine.pool"
CONSTRAINT = f"node.labels.{LABEL}=={POOL}"
SECOND = 1_000_000_000  # Docker counts durations in nanoseconds
GRACE_S = 30
WITHIN_S = 90.0
POLL_S = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """What peers depend on, on this machine's loopback."""

    rabbit: RabbitServer
    postgres: PostgresServer
    s3: S3Server


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Programs, where a container has them."""

    ffmpeg: str
    ffprobe: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a container may use; None: what the machine has.

    Args:
        cpus: Processors.
    """

    cpus: float | None = None
    memory_bytes: int | None = None

    @property
    def docker(self) -> Row:
        """As Docker's API has them."""
        limits = {
            "NanoCPUs": None if self.cpus is None else int(self.cpus * 1e9),
            "MemoryBytes": self.memory_bytes,
        }
        return {"Limits": {name: value for name, value in limits.items() if value is not None}}


UNLIMITED = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """One of the service's tasks, as Swarm lists it; `node` is empty before it has one."""

    id: str
    slot: int
    node: str
    state: str
    wanted: bool
    container: str
    exit_code: int

    @property
    def runs(self) -> bool:
        """It runs, and is meant to."""
        return self.state == "running" and self.wanted


class Stage(Protocol):
    """**Protocol**: a Swarm of a manager and two workers, in a scenario's hands.

    Args:
        engine: The manager's API.
        nodes: Their names, the manager's first.
        managers: The manager's API as the peers are to reach it.
        join: Where peers find each other.
        tools: Where a peer's own are.
    """

    engine: Engine
    nodes: Sequence[str]
    managers: Sequence[str]
    join: Sequence[str]
    tools: Tools

    def reach(self, port: int) -> str:
        """Where a container reaches what listens on this port of 127.0.0.1, as `host:port`."""
        ...

    def template(self, files: Path, environment: Mapping[str, str], limits: Limits) -> Row:
        """A peer's TaskTemplate; `files` is there under the same path."""
        ...

    def kill(self, task: Running) -> None:
        """`kill -9` the main process of a task's container."""
        ...

    def run_out_of_memory(self, task: Running) -> None:
        """Let a container's main process be ended for lack of memory."""
        ...

    def peerctl(self, task: Running, *arguments: str) -> str:
        """What a command prints in a task's container."""
        ...

    def logs(self) -> str:
        """The ends of what all peers said."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a scenario's cluster is.

    Args:
        containers: How many at the beginning.
        nodes: How many are in service then, the manager's first. There is room for two on each.
        paced: ffmpeg reads no faster than its input is played.
        scaling: Settings of [scaling], over the usual ones.
    """

    containers: int = 2
    nodes: int = 1
    paced: bool = True
    limits: Limits = UNLIMITED
    scaling: Mapping[str, object] = field(default_factory=dict)


QUEUE_LOW, QUEUE_HIGH = 1, 4
PER_NODE = 2

SCALING: Mapping[str, object] = {
    "orchestrator": "swarm",
    "queue_low": QUEUE_LOW,
    "queue_high": QUEUE_HIGH,
    "pool": POOL,
    "containers_per_node": PER_NODE,
    "containers_min": 2,
    "containers_max": 4,
    "nodes_max": 2,
    # Shorter than a part takes: so every part that waits or is worked on wants a container.
    "wait_s": 1,
    # One machine plays all nodes, so its processors say nothing about one of them.
    "cpu_high": 1,
    "cpu_low": 0,
    "memory_high": 1,
    "average_s": 30,
    "down_window_s": 2,
    "node_age_min_s": 1,
    "interval_s": 0.3,
}


class Cluster:
    """Peers in containers of a Swarm, and what can be seen of them from outside.

    Args:
        directory: An empty one, which everybody may read.
    """

    def __init__(
        self, stage: Stage, services: Services, directory: Path, settings: Settings
    ) -> None:
        number = uuid4().hex[:8]
        self.stage, self.services = stage, services
        self.prefix = self.bucket = f"scaling-{number}"
        self._database = f"scaling_{number}"
        self._directory, self._settings = directory, settings
        with psycopg.connect(services.postgres.url, autocommit=True) as admin:
            admin.execute(f"CREATE DATABASE {self._database}".encode())
        self._connection = psycopg.connect(self.ledger_url, autocommit=True, row_factory=dict_row)

    # What a client is told

    @property
    def ledger_url(self) -> str:
        """The ledger, as clients reach it."""
        return self.services.postgres.url_of(self._database)

    @property
    def queue_url(self) -> str:
        """The broker, as clients reach it."""
        return self.services.rabbit.url

    @property
    def store(self) -> minio.Minio:
        """The bucket's server, as clients reach it."""
        return minio.Minio(
            self.services.s3.endpoint.removeprefix("http://"),
            access_key=self.services.s3.access_key,
            secret_key=self.services.s3.secret_key,
            secure=False,
        )

    def logs(self) -> str:
        """What the peers said, and what the leader decided last."""
        decided = [
            f"{d['id']} x{d['count']} {[r['code'] for r in d['reasons']]} {d['actions']}"
            f" {d['outcomes']}"
            for d in self.decisions()[-12:]
        ]
        return "\n".join([*decided, self.stage.logs()])

    # Its life

    def start(self) -> None:
        """Deploy it, and wait until all its containers are idle in the leader's eyes."""
        self.store.make_bucket(self.bucket)
        self._write_files()
        for number, node in enumerate(self.stage.nodes):
            self.label(node, POOL if number < self._settings.nodes else f"{POOL}:standby")
        environment = {
            "GRAPEVINE_CONFIG": str(self._directory / "grapevine.toml"),
            "GRAPEVINE_PEER_CONTAINER": "{{.Task.ID}}",
            "GRAPEVINE_PEER_NODE": "{{.Node.Hostname}}",
            "GRAPEVINE_PEER_NAME": "{{.Task.Name}}",
        }
        template = self.stage.template(self._directory, environment, self._settings.limits)
        spec = {
            "Name": SERVICE,
            "Labels": {"com.docker.stack.namespace": "grapevine"},
            "TaskTemplate": {
                **template,
                "Resources": self._settings.limits.docker,
                "RestartPolicy": {"Condition": "any", "Delay": SECOND},
                "Placement": {"Constraints": [CONSTRAINT], "MaxReplicas": PER_NODE},
            },
            "Mode": {"Replicated": {"Replicas": self._settings.containers}},
            "EndpointSpec": {"Mode": "dnsrr"},
        }
        self.stage.engine.post("/services/create", spec)
        self.wait(self.is_ready, f"{self._settings.containers} containers are idle")

    def stop(self) -> None:
        """Hang up, and let the broker forget it. The stage ends its containers."""
        self._connection.close()
        self.services.rabbit.remove_queues(self.prefix)

    def _write_files(self) -> None:
        ffmpeg = self._directory / "ffmpeg"
        ffmpeg.write_text(paced(self.stage.tools.ffmpeg))
        ffmpeg.chmod(0o755)
        configuration = self._directory / "grapevine.toml"
        configuration.write_text("".join(self._configuration(ffmpeg)))
        configuration.chmod(0o644)

    def _configuration(self, ffmpeg: Path) -> Iterator[str]:
        reach, rabbit, s3 = self.stage.reach, self.services.rabbit, self.services.s3
        ledger = self.ledger_url.replace(
            f"127.0.0.1:{self.services.postgres.port}", reach(self.services.postgres.port)
        )
        scaling = {**SCALING, **self._settings.scaling}
        sections: Mapping[str, Mapping[str, object]] = {
            "peer": {"slots": 1, "stop_grace_s": GRACE_S - 15},
            "ledger": {"url": ledger},
            "queue": {
                "url": rabbit.url.replace(f"127.0.0.1:{rabbit.port}", reach(rabbit.port)),
                "prefix": self.prefix,
                "management_url": f"http://{reach(rabbit.management_port)}",
            },
            "store.s3": {
                "endpoint": f"http://{reach(s3.port)}",
                "bucket": self.bucket,
                "access_key": s3.access_key,
                "secret_key": s3.secret_key,
            },
            "transcode": {
                "ffmpeg": str(ffmpeg) if self._settings.paced else self.stage.tools.ffmpeg,
                "ffprobe": self.stage.tools.ffprobe,
            },
            "retry": {"base_s": 1},
            "gossip": {"key": secrets.token_hex(32), "join": list(self.stage.join)},
            "scaling": scaling,
            "scaling.swarm": {
                "managers": list(self.stage.managers),
                "service": SERVICE,
                "lease_s": max(3.0, 4 * float(str(scaling["interval_s"]))),
            },
        }
        for name, section in sections.items():
            yield f"[{name}]\n"
            # A JSON text is one of TOML's, too.
            yield from (f"{key} = {json.dumps(value)}\n" for key, value in section.items())

    # Its Swarm

    def label(self, node: str, value: str) -> None:
        """As a person does by `docker node update --label-add`."""
        found = self.node(node)
        labels = {**(found["Spec"].get("Labels") or {}), LABEL: value}
        self.stage.engine.post(
            f"/nodes/{found['ID']}/update",
            {**found["Spec"], "Labels": labels},
            version=found["Version"]["Index"],
        )

    def node(self, name: str) -> Row:
        """A node, as Swarm lists it."""
        return next(
            node
            for node in self.stage.engine.get("/nodes")
            if node["Description"]["Hostname"] == name
        )

    def in_service(self) -> set[str]:
        """The nodes where containers may start."""
        return {
            node["Description"]["Hostname"]
            for node in self.stage.engine.get("/nodes")
            if (node["Spec"].get("Labels") or {}).get(LABEL) == POOL
            and node["Spec"]["Availability"] == "active"
        }

    def wanted(self) -> int:
        """How many containers Swarm is told to run."""
        spec = self.stage.engine.get(f"/services/{SERVICE}")["Spec"]
        return int(spec["Mode"]["Replicated"]["Replicas"])

    def tasks(self) -> list[Running]:
        """All of the service's tasks, those that have ended too."""
        names = {
            node["ID"]: node["Description"]["Hostname"] for node in self.stage.engine.get("/nodes")
        }
        listed = self.stage.engine.get("/tasks", filters={"service": {SERVICE: True}})
        return [_running(task, names) for task in sorted(listed, key=lambda t: t["CreatedAt"])]

    def running(self) -> list[Running]:
        """Those that run, and are meant to."""
        return [task for task in self.tasks() if task.runs]

    def task(self, container: str) -> Running:
        """One of them."""
        return next(task for task in self.tasks() if task.id == container)

    # Its ledger

    def select(self, statement: str, *values: object) -> list[Row]:
        """Rows of the database."""
        return self._connection.execute(statement.encode(), values).fetchall()

    def events(self, *types: str) -> list[Row]:
        """What was logged, in order; only of these types, if any are named."""
        found = self.select("SELECT * FROM events ORDER BY id")
        return [event for event in found if not types or event["type"] in types]

    def decisions(self, after: int = 0) -> list[Row]:
        """What leaders decided, in order; alike ones in a row are one."""
        if not self.select("SELECT to_regclass('scaling_decisions') AS it")[0]["it"]:
            return []
        return self.select("SELECT * FROM scaling_decisions WHERE id > %s ORDER BY id", after)

    def look(self) -> Row | None:
        """What the leader saw and decided last."""
        if not self.select("SELECT to_regclass('scaling_looks') AS it")[0]["it"]:
            return None
        found = self.select("SELECT * FROM scaling_looks")
        return found[0] if found else None

    def snapshot(self) -> Row:
        """What the leader saw last; nothing before its first look."""
        look = self.look()
        return {} if look is None else look["considered"]["snapshot"]

    def is_ready(self) -> bool:
        """Whether all containers run, are idle, and the leader has ruled for long enough to act."""
        snapshot = self.snapshot()
        containers = snapshot.get("containers", [])
        return (
            len(containers) == self._settings.containers
            and all((each["peer"] or {}).get("activity") == "idle" for each in containers)
            and snapshot["leading_s"] > float(str(SCALING["down_window_s"]))
        )

    def becomes_ready(self, within_s: float) -> bool:
        """Wait for that, and say whether it came to be: nothing is left to do, and all are idle."""
        deadline = time.monotonic() + within_s
        while not (self.unfinished() == 0 and self.is_ready()):
            if time.monotonic() > deadline:
                return False
            time.sleep(POLL_S)
        return True

    def unfinished(self, *states: str) -> int:
        """How many parts are in these states; in any but the last ones, if none is named."""
        found = self.select(
            "SELECT count(*) AS number FROM parts WHERE state = ANY(%s)",
            list(states or ("queued", "claimed")),
        )
        return int(found[0]["number"])

    def client(self, video: Path) -> Client:
        """Somebody who submits this video."""
        return Client(self, video)

    def wait(self, condition: Callable[[], T], what: str, within_s: float = WITHIN_S) -> T:
        """Wait until a condition holds, and return it."""
        deadline = time.monotonic() + within_s
        while not (value := condition()):
            assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}\n{self.logs()}"
            time.sleep(POLL_S)
        return value

    def wait_for_events(self, *types: str, at_least: int = 1) -> list[Row]:
        """Wait until so many are logged."""

        def look() -> list[Row]:
            found = self.events(*types)
            return found if len(found) >= at_least else []

        return self.wait(look, f"{at_least} of {', '.join(types)}")

    def wait_until_done(self, asked: Sequence[Asked], within_s: float = WITHIN_S) -> None:
        """Wait until tasks are done."""
        ids = [each.task_id for each in asked]

        def are_done() -> bool:
            states = self.select("SELECT state FROM tasks WHERE id = ANY(%s)", ids)
            return [row["state"] for row in states] == ["done"] * len(ids)

        self.wait(are_done, f"{len(ids)} tasks are done", within_s)


def _running(task: Mapping[str, Any], names: Mapping[str, str]) -> Running:
    status = task["Status"]
    about = status.get("ContainerStatus") or {}
    return Running(
        id=task["ID"],
        slot=task.get("Slot", 0),
        node=names.get(task.get("NodeID", ""), ""),
        state=status["State"],
        wanted=task["DesiredState"] in ("ready", "running"),
        container=about.get("ContainerID", ""),
        exit_code=about.get("ExitCode", 0),
    )


@contextmanager
def running_cluster(
    stage: Stage, services: Services, directory: Path, settings: Settings
) -> Iterator[Cluster]:
    """A cluster that is ready, until the context ends."""
    cluster = Cluster(stage, services, directory, settings)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
