"""A client of the cluster, which knows RabbitMQ, the database and the bucket, and no peer.

And what it, or anybody with the database's password, can read there about its tasks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid4

import minio
import pika
import psycopg
from pika.adapters.blocking_connection import BlockingChannel
from psycopg.rows import dict_row

T = TypeVar("T")

WITHIN_S = 60.0
POLL_S = 0.05
THRESHOLD = 3
"""How often one stage of a task may fail."""

PRIORITY = "normal"
"""The routing key of the client's messages."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rung:
    """A desired resolution and bitrate, in pixels and in bits per second."""

    width: int
    height: int
    video_bitrate: int


LADDER = (Rung(320, 180, 300_000), Rung(160, 90, 120_000))


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What a client asks for; `key` is that of the source in the bucket."""

    task_id: UUID
    key: str
    ladder: tuple[Rung, ...]

    @property
    def ladder_text(self) -> str:
        """As people write it, and whole-task messages."""
        return ",".join(f"{r.width}x{r.height}@{r.video_bitrate // 1000}k" for r in self.ladder)

    @property
    def ladder_json(self) -> str:
        """As it stands in the task's row."""
        rungs = [{**asdict(rung), "audio_bitrate": 128_000} for rung in self.ladder]
        return json.dumps({"name": self.ladder_text, "packaging": "mp4", "rungs": rungs})


class Place(Protocol):
    """**Protocol**: where a client submits: services, and the names in them."""

    @property
    def prefix(self) -> str:
        """Of all names in RabbitMQ."""
        ...

    @property
    def bucket(self) -> str:
        """Of sources and outputs."""
        ...

    @property
    def ledger_url(self) -> str:
        """The database."""
        ...

    @property
    def queue_url(self) -> str:
        """The broker."""
        ...

    @property
    def store(self) -> minio.Minio:
        """The bucket's server."""
        ...

    def logs(self) -> str:
        """The ends of what the peers said."""
        ...


