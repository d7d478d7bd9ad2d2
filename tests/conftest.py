"""What tests of every folder share: one PostgreSQL server a session, and a new database a test; one
lab of three Docker engines, and an empty Swarm a test.

The server is Debian's where that is installed, because its version is the oldest that we meet, and
the wheel's otherwise. It does without fsync: tests want to know what happens when a server dies,
not when a machine does. A new database is a copy of one that was migrated once (10 ms).

Whoever uses the ledger's tables does so with the least rights that a peer needs (see
pipeline/ledger/README.md), so every test of the ledger and of its queue shows that they are enough.
"""

from __future__ import annotations

import itertools
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import trio
from hypothesis import HealthCheck, settings
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from xdist.remote import Producer

from deploy.lab.cluster import Lab
from deploy.lab.images import peer
from pipeline.events import Recordable
from pipeline.ledger.claims import Rules
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.migrate import Migration, bring_up_to_date
from pipeline.ledger.postgres import PostgresLedger
from pipeline.ledger.server import EmbeddedServer, ServerConfig
from pipeline.media.ladder import parse_ladder
from pipeline.media.tools import Tools, find_tools
from pipeline.ports import Expired, Release, Submission
from pipeline.queues.rabbitmq.config import RabbitConfig
from pipeline.retry import RetryPolicy
from pipeline.stores.s3.config import S3Config
from pipeline.sweeper import expiry
from pipeline.tasks import Holder
from tests.later_version import LATER, TODAY, later_migrations
from tests.ledger_rig import Look, MakeLedger, MakePeer, Peer
from tests.missing import do_without
from tests.servers.rabbitmq import RabbitServer, why_missing
from tests.servers.s3 import S3Server
from tests.servers.warden import Warden
from tests.shares import Shares
from tests.swarm import lab_process

PEER_ROLE = "grapevine_peer"

RIGHTS = f"""
    REVOKE ALL ON SCHEMA public FROM PUBLIC;
    GRANT USAGE ON SCHEMA public TO {PEER_ROLE};
    ALTER DEFAULT PRIVILEGES IN SCHEMA public
        GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {PEER_ROLE};
    ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT USAGE ON SEQUENCES TO {PEER_ROLE};
"""

DEBIAN = sorted(
    Path("/usr/lib/postgresql").glob("[1-9]*/bin"), key=lambda path: float(path.parent.name)
)

