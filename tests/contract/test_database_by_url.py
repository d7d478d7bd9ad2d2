"""A PostgreSQL by URL, as people run one: TLS, passwords, limits, roles, standbys, failures."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import trio

from pipeline.errors import LedgerIncompatible, LedgerUnavailable
from pipeline.ledger.connections import Connection
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.migrate import bring_up_to_date, known_migrations
from pipeline.ports import Submission
from pipeline.tasks import Product, ProductKind, TaskState
from tests.ledger_rig import MakeLedger, Peer
from tests.servers.certificates import Authority
from tests.servers.postgres import PostgresServer, public_directory

PRODUCT = Product(kind=ProductKind.POSTER, name="poster.jpg", size=1)
CONNECTIONS = 12
SETTINGS = {
    "max_connections": str(CONNECTIONS),
    "superuser_reserved_connections": "3",
    "max_wal_senders": "4",
    "wal_retrieve_retry_interval": "50ms",
    "autovacuum": "off",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A server that takes only TLS, and the authority of its certificate."""

    server: PostgresServer
    authority: Authority
    directory: Path

    def url(self, user: str, password: str = "secret", database: str = "grapevine") -> str:
        """As a careful person writes it."""
        url = self.server.url_of(database, user, password)
        return f"{url}?sslmode=verify-full&sslrootcert={self.authority.certificate}"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    """With a database whose roles were made as the README says, and nothing in it."""
    with public_directory() as directory:
        authority = Authority(directory / "authority")
        certificate = authority.issue("server", ["localhost"])
        server = PostgresServer(directory / "postgres", tls=certificate, settings=SETTINGS)
        server.start()
        try:
            first, second = statements()
            with psycopg.connect(server.conninfo, autocommit=True) as admin:
                for statement in first:
                    admin.execute(statement)
            with psycopg.connect(server.conninfo, dbname="grapevine", autocommit=True) as admin:
                for statement in second:
                    admin.execute(statement)
                admin.execute("ALTER ROLE grapevine_owner PASSWORD 'secret'")
                admin.execute("ALTER ROLE grapevine_peer PASSWORD 'secret'")
            yield Site(server=server, authority=authority, directory=directory)
        finally:
            server.stop()


def statements() -> list[list[bytes]]:
    """The README's SQL, block by block."""
    page = resources.files("pipeline.ledger").joinpath("README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 2
    return [[each.encode() for each in block.split(";") if each.strip()] for block in blocks]


@pytest.fixture
async def connect(site: Site) -> AsyncIterator[Callable[..., Database]]:
    """Make pools."""
    made: list[Database] = []

    def make(url: str, **options: float) -> Database:
        made.append(Database(DatabaseConfig(conninfo=url, **options)))  # type: ignore[arg-type]  # numbers
        return made[-1]

    yield make
    for database in made:
        await database.aclose()


@pytest.fixture
def admin(site: Site) -> Iterator[psycopg.Connection]:
    """Past TLS and passwords."""
    with psycopg.connect(site.server.conninfo, dbname="grapevine", autocommit=True) as connection:
        yield connection


def pid_of(connection: Connection) -> int:
    return connection.info.backend_pid


async def complaint(database: Database) -> str:
    """What the next call is told; it knows that nothing has happened."""
    with trio.fail_after(10), pytest.raises(LedgerUnavailable) as caught:
        await database.run(pid_of)
    assert caught.value.definite
    assert "\n" not in str(caught.value)
    return str(caught.value)


async def test_the_line_is_encrypted_and_the_server_is_known(
    site: Site, connect: Callable[..., Database], make_ledger: MakeLedger
) -> None:
    """`peerctl doctor` tells where we are, as whom, and how safely."""
    ledger = make_ledger(connect(site.url("grapevine_peer")))
    version = r"PostgreSQL \d+(\.\d+)? at localhost:\d+/grapevine as grapevine_peer, TLSv1\.3"
    assert re.fullmatch(version, await ledger.describe())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(("secret@", "wr0ng@"), "is wrong, or has expired", id="wrong password"),
        pytest.param((":secret@", "@"), "put the password into ledger.url", id="no password"),
        pytest.param(("grapevine_peer", "stranger"), "is wrong, or has expired", id="no such role"),
        pytest.param(("/grapevine?", "/nowhere?"), "README.md says how", id="no such database"),
        pytest.param(
            ("sslmode=verify-full", "sslmode=disable"), "add sslmode=verify-full", id="no TLS"
        ),
        pytest.param(
            ("@localhost:", "@127.0.0.1:"), "a name that its certificate is for", id="another name"
        ),
        pytest.param(
            ("authority.pem", "absent.pem"), "name the file of the server's auth", id="no file"
        ),
        pytest.param(
            ("/authority/", "/another/"), "must name the authority that", id="another authority"
        ),
    ],
)
async def test_a_connection_that_is_refused(
    site: Site, connect: Callable[..., Database], change: tuple[str, str], said: str
) -> None:
    """The cause and what to do, in one sentence; never the password."""
    Authority(site.directory / "another")
    told = await complaint(connect(site.url("grapevine_peer").replace(*change)))
    assert said in told
    assert "secret" not in told
    assert "wr0ng" not in told