class Client:
    """Submits videos, and looks what becomes of them.

    Args:
        site: Where.
        video: What it submits.
    """

    def __init__(self, site: Place, video: Path) -> None:
        self._site = site
        self.video = video
        # As pipeline/README.md names them for clients.
        self.exchange = f"{site.prefix}.work"
        self._queues = [f"{site.prefix}.{priority}" for priority in ("high", "normal", "low")]
        self._dead = f"{site.prefix}.dead"
        self._connection = psycopg.connect(site.ledger_url, autocommit=True, row_factory=dict_row)

    def close(self) -> None:
        """Hang up."""
        self._connection.close()

    def ask(self, ladder: tuple[Rung, ...] = LADDER) -> Asked:
        """Think of a task; nobody else knows of it yet."""
        task_id = uuid4()
        return Asked(task_id=task_id, key=f"incoming/{task_id}.mp4", ladder=ladder)

    def put_video(self, asked: Asked) -> None:
        """Put the video into the bucket."""
        self._site.store.fput_object(self._site.bucket, asked.key, str(self.video))

    def write_row(self, asked: Asked) -> None:
        """Write the task's row, and commit."""
        with self._connection.transaction():
            self._connection.execute(
                "INSERT INTO tasks (id, title, source, ladder, strictness, attempts_max)"
                " VALUES (%s, %s, %s, %s, 'strict', %s)",
                (asked.task_id, f"video {asked.key}", asked.key, asked.ladder_json, THRESHOLD),
            )
            self._connection.execute(
                "INSERT INTO parts (task_id, part, kind) VALUES (%s, 0, 'whole')",
                (asked.task_id,),
            )

    def publish(self, asked: Asked, task: Row | None = None) -> None:
        """Publish the message; return when RabbitMQ has confirmed that it is in a queue.

        Args:
            task: The whole task, where no row was written.
        """
        message: Row = {"v": 1, "task_id": str(asked.task_id)}
        if task is not None:
            message["task"] = task
        properties = pika.BasicProperties(  # type: ignore[no-untyped-call] # pika's has no types
            content_type="application/json", delivery_mode=2
        )
        with self.channel() as channel:
            channel.confirm_delivery()
            channel.basic_publish(
                self.exchange, PRIORITY, json.dumps(message).encode(), properties, mandatory=True
            )

    def submit(self, asked: Asked | None = None) -> Asked:
        """All of it: the video, the row, and then the message."""
        asked = asked or self.ask()
        self.put_video(asked)
        self.write_row(asked)
        self.publish(asked)
        return asked

    @contextmanager
    def channel(self) -> Iterator[BlockingChannel]:
        """A channel to RabbitMQ."""
        connection = pika.BlockingConnection(pika.URLParameters(self._site.queue_url))
        try:
            yield connection.channel()
        finally:
            connection.close()

    def waiting_messages(self) -> int:
        """How many messages could be delivered to a peer now."""
        return self._count(*self._queues)

    def dead_messages(self) -> int:
        """How many were set aside for a person."""
        return self._count(self._dead)

    def _count(self, *queues: str) -> int:
        with self.channel() as channel:
            counts = [
                channel.queue_declare(queue, passive=True).method.message_count for queue in queues
            ]
        return sum(counts)

    def select(self, statement: str, task_id: UUID) -> list[Row]:
        """Rows about a task, which the statement names `%s`."""
        return self._connection.execute(statement.encode(), (task_id,)).fetchall()

    def events(self, asked: Asked, *types: str) -> list[Row]:
        """What was logged about a task, in order; only of these types, if any are named."""
        found = self.select("SELECT * FROM events WHERE task_id = %s ORDER BY id", asked.task_id)
        return [event for event in found if not types or event["type"] in types]

    def task(self, asked: Asked) -> Row:
        """The task's row, or nothing while there is none."""
        found = self.select("SELECT * FROM tasks WHERE id = %s", asked.task_id)
        return found[0] if found else {}

    def state(self, asked: Asked) -> str:
        """The task's state."""
        return str(self.task(asked).get("state", "unknown"))

    def part(self, asked: Asked) -> Row:
        """The task's only part."""
        (part,) = self.select("SELECT * FROM parts WHERE task_id = %s", asked.task_id)
        return part

    def claims(self, asked: Asked) -> list[Row]:
        """The attempts, in order."""
        return self.select(
            "SELECT * FROM claims WHERE task_id = %s ORDER BY attempt", asked.task_id
        )

    def outputs(self, asked: Asked) -> list[Row]:
        """What was committed."""
        return self.select("SELECT * FROM outputs WHERE task_id = %s ORDER BY name", asked.task_id)

    def stored(self, asked: Asked) -> dict[str, int]:
        """What lies in the bucket below the task's prefix: key and size in bytes."""
        listed = self._site.store.list_objects(
            self._site.bucket, prefix=f"tasks/{asked.task_id}/", recursive=True
        )
        return {str(found.object_name): int(found.size or 0) for found in listed}

    def fetch(self, key: str, target: Path) -> Path:
        """Download an object."""
        self._site.store.fget_object(self._site.bucket, key, str(target))
        return target

    def wait(self, condition: Callable[[], T], what: str, within_s: float = WITHIN_S) -> T:
        """Wait until a condition holds, and return it; on failure, show what the peers logged."""
        deadline = time.monotonic() + within_s
        while not (value := condition()):
            said = f"{what}: not within {within_s:g} s; the peers said:"
            assert time.monotonic() < deadline, f"{said}\n{self._site.logs()}"
            time.sleep(POLL_S)
        return value

    def wait_for_events(self, asked: Asked, type: str, at_least: int = 1) -> list[Row]:
        """Wait until so many events of a type are logged about a task."""

        def look() -> Sequence[Row]:
            found = self.events(asked, type)
            return found if len(found) >= at_least else []

        return list(self.wait(look, f"{type} of task {asked.task_id}"))

    def wait_for_state(self, asked: Asked, state: str) -> None:
        """Wait until the task is in this state."""
        self.wait(lambda: self.state(asked) == state, f"task {asked.task_id} {state}")
