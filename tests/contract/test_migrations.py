"""The tables are brought up to date by whichever peer comes first, once, or not at all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import psycopg
import pytest
import trio

from pipeline.errors import LedgerIncompatible, LedgerUnavailable
from pipeline.ledger.database import Database, DatabaseConfig
from pipeline.ledger.migrate import Migration, bring_up_to_date, known_migrations

SLOW = Migration(
    number=1, name="slow", checksum="1", statements=b"SELECT pg_sleep(0.05); CREATE TABLE a ();"
)
NEXT = Migration(number=2, name="next", checksum="2", statements=b"CREATE TABLE b ();")
BROKEN = Migration(
    number=2, name="broken", checksum="2", statements=b"CREATE TABLE b (); SELECT 1 / 0;"
)


@pytest.fixture
async def empty(empty_url: str) -> AsyncIterator[Database]:
    """A pool on an empty database."""
    database = Database(DatabaseConfig(conninfo=empty_url))
    yield database
    await database.aclose()


def tables(url: str) -> set[str]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row[0] for row in rows}


async def test_many_peers_at_once(empty_url: str) -> None:
    """Ten peers that come to an empty database at once all find it migrated, each file once."""
    peers = [Database(DatabaseConfig(conninfo=empty_url)) for _ in range(10)]
    async with trio.open_nursery() as nursery:
        for peer in peers:
            nursery.start_soon(bring_up_to_date, peer, [SLOW, NEXT])
    for peer in peers:
        await peer.aclose()
    assert tables(empty_url) == {"a", "b", "migrations"}


async def test_the_real_ones(empty: Database, empty_url: str) -> None:
    """This version's files make the tables the ledger and the queue need; again is no work."""
    await bring_up_to_date(empty)
    await bring_up_to_date(empty)
    assert {"tasks", "parts", "claims", "outputs", "events", "queue_messages"} < tables(empty_url)
    assert [each.number for each in known_migrations()] == list(
        range(1, len(known_migrations()) + 1)
    )


async def test_every_table_and_column_that_needs_it_is_explained(
    empty: Database, empty_url: str
) -> None:
    """People look into the database too: every table says what it is for."""
    await bring_up_to_date(empty)
    with psycopg.connect(empty_url) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class"
            " WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace"
            " AND obj_description(oid, 'pg_class') IS NULL"
        )
        assert {row[0] for row in rows} == {"migrations"}


async def test_a_file_is_applied_whole_or_not_at_all(empty: Database, empty_url: str) -> None:
    """One that fails leaves what was before it; the next start goes on from there."""
    with pytest.raises(psycopg.errors.DivisionByZero):
        await bring_up_to_date(empty, [SLOW, BROKEN])
    assert tables(empty_url) == {"a", "migrations"}
    await bring_up_to_date(empty, [SLOW, NEXT])
    assert tables(empty_url) == {"a", "b", "migrations"}


async def test_a_changed_file_is_refused(empty: Database) -> None:
    """A file that differs from the one applied is never mistaken for it."""
    await bring_up_to_date(empty, [SLOW])
    with pytest.raises(LedgerIncompatible, match=r"migration 1 \(slow\).*not the one"):
        await bring_up_to_date(empty, [replace(SLOW, checksum="changed"), NEXT])


async def test_no_database(empty_url: str) -> None:
    """Unreachable is not incompatible: it may be tried again."""
    nowhere = psycopg.conninfo.make_conninfo(empty_url, host="/nonexistent")
    with pytest.raises(LedgerUnavailable):
        await bring_up_to_date(Database(DatabaseConfig(conninfo=nowhere)))