async def test_an_expired_certificate(site: Site, connect: Callable[..., Database]) -> None:
    """Is one that cannot be verified."""
    certificate = site.authority.issue("expired", ["localhost"], expired=True)
    server = PostgresServer(site.directory / "expired", tls=certificate, settings=SETTINGS)
    await trio.to_thread.run_sync(server.start)
    try:
        url = server.url + f"?sslmode=verify-full&sslrootcert={site.authority.certificate}"
        assert "which must be valid now" in await complaint(connect(url))
    finally:
        server.stop()


async def test_credentials_that_expire_and_are_renewed(
    site: Site, connect: Callable[..., Database], admin: psycopg.Connection
) -> None:
    """Who is connected goes on; who connects is refused until the passfile has the new one."""
    admin.execute("CREATE ROLE shortly LOGIN PASSWORD 'secret' IN ROLE grapevine_peer")
    passfile = site.directory / "passfile"
    passfile.touch(mode=0o600)
    passfile.write_text("*:*:*:shortly:secret\n")
    url = site.url("shortly").replace(":secret@", "@") + f"&passfile={passfile}"
    database, later = connect(url), connect(url)
    pid = await database.run(pid_of)

    admin.execute("ALTER ROLE shortly PASSWORD 'renewed'")

    assert await database.run(pid_of) == pid
    assert "has expired" in await complaint(later)
    passfile.write_text("*:*:*:shortly:renewed\n")
    await later.run(pid_of)


@pytest.mark.parametrize("url", ["postgresql://p:s%ecret@localhost/g", "host=a sneaky secret"])
async def test_a_url_that_cannot_be_read(connect: Callable[..., Database], url: str) -> None:
    """No retry helps, so it is no outage; and it is not quoted: the password may be the cause."""
    with pytest.raises(LedgerIncompatible, match="percent-encoded") as caught:
        await connect(url).run(pid_of)
    assert "ecret" not in str(caught.value)
    assert caught.value.__cause__ is None


async def test_the_connection_limit(
    site: Site, connect: Callable[..., Database], admin: psycopg.Connection
) -> None:
    """The server's, or the role's: said with what to change; with room again, all is well."""
    database = connect(site.url("grapevine_peer"))
    with ExitStack() as crowd:
        with suppress(psycopg.OperationalError):
            for _ in range(CONNECTIONS):
                crowd.enter_context(psycopg.connect(site.url("grapevine_owner")))
        assert "raise the server's max_connections" in await complaint(database)
    with trio.fail_after(10):
        present = "SELECT 1 FROM pg_stat_activity WHERE usename = 'grapevine_owner'"
        # A server ends its sessions a moment after their clients; only it knows when.
        while admin.execute(present).fetchone() is not None:  # noqa: ASYNC110
            await trio.sleep(0.01)
    admin.execute("ALTER ROLE grapevine_peer CONNECTION LIMIT 0")
    try:
        assert "raise its CONNECTION LIMIT" in await complaint(database)
    finally:
        admin.execute("ALTER ROLE grapevine_peer CONNECTION LIMIT -1")
    await database.run(pid_of)


async def test_a_server_that_is_killed_or_frozen(
    site: Site, connect: Callable[..., Database], admin: psycopg.Connection
) -> None:
    """A call fails within its time; the first one after the server is back works."""
    options = {"statement_timeout_s": 0.5, "transaction_timeout_s": 0.5, "connect_timeout_s": 2}
    database = connect(site.url("grapevine_peer"), **options)
    await database.run(pid_of)
    admin.close()
    await trio.to_thread.run_sync(site.server.kill)
    assert "Connection refused" in await complaint(database)
    await trio.to_thread.run_sync(site.server.start)
    await database.run(pid_of)

    site.server.freeze()
    try:
        assert "did not answer in 0.5 s" in await complaint(database)
    finally:
        site.server.thaw()
    await database.run(pid_of)


