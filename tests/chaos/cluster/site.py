"""The three services of a stack, as clients and judges reach them: past all peers.

Every call opens a line of its own and waits a few seconds at most. While a service is away, or its
node is cut off, a call fails; whoever wants it done repeats it, which every call here allows.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit
from uuid import UUID

import pika
import psycopg
import urllib3
from minio import Minio
from psycopg.rows import dict_row

from deploy.lab.stack import Stack
from pipeline.media.ladder import parse_ladder
from pipeline.messages import WakeUp, encode
from pipeline.stores.s3.config import S3Config
from pipeline.tasks import Priority
from tests.chaos.checker import Broker, Bucket, Scene

PATIENCE_S = 4.0
EXCHANGE = "grapevine.work"

AWAY = (
    psycopg.OperationalError,
    pika.exceptions.AMQPError,
    urllib3.exceptions.HTTPError,
    OSError,
)
"""What a call may raise while a service is away; an S3 error is the store's answer, and is not."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where the services of a stack are."""

    stack: Stack

    @property
    def scene(self) -> Scene:
        """The same for the checker of single services, which asks them itself."""
        store, queue = self.stack.store, urlsplit(self.stack.queue_url)
        return Scene(
            ledger=self.stack.ledger_url,
            bucket=Bucket(client=self.store(), name=store.bucket),
            broker=Broker(
                url=self.stack.queue_url,
                management_url=self.stack.management_url,
                user=queue.username or "",
                password=queue.password or "",
                virtual_host=unquote(queue.path[1:]) or "/",
            ),
        )

    @property
    def s3(self) -> S3Config:
        """The store, as a peer is configured."""
        store = self.stack.store
        return S3Config(
            endpoint=store.endpoint,
            bucket=store.bucket,
            access_key=store.access_key,
            secret_key=store.secret_key,
        )

    def store(self) -> Minio:
        """A client of the store that repeats nothing by itself."""
        store = self.stack.store
        return Minio(
            urlsplit(store.endpoint).netloc,
            access_key=store.access_key,
            secret_key=store.secret_key,
            secure=False,
            region="us-east-1",
            http_client=urllib3.PoolManager(retries=False, timeout=PATIENCE_S),
        )

    @contextmanager
    def ledger(self) -> Iterator[psycopg.Connection[dict[str, Any]]]:
        """A transaction, committed at the end."""
        with psycopg.connect(
            self.stack.ledger_url,
            row_factory=dict_row,
            connect_timeout=int(PATIENCE_S),
            tcp_user_timeout=int(PATIENCE_S * 1000),
            options=f"-c statement_timeout={int(PATIENCE_S * 1000)}",
        ) as connection:
            yield connection

    def read(self, query: str) -> list[dict[str, Any]]:
        """Ask the ledger's database."""
        with self.ledger() as connection:
            return connection.execute(query.encode()).fetchall()

    def put(self, key: str, content: bytes) -> None:
        """Store an object."""
        self.store().put_object(self.stack.store.bucket, key, io.BytesIO(content), len(content))

    def publish(self, body: bytes) -> None:
        """Publish as a client does, and return when the broker has it safely."""
        parameters = pika.URLParameters(self.stack.queue_url)
        parameters.socket_timeout = PATIENCE_S
        parameters.stack_timeout = 2 * PATIENCE_S
        parameters.blocked_connection_timeout = PATIENCE_S
        parameters.heartbeat = int(PATIENCE_S)
        persistent = pika.BasicProperties(  # type: ignore[no-untyped-call]
            content_type="application/json", delivery_mode=2
        )
        with closing(pika.BlockingConnection(parameters)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            channel.basic_publish(EXCHANGE, Priority.NORMAL, body, persistent, mandatory=True)

    def record(self, task_id: UUID, *, title: str, source: str, ladder: str, attempts: int) -> None:
        """Write a task's rows as a program does that has the database; then wake a peer."""
        parsed = parse_ladder(ladder)
        rungs = [
            {
                "width": rung.width,
                "height": rung.height,
                "video_bitrate": rung.video_bitrate,
                "audio_bitrate": rung.audio_bitrate,
            }
            for rung in parsed.rungs
        ]
        asked = {"name": parsed.name, "packaging": parsed.packaging, "rungs": rungs}
        with self.ledger() as connection:
            connection.execute(
                "INSERT INTO tasks (id, title, source, ladder, strictness, attempts_max)"
                " VALUES (%s, %s, %s, %s, 'strict', %s) ON CONFLICT DO NOTHING",
                (task_id, title, source, json.dumps(asked), attempts),
            )
            connection.execute(
                "INSERT INTO parts (task_id, part, kind) VALUES (%s, 0, 'whole')"
                " ON CONFLICT DO NOTHING",
                (task_id,),
            )
        self.publish(encode(WakeUp(task_id=task_id)))