# The same examples in every run, and no verdict about the speed of the machine.
settings.register_profile(
    "repeatable", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the quick tests first, so that most failures are told within seconds."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is not None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Shares:
    """Where several workers share the tests, give them out by what they start together."""
    return Shares(config, log)


@dataclass(frozen=True, slots=True, kw_only=True)
class Databases:
    """A server that makes databases; `admin` is an open connection to it."""

    conninfo: str
    admin: psycopg.Connection

    def create(self, template: str = "template0") -> str:
        """Make a database and return its conninfo."""
        name = f"test_{uuid4().hex}"
        self.admin.execute(f"CREATE DATABASE {name} TEMPLATE {template}".encode())
        return make_conninfo(self.conninfo, dbname=name)

    def drop(self, conninfo: str) -> None:
        """Remove a database, and whoever is still connected to it."""
        name = psycopg.conninfo.conninfo_to_dict(conninfo)["dbname"]
        self.admin.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


@pytest.fixture(scope="session", autouse=True)
def warden() -> Iterator[None]:
    """Whatever a session starts ends with it, also when the session is killed."""
    with Warden():
        yield


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """A running server, with a database `migrated` to be copied."""
    # The server may be another user's, who cannot get into pytest's own temporary directory.
    directory = Path(tempfile.mkdtemp(prefix="grapevine-"))
    directory.chmod(0o711)
    binaries = DEBIAN[0] if DEBIAN else None
    try:
        config = ServerConfig(directory=directory / "ledger", binaries=binaries, fsync=False)
        with (
            EmbeddedServer(config) as conninfo,
            psycopg.connect(conninfo, autocommit=True) as admin,
        ):
            admin.execute(f"CREATE ROLE {PEER_ROLE} LOGIN".encode())
            admin.execute("CREATE DATABASE migrated TEMPLATE template0")
            migrated = make_conninfo(conninfo, dbname="migrated")
            with psycopg.connect(migrated) as owner:
                owner.execute(RIGHTS.encode())
            trio.run(_migrate, migrated)
            yield Databases(conninfo=conninfo, admin=admin)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


async def _migrate(conninfo: str, migrations: Sequence[Migration] | None = None) -> None:
    database = Database(DatabaseConfig(conninfo=conninfo))
    await bring_up_to_date(database, migrations)
    await database.aclose()


@pytest.fixture
def empty_url(databases: Databases) -> Iterator[str]:
    """The conninfo of a database with nothing in it."""
    conninfo = databases.create()
    yield conninfo
    databases.drop(conninfo)


@pytest.fixture
def ledger_url(databases: Databases, request: pytest.FixtureRequest) -> Iterator[str]:
    """The conninfo of a database with the ledger's tables, all empty, for a peer's role; with
    those of a later version where the test asks for it (tests/contract/conftest.py)."""
    conninfo = databases.create("migrated")
    if getattr(request, "param", TODAY) == LATER:
        trio.run(_migrate, conninfo, later_migrations())
    yield make_conninfo(conninfo, user=PEER_ROLE)
    databases.drop(conninfo)


@pytest.fixture
async def database(ledger_url: str) -> AsyncIterator[Database]:
    """A pool on a ledger of this test's own."""
    database = Database(DatabaseConfig(conninfo=ledger_url))
    yield database
    await database.aclose()


@pytest.fixture
def make_peer() -> MakePeer:
    """Make peers by their names."""
    numbers = itertools.count(1)

    def make(name: str) -> Peer:
        holder = Holder(
            peer_uid=f"{next(numbers):016x}",
            peer_name=name,
            epoch=1,
            container=f"pid:{name}",
            node="here",
        )
        return Peer(holder=holder, sequences=itertools.count(1))

    return make


@pytest.fixture
def rules(make_peer: MakePeer) -> Rules:
    """What a ledger does beside PostgreSQL: an expired lease is retried without a delay."""
    usual = expiry(RetryPolicy(), random.Random(0))

    def decide(expired: Expired) -> tuple[Release, Sequence[Recordable]]:
        release, events = usual(expired)
        if release.retry_in_s is not None:
            release = replace(release, retry_in_s=0.0)
        return release, events

    return Rules(lease_s=15.0, expiry=decide, recorder=make_peer("sweeper").record)


@pytest.fixture
def make_ledger(rules: Rules) -> MakeLedger:
    """Put a ledger on a pool."""

    def make(database: Database) -> PostgresLedger:
        return PostgresLedger(
            database, lease_s=rules.lease_s, expiry=rules.expiry, recorder=rules.recorder
        )

    return make


@pytest.fixture
def ledger(database: Database, make_ledger: MakeLedger) -> PostgresLedger:
    """A ledger of this test's own."""
    return make_ledger(database)


@pytest.fixture
async def another_ledger(ledger_url: str, make_ledger: MakeLedger) -> AsyncIterator[PostgresLedger]:
    """The same ledger, as another peer reaches it."""
    database = Database(DatabaseConfig(conninfo=ledger_url))
    yield make_ledger(database)
    await database.aclose()


@pytest.fixture
def look(ledger_url: str) -> Iterator[Look]:
    """Read, or change, the database past the ledger, as a person with psql does."""
    with psycopg.connect(ledger_url, autocommit=True, row_factory=dict_row) as connection:

        def run(query: str) -> list[dict[str, Any]]:
            cursor = connection.execute(query.encode())
            return cursor.fetchall() if cursor.description else []

        yield run


@pytest.fixture
def make_submission() -> Callable[[], Submission]:
    """Make new tasks, ready to be submitted."""

    def make() -> Submission:
        task_id = uuid4()
        return Submission(
            task_id=task_id,
            source=f"sources/{task_id}/clip.mp4",
            title="clip.mp4",
            ladder=parse_ladder("web"),
            attempts_max=3,
        )

    return make


@pytest.fixture
async def task_id(ledger: PostgresLedger, make_submission: Callable[[], Submission]) -> UUID:
    """A task that was submitted just now."""
    submission = make_submission()
    await ledger.submit(submission)
    return submission.task_id


@pytest.fixture
def let_leases_run_out(ledger_url: str) -> Callable[[], None]:
    """What waiting for longer than a lease would do while peers sweep, without the wait."""

    def do() -> None:
        with psycopg.connect(ledger_url) as connection:
            connection.execute(
                "INSERT INTO heartbeat (steady_since) VALUES (clock_timestamp() - interval '1 day')"
                " ON CONFLICT (the_only_row) DO UPDATE"
                " SET steady_since = excluded.steady_since, beat_at = clock_timestamp()"
            )
            connection.execute(
                "UPDATE claims SET lease_expires_at = clock_timestamp() - interval '1 second'"
                " WHERE ended_at IS NULL"
            )

    return do


@pytest.fixture(scope="session")
def tools() -> Tools:
    """This machine's ffmpeg and ffprobe, else the wheel's: no test needs them installed."""
    return find_tools()


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool], float], None]:
    """Wait for a condition that only another process can bring about."""

    def wait(condition: Callable[[], bool], within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {within_s} s"
            time.sleep(0.01)

    return wait


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server; who stops or freezes it for a test starts it again."""
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.kill()


@pytest.fixture
def s3_config(s3: S3Server) -> S3Config:
    """Where and who, with a bucket of this test's own, which is made by `S3Store.prepare`."""
    return S3Config(
        endpoint=s3.endpoint,
        bucket=f"test-{uuid4().hex}",
        access_key=s3.access_key,
        secret_key=s3.secret_key,
        create_bucket=True,
    )


@pytest.fixture(scope="session")
def rabbit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitServer]:
    """A broker, with its management API. A test that ends it starts it again."""
    if (missing := why_missing()) is not None:
        do_without(missing)
    server = RabbitServer(tmp_path_factory.mktemp("rabbitmq"))
    server.start()
    yield server
    server.kill()  # nobody needs its data
    server.stop()