async def test_a_failover(site: Site, connect: Callable[..., Database]) -> None:
    """Of several hosts the one that takes writes is used; after the primary's death the new one."""
    primary = PostgresServer(site.directory / "primary", settings=SETTINGS)
    await trio.to_thread.run_sync(primary.start)
    try:
        standby = await trio.to_thread.run_sync(primary.standby, site.directory / "standby")
        await trio.to_thread.run_sync(standby.start)
        hosts = f"127.0.0.1:{standby.port},127.0.0.1:{primary.port}"
        database = connect(f"postgresql://grapevine:{primary.password}@{hosts}/postgres")
        only_standby = connect(standby.url)
        assert await database.run(lambda on: on.info.port) == primary.port
        assert "it is a standby" in await complaint(only_standby)

        await trio.to_thread.run_sync(primary.kill)
        told = await complaint(database)
        assert f"127.0.0.1:{standby.port}: session is read-only" in told
        assert f"127.0.0.1:{primary.port}: Connection refused" in told
        await trio.to_thread.run_sync(standby.promote)

        assert await database.run(lambda on: on.info.port) == standby.port
        await only_standby.run(lambda on: on.execute("CREATE TABLE written ()"))
    finally:
        standby.stop()
        primary.stop()


@pytest.fixture
def empty_schema(admin: psycopg.Connection) -> None:
    """As before the first peer came."""
    admin.execute("DROP SCHEMA grapevine CASCADE")
    for statement in statements()[1]:
        admin.execute(statement)


@pytest.mark.usefixtures("empty_schema")
async def test_the_owner_makes_the_tables_and_a_peer_uses_them(
    site: Site,
    connect: Callable[..., Database],
    make_ledger: MakeLedger,
    make_submission: Callable[[], Submission],
    make_peer: Callable[[str], Peer],
) -> None:
    """The peers' role has what it needs and no more; all other tests of the ledger use it."""
    ledger = make_ledger(connect(site.url("grapevine_peer")))
    with pytest.raises(LedgerIncompatible, match=r"1 \(ledger\), 2 .*may not change tables.*owner"):
        await ledger.prepare()

    await make_ledger(connect(site.url("grapevine_owner"))).prepare()
    await ledger.prepare()

    submission, peer = make_submission(), make_peer("ada")
    await ledger.submit(submission)
    claim = await peer.take(ledger, submission.task_id)
    await ledger.finish(claim, [PRODUCT], [], peer.finished(submission.task_id))
    report = await ledger.show_task(str(submission.task_id))
    assert report.state is TaskState.DONE
    with psycopg.connect(site.url("grapevine_peer"), autocommit=True) as connection:
        for forbidden in ("CREATE TABLE mine ()", "DROP TABLE events", "TRUNCATE tasks"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute(forbidden.encode())


@pytest.mark.usefixtures("empty_schema")
async def test_a_peer_that_comes_before_the_owner_has_migrated(
    site: Site, connect: Callable[..., Database]
) -> None:
    """It names what is missing, changes nothing, and works when the owner has been there."""
    *old, newest = known_migrations()
    owner, peer = connect(site.url("grapevine_owner")), connect(site.url("grapevine_peer"))
    await bring_up_to_date(owner, old)
    await bring_up_to_date(peer, old)

    missing = f"lacks migration {newest.number} \\({newest.name}\\), and this peer's role may not"
    with pytest.raises(LedgerIncompatible, match=missing):
        await bring_up_to_date(peer)

    await bring_up_to_date(owner)
    await bring_up_to_date(peer)


@pytest.mark.usefixtures("empty_schema")
async def test_rights_that_are_taken_away(
    site: Site,
    connect: Callable[..., Database],
    make_ledger: MakeLedger,
    admin: psycopg.Connection,
) -> None:
    """An outage like another, told with where the grants are; it ends when they are back."""
    await make_ledger(connect(site.url("grapevine_owner"))).prepare()
    ledger = make_ledger(connect(site.url("grapevine_peer")))
    admin.execute("REVOKE SELECT ON grapevine.tasks, grapevine.migrations FROM grapevine_peer")

    with pytest.raises(LedgerUnavailable, match=r"for table tasks; .*README.md has the grants"):
        await ledger.list_tasks(None, 1)
    with pytest.raises(LedgerIncompatible, match=r"cannot read the ledger .*table migrations"):
        await ledger.prepare()

    admin.execute("GRANT SELECT ON grapevine.tasks, grapevine.migrations TO grapevine_peer")
    await ledger.prepare()
    assert await ledger.list_tasks(None, 1) == []
    assert await ledger.abandoned(0.0) == []
    await ledger.cleared([uuid4()])
