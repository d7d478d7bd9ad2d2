"""The three services that a cluster depends on, each a real server of the tests' own.

They are started once a session, since RabbitMQ alone takes seconds; every test gets a *site* of its
own on them: a database, a virtual host and a bucket, which nobody else has touched. A test may do
to the servers what it likes; whatever it leaves them in, the next one finds them well.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote
from uuid import uuid4

import psycopg
from minio import Minio
from psycopg.conninfo import make_conninfo

from tests.chaos.checker import Broker, Bucket, Scene, ask
from tests.servers.postgres import PostgresServer, public_directory
from tests.servers.rabbitmq import RabbitServer
from tests.servers.s3 import S3Server

FROZEN_S = 30.0


class Server(Protocol):
    """**Protocol**: what every server of `tests.servers` can be told."""

    def start(self) -> None: ...
    def stop(self) -> None: ...
    def kill(self) -> None: ...
    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """Where a peer finds the services on 127.0.0.1: at the servers, or at relays before them."""

    ledger: int
    queue: int
    store: int


class Services:
    """A PostgreSQL, a RabbitMQ and an S3 server, by the names of the ports they stand behind."""

    def __init__(self, directory: Path) -> None:
        self.ledger = PostgresServer(directory / "ledger")
        self.queue = RabbitServer(directory / "queue")
        self.store = S3Server(directory / "store")

    @property
    def each(self) -> Mapping[str, Server]:
        """All three."""
        return {"ledger": self.ledger, "queue": self.queue, "store": self.store}

    def heal(self) -> None:
        """Start what is down, let go on what stands still, and return when all answer."""
        for server in self.each.values():
            server.start()
            server.thaw()
        self.queue.wait_ready()


@contextmanager
def running(directory: Path) -> Iterator[Services]:
    """Start all three, and stop them."""
    services = Services(directory)
    try:
        services.heal()
        yield services
    finally:
        for server in services.each.values():
            server.stop()


@contextmanager
def in_a_directory_of_their_own() -> Iterator[Services]:
    """Start all three where PostgreSQL's own user can come to, too."""
    with public_directory() as directory, running(directory) as services:
        yield services


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One test's own database, virtual host and bucket, and its peers' own user in the first two.

    Its administrators are others, who come by other ways: they can refuse the peers.
    """

    services: Services
    name: str
    password: str = field(default_factory=lambda: secrets.token_hex(8))

    @property
    def ports(self) -> Ports:
        """Of the servers themselves."""
        services = self.services
        return Ports(
            ledger=services.ledger.port, queue=services.queue.port, store=services.store.port
        )

    def ledger_url(self, port: int | None = None) -> str:
        """For peers, by way of a port."""
        server = self.services.ledger
        url = server.url_of(self.name, self.name, self.password)
        return url if port is None else url.replace(f":{server.port}/", f":{port}/")

    def queue_url(self, port: int | None = None) -> str:
        """For peers, by way of a port."""
        port = port or self.services.queue.port
        return f"amqp://{self.name}:{self.password}@127.0.0.1:{port}/{self.name}"

    @property
    def broker(self) -> Broker:
        """For the checker, and for whoever plays the broker's administrator."""
        server = self.services.queue
        return Broker(
            url=f"{server.url}/{self.name}",
            management_url=server.management_url,
            user=server.user,
            password=server.password,
            virtual_host=self.name,
        )

    @property
    def scene(self) -> Scene:
        """For the checker: past every relay."""
        return Scene(
            ledger=self.conninfo,
            bucket=Bucket(client=self.minio(), name=self.name),
            broker=self.broker,
        )

    def minio(self) -> Minio:
        """A client of the store, past everything of ours."""
        server = self.services.store
        return Minio(
            f"127.0.0.1:{server.port}",
            access_key=server.access_key,
            secret_key=server.secret_key,
            region=server.region,
            secure=False,
        )

    @property
    def conninfo(self) -> str:
        """Of the database, for its superuser, by a way that is never closed."""
        return make_conninfo(self.services.ledger.conninfo, dbname=self.name)

    def administer(self, statement: str) -> None:
        """Let the database's superuser do something."""
        with psycopg.connect(self.services.ledger.conninfo, autocommit=True) as connection:
            connection.execute(statement.encode())

    def manage(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """Let the broker's administrator do something; `{}` in a path is this virtual host."""
        return ask(self.broker, method, path.replace("{}", quote(self.name, safe="")), body)


@contextmanager
def site(services: Services) -> Iterator[Site]:
    """Make one, and remove it."""
    services.heal()
    made = Site(services=services, name=f"test-{uuid4().hex[:12]}")
    made.administer(f"CREATE ROLE \"{made.name}\" LOGIN PASSWORD '{made.password}'")
    made.administer(f'CREATE DATABASE "{made.name}" OWNER "{made.name}"')
    made.manage("PUT", "/api/vhosts/{}")
    made.manage("PUT", "/api/users/{}", {"password": made.password, "tags": "management"})
    everything = {"configure": ".*", "write": ".*", "read": ".*"}
    for user in (made.name, services.queue.user):
        made.manage("PUT", f"/api/permissions/{{}}/{user}", everything)
    made.minio().make_bucket(made.name)
    try:
        yield made
    finally:
        services.heal()
        made.manage("DELETE", "/api/vhosts/{}")
        made.manage("DELETE", "/api/users/{}")
        made.administer(f'DROP DATABASE "{made.name}" WITH (FORCE)')
        made.administer(f'DROP ROLE "{made.name}"')


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to a server, and how it is undone; both block."""

    name: str
    begin: Callable[[Server], None]
    end: Callable[[Server], None]
    lasts_s: float = 0.0
    """At least, beside the time that beginning and ending take."""


RESTART = Fault("restart", lambda server: server.stop(), lambda server: server.start())
KILL = Fault("kill", lambda server: server.kill(), lambda server: server.start())
FREEZE = Fault("freeze", lambda server: server.freeze(), lambda server: server.thaw(), FROZEN_S)