@pytest.fixture
def rabbit_config(rabbit: RabbitServer) -> Iterator[RabbitConfig]:
    """Queues of this test's own on the broker, for a user who has no rights but those that the
    documentation asks for; every test of the queue shows that they are enough."""
    prefix = f"test-{uuid4().hex[:8]}"
    config = RabbitConfig(url=rabbit.add_user(prefix, names=rf"^{prefix}\."), prefix=prefix)
    yield config
    rabbit.remove_queues(config.prefix)


@pytest.fixture(scope="session")
def can_run_labs() -> None:
    """Skip where there can be no lab, and fail there in CI."""
    if (missing := lab_process.why_missing()) is not None:
        do_without(missing)


@pytest.fixture(scope="session")
def lab(can_run_labs: None) -> Iterator[Lab]:
    """A real Swarm of three nodes, the first of them a manager: one for all tests of a session.

    A test takes it by `swarm` (tests/swarm) or `stage` (tests/features), which put it right again.
    """
    process = lab_process.LabProcess("a")
    try:
        yield process.start()
    finally:
        process.stop()


@pytest.fixture(scope="session")
def peer_image(lab: Lab) -> str:
    """The tag of the image of this tree's peer, which is on every node of `lab` then."""
    lab_process.load_image(lab)
    return peer.TAG


@pytest.fixture(scope="session")
def stack_images(lab: Lab, peer_image: str) -> None:
    """All that `deploy.lab.stack.Stack` deploys is where it runs."""
    lab_process.load_image(lab, "services")
